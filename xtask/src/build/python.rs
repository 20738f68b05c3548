//! The policy in Python. Making a component of it takes most of a minute, so that the last ones made are kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use super::{hex, place, read_component, ship};
use crate::context::{Context, Scratch};
use crate::process;
use crate::report::{self, Outcome};
use crate::setup::Componentizer;

/// The policy's name, its folder's in `guest`, and that of its component.
const NAME: &str = "python";
/// The module that is the policy.
const MODULE: &str = "app";

/// Components that are kept: those of some work trees, or of some states of one.
const KEPT: usize = 4;
const COMPONENTIZE: Duration = Duration::from_secs(900);

/// Makes a component of the policy in Python, unless one was made of the same before, and puts it where the other
/// policies are.
pub(crate) fn python_policy(context: &Context, tool: &Componentizer) -> Result<()> {
    let source = context.root.join("guest").join(NAME).join(format!("{MODULE}.py"));
    let wit = context.root.join("wit");
    let folder = context.cache.join("python-policies");
    let kept = folder.join(format!("{}.wasm", key(tool.built_by(), &source, &wit)?));
    let name = format!("{NAME}.wasm");
    report::step(&name, || {
        if kept.is_file() {
            return Ok(Outcome::Present(format!("made by componentize-py {}", tool.built_by())));
        }
        report::note(&name, "making a component of the policy in Python");
        place(&componentize(context, tool, &source, &wit)?, &kept)?;
        forget(&folder)?;
        Ok(Outcome::Made(format!("made by componentize-py {}", tool.built_by())))
    })?;
    ship(context, NAME, &read_component(&kept)?)
}

/// Names what the component is made of.
fn key(version: &str, source: &Path, wit: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    let mut add = |bytes: &[u8]| {
        // Each with its length, so that no two lists of parts read the same.
        hasher.update((bytes.len() as u64).to_be_bytes());
        hasher.update(bytes);
    };
    add(version.as_bytes());
    let mut files = vec![source.to_owned()];
    list(wit, &mut files)?;
    for file in files {
        // Where the work tree lies makes no difference.
        add(file.strip_prefix(wit).unwrap_or(Path::new("")).as_os_str().as_encoded_bytes());
        add(&fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    Ok(hex(&hasher.finalize()))
}

/// Adds the files below a folder, in an order that is the same on every machine.
fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let unreadable = || format!("cannot list {}", folder.display());
    let entries = fs::read_dir(folder).with_context(unreadable)?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .with_context(unreadable)?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            list(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn componentize(context: &Context, tool: &Componentizer, source: &Path, wit: &Path) -> Result<Vec<u8>> {
    let scratch = Scratch::below(&context.cache, "python-policy")?;
    // Python leaves compiled modules beside those that it loads.
    let modules = scratch.path().join("modules");
    // Whatever else is installed on this machine would be put into the component as well. The folder that is meant
    // for that is an empty one.
    let environment = scratch.path().join("environment");
    fs::create_dir_all(&modules)
        .and_then(|()| fs::create_dir_all(environment.join("lib/python3/site-packages")))
        .and_then(|()| fs::copy(source, modules.join(format!("{MODULE}.py"))))
        .with_context(|| format!("cannot copy {}", source.display()))?;
    let built = scratch.path().join("policy.wasm");
    let mut command = tool.command();
    command.env("VIRTUAL_ENV", &environment).current_dir(scratch.path());
    command.arg("--quiet").arg("--wit-path").arg(wit).args(["--world", "policy", "componentize"]);
    command.arg("--python-path").arg(&modules).arg("--output").arg(&built).arg(MODULE);
    process::output(&mut command, COMPONENTIZE).context("the policy in Python cannot be built")?;
    read_component(&built)
}

/// Deletes all components but the newest.
fn forget(folder: &Path) -> Result<()> {
    let mut files: Vec<(SystemTime, PathBuf)> = fs::read_dir(folder)
        .with_context(|| format!("cannot list {}", folder.display()))?
        .flatten()
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    files.sort();
    let old = files.len().saturating_sub(KEPT);
    for (_, file) in &files[..old] {
        // Another run may have been quicker, and nothing depends on it being gone.
        drop(fs::remove_file(file));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_tells_sources_contracts_and_tools_apart_and_not_places() -> Result<()> {
        let scratch = Scratch::below(&std::env::temp_dir(), "xtask-python")?;
        let tree = |name: &str, app: &str, wit: &str, contract: &str| -> Result<(PathBuf, PathBuf)> {
            let root = scratch.path().join(name);
            fs::create_dir_all(root.join("wit/deps"))?;
            fs::write(root.join("app.py"), app)?;
            fs::write(root.join("wit/deps").join(wit), contract)?;
            Ok((root.join("app.py"), root.join("wit")))
        };
        let of = |version: &str, (source, wit): &(PathBuf, PathBuf)| key(version, source, wit);
        let one = tree("one", "a", "x.wit", "b")?;
        let first = of("1", &one)?;
        assert_eq!(of("1", &tree("two", "a", "x.wit", "b")?)?, first);
        assert_ne!(of("2", &one)?, first);
        assert_ne!(of("1", &tree("three", "A", "x.wit", "b")?)?, first);
        assert_ne!(of("1", &tree("four", "a", "y.wit", "b")?)?, first);
        assert_ne!(of("1", &tree("five", "a", "x.wit", "B")?)?, first);
        Ok(())
    }

    #[test]
    fn the_newest_components_are_kept() -> Result<()> {
        let scratch = Scratch::below(&std::env::temp_dir(), "xtask-forget")?;
        let now = SystemTime::now();
        for age in 0..=KEPT as u64 {
            let file = fs::File::create(scratch.path().join(age.to_string()))?;
            file.set_modified(now - Duration::from_secs(age))?;
        }
        forget(scratch.path())?;
        assert!(scratch.path().join("0").is_file());
        assert!(!scratch.path().join(KEPT.to_string()).exists());
        assert_eq!(fs::read_dir(scratch.path())?.count(), KEPT);
        Ok(())
    }
}
