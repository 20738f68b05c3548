//! Takes a cluster down, whatever of it there is: nothing here relies on an `up` that came to its end.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::daemon::{Daemon, Identity, POLL, marked};
use super::layout::{FIXED, Layout};
use super::{control, engine, network};

/// How long the engine may take to put its containers away.
const ENGINE: Duration = Duration::from_secs(20);
/// How long killed processes may take to be gone.
const GONE: Duration = Duration::from_secs(20);

/// Ends all programs and containers, and removes network, cgroups and the data folder.
pub(super) fn all(layout: &Layout) -> Result<()> {
    // Their work is of no use any more, and who still ran would undo what is done here.
    for name in [control::KUBELET, control::CONTROLLERS, control::SCHEDULER] {
        Daemon::new(layout, name).stop(Duration::ZERO)?;
    }
    kill_pods();
    // The engine unmounts what its containers had when it may end by itself.
    Daemon::new(layout, engine::ENGINE).stop(ENGINE)?;
    kill_marked(layout)?;
    network::remove()?;
    remove_cgroups()?;
    remove_data(layout)
}

fn kill_pods() {
    for folder in engine::cgroup_folders() {
        for group in groups(&folder) {
            let processes = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            for identity in processes.lines().filter_map(|pid| Identity::of(pid.parse().ok()?)) {
                identity.signal("KILL");
            }
        }
    }
}

/// Ends all processes that are the cluster's, whoever started them.
fn kill_marked(layout: &Layout) -> Result<()> {
    let began = Instant::now();
    loop {
        let left = marked(layout);
        if left.is_empty() {
            return Ok(());
        }
        if began.elapsed() > GONE {
            let pids: Vec<String> = left.iter().map(|identity| identity.pid.to_string()).collect();
            bail!("processes of the cluster do not end: {}", pids.join(", "));
        }
        for identity in left {
            identity.signal("KILL");
        }
        thread::sleep(POLL);
    }
}

fn remove_cgroups() -> Result<()> {
    let began = Instant::now();
    for folder in engine::cgroup_folders() {
        loop {
            // A killed process may be in its group for a moment yet.
            let failed = groups(&folder).iter().filter_map(|group| fs::remove_dir(group).err()).next();
            let Some(error) = failed else { break };
            if began.elapsed() > GONE {
                return Err(error).with_context(|| format!("cannot remove {}", folder.display()));
            }
            kill_pods();
            thread::sleep(POLL);
        }
    }
    Ok(())
}

/// A group and all below it, the lowest first.
fn groups(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    if !folder.is_dir() {
        return found;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(groups(&entry.path()));
        }
    }
    found.push(folder.to_owned());
    found
}

fn remove_data(layout: &Layout) -> Result<()> {
    if !layout.data.exists() {
        return Ok(());
    }
    let made = fs::read_to_string(layout.file("made")).unwrap_or_default();
    for folder in made.lines().filter(|folder| FIXED.contains(folder)) {
        // Somebody else may keep things there by now, which leaves it in place.
        drop(fs::remove_dir(folder));
    }
    fs::remove_dir_all(&layout.data).with_context(|| format!("cannot remove {}", layout.data.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Scratch;

    #[test]
    fn groups_are_listed_from_below() -> Result<()> {
        let scratch = Scratch::below(&std::env::temp_dir(), "groups")?;
        let top = scratch.path().join("top");
        fs::create_dir_all(top.join("pods/one"))?;
        fs::write(top.join("cgroup.procs"), "")?;
        assert_eq!(groups(&top), [top.join("pods/one"), top.join("pods"), top.clone()]);
        assert!(groups(&scratch.path().join("none")).is_empty());
        Ok(())
    }
}
