//! What it costs to hold a policy to its limits: the same operations with them and without.

use anyhow::{Context as _, Result};
use elasticache_host::{Limits, Runtime};

use crate::policy::{Folders, Operation, WARM_UP};
use crate::table::{Contrast, Samples};

/// From an instance and one call, which wait for nothing, to a whole `up`.
const OPERATIONS: [(Operation, &str); 3] = [
    (Operation::Describe, "limits: instantiate, one call"),
    (Operation::Find, "limits: find of no cache"),
    (Operation::Redis, "limits: a whole up"),
];

/// The standard environment, and the same policy in builds of it that nothing interrupts, counts or ends.
pub(crate) async fn cost(folders: &Folders<'_>, runs: usize) -> Result<(Vec<Contrast>, Vec<String>)> {
    // What is left out could be due at any moment; what is there should be far from it, as it is in use.
    let held = folders.builder().limits(Limits::default()).build().await?;
    let free = folders.builder().unlimited().build().await?;
    let mut measured = [(); OPERATIONS.len()].map(|()| [Samples::default(), Samples::default()]);
    for run in 0..WARM_UP + runs {
        for ((operation, _), both) in OPERATIONS.iter().zip(&mut measured) {
            // Each one first every second time: whoever comes first finds colder caches.
            let order: [(usize, &Runtime); 2] =
                if run % 2 == 0 { [(0, &held), (1, &free)] } else { [(1, &free), (0, &held)] };
            for (which, runtime) in order {
                let key = operation.key(&format!("limits-{which}-{run}"))?;
                let took = operation.run(runtime, &key).await?;
                if run >= WARM_UP {
                    both.get_mut(which).context("one of two")?.push(took.as_secs_f64() * 1e6);
                }
            }
        }
    }
    let contrasts = OPERATIONS.iter().zip(measured).map(|((_, name), [with, without])| Contrast {
        name: (*name).to_owned(),
        unit: "µs",
        with,
        without,
        target_p99: None,
    });
    let note = "limits, without: compiled without epochs, no limiter on memory and tables, no clock of the guest's, \
                calls and bytes not held to a number, no deadline on a call or on the operation; grants are asked \
                either way, a name against a handful of patterns";
    Ok((contrasts.collect(), vec![note.to_owned()]))
}
