//! The programs of Kubernetes: built once of Debian's source package, and kept by their version.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::layout::Layout;
use crate::context::Scratch;
use crate::process;
use crate::report::{self, Outcome};
use crate::setup::debian;

/// The version of Kubernetes. Later ones have no code for Docker Engine any more.
const VERSION: &str = "1.20.2";

/// The version's major and minor number, as the API server's version tells them.
const NUMBERS: (&str, &str) = ("1", "20");

const COMPONENTS: [&str; 4] = ["kube-apiserver", "kube-scheduler", "kube-controller-manager", "kubelet"];

/// Packages that the build takes and nothing else.
const BUILD_PACKAGES: [&str; 7] = ["golang-1.19-go", "rsync", "jq", "make", "dpkg-dev", "gcc", "libc6-dev"];

/// The folder of that Go.
const GO: &str = "/usr/lib/go-1.19/bin";

/// A library in Kubernetes' vendor folder that is too old for that Go, and the package of one that is not.
///
/// It calls a function inside of Go's runtime that has had a further parameter since Go 1.18. What it passes
/// for that is what happens to be in a register, so that programs crash at some answer in JSON, by chance.
const STALE: (&str, &str) = ("github.com/modern-go/reflect2", "golang-github-modern-go-reflect2-dev");

/// What is changed in the source: the file, what it says there, and what it is to say.
const CHANGES: [(&str, &str, &str); 3] = [
    // A pod need not run as root to write to its volume.
    (
        "pkg/volume/hostpath/host_path.go",
        "os.MkdirAll(pv.Spec.HostPath.Path, 0750)",
        "os.MkdirAll(pv.Spec.HostPath.Path, 0777)",
    ),
    // A pod is deleted once the kubelet has cleared everything of it away, which it looks for at these intervals and
    // no option says. As they are, tests would wait for it most of the time.
    ("pkg/kubelet/status/status_manager.go", "syncPeriod = 10 * time.Second", "syncPeriod = time.Second"),
    ("pkg/kubelet/kubelet.go", "ContainerGCPeriod = time.Minute", "ContainerGCPeriod = 2 * time.Second"),
];

/// The number of what is made of that version here: programs of another one are built anew.
const REVISION: u32 = 2;

/// PID 1 of a pod. It has to end when asked to: PID 1 ignores signals that it has no handler for, and every
/// deletion of a pod would last until its grace is over.
const PAUSE: &str = "\
#include <signal.h>
#include <unistd.h>

static void end(int signal) { (void)signal; _exit(0); }

int main(void) {
    signal(SIGTERM, end);
    signal(SIGINT, end);
    for (;;) pause();
}
";

const LISTS: Duration = Duration::from_secs(300);
const DOWNLOAD: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_secs(120);
const BUILD: Duration = Duration::from_secs(3600);

/// The folder of the programs.
pub(super) fn folder(layout: &Layout) -> PathBuf {
    layout.programs.join(format!("{VERSION}-{REVISION}"))
}

/// Builds the programs, unless that has been done.
pub(super) fn set_up(layout: &Layout) -> Result<Outcome> {
    let place = folder(layout);
    if place.is_dir() {
        return Ok(Outcome::Present(VERSION.to_owned()));
    }
    if !debian::may_install() {
        bail!(
            "Kubernetes {VERSION} is built of Debian's packages, by root. Elsewhere, use a cluster of kind, k3d, \
             minikube or a cloud: any context of a kubeconfig does"
        );
    }
    clear_leftovers(layout);
    let scratch = Scratch::below(&layout.programs, "build")?;
    report::note(
        "kubernetes",
        &format!("building {VERSION} of Debian's source, once; 10 minutes if nothing else runs"),
    );
    debian::install(&BUILD_PACKAGES)?;
    let tree = source(scratch.path())?;
    renew_stale(&tree, scratch.path())?;
    change(&tree)?;
    compile(&tree, scratch.path())?;

    let done = scratch.path().join("done");
    fs::create_dir(&done).context("cannot create a folder for the programs")?;
    for name in COMPONENTS {
        copy(&tree.join("_output/local/bin/linux").join(go_architecture()).join(name), &done.join(name))?;
    }
    // Its package would run an etcd of its own as a service, hence just the program.
    let etcd = unpacked("etcd-server", scratch.path())?;
    copy(&etcd.join("usr/bin/etcd"), &done.join("etcd"))?;
    compile_pause(&done)?;
    fs::rename(&done, &place).with_context(|| format!("cannot move {VERSION} to {}", place.display()))?;
    Ok(Outcome::Made(format!("{VERSION} built, in {}", place.display())))
}

/// Removes what builds left that were interrupted. Whoever builds holds the cluster's lock.
fn clear_leftovers(layout: &Layout) {
    for entry in fs::read_dir(&layout.programs).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(".build-") {
            // What cannot be removed takes space and does no harm.
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

/// Downloads and unpacks the source package. Returns the folder of its tree.
fn source(scratch: &Path) -> Result<PathBuf> {
    let lists = scratch.join("lists");
    fs::create_dir_all(lists.join("partial")).context("cannot create a folder for package lists")?;
    let entries = source_entries()?;
    fs::write(scratch.join("sources.list"), entries).context("cannot write a list of sources")?;
    process::output(private_apt(scratch).arg("update"), LISTS)?;
    process::output(private_apt(scratch).args(["source", "--only-source", "kubernetes"]), DOWNLOAD)?;
    let tree = fs::read_dir(scratch)
        .context("cannot list the sources")?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.is_dir() && path.join("cmd/kubelet").is_dir())
        .context("the package kubernetes has no source tree")?;
    // The package's version may have been set back, as in `1.20.5+really1.20.2`.
    if !tree.to_string_lossy().ends_with(VERSION) {
        let name = tree.file_name().unwrap_or_default().to_string_lossy().into_owned();
        bail!("this Debian's source is {name}, and a cluster needs {VERSION}, which is Debian 12's");
    }
    Ok(tree)
}

/// The system's own mirrors of Debian, as entries for sources.
fn source_entries() -> Result<String> {
    let mut command = process::command("apt-get");
    command.args(["indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN) $(SIGNED_BY)"]);
    let text = process::output(command.arg("Created-By: Packages"), SHORT)?;
    let entries = as_sources(&text);
    if entries.is_empty() {
        bail!("apt knows no mirror of Debian; `apt-get update` may help");
    }
    Ok(entries)
}

fn as_sources(targets: &str) -> String {
    let mut lines: Vec<String> = targets
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (uri, suite, component, origin) =
                (words.next()?, words.next()?, words.next()?, words.next()?);
            // Where nothing is said of a key, apt leaves its placeholder.
            let key = words.next().filter(|key| key.starts_with('/'));
            let key = key.map_or(String::new(), |key| format!("[signed-by={key}] "));
            (origin == "Debian" && component == "main").then(|| format!("deb-src {key}{uri} {suite} main\n"))
        })
        .collect();
    // One target for each architecture.
    lines.dedup();
    lines.concat()
}

/// apt with lists and a cache of its own: the system's know nothing of sources, and stay as they are.
fn private_apt(scratch: &Path) -> Command {
    let mut command = process::command("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").current_dir(scratch).arg("-q");
    for (option, value) in [
        ("Dir::Etc::sourcelist", scratch.join("sources.list")),
        ("Dir::Etc::sourceparts", PathBuf::from("/dev/null")),
        ("Dir::State::lists", scratch.join("lists")),
        ("Dir::Cache", scratch.join("apt")),
        // The user that apt downloads as has no access to a home folder.
        ("APT::Sandbox::User", PathBuf::from("root")),
    ] {
        command.arg("-o").arg(format!("{option}={}", value.display()));
    }
    command
}

fn renew_stale(tree: &Path, scratch: &Path) -> Result<()> {
    let (library, package) = STALE;
    let renewed = unpacked(package, scratch)?.join("usr/share/gocode/src").join(library);
    let place = tree.join("vendor").join(library);
    fs::remove_dir_all(&place).with_context(|| format!("the source has no {library}"))?;
    fs::create_dir(&place).with_context(|| format!("cannot renew {library}"))?;
    for file in fs::read_dir(&renewed).with_context(|| format!("{package} has no {library}"))?.flatten() {
        if file.path().is_file() && file.file_name() != "go.mod" {
            copy(&file.path(), &place.join(file.file_name()))?;
        }
    }
    Ok(())
}

fn change(tree: &Path) -> Result<()> {
    for (file, before, after) in CHANGES {
        let path = tree.join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("the source has no {file}"))?;
        if !text.contains(before) {
            bail!("the source of Kubernetes {VERSION} does not say {before:?} in {file}");
        }
        fs::write(&path, text.replace(before, after)).with_context(|| format!("cannot change {file}"))?;
    }
    Ok(())
}

/// Downloads a package and unpacks it in a folder of its own.
fn unpacked(package: &str, scratch: &Path) -> Result<PathBuf> {
    let downloads = scratch.join(format!("{package}-download"));
    let folder = scratch.join(package);
    fs::create_dir_all(&downloads).context("cannot create a folder for downloads")?;
    debian::download(&[package.to_owned()], &downloads)?;
    for file in fs::read_dir(&downloads).context("cannot list the downloads")?.flatten() {
        process::output(process::command("dpkg-deb").arg("-x").arg(file.path()).arg(&folder), SHORT)?;
    }
    Ok(folder)
}

fn compile(tree: &Path, scratch: &Path) -> Result<()> {
    let path = tree.join(".go");
    let modules = path.join("src/k8s.io");
    fs::create_dir_all(&modules).context("cannot lay out the source")?;
    std::os::unix::fs::symlink("../../..", modules.join("kubernetes"))
        .context("cannot lay out the source")?;

    let temporary = scratch.join("tmp");
    fs::create_dir(&temporary).context("cannot lay out the source")?;

    let search = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(PathBuf::from(GO)).chain(std::env::split_paths(&search));
    let search = std::env::join_paths(folders).context("a folder on PATH has a colon")?;
    let what: Vec<String> = COMPONENTS.iter().map(|name| format!("cmd/{name}")).collect();

    // Generated code is part of the programs, so that `go build` alone does not make them.
    let mut make = process::command("nice");
    make.args(["-n", "5", "make"]).arg(format!("WHAT={}", what.join(" "))).current_dir(tree);
    make.env("PATH", search).env("GOPATH", path).env("CGO_ENABLED", "0").env("GOPROXY", "off");
    // A build that is interrupted leaves nothing outside of its folder.
    make.env("HOME", scratch.join("home")).env("GOCACHE", scratch.join("go-cache")).env("TMPDIR", temporary);
    // Without tables for debuggers they are half as large.
    make.env("GOLDFLAGS", "-s -w").env_remove("GO111MODULE").env_remove("GOROOT");
    // The clients of clouds are a good part of the code, and no node here is in one.
    make.env("GOFLAGS", "-tags=providerless");
    // There is no git history to take these from.
    make.env("KUBE_GIT_VERSION", format!("v{VERSION}")).env("KUBE_GIT_COMMIT", "debian");
    make.env("KUBE_GIT_TREE_STATE", "archive");
    make.env("KUBE_GIT_MAJOR", NUMBERS.0).env("KUBE_GIT_MINOR", NUMBERS.1);
    process::output(&mut make, BUILD).map(drop).context("Kubernetes cannot be built")
}

fn compile_pause(folder: &Path) -> Result<()> {
    let mut compiler = process::command("gcc");
    compiler.args(["-static", "-Os", "-s", "-x", "c", "-", "-o"]).arg(folder.join("pause"));
    let captured = process::capture_with_input(&mut compiler, PAUSE.as_bytes().to_vec(), SHORT)?;
    if !captured.status.success() {
        bail!("the pause program cannot be compiled: {}", process::last_words(&captured));
    }
    Ok(())
}

/// What Go calls this machine's architecture.
fn go_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = fs::copy(from, to).map(drop);
    copied.with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_of_debian_become_entries_for_sources() {
        let targets = "\
http://mirror.test/debian/ bookworm main Debian /usr/share/keyrings/a.gpg
http://mirror.test/debian/ bookworm main Debian /usr/share/keyrings/a.gpg
http://mirror.test/debian/ bookworm contrib Debian
http://mirror.test/security/ bookworm-security main Debian $(SIGNED_BY)
http://elsewhere.test/ stable main Somebody
";
        let expected = "\
deb-src [signed-by=/usr/share/keyrings/a.gpg] http://mirror.test/debian/ bookworm main
deb-src http://mirror.test/security/ bookworm-security main
";
        assert_eq!(as_sources(targets), expected);
    }
}
