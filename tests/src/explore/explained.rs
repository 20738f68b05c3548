//! What a fault explains of how an operation ended. All else is a violation, whatever befell its calls: data that is
//! there again once the operation was done again had been lost.

use crate::faults::Fault;
use crate::runner::Seen;

/// Whether an operation in which a call met this fault may end so. `keeps`: data outlives the pod that it was written
/// in.
pub(super) fn explains(fault: Fault, seen: Seen, on_kube: bool, keeps: bool) -> bool {
    use Fault as F;
    // A pod ends with the container engine of its node, and nothing but the next up brings its cache back.
    let ended = on_kube && fault == F::EngineRestart;
    match seen {
        seen if seen.says_so() => true,
        // It was told of what was there before, or its own request had been carried out already.
        Seen::Error("conflict") => matches!(fault, F::Stale | F::Duplicate) || ended,
        Seen::Error("not-found") => fault == F::Stale || ended,
        Seen::Error(_) => false,
        Seen::Found => fault == F::Stale || ended,
        // Of an engine that cannot be asked no more is known than that its container runs.
        Seen::State("starting") => true,
        Seen::State("stopped") => matches!(fault, F::Stale | F::EngineRestart),
        Seen::State(_) => fault == F::Stale,
        Seen::Silence => ended,
        // What was in the way has ended.
        Seen::NoConflict => ended && !keeps,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(fault: Fault, seen: Seen) -> [bool; 2] {
        [false, true].map(|on_kube| explains(fault, seen, on_kube, false))
    }

    #[test]
    fn a_call_that_fails_or_hangs_explains_no_more_than_an_error_that_says_so() {
        for fault in [Fault::FailBefore, Fault::FailAfter, Fault::HangBefore, Fault::HangAfter] {
            for code in ["unavailable", "timeout", "engine-error"] {
                assert_eq!(may(fault, Seen::Error(code)), [true; 2]);
            }
            for code in ["conflict", "not-found", "denied", "invalid", "policy-fault"] {
                assert_eq!(may(fault, Seen::Error(code)), [false; 2], "{fault} {code}");
            }
            let wrong = [Seen::State("none"), Seen::State("stopped"), Seen::NoConflict];
            for seen in wrong.into_iter().chain([Seen::Found, Seen::Silence]) {
                assert_eq!(may(fault, seen), [false; 2], "{fault} {seen:?}");
            }
        }
    }

    #[test]
    fn what_was_true_before_explains_what_was_found() {
        for seen in [Seen::Found, Seen::State("none"), Seen::Error("conflict"), Seen::Error("not-found")] {
            assert_eq!(may(Fault::Stale, seen), [true; 2], "{seen:?}");
        }
        assert_eq!(may(Fault::Stale, Seen::Silence), [false; 2]);
        assert_eq!(may(Fault::Duplicate, Seen::Found), [false; 2]);
    }

    #[test]
    fn a_restart_of_the_engine_ends_pods_and_brings_containers_back() {
        let ended = [Seen::Error("conflict"), Seen::Error("not-found"), Seen::NoConflict];
        for seen in ended.into_iter().chain([Seen::Found, Seen::Silence]) {
            assert_eq!(may(Fault::EngineRestart, seen), [false, true], "{seen:?}");
        }
        // What is on a claim is in the way still.
        assert!(!explains(Fault::EngineRestart, Seen::NoConflict, true, true));
    }
}
