//! Caches in pods: the order of steps in each operation on Kubernetes.
//!
//! A pod never starts again, so whatever restarts an engine makes a new pod. Where its data lies on a claim, the old
//! pod ends first, everything it acknowledged on the claim, and the new one is given the claim. Where it lies in the
//! pod, the new one is made first, under the cache's other name, and the engines hand over: the new one follows the
//! old one as its replica, and `FAILOVER` has the old one hold back writes, wait until the new one has them all, and
//! change places with it. So at each moment there is one pod that has everything, and which one it is can be asked:
//! the old one, until it says that it is a replica itself. Before one of them is deleted the new one is asked, too. A
//! restore in the place of data in a pod is made beside it likewise, and the old pod goes once the new one has started.

mod hand_over;
mod twice;

use self::hand_over::{hand_over, is_replica, settled};
use self::twice::{delete, made, watched};
use crate::bindings::exports::fakecloud::elasticache::lifecycle::Restore;
use crate::bindings::fakecloud::elasticache::kube::{
    self, Claim, Data, Pod, PodInfo, PodPhase, PodSpec, Scheduling,
};
use crate::bindings::fakecloud::elasticache::logging::{Level, log};
use crate::bindings::fakecloud::elasticache::probes::{self, Finding, Target};
use crate::bindings::fakecloud::elasticache::types::{
    Cache, CacheKey, CacheSpec, CacheState, Endpoint, Error, Operation,
};
use crate::cache::{
    self, DATA, READY_WITHIN, SHORT_GRACE, VERSION_LABEL, no_such_cache, not_running, of_another_object,
    ready_check, refuse, tidy,
};
use crate::server::{About, Disk, Server};
use crate::steps::{self, PodSeen};
use crate::storage::{InPods, Restored, Staging, Storage};
use crate::{names, volatile};

/// The claim that a pod's data lies on, if it does.
const CLAIM_LABEL: &str = "fakecloud-policy-claim";
/// The uid of the pod that this one takes over from.
const FOLLOWS_LABEL: &str = "fakecloud-policy-follows";

/// The server's options where data lies in the pod: it is written to a file for snapshots only, and a replica gets it
/// at once, since only one will come.
const IN_POD_OPTIONS: &[&str] = &["--appendonly", "no", "--save", "", "--repl-diskless-sync-delay", "0"];

/// Milliseconds for all engines of a listing to answer. Each is asked by a connection of its own, through the API server.
const LISTING_WITHIN: u32 = 3_000;

/// Why an operation gives up where two of them meet that no lock keeps apart.
const DELETED: &str = "its new pod was deleted meanwhile, by another operation on it perhaps; try again";

/// The pods of one cache: two while it is handed over, and after a hand-over that broke off.
struct Found {
    /// The only one, or the one that is taken over from.
    first: Option<Pod>,
    /// The one that takes over.
    second: Option<Pod>,
}

/// The pod under one of the cache's two names.
fn named(operation: &Operation, key: &CacheKey, turn: u8) -> Result<Option<Pod>, Error> {
    kube::find(&names::pod(&operation.instance, &key.scope, &key.id, turn))
}

fn find(operation: &Operation, key: &CacheKey) -> Result<Found, Error> {
    Ok(in_order(named(operation, key, 0)?, named(operation, key, 1)?))
}

fn in_order(a: Option<Pod>, b: Option<Pod>) -> Found {
    match (a, b) {
        (Some(a), Some(b)) if follows(&a.info()) == Some(&b.info().uid) => {
            Found { first: Some(b), second: Some(a) }
        }
        (Some(a), b) => Found { first: Some(a), second: b },
        (None, b) => Found { first: b, second: None },
    }
}

fn follows(info: &PodInfo) -> Option<&String> {
    info.labels.iter().find(|(name, _)| name == FOLLOWS_LABEL).map(|(_, uid)| uid)
}

/// Whether a pod's data lies on a claim, and so outlives it.
pub fn is_on_claim(about: &About) -> bool {
    about.label(CLAIM_LABEL).is_some()
}

fn about(pod: &Pod) -> About {
    pod.info().into()
}

fn seen(info: &PodInfo) -> PodSeen {
    match info.phase {
        _ if info.terminating => PodSeen::Terminating,
        PodPhase::Pending if info.staging => PodSeen::Staging,
        PodPhase::Pending => PodSeen::Pending,
        PodPhase::Running => PodSeen::Running,
        PodPhase::Succeeded | PodPhase::Failed => PodSeen::Ended,
        PodPhase::Unknown => PodSeen::Lost,
    }
}

/// Whether there is a pod of this cache, in whatever state.
pub fn exists(operation: &Operation, key: &CacheKey) -> Result<bool, Error> {
    Ok(find(operation, key)?.first.is_some())
}

/// A cache in the embedder's words.
fn report(info: PodInfo, finding: Option<&Finding>, adopted: bool) -> Result<Cache, Error> {
    let answers = finding.is_some_and(|finding| finding.ready);
    let state = match seen(&info) {
        PodSeen::Running if answers => CacheState::Available,
        PodSeen::Running | PodSeen::Pending | PodSeen::Staging => CacheState::Starting,
        PodSeen::Terminating | PodSeen::Ended | PodSeen::Lost => CacheState::Stopped,
    };
    let about = About::from(info);
    Ok(Cache {
        engine: cache::engine_of(cache::kind(&about)?),
        version: about.label(VERSION_LABEL).map(str::to_owned),
        state,
        endpoint: finding.and_then(|finding| finding.endpoint.clone()),
        adopted,
        handle: about.handle,
        key: about.key,
    })
}

fn report_all(pods: &[Pod]) -> Vec<Cache> {
    let infos: Vec<PodInfo> = pods.iter().map(Pod::info).collect();
    let mut hidden = Vec::new();
    for (at, info) in infos.iter().enumerate() {
        if let Some(first) = infos.iter().position(|other| follows(info) == Some(&other.uid)) {
            hidden.push(if took_over(&pods[first], &pods[at]) { first } else { at });
        }
    }
    let mut shown = Vec::new();
    for (at, (pod, info)) in std::iter::zip(pods, &infos).enumerate() {
        if hidden.contains(&at) {
            continue;
        }
        match cache::kind(&info.clone().into()) {
            Ok(kind) => shown.push((pod, info, kind)),
            Err(_) => log(Level::Warn, &format!("pod {} carries no engine's name; left out", info.name)),
        }
    }
    let targets: Vec<_> = shown.iter().map(|(pod, _, kind)| (Target::Pod(pod), ready_check(*kind))).collect();
    let found = probes::check_now(&targets, LISTING_WITHIN);
    let reports =
        shown.iter().enumerate().map(|(at, (_, info, _))| report((*info).clone(), found.get(at), true));
    reports.filter_map(Result::ok).collect()
}

/// Every cache of this instance.
pub fn all() -> Result<Vec<Cache>, Error> {
    Ok(report_all(&kube::pods()?))
}

/// The cache as it is now.
pub fn look(operation: &Operation, key: &CacheKey) -> Result<Option<Cache>, Error> {
    let Found { first, second } = find(operation, key)?;
    let pods: Vec<Pod> = first.into_iter().chain(second).collect();
    Ok(report_all(&pods).pop())
}

fn runs(pod: &Pod) -> bool {
    seen(&pod.info()) == PodSeen::Running
}

/// Whether of two pods the second is the cache by now: until the first says that another one is in charge, it is the first.
fn took_over(first: &Pod, second: &Pod) -> bool {
    runs(first) && runs(second) && is_replica(first)
}

/// The pod of a cache whose engine runs.
pub fn running(operation: &Operation, key: &CacheKey) -> Result<Pod, Error> {
    let Found { first, second } = find(operation, key)?;
    match (first, second) {
        (None, _) => Err(no_such_cache(key)),
        // A hand-over that broke off near its end left it there.
        (Some(first), Some(second)) if took_over(&first, &second) => Ok(second),
        (Some(first), _) if runs(&first) => Ok(first),
        (_, Some(second)) if runs(&second) => Ok(second),
        _ => Err(not_running(key)),
    }
}

/// Wait until its engine answers, and report it as it then is.
fn ready(pod: &Pod, adopted: bool) -> Result<Cache, Error> {
    let info = watched(|within| pod.wait_running(within))?;
    let kind = cache::kind(&info.clone().into())?;
    let endpoint: Endpoint = probes::wait_ready(&Target::Pod(pod), ready_check(kind), READY_WITHIN)?;
    report(info, Some(&Finding { ready: true, endpoint: Some(endpoint) }), adopted)
}

/// Bring a cache to running and answering.
pub fn ensure<S: Storage>(
    operation: &Operation,
    spec: &CacheSpec,
    image: &str,
    restore: Option<&Restore>,
    claims: bool,
) -> Result<Cache, Error> {
    let found = settled(find(operation, &spec.key)?)?;
    if let (Some(pod), None) = (&found, restore) {
        cache::check_same(spec, &about(pod))?;
    }
    let (mut unfinished, mut kept, mut replaced) = (None, false, None);
    match (steps::ensure_pod(found.as_ref().map(|pod| seen(&pod.info())), restore.map(|r| r.replace)), found)
    {
        (steps::EnsurePod::Refuse(why), _) => return Err(refuse(&spec.key, why)),
        (steps::EnsurePod::Create, _) | (_, None) => {}
        (steps::EnsurePod::Adopt, Some(pod)) => match ready(&pod, true) {
            // It never will; what keeps it may be mended by now, and shows again if it is not.
            Err(Error::EngineError(words)) if seen(&pod.refresh()?) != PodSeen::Running => {
                log(
                    Level::Info,
                    &format!("making it anew, since the pod that is there does not run: {words}"),
                );
                delete(&pod, SHORT_GRACE)?;
            }
            other => return other.map_err(of_another_object),
        },
        (steps::EnsurePod::Replace, Some(pod)) => {
            let info = pod.info();
            warn_of_loss(&info);
            kept = restore.is_none() && seen(&info) != PodSeen::Staging && is_on_claim(&info.clone().into());
            unfinished = (seen(&info) == PodSeen::Staging).then(|| info.operation.clone());
            delete(&pod, S::GRACE)?;
        }
        (steps::EnsurePod::EndAndReplace, Some(pod)) if is_on_claim(&about(&pod)) => end::<S>(&pod)?,
        // What it has is nowhere else: it goes once the other one has what is to take its place.
        (steps::EnsurePod::EndAndReplace, Some(pod)) => replaced = Some(pod),
    }
    let may_use_claim = S::IN_PODS == InPods::Kept && cache::kind_of(spec.engine).keeps_data();
    let plan = Plan {
        image: image.to_owned(),
        scheduling: kube::scheduling_for(&spec.tags),
        on_claim: may_use_claim && (claims || has_claim(&spec.key)?),
        follows: replaced.as_ref().map(|pod| pod.info().uid),
        turn: replaced.as_ref().map_or(0, |pod| 1 - names::pod_turn(&pod.info().name)),
    };
    let restored =
        restore.map(|restore| Restored { snapshot: &restore.snapshot, replace: restore.replace, unfinished });
    let cache = create::<S>(operation, spec, &plan, restored.as_ref()).map_err(of_another_object)?;
    if let Some(old) = replaced {
        // As long as it is there, it passes for the cache.
        delete(&old, SHORT_GRACE)?;
    }
    Ok(Cache { adopted: kept, ..cache })
}

/// Where data lies in a pod, it ends with it.
fn warn_of_loss(info: &PodInfo) {
    if seen(info) == PodSeen::Ended && !is_on_claim(&info.clone().into()) {
        let why = info.message.clone().unwrap_or_default();
        log(Level::Warn, &format!("its data ended with its pod, which was on no claim: {why}"));
    }
}

/// Whether a cache has a claim already. Where no class is named now, it is used all the same: in a pod without it the
/// cache would be empty, and what is written there meanwhile would be lost once the class is named again.
fn has_claim(key: &CacheKey) -> Result<bool, Error> {
    match kube::find_claim(&names::claim(&key.scope, &key.id)) {
        // An environment without claims has none that it could use.
        Err(Error::Denied(_)) => Ok(false),
        found => Ok(found?.is_some()),
    }
}

/// What a new pod is to be, apart from what was asked for.
struct Plan {
    image: String,
    scheduling: Scheduling,
    on_claim: bool,
    /// The uid of the pod that it takes over from.
    follows: Option<String>,
    /// Which of the cache's two names it gets.
    turn: u8,
}

impl Plan {
    /// For the pod that comes after this one.
    fn after(info: &PodInfo) -> Self {
        Self {
            image: info.image.clone(),
            scheduling: info.scheduling.clone(),
            on_claim: is_on_claim(&info.clone().into()),
            follows: None,
            turn: names::pod_turn(&info.name),
        }
    }
}

/// Make a cache where there is no pod, and leave no pod if that fails.
fn create<S: Storage>(
    operation: &Operation,
    spec: &CacheSpec,
    plan: &Plan,
    restored: Option<&Restored>,
) -> Result<Cache, Error> {
    let claim = if plan.on_claim { Some(data_claim(&spec.key)?) } else { None };
    let made = create_on::<S>(operation, spec, plan, claim.as_ref(), restored);
    if let (Err(_), Some(claim)) = (&made, &claim) {
        // Its very first start failed: nobody's data can be on it.
        if claim.info().operation == operation.id {
            tidy(claim.delete(), "deleting the new claim");
        }
    }
    made
}

fn create_on<S: Storage>(
    operation: &Operation,
    spec: &CacheSpec,
    plan: &Plan,
    claim: Option<&Claim>,
    restored: Option<&Restored>,
) -> Result<Cache, Error> {
    let pod = create_pod::<S>(operation, spec, plan, claim, restored.is_some())?;
    let mut before = None;
    let made = (|| {
        if let Some(restored) = restored {
            watched(|within| pod.wait_staging(within))?;
            before = stage::<S>(operation, &spec.key, &pod, claim, restored)?;
            pod.release()?;
        }
        let cache = ready(&pod, false)?;
        // What it started from has been read.
        if restored.is_some() && claim.is_some() {
            S::loaded((&pod).into())?;
        }
        Ok(cache)
    })();
    let error = match made {
        Ok(cache) => return Ok(cache),
        Err(error) => unless_deleted(&pod, &spec.key, error),
    };
    // On a new claim there is nothing that it could have failed to load.
    let had_data = claim.is_some_and(|claim| claim.info().operation != operation.id);
    let unloadable =
        had_data && restored.is_none() && matches!(error, Error::EngineError(_)) && has_failed(&pod);
    tidy(delete(&pod, SHORT_GRACE), "deleting the pod that failed to start");
    let Some(claim) = claim else { return Err(error) };
    if let Some(before) = before {
        let again = aside::<S, _>(operation, spec, plan, claim, |server| S::unstage(server, before));
        tidy(again, "having back the dataset that was there before");
    }
    // A restore may have been cut off that put it there.
    if unloadable {
        match aside::<S, _>(operation, spec, plan, claim, S::undo) {
            Ok(true) => return create_on::<S>(operation, spec, plan, Some(claim), None),
            Ok(false) => {}
            Err(second) => log(Level::Warn, &format!("looking for a dataset from before: {second:?}")),
        }
    }
    Err(error)
}

/// Put a snapshot in place, before the server starts. Returns what this took the place of.
fn stage<S: Storage>(
    operation: &Operation,
    key: &CacheKey,
    pod: &Pod,
    claim: Option<&Claim>,
    restored: &Restored,
) -> Result<Option<S::Before>, Error> {
    let staging = Staging {
        operation,
        key,
        server: pod.into(),
        disk: claim.map(Disk::Claim),
        restored: Some(restored),
    };
    match claim {
        Some(_) => S::stage(&staging),
        None => volatile::put_snapshot(&staging).map(|()| None),
    }
}

/// Change what lies on a claim, from a pod that is made for nothing else.
fn aside<S: Storage, T>(
    operation: &Operation,
    spec: &CacheSpec,
    plan: &Plan,
    claim: &Claim,
    change: impl FnOnce(Server) -> Result<T, Error>,
) -> Result<T, Error> {
    let pod = create_pod::<S>(operation, spec, plan, Some(claim), true)?;
    let changed = watched(|within| pod.wait_staging(within)).and_then(|_| change((&pod).into()));
    tidy(delete(&pod, SHORT_GRACE), "deleting the pod that changed what lies on the claim");
    changed
}

fn create_pod<S: Storage>(
    operation: &Operation,
    spec: &CacheSpec,
    plan: &Plan,
    claim: Option<&Claim>,
    staged: bool,
) -> Result<Pod, Error> {
    let kind = cache::kind_of(spec.engine);
    let mut labels = cache::labels(spec, kind.keeps_data().then_some(DATA));
    labels.extend(claim.map(|claim| (CLAIM_LABEL.to_owned(), claim.info().name)));
    labels.extend(plan.follows.iter().map(|uid| (FOLLOWS_LABEL.to_owned(), uid.clone())));
    let options = if claim.is_some() { S::OPTIONS } else { IN_POD_OPTIONS };
    let wanted = PodSpec {
        name: names::pod(&operation.instance, &spec.key.scope, &spec.key.id, plan.turn),
        image: plan.image.clone(),
        command: kind.command(DATA, options),
        labels,
        scheduling: plan.scheduling.clone(),
        port: kind.port(),
        stop_grace: S::GRACE,
        staged,
    };
    let create = || kube::create(&wanted, &claim.map_or(Data::EmptyDir, Data::Claim));
    made(create, || kube::find(&wanted.name), |pod| pod.info().operation == operation.id)
}

/// The cache's claim, made if there is none.
fn data_claim(key: &CacheKey) -> Result<Claim, Error> {
    let name = names::claim(&key.scope, &key.id);
    let find = || kube::find_claim(&name);
    if let Some(claim) = find()? {
        return Ok(claim);
    }
    // What is found is this cache's, whichever operation made it: the first look may have come too early.
    made(|| kube::create_claim(&name), find, |_| true)
}

/// Restart its engine.
pub fn reboot<S: Storage>(operation: &Operation, key: &CacheKey) -> Result<Cache, Error> {
    let Some(pod) = settled(find(operation, key)?)? else { return Err(no_such_cache(key)) };
    let info = pod.info();
    let spec = cache::spec_of(&info.clone().into())?;
    let keeps_data = cache::kind_of(spec.engine).keeps_data();
    let plan = Plan::after(&info);
    let rebooted = match steps::reboot_pod(seen(&info), plan.on_claim) {
        steps::RebootPod::Refuse(why) => return Err(refuse(key, why)),
        steps::RebootPod::NoCache => return Err(no_such_cache(key)),
        steps::RebootPod::CreateAgain => {
            warn_of_loss(&info);
            delete(&pod, S::GRACE)?;
            create_again::<S>(operation, &spec, &plan)
        }
        steps::RebootPod::SettleAndCreateAgain => {
            // An error leaves it running. That it says nothing is none: what it acknowledged is in its file on the claim,
            // whether SIGTERM ends it or SIGKILL after the grace.
            if keeps_data {
                S::before_reboot((&pod).into())?;
            }
            delete(&pod, S::GRACE)?;
            create_again::<S>(operation, &spec, &plan)
        }
        steps::RebootPod::HandOver if keeps_data && S::IN_PODS != InPods::Emptied => {
            hand_over::<S>(operation, &spec, plan, &pod)
        }
        steps::RebootPod::HandOver => {
            delete(&pod, SHORT_GRACE)?;
            create_again::<S>(operation, &spec, &plan)
        }
    };
    rebooted.map(|cache| Cache { adopted: true, ..cache }).map_err(of_another_object)
}

/// Make the pod that takes the place of one that was deleted. Without it there would be no cache that the next reboot
/// could find, so what may well go better is tried once more.
fn create_again<S: Storage>(operation: &Operation, spec: &CacheSpec, plan: &Plan) -> Result<Cache, Error> {
    match create::<S>(operation, spec, plan, None) {
        Err(error @ (Error::Timeout(_) | Error::Unavailable(_) | Error::NotFound(_))) => {
            log(Level::Warn, &format!("making its pod once more: {error:?}"));
            create::<S>(operation, spec, plan, None)
        }
        other => other,
    }
}

/// Whether a pod's engine ended with an error, as one does that cannot load its data.
fn has_failed(pod: &Pod) -> bool {
    pod.refresh().is_ok_and(|info| info.phase == PodPhase::Failed)
}

/// Whether a pod's engine is gone for good.
fn has_ended(pod: &Pod) -> bool {
    match pod.refresh() {
        Ok(info) => matches!(seen(&info), PodSeen::Ended | PodSeen::Terminating),
        Err(error) => matches!(error, Error::NotFound(_)),
    }
}

/// What an operation failed with on a pod that it made. That somebody else deleted it explains all else.
fn unless_deleted(made: &Pod, key: &CacheKey, error: Error) -> Error {
    let deleted = match made.refresh() {
        Ok(info) => info.terminating,
        Err(error) => matches!(error, Error::NotFound(_)),
    };
    if !deleted {
        return error;
    }
    log(Level::Info, &format!("the pod was deleted, and then: {error:?}"));
    refuse(key, DELETED)
}

/// Stop its engine and delete its pod.
pub fn stop<S: Storage>(operation: &Operation, key: &CacheKey) -> Result<bool, Error> {
    let Found { first: Some(first), second } = find(operation, key)? else { return Ok(false) };
    // What is not on a claim ends here anyhow, so it does not matter which one has it.
    if let Some(second) = second {
        delete(&second, SHORT_GRACE)?;
    }
    end::<S>(&first).map(|()| true)
}

/// End a pod, its data safe first where there is a server to ask.
fn end<S: Storage>(pod: &Pod) -> Result<(), Error> {
    let info = pod.info();
    let about = About::from(info.clone());
    if seen(&info) == PodSeen::Running && cache::kind(&about)?.keeps_data() {
        S::before_stop(Server::from(pod))?;
    }
    delete(pod, if is_on_claim(&about) { S::GRACE } else { SHORT_GRACE })
}

/// Delete the claim of a cache that has no pod. False if there is none.
pub fn remove_data(key: &CacheKey) -> Result<bool, Error> {
    match kube::find_claim(&names::claim(&key.scope, &key.id))? {
        None => Ok(false),
        Some(claim) => claim.delete().map(|()| true),
    }
}

/// End and delete what dead owners left.
pub fn reap<S: Storage>() -> Result<Vec<String>, Error> {
    let mut removed = Vec::new();
    for pod in kube::stale()? {
        let name = pod.info().name;
        match end::<S>(&pod) {
            Ok(()) => removed.push(name),
            // Its owner may have come back; the others are still to be looked at.
            Err(error) => log(Level::Warn, &format!("{name} was left: {error:?}")),
        }
    }
    Ok(removed)
}
