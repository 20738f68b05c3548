//! Each shipped policy by itself: how large it is, and what it costs to have it ready.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use elasticache_host::{Manifest, Runtime};

use crate::policy::{Folders, WARM_UP};
use crate::table::{Cost, Samples};

/// One that takes long to compile is compiled less often, but once.
const COMPILING: Duration = Duration::from_secs(10);

/// Size, first load, load of what was compiled before, and an instance with one call of it, in the environment that
/// comes with each.
pub(crate) async fn all(
    folders: &Folders<'_>,
    policies: &Path,
    runs: usize,
    scratch: &Path,
) -> Result<(Vec<Cost>, Vec<String>)> {
    let mut costs = Vec::new();
    for file in manifests(policies)? {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let environment = Manifest::read(&file)?;
        let component = environment.policy.component.as_deref().context("a manifest without a component")?;
        let size = std::fs::metadata(component).with_context(|| component.display().to_string())?.len();
        let mut cost = |what: &str, unit, samples| {
            costs.push(Cost { name: format!("{name}: {what}"), unit, samples, target: None });
        };
        cost("size", "KiB", Samples(vec![size as f64 / 1024.0]));

        let (mut cold, mut warm, mut describe) = (Samples::default(), Samples::default(), Samples::default());
        let began = Instant::now();
        for run in 0..runs {
            let fresh = scratch.join(format!("{name}-{run}"));
            cold.push(load(&Folders { data: folders.data, cache: &fresh }, &environment).await?.1);
            std::fs::remove_dir_all(&fresh).with_context(|| fresh.display().to_string())?;
            if began.elapsed() > COMPILING {
                break;
            }
        }
        cost("first load", "ms", cold);
        let (runtime, _) = load(folders, &environment).await?;
        for _ in 0..runs {
            warm.push(load(folders, &environment).await?.1);
        }
        cost("load, compiled before", "ms", warm);
        for run in 0..WARM_UP + runs {
            let began = Instant::now();
            ensure!(runtime.describe().await?.name == name, "{name} says that it is another one");
            if run >= WARM_UP {
                describe.push(began.elapsed().as_secs_f64() * 1e6);
            }
        }
        cost("instantiate, describe", "µs", describe);
    }
    Ok((costs, Vec::new()))
}

/// The manifests in a folder, by name.
fn manifests(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    ensure!(!files.is_empty(), "no manifest of a policy in {}", folder.display());
    Ok(files)
}

/// A runtime, and how many milliseconds it took.
async fn load(folders: &Folders<'_>, environment: &Manifest) -> Result<(Runtime, f64)> {
    let builder = folders.builder().environment(environment.clone());
    let began = Instant::now();
    let runtime = builder.build().await?;
    Ok((runtime, began.elapsed().as_secs_f64() * 1e3))
}
