//! The order of steps: what to do next for what was seen. Pure, so that each row can be tested.

/// A container as observed, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    Absent,
    Created,
    Running,
    Paused,
    Restarting,
    Exited,
    Removing,
    Dead,
}

/// What `ensure` does first.
#[derive(Debug, PartialEq, Eq)]
pub enum Ensure {
    /// Make everything.
    Create,
    /// Wait until it answers.
    Adopt,
    /// Start it: its data and its port are still its own.
    Start,
    /// Remove it, then make it anew: it never ran, and how far its making came cannot be told.
    Replace,
    /// Say why not.
    Refuse(&'static str),
}

/// The first step of `ensure` where nothing is to be restored.
pub fn ensure(seen: Seen) -> Ensure {
    match seen {
        Seen::Absent => Ensure::Create,
        Seen::Running | Seen::Restarting => Ensure::Adopt,
        Seen::Exited => Ensure::Start,
        Seen::Created | Seen::Dead => Ensure::Replace,
        Seen::Paused => Ensure::Refuse(PAUSED),
        Seen::Removing => Ensure::Refuse(REMOVING),
    }
}

/// What `ensure` does first where a snapshot is to be restored.
#[derive(Debug, PartialEq, Eq)]
pub enum Restore {
    Create,
    /// Stop it cleanly, remove it, then make it anew.
    StopAndReplace,
    Replace,
    Refuse(&'static str),
}

/// The first step of `ensure` with a snapshot. `replace`: the caller asked to give up what is there.
pub fn restore(seen: Seen, replace: bool) -> Restore {
    match (seen, replace) {
        (Seen::Absent, _) => Restore::Create,
        // It never ran, so nobody's data is in it; what lies on its volume is looked at later.
        (Seen::Created | Seen::Dead, _) => Restore::Replace,
        (Seen::Paused, _) => Restore::Refuse(PAUSED),
        (Seen::Removing, _) => Restore::Refuse(REMOVING),
        (Seen::Running | Seen::Restarting | Seen::Exited, true) => Restore::StopAndReplace,
        (Seen::Running | Seen::Restarting | Seen::Exited, false) => Restore::Refuse(HAS_DATA),
    }
}

/// What `stop` does first.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    Nothing,
    /// Make sure that its data is on disk, end it, remove it.
    SettleAndStop,
    /// End it, remove it: there is no process that could be asked.
    StopOnly,
    Remove,
    Refuse(&'static str),
}

/// The first step of `stop`.
pub fn stop(seen: Seen) -> Stop {
    match seen {
        Seen::Absent => Stop::Nothing,
        Seen::Running => Stop::SettleAndStop,
        Seen::Restarting => Stop::StopOnly,
        Seen::Created | Seen::Exited | Seen::Dead | Seen::Removing => Stop::Remove,
        Seen::Paused => Stop::Refuse(PAUSED),
    }
}

/// What `reboot` does first.
#[derive(Debug, PartialEq, Eq)]
pub enum Reboot {
    /// Make sure that its data is on disk, restart it.
    SettleAndRestart,
    /// It does not run: starting it is all that a restart comes to.
    Start,
    /// There is no such cache.
    NoCache,
    Refuse(&'static str),
}

/// The first step of `reboot`.
pub fn reboot(seen: Seen) -> Reboot {
    match seen {
        // One that was created and never started is what a create that broke off left: no cache yet.
        Seen::Absent | Seen::Created | Seen::Dead => Reboot::NoCache,
        Seen::Running => Reboot::SettleAndRestart,
        Seen::Restarting | Seen::Exited => Reboot::Start,
        Seen::Paused => Reboot::Refuse(PAUSED),
        Seen::Removing => Reboot::Refuse(REMOVING),
    }
}

/// A pod as observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodSeen {
    /// Its server is held back: whoever made it broke off before its data was in place.
    Staging,
    Pending,
    Running,
    /// Its server ended, and will not start again.
    Ended,
    Terminating,
    /// Its node is not heard from.
    Lost,
}

/// What `ensure` does first on Kubernetes.
#[derive(Debug, PartialEq, Eq)]
pub enum EnsurePod {
    Create,
    /// Wait until it answers.
    Adopt,
    /// Delete it, then make it anew: it does not run, and cannot be started.
    Replace,
    /// End it cleanly, then make it anew; the other way round where what it has is nowhere else.
    EndAndReplace,
    Refuse(&'static str),
}

/// The first step of `ensure`. `replace`, with a snapshot: whether the caller asked to give up what is there.
pub fn ensure_pod(seen: Option<PodSeen>, replace: Option<bool>) -> EnsurePod {
    match (seen, replace) {
        (None, _) => EnsurePod::Create,
        (Some(PodSeen::Lost), _) => EnsurePod::Refuse(LOST),
        // It never ran, or has ended: what counts lies on its claim, and is looked at there.
        (Some(PodSeen::Staging | PodSeen::Ended | PodSeen::Terminating), _) => EnsurePod::Replace,
        (Some(PodSeen::Pending | PodSeen::Running), None) => EnsurePod::Adopt,
        (Some(PodSeen::Pending | PodSeen::Running), Some(true)) => EnsurePod::EndAndReplace,
        (Some(PodSeen::Pending | PodSeen::Running), Some(false)) => EnsurePod::Refuse(HAS_DATA),
    }
}

/// What `reboot` does first on Kubernetes.
#[derive(Debug, PartialEq, Eq)]
pub enum RebootPod {
    /// Make sure that its data is on its claim, delete it, make it again.
    SettleAndCreateAgain,
    /// It does not run: making it again is all that a restart comes to.
    CreateAgain,
    /// Have another pod take over from it.
    HandOver,
    /// There is no such cache.
    NoCache,
    Refuse(&'static str),
}

/// The first step of `reboot`.
pub fn reboot_pod(seen: PodSeen, on_claim: bool) -> RebootPod {
    match seen {
        // What a create that broke off left: no cache yet.
        PodSeen::Staging => RebootPod::NoCache,
        PodSeen::Running if on_claim => RebootPod::SettleAndCreateAgain,
        PodSeen::Running => RebootPod::HandOver,
        PodSeen::Pending | PodSeen::Ended | PodSeen::Terminating => RebootPod::CreateAgain,
        PodSeen::Lost => RebootPod::Refuse(LOST),
    }
}

/// Whether an engine says of itself that it follows another one.
pub fn is_replica(info: &str) -> bool {
    info.lines().any(|line| line.trim_end() == "role:slave")
}

/// Whether the redis error says that another save is under way, which passes by itself.
pub fn is_save_under_way(error: &str) -> bool {
    let error = error.to_ascii_lowercase();
    error.contains("background save already in progress") || error.contains("background save in progress")
}

/// Whether the redis error says that its dataset is still being read, which passes by itself.
pub fn is_loading(error: &str) -> bool {
    error.starts_with("LOADING")
}

pub const PAUSED: &str = "its container is paused; unpause it first";
pub const REMOVING: &str = "its container is being removed; try again in a moment";
pub const LOST: &str = "the node of its pod is not heard from, so it may still run there; have the node back, or delete the node";
pub const HAS_DATA: &str =
    "it has data already; restore into another cache, or ask for its data to be replaced (`--replace-data`)";

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Seen; 8] = [
        Seen::Absent,
        Seen::Created,
        Seen::Running,
        Seen::Paused,
        Seen::Restarting,
        Seen::Exited,
        Seen::Removing,
        Seen::Dead,
    ];

    #[test]
    fn a_container_that_ever_ran_is_never_replaced_unasked() {
        for seen in ALL {
            if ensure(seen) == Ensure::Replace {
                assert!(matches!(seen, Seen::Created | Seen::Dead), "{seen:?}");
            }
            if matches!(restore(seen, false), Restore::StopAndReplace) {
                panic!("{seen:?} is replaced without being asked for");
            }
        }
    }

    #[test]
    fn a_running_engine_is_always_settled_before_it_ends() {
        assert_eq!(stop(Seen::Running), Stop::SettleAndStop);
        assert_eq!(reboot(Seen::Running), Reboot::SettleAndRestart);
        assert_eq!(restore(Seen::Running, true), Restore::StopAndReplace);
    }

    #[test]
    fn an_exited_cache_is_started_and_a_leftover_is_made_anew() {
        assert_eq!(ensure(Seen::Exited), Ensure::Start);
        assert_eq!(ensure(Seen::Created), Ensure::Replace);
        assert_eq!(restore(Seen::Created, false), Restore::Replace);
        assert_eq!(reboot(Seen::Exited), Reboot::Start);
        assert_eq!(reboot(Seen::Created), Reboot::NoCache);
    }

    #[test]
    fn data_that_is_there_refuses_a_restore() {
        for seen in [Seen::Running, Seen::Restarting, Seen::Exited] {
            assert_eq!(restore(seen, false), Restore::Refuse(HAS_DATA));
        }
    }

    #[test]
    fn a_pod_that_runs_is_replaced_only_where_that_was_asked_for() {
        for running in [PodSeen::Running, PodSeen::Pending] {
            assert_eq!(ensure_pod(Some(running), None), EnsurePod::Adopt);
            assert_eq!(ensure_pod(Some(running), Some(false)), EnsurePod::Refuse(HAS_DATA));
            assert_eq!(ensure_pod(Some(running), Some(true)), EnsurePod::EndAndReplace);
        }
        assert_eq!(ensure_pod(Some(PodSeen::Ended), None), EnsurePod::Replace);
        assert_eq!(ensure_pod(None, Some(false)), EnsurePod::Create);
    }

    #[test]
    fn a_pod_that_runs_is_never_deleted_before_its_data_is_elsewhere() {
        assert_eq!(reboot_pod(PodSeen::Running, true), RebootPod::SettleAndCreateAgain);
        assert_eq!(reboot_pod(PodSeen::Running, false), RebootPod::HandOver);
        assert_eq!(reboot_pod(PodSeen::Ended, true), RebootPod::CreateAgain);
        assert_eq!(reboot_pod(PodSeen::Staging, true), RebootPod::NoCache);
        assert!(matches!(reboot_pod(PodSeen::Lost, true), RebootPod::Refuse(_)));
    }

    #[test]
    fn a_replica_is_known_by_what_it_says_of_its_role() {
        assert!(is_replica("# Replication\r\nrole:slave\r\nmaster_host:10.0.0.1\r\n"));
        assert!(!is_replica("# Replication\r\nrole:master\r\n"));
        assert!(!is_replica("xrole:slave"));
    }

    #[test]
    fn stopping_what_is_gone_is_nothing_to_do() {
        assert_eq!(stop(Seen::Absent), Stop::Nothing);
        assert_eq!(stop(Seen::Exited), Stop::Remove);
    }

    #[test]
    fn loading_is_told_from_other_errors() {
        assert!(is_loading("LOADING Redis is loading the dataset in memory"));
        assert!(!is_loading("ERR LOADING"));
    }

    #[test]
    fn a_save_under_way_is_told_from_other_errors() {
        assert!(is_save_under_way("ERR Background save already in progress"));
        assert!(!is_save_under_way("ERR"));
        assert!(!is_save_under_way("MISCONF Redis is configured to save RDB snapshots"));
    }
}
