//! A copy of the workspace in which every mutant can be chosen as it runs: one build for all of them.
//!
//! Where a mutant has `find` and `replace`, the copy has `if mutant::is("its id") { replace } else { find }`. A policy
//! reads which one it is from its setting `mutant`, the host from the variable `FAKECLOUD_MUTANT`; with neither, the copy
//! does what the original does. The original knows nothing of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use super::Mutant;

/// The setting of a policy that chooses its mutant.
pub const SETTING: &str = "mutant";
/// The variable that chooses the host's.
pub const VARIABLE: &str = "FAKECLOUD_MUTANT";

/// What the name of a component of the copy begins with.
const MUTATED: &str = "mutated_";

/// How the policies' library asks which mutant it is, and how the host does.
const IN_KIT: &str = "
    pub fn is(id: &str) -> bool {
        let set = || crate::bindings::wasi::config::store::get(\"mutant\").ok().flatten();
        CHOSEN.get_or_init(set).as_deref() == Some(id)
    }";
const IN_HOST: &str = "
    pub fn is(id: &str) -> bool {
        CHOSEN.get_or_init(|| std::env::var(\"FAKECLOUD_MUTANT\").ok()).as_deref() == Some(id)
    }";
/// Folders of the workspace that are no part of what is built.
const LEFT_OUT: [&str; 2] = [".git", "target"];

/// Writes the copy of the workspace at `root` into `place`. What has not changed since the last time keeps its time, so
/// that cargo does not build it again.
///
/// # Errors
/// If a mutant does not fit the source, or the copy cannot be written.
pub fn write(root: &Path, mutants: &[Mutant], place: &Path) -> Result<()> {
    let mut broken: BTreeMap<&str, Vec<&Mutant>> = BTreeMap::new();
    for mutant in mutants {
        broken.entry(&mutant.file).or_default().push(mutant);
    }
    copy(root, place, "", &mut |file, text| {
        let text = match broken.remove(file) {
            Some(mutants) => with_mutants(&text, &mutants).with_context(|| file.to_owned())?,
            None => text,
        };
        Ok(match file {
            // Cargo takes packages of one name and version for one package, wherever they are. The lock file follows.
            "Cargo.toml" => text.replacen("\nversion = \"0.", "\nversion = \"0.0.0-mutants.", 1),
            "guest/kit/src/lib.rs" => with_choice(&text, &chosen(IN_KIT)),
            "host/src/lib.rs" => with_choice(&text, &chosen(IN_HOST)),
            // Components have no hash in the names of their files.
            _ if file.starts_with("guest/") && file.ends_with("/Cargo.toml") => {
                let name = file.split('/').nth(1).unwrap_or_default();
                text.replace("[lib]\n", &format!("[lib]\nname = \"{MUTATED}{name}\"\n"))
            }
            _ if file.starts_with("guest/") && file.ends_with("/src/lib.rs") => {
                with_choice(&text, "use policy_kit::mutant;\n")
            }
            _ => text,
        })
    })?;
    match broken.keys().next() {
        Some(file) => bail!("there is no {file}"),
        None => Ok(()),
    }
}

fn chosen(function: &str) -> String {
    format!(
        "pub mod mutant {{\n    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();\n{function}\n}}\n"
    )
}

/// What is broken need not be tidy.
fn with_choice(text: &str, choice: &str) -> String {
    format!("#![allow(warnings, missing_docs, clippy::all)]\n{text}\n{choice}")
}

/// Copies what is below a folder. Text may be changed on its way, by its path below the root.
fn copy(
    from: &Path,
    to: &Path,
    path: &str,
    change: &mut impl FnMut(&str, String) -> Result<String>,
) -> Result<()> {
    let unreadable = || format!("cannot read {}", from.display());
    if !from.is_dir() {
        let bytes = fs::read(from).with_context(unreadable)?;
        let bytes = match String::from_utf8(bytes) {
            Ok(text) => change(path, text)?.into_bytes(),
            Err(other) => other.into_bytes(),
        };
        if fs::read(to).is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        return fs::write(to, bytes).with_context(|| format!("cannot write {}", to.display()));
    }
    // Cargo marks what it builds into, wherever that is.
    if from.join("CACHEDIR.TAG").exists() {
        return Ok(());
    }
    let unwritable = || format!("cannot write {}", to.display());
    fs::create_dir_all(to).with_context(unwritable)?;
    // What was there and is no more must not be built: cargo takes what it finds.
    for entry in fs::read_dir(to).with_context(unwritable)? {
        let entry = entry.with_context(unwritable)?;
        if from.join(entry.file_name()).exists() {
            continue;
        }
        let is_folder = entry.file_type().with_context(unwritable)?.is_dir();
        let path = entry.path();
        if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) }.with_context(unwritable)?;
    }
    for entry in fs::read_dir(from).with_context(unreadable)? {
        let name = entry.with_context(unreadable)?.file_name();
        let name = name.to_str().context("a file's name is no text")?;
        if LEFT_OUT.contains(&name) {
            continue;
        }
        let below = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
        copy(&from.join(name), &to.join(name), &below, change)?;
    }
    Ok(())
}

/// A source with the choice between it and its mutants.
fn with_mutants(text: &str, mutants: &[&Mutant]) -> Result<String> {
    // Several may break one place.
    let mut places: BTreeMap<(usize, usize), Vec<&Mutant>> = BTreeMap::new();
    for mutant in mutants {
        let at = place(text, mutant).with_context(|| format!("the mutant {}", mutant.id))?;
        places.entry((at, at + mutant.find.len())).or_default().push(mutant);
    }
    let (mut out, mut done) = (String::new(), 0);
    for ((from, to), mutants) in places {
        let ids: Vec<&str> = mutants.iter().map(|mutant| mutant.id.as_str()).collect();
        ensure!(from >= done, "{} breaks what another mutant breaks a part of", ids.join(" and "));
        out.push_str(&text[done..from]);
        let choices: String = mutants
            .iter()
            .map(|mutant| format!("if crate::mutant::is({:?}) {{ {} }} else ", mutant.id, mutant.replace))
            .collect();
        let choice = format!("{choices}{{ {} }}", &text[from..to]);
        // An expression may be a part of another one; a statement is none.
        let whole = text[from..to].ends_with([';', '}']);
        out.push_str(&if whole { choice } else { format!("({choice})") });
        done = to;
    }
    Ok(out + &text[done..])
}

fn place(text: &str, mutant: &Mutant) -> Result<usize> {
    let Some(around) = &mutant.r#in else { return once(text, &mutant.find) };
    ensure!(around.contains(&mutant.find), "`in` does not have `find` in it");
    Ok(once(text, around)? + once(around, &mutant.find)?)
}

fn once(text: &str, piece: &str) -> Result<usize> {
    let mut places = text.match_indices(piece).map(|(at, _)| at);
    match (places.next(), places.next()) {
        (Some(at), None) => Ok(at),
        (None, _) => bail!("its source is not there: {piece}"),
        (Some(_), Some(_)) => bail!("its source is there more than once: {piece}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Place;

    fn mutant(id: &str, find: &str, replace: &str) -> Mutant {
        Mutant {
            id: id.to_owned(),
            file: "guest/kit/src/steps.rs".to_owned(),
            what: String::new(),
            find: find.to_owned(),
            replace: replace.to_owned(),
            r#in: None,
            place: Place::Docker,
            hangs: false,
            policy: None,
            scenario: None,
            faults: None,
            by: None,
        }
    }

    fn made(text: &str, mutants: &[Mutant]) -> Result<String> {
        with_mutants(text, &mutants.iter().collect::<Vec<_>>())
    }

    #[test]
    fn an_expression_and_statements_are_chosen_and_two_of_one_place() {
        let mutants = [mutant("x", "1", "2"), mutant("y", "1", "3"), mutant("z", "call();", "")];
        assert_eq!(
            made("let a = 1 + b; call(); end()", &mutants).unwrap(),
            "let a = (if crate::mutant::is(\"x\") { 2 } else if crate::mutant::is(\"y\") { 3 } else { 1 }) + b; \
             if crate::mutant::is(\"z\") {  } else { call(); } end()"
        );
    }

    #[test]
    fn a_source_that_is_not_there_once_is_an_error() {
        let error = |text: &str| format!("{:#}", made(text, &[mutant("x", "one", "two")]).unwrap_err());
        assert!(error("zero").contains("not there"));
        assert!(error("one one").contains("more than once"));
        let around = Mutant { r#in: Some("b one".to_owned()), ..mutant("x", "one", "two") };
        assert!(made("a one, b one", &[around]).unwrap().starts_with("a one, b (if"));
        let nested = [mutant("x", "a one", ""), mutant("y", "one b", "")];
        assert!(made("a one b", &nested).unwrap_err().to_string().contains("y breaks what"));
    }

    #[test]
    fn every_mutant_fits_the_source_as_it_is() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let gone = folder.path().join("tests/hostile/examples/gone.rs");
        fs::create_dir_all(gone.parent().unwrap()).unwrap();
        fs::write(&gone, "").unwrap();
        write(root, &super::super::all().unwrap(), folder.path()).unwrap();
        assert!(!gone.exists(), "it would be built");
        let broken = fs::read_to_string(folder.path().join("host/src/lib.rs")).unwrap();
        assert!(broken.contains(VARIABLE) && !broken.contains("unsafe"));
        assert!(fs::read_to_string(folder.path().join("guest/kit/src/lib.rs")).unwrap().contains(SETTING));
        assert!(fs::read_to_string(folder.path().join("Cargo.toml")).unwrap().contains("0.0.0-mutants"));
    }
}
