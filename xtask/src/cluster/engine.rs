//! A container engine of the cluster's own: neither its containers nor its images are the user's.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::daemon::{Daemon, Identity, detached, wait};
use super::kubernetes;
use super::layout::{BRIDGE, FIXED, Layout, NAME, PAUSE_IMAGE};
use crate::context::Scratch;
use crate::process;
use crate::setup;

/// The daemons' names.
pub(super) const NAMESPACE: &str = "namespace";
pub(super) const ENGINE: &str = "engine";

const ANSWER: Duration = Duration::from_secs(30);
const START: Duration = Duration::from_secs(60);
const COPY: Duration = Duration::from_secs(300);

/// How long containers have to end when the engine is told to.
pub(super) const GRACE_OF_CONTAINERS: &str = "5";

/// A docker command for the cluster's engine.
pub(super) fn docker(layout: &Layout, arguments: &[&str]) -> Command {
    let mut command = process::command("docker");
    // What names the user's engine must not turn up here.
    command.env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT");
    command.env_remove("DOCKER_TLS").env_remove("DOCKER_TLS_VERIFY");
    command.arg("--host").arg(format!("unix://{}", layout.engine_socket().display())).args(arguments);
    command
}

pub(super) fn answers(layout: &Layout) -> bool {
    let mut command = docker(layout, &["version", "--format", "{{.Server.Version}}"]);
    process::output(&mut command, ANSWER).is_ok_and(|version| !version.trim().is_empty())
}

/// Makes the mount namespace that kubelet, engine and controllers share, and returns the process that holds it.
///
/// They see folders of their own where Kubernetes' paths are fixed, and what they mount nobody else sees: it
/// is gone with the last of them, however that ended.
pub(super) fn namespace(layout: &Layout) -> Result<Identity> {
    let daemon = Daemon::new(layout, NAMESPACE);
    if let Some(identity) = daemon.running() {
        return Ok(identity);
    }
    make_mount_points(layout)?;
    let mut hold = detached(layout, "unshare", None);
    daemon.start(hold.args(["--mount", "--propagation", "slave", "sleep", "infinity"]))?;
    let own = fs::read_link("/proc/self/ns/mnt").context("cannot read the mount namespace")?;
    wait("a mount namespace", &[&daemon], START, || {
        let theirs = daemon.running().and_then(|it| fs::read_link(format!("/proc/{}/ns/mnt", it.pid)).ok());
        theirs.is_some_and(|theirs| theirs != own)
    })?;
    let identity = daemon.running().context("the mount namespace has gone")?;
    mount_stand_ins(layout, &identity).inspect_err(|_| drop(daemon.stop(ANSWER)))?;
    Ok(identity)
}

fn make_mount_points(layout: &Layout) -> Result<()> {
    let file = layout.file("made");
    let mut made = fs::read_to_string(&file).unwrap_or_default();
    for fixed in FIXED {
        if !Path::new(fixed).exists() {
            // Noted first: what is there and was not noted would stay.
            made.push_str(&format!("{fixed}\n"));
            fs::write(&file, &made).context("cannot note a folder")?;
        }
        for folder in [Path::new(fixed), &layout.stand_in(fixed)] {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
    }
    Ok(())
}

fn mount_stand_ins(layout: &Layout, inside: &Identity) -> Result<()> {
    let mount = || {
        let mut command = process::command("nsenter");
        command.args(["--mount", "--target", &inside.pid.to_string(), "mount"]);
        command
    };
    // Volumes are mounted by the kubelet and seen by containers, which takes mounts that are shared.
    process::output(mount().args(["--make-rshared", "/"]), ANSWER)?;
    for fixed in FIXED {
        process::output(mount().arg("--bind").arg(layout.stand_in(fixed)).arg(fixed), ANSWER)?;
    }
    Ok(())
}

/// Makes the cgroup below which all pods are, in each hierarchy.
pub(super) fn cgroups() -> Result<()> {
    for folder in cgroup_folders() {
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    Ok(())
}

/// The cluster's folder in each hierarchy of cgroups: several in version 1, one in version 2.
pub(super) fn cgroup_folders() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    hierarchies(&mounts).iter().map(|root| Path::new(root).join(NAME)).collect()
}

fn hierarchies(mounts: &str) -> Vec<&str> {
    mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            let place = words.next()?;
            matches!(words.next()?, "cgroup" | "cgroup2").then_some(place)
        })
        .collect()
}

/// Starts the engine, unless it runs.
pub(super) fn start(layout: &Layout, inside: &Identity) -> Result<bool> {
    let daemon = Daemon::new(layout, ENGINE);
    if daemon.running().is_none() {
        fs::write(layout.file("engine.json"), "{}\n").context("cannot write the engine's configuration")?;
        write_runtime(layout)?;
    }
    let started = daemon.start(&mut command(layout, inside)?)?;
    wait("an answer of the engine", &[&daemon], START, || answers(layout))?;
    Ok(started)
}

fn command(layout: &Layout, inside: &Identity) -> Result<Command> {
    let mut command = detached(layout, "dockerd", Some(inside));
    // A configuration file of its own, since the default one is the user's engine's.
    for (option, file) in [
        ("--config-file", "engine.json"),
        ("--data-root", "engine/data"),
        ("--exec-root", "engine/run"),
        ("--pidfile", "engine/dockerd.pid"),
    ] {
        command.arg(option).arg(layout.file(file));
    }
    command.arg("--host").arg(format!("unix://{}", layout.engine_socket().display()));
    // The chains of a firewall that an engine makes are called the same in every engine, and it begins by
    // emptying them: with this the user's containers would lose their ports.
    command.args(["--bridge", BRIDGE, "--iptables=false", "--ip6tables=false", "--ip-masq=false"]);
    command.args(["--ip-forward=false", "--exec-opt", "native.cgroupdriver=cgroupfs"]);
    command.arg("--add-runtime").arg(format!("own={}", runtime(layout).display()));
    command.args(["--default-runtime", "own", "--shutdown-timeout", GRACE_OF_CONTAINERS]);
    // What the user's engine can use on this machine and its file system, this one can.
    let driver = process::output(&mut setup::docker(&["info", "--format", "{{.Driver}}"]), ANSWER)?;
    if matches!(driver.trim(), "overlay2" | "fuse-overlayfs" | "vfs" | "btrfs" | "zfs") {
        command.args(["--storage-driver", driver.trim()]);
    }
    Ok(command)
}

fn runtime(layout: &Layout) -> PathBuf {
    layout.file("runc")
}

/// Writes the runtime that the engine calls: runc, for machines whose root may not do everything.
///
/// Pods ask to be spared when memory is short, by a negative score, which takes CAP_SYS_RESOURCE. Where root
/// lacks that, as inside of many virtual machines and containers, no pod would start.
fn write_runtime(layout: &Layout) -> Result<()> {
    let runc = process::on_path("runc").context("there is no `runc` on PATH; it belongs to Docker Engine")?;
    let script = format!(
        "#!/bin/sh\nprevious=\nfor word; do\n    [ \"$previous\" = --bundle ] && \
         sed -i 's/\"oomScoreAdj\": *-[0-9]*/\"oomScoreAdj\":0/' \"$word/config.json\"\n    \
         previous=$word\ndone\nexec '{}' \"$@\"\n",
        runc.display()
    );
    let file = runtime(layout);
    fs::write(&file, script).context("cannot write the engine's runtime")?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o700)).context("cannot write the engine's runtime")
}

/// Gives the engine the images that it lacks. Returns how many those were.
pub(super) fn images(layout: &Layout) -> Result<usize> {
    let stale: Vec<&str> = setup::image_names()
        .into_iter()
        .filter(|name| {
            let theirs = id(setup::docker(&["image", "inspect", "--format", "{{.Id}}", name]));
            theirs.is_none()
                || theirs != id(docker(layout, &["image", "inspect", "--format", "{{.Id}}", name]))
        })
        .collect();
    let mut made = stale.len();
    if !stale.is_empty() {
        let scratch = Scratch::below(&layout.data, "images")?;
        let archive = scratch.path().join("images.tar");
        process::output(setup::docker(&["save", "--output"]).arg(&archive).args(&stale), COPY)?;
        process::output(docker(layout, &["load", "--input"]).arg(&archive), COPY)?;
    }
    if id(docker(layout, &["image", "inspect", "--format", "{{.Id}}", PAUSE_IMAGE])).is_none() {
        pause_image(layout)?;
        made += 1;
    }
    Ok(made)
}

fn id(mut command: Command) -> Option<String> {
    process::output(&mut command, ANSWER).ok().map(|text| text.trim().to_owned())
}

fn pause_image(layout: &Layout) -> Result<()> {
    let scratch = Scratch::below(&layout.data, "pause")?;
    let archive = scratch.path().join("image.tar");
    let mut pack = process::command("tar");
    pack.args(["--owner=0", "--group=0", "-C"]).arg(kubernetes::folder(layout));
    process::output(pack.arg("-cf").arg(&archive).arg("pause"), COPY)?;
    let mut import = docker(layout, &["import", "--change", r#"ENTRYPOINT ["/pause"]"#]);
    process::output(import.arg(&archive).arg(PAUSE_IMAGE), COPY).map(drop)
}

/// An error where an engine of one's own cannot be run.
pub(super) fn possible(layout: &Layout) -> Result<()> {
    for program in ["dockerd", "containerd", "runc"] {
        if process::on_path(program).is_none() {
            bail!(
                "there is no `{program}` on PATH. A cluster runs a Docker Engine of its own, with the programs of \
                 one that is installed here; the user's may be elsewhere, and that does not help"
            );
        }
    }
    // The longest socket below the data folder is containerd's; the kernel allows names of 107 bytes.
    if layout.data.as_os_str().len() > 64 {
        bail!(
            "{} is too long a path for sockets; set XDG_CACHE_HOME to a shorter one",
            layout.data.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_hierarchies_of_cgroups_are_found() {
        let mounts = "proc /proc proc rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\ntmpfs /sys/fs/cgroup tmpfs rw 0 0\n";
        assert_eq!(hierarchies(mounts), ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/unified"]);
        assert_eq!(hierarchies("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"), ["/sys/fs/cgroup"]);
    }
}
