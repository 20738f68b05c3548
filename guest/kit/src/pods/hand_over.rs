//! The hand-over of a cache whose data lies in its pod, from the old pod to the new one.

use super::twice::delete;
use super::{
    DELETED, Found, Plan, about, create_pod, has_ended, is_on_claim, ready, runs, seen, unless_deleted,
};
use crate::bindings::fakecloud::elasticache::kube::Pod;
use crate::bindings::fakecloud::elasticache::logging::{Level, log};
use crate::bindings::fakecloud::elasticache::probes::{self, Check, Reply, Target};
use crate::bindings::fakecloud::elasticache::types::{Cache, CacheSpec, Endpoint, Error, Operation};
use crate::cache::{self, SHORT_GRACE, refuse, tidy};
use crate::steps::{self, PodSeen};
use crate::storage::Storage;

/// Milliseconds for a replica to have all that there is.
const SYNC_WITHIN: u32 = 600_000;
/// Milliseconds for which the old engine holds back writes at most while the new one catches up.
const FAILOVER_WITHIN: u32 = 60_000;
/// Milliseconds for a small question.
const ANSWER_WITHIN: u32 = 10_000;

/// The pod that has everything, the other one deleted: which one it is, both are asked.
pub(super) fn settled(found: Found) -> Result<Option<Pod>, Error> {
    let Found { first: Some(first), second } = found else { return Ok(None) };
    let Some(second) = second else {
        // The other one may have gone in the middle of a hand-over.
        if runs(&first) && may_follow(&first) {
            take_charge(&first)?;
        }
        return Ok(Some(first));
    };
    let handed_over = match seen(&first.info()) {
        PodSeen::Running => {
            if role(&first)? == Role::Primary {
                // Whoever asked for it may have died before it came: called off, it comes no more.
                call_off(&first);
            }
            // That it was taken over from is not enough: the other one may have ended since.
            role(&first)? == Role::Replica && takes_over(&second)?
        }
        // It may come to run; the other one has nothing that it has not.
        PodSeen::Pending | PodSeen::Staging => false,
        // What it had is gone with it, unless the other one has it.
        PodSeen::Terminating | PodSeen::Ended | PodSeen::Lost if !runs(&second) => false,
        PodSeen::Terminating | PodSeen::Ended | PodSeen::Lost => {
            log(Level::Warn, "the old pod has ended; only what the new one has is left");
            take_charge(&second)?;
            true
        }
    };
    if handed_over {
        let_go(&first);
        return Ok(Some(second));
    }
    log(Level::Info, "a hand-over broke off before its end; the pod that was to take over is deleted");
    delete(&second, SHORT_GRACE)?;
    if runs(&first) && may_follow(&first) {
        // It may have been taken over from, by a pod that is no more; or whoever began it lives, elsewhere, and has gone on.
        take_charge(&first)?;
    }
    Ok(Some(first))
}

/// Whether the pod that was to take over has done so, or does it now. One that runs and does not answer may have: an error,
/// for as long as that is not known nothing is to be deleted.
fn takes_over(second: &Pod) -> Result<bool, Error> {
    if !runs(second) {
        return Ok(false);
    }
    let in_charge = || {
        if role(second)? == Role::Replica {
            take_charge(second)?;
        }
        Ok(role(second)? == Role::Primary)
    };
    match in_charge() {
        Err(_) if has_ended(second) => Ok(false),
        other => other,
    }
}

/// Whether a pod's engine may be another one's replica: hand-overs are for those whose data is on no claim.
fn may_follow(pod: &Pod) -> bool {
    let about = about(pod);
    !is_on_claim(&about) && cache::kind(&about).is_ok_and(|kind| kind.keeps_data())
}

/// What part an engine plays.
#[derive(PartialEq, Eq)]
enum Role {
    Primary,
    Replica,
}

/// Which part an engine plays in a hand-over.
fn role(pod: &Pod) -> Result<Role, Error> {
    match cache::command(pod.into(), &["INFO", "replication"], ANSWER_WITHIN)? {
        Reply::Bulk(text) if steps::is_replica(&String::from_utf8_lossy(&text)) => Ok(Role::Replica),
        Reply::Bulk(_) => Ok(Role::Primary),
        Reply::Error(words) => Err(Error::EngineError(words)),
        other => Err(Error::EngineError(format!("INFO was answered with {other:?}"))),
    }
}

/// A replica that nobody will tell to take over any more does so by itself. One that does not say what it is, is left alone.
fn take_charge(pod: &Pod) -> Result<(), Error> {
    if !is_replica(pod) {
        return Ok(());
    }
    log(Level::Info, "the pod that was taken over from is gone; its replica takes over");
    order(pod, &["REPLICAOF", "NO", "ONE"])
}

/// Whether it says that another one is in charge.
pub(super) fn is_replica(pod: &Pod) -> bool {
    matches!(role(pod), Ok(Role::Replica))
}

/// A command that is answered with `OK`, or is refused.
fn order(pod: &Pod, words: &[&str]) -> Result<(), Error> {
    match cache::command(pod.into(), words, ANSWER_WITHIN)? {
        Reply::Status(_) => Ok(()),
        Reply::Error(refusal) => Err(Error::EngineError(format!("{} failed: {refusal}", words[0]))),
        other => Err(Error::EngineError(format!("{} was answered with {other:?}", words[0]))),
    }
}

/// Have a new pod take over from one whose data would end with it.
pub(super) fn hand_over<S: Storage>(
    operation: &Operation,
    spec: &CacheSpec,
    plan: Plan,
    old: &Pod,
) -> Result<Cache, Error> {
    let info = old.info();
    let Some(address) = info.address.clone() else {
        return Err(Error::Unavailable(format!("pod {} has no address now", info.name)));
    };
    let (uid, port) = (info.uid.clone(), info.port.to_string());
    let plan = Plan { follows: Some(uid), turn: 1 - plan.turn, ..plan };
    let new = create_pod::<S>(operation, spec, &plan, None, false)?;
    let mut synced = false;
    let taken = (|| {
        let cache = ready(&new, true)?;
        order(&new, &["REPLICAOF", &address, &port])?;
        probes::wait_ready(&Target::Pod(&new), Check::RedisInSync, SYNC_WITHIN)?;
        synced = true;
        let Some(Endpoint { address, port }) = &cache.endpoint else {
            return Err(Error::Unavailable("the new pod has no address".to_owned()));
        };
        let (port, limit) = (port.to_string(), FAILOVER_WITHIN.to_string());
        order(old, &["FAILOVER", "TO", address, &port, "TIMEOUT", &limit])?;
        probes::wait_ready(&Target::Pod(&new), Check::RedisPrimary, FAILOVER_WITHIN + ANSWER_WITHIN)?;
        Ok(cache)
    })();
    // Until its address is returned nobody writes to the new one, so the old one has everything as long as it is
    // there, whatever part it plays; what cannot be deleted now is so by the next operation.
    let taken = match taken {
        Err(_) if synced && !has_ended(&new) && (has_ended(old) || is_replica(old)) => {
            take_charge(&new).and_then(|()| ready(&new, true))
        }
        Err(error) => {
            let error = unless_deleted(&new, &spec.key, error);
            call_off(old);
            tidy(delete(&new, SHORT_GRACE), "deleting the pod that was to take over");
            tidy(take_charge(old), "taking charge again");
            return Err(error);
        }
        taken => taken,
    };
    // It may have ended since; and an operation on another machine, which holds no lock here, may have taken this
    // hand-over for a broken one.
    if has_ended(&new) {
        tidy(take_charge(old), "taking charge again");
        return Err(refuse(&spec.key, DELETED));
    }
    // Where it does not answer, the next operation settles which of the two it is.
    let cache = taken?;
    let_go(old);
    Ok(cache)
}

/// Delete the pod that was taken over from: until it is gone, it passes for the cache.
fn let_go(old: &Pod) {
    tidy(delete(old, SHORT_GRACE), "deleting the pod that was taken over from");
}

/// Call off a hand-over that may be under way.
fn call_off(old: &Pod) {
    match cache::command(old.into(), &["FAILOVER", "ABORT"], ANSWER_WITHIN) {
        // Where none is under way, that is what it says.
        Ok(_) => {}
        Err(error) => log(Level::Warn, &format!("calling off the hand-over: {error:?}")),
    }
}
