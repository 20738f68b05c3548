//! What a host did in the course of a scenario, in a form in which two worlds can be held against each other.
//!
//! Left out is what depends on how fast a world is: how often something was looked at, or a Lease renewed. Addresses and
//! ports are left out too, and where operations run at once, their order.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use anyhow::{Result, bail};
use sha2::{Digest as _, Sha256};

use crate::corpus::{Action, Scenario, Step};
use crate::faults::{Line, Nature};

/// Digits in a row that are an identity, not a number.
const IDENTITY: usize = 32;

/// Every change that the host asked for, and what came of it.
fn changes(scenario: &Scenario, lines: &[Line]) -> Vec<String> {
    let mut held = BTreeSet::new();
    let changes = lines.iter().filter(|line| match line.call.as_str() {
        _ if line.nature == Nature::Look => false,
        // Whoever holds it already renews it.
        "take_lease" => held.insert(&line.object),
        "delete_lease" => {
            held.remove(&line.object);
            true
        }
        _ => true,
    });
    let mut changes: Vec<String> = changes.map(shown).collect();
    if scenario.steps.iter().any(|step| step.r#do == Action::StopAll) {
        changes.sort_unstable();
    }
    changes
}

fn shown(line: &Line) -> String {
    // A question to an engine begins with its endpoint.
    let object = match line.call.as_str() {
        "command" => line.object.split_once(' ').map_or("", |(_, args)| args),
        _ => &line.object,
    };
    let words = object.split(' ').map(|word| if word.parse::<IpAddr>().is_ok() { "#" } else { word });
    let object = words.collect::<Vec<_>>().join(" ");
    format!("{} {} = {}", line.call, without_identities(&object), line.result)
}

/// Random names, of volumes by which a clock is read for instance, are all the same.
fn without_identities(object: &str) -> String {
    identified(object, |_| "#".to_owned())
}

/// Random names as numbers, in the order in which they come up; `known` are those that did.
pub(crate) fn numbered(object: &str, known: &mut Vec<String>) -> String {
    identified(object, |identity| {
        let at = known.iter().position(|of| of == identity).unwrap_or_else(|| {
            known.push(identity.to_owned());
            known.len() - 1
        });
        format!("#{}", at + 1)
    })
}

fn identified(object: &str, mut name: impl FnMut(&str) -> String) -> String {
    let mut shown = String::new();
    for part in object.split_inclusive(|c: char| !c.is_ascii_hexdigit()) {
        let digits = part.trim_end_matches(|c: char| !c.is_ascii_hexdigit());
        match digits.len() >= IDENTITY {
            true => shown.extend([&name(digits), &part[digits.len()..]]),
            false => shown.push_str(part),
        }
    }
    shown
}

/// Whether what happens in it is not a matter of how fast anything is.
pub fn is_comparable(scenario: &Scenario) -> bool {
    fn at_once(step: &Step) -> bool {
        step.r#do == Action::AtOnce
    }
    !scenario.steps.iter().any(at_once)
}

/// Holds what was done in a simulated world against what was done in the real one. Returns how many changes that were.
///
/// # Errors
/// If it is not the same, with the first difference.
pub fn compare(scenario: &Scenario, real: &[Line], simulated: &[Line]) -> Result<usize> {
    let (real, simulated) = (changes(scenario, real), changes(scenario, simulated));
    let differs = real.iter().zip(&simulated).position(|(real, simulated)| real != simulated);
    let none = String::from("nothing more");
    match differs.or_else(|| (real.len() != simulated.len()).then(|| real.len().min(simulated.len()))) {
        None => Ok(real.len()),
        Some(at) => bail!(
            "the simulation is wrong about change {}: it has {:?}, and in truth there is {:?}",
            at + 1,
            simulated.get(at).unwrap_or(&none),
            real.get(at).unwrap_or(&none)
        ),
    }
}

/// A hash over every call, its object, its result and its fault: the same for the same run.
pub fn hash(lines: &[Line]) -> String {
    let mut hasher = Sha256::new();
    for line in lines {
        let fault = line.fault.map(|fault| fault.as_str()).unwrap_or_default();
        let object = without_identities(&line.object);
        hasher.update(format!("{} {} {object} {} {fault}\n", line.host, line.call, line.result));
    }
    hex(&hasher.finalize())
}

/// Bytes in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(call: &str, object: &str, nature: Nature) -> Line {
        let (call, object) = (call.to_owned(), object.to_owned());
        Line { host: 0, call, object, result: "done".to_owned(), fault: None, nature, may_be_stale: false }
    }

    fn scenario() -> Scenario {
        toml::from_str("title = 't'\nclauses = ['UP-1']\nengines = 'all'\nsteps = [{ do = 'up' }]").unwrap()
    }

    #[test]
    fn looks_ports_and_identities_do_not_count() {
        let id = "0123456789abcdef0123456789abcdef";
        let one = [line("check", "x", Nature::Look), line("command", "127.0.0.1:1 SAVE", Nature::Change)];
        let two = [line("command", "127.0.0.1:2 SAVE", Nature::Change)];
        assert_eq!(compare(&scenario(), &one, &two).unwrap(), 1);
        let named = |id: &str| [line("create_volume", &format!("lease-{id}"), Nature::Change)];
        compare(&scenario(), &named(id), &named(&id.replace('0', "f"))).unwrap();
    }

    #[test]
    fn identities_are_numbered_as_they_come_up_and_told_apart() {
        let mut known = Vec::new();
        let shown = ["a", "b", "a"].map(|id| numbered(&format!("lease-{} x", id.repeat(32)), &mut known));
        assert_eq!(shown, ["lease-#1 x", "lease-#2 x", "lease-#1 x"]);
        assert_eq!(numbered("elasticache-a", &mut known), "elasticache-a");
    }

    #[test]
    fn addresses_of_replicas_and_renewals_of_a_lease_do_not_count() {
        let change = |call: &str, object: &str| line(call, object, Nature::Change);
        let follow = |address: &str| change("command", &format!("{address}:6379 REPLICAOF {address} 6379"));
        compare(&scenario(), &[follow("10.0.0.1")], &[follow("fd00::1")]).unwrap();
        let (take, give) = (change("take_lease", "a"), change("delete_lease", "a"));
        let twice = [take.clone(), take.clone(), give.clone()];
        compare(&scenario(), &twice, &[take.clone(), give.clone()]).unwrap();
        compare(&scenario(), &[take.clone(), give, take.clone()], &[take]).unwrap_err();
    }

    #[test]
    fn a_change_more_less_or_other_is_a_difference() {
        let some =
            [line("stop_container", "a", Nature::Change), line("remove_container", "a", Nature::Change)];
        let other = [some[0].clone(), line("remove_container", "b", Nature::Change)];
        assert!(compare(&scenario(), &some, &some[..1]).unwrap_err().to_string().contains("nothing more"));
        assert!(compare(&scenario(), &some[..1], &some).is_err());
        assert!(compare(&scenario(), &some, &other).unwrap_err().to_string().contains("change 2"));
        assert_ne!(hash(&some), hash(&other));
        assert_eq!(hash(&some), hash(&some.clone()));
    }
}
