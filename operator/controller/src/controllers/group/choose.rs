//! Which workers go when there are too many. One pure function, so that a ranking by the scheduler can replace it.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::cluster_cache::records::{PodRecord, PodState};

/// The `count` workers to remove, in the order in which they go: those without a node, then those that are not
/// ready, then the ready ones; among equals the newest first.
///
/// Workers that ended or are on their way out are never chosen.
#[must_use]
pub fn choose_to_remove(workers: &[Arc<PodRecord>], count: usize) -> Vec<&Arc<PodRecord>> {
    let mut candidates: Vec<_> = workers
        .iter()
        .filter(|worker| matches!(worker.state, PodState::Pending | PodState::Starting | PodState::Ready))
        .collect();
    candidates.sort_by_key(|worker| (worker.state, Reverse(worker.ordinal), Reverse(worker.created)));
    candidates.truncate(count);
    candidates
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::controllers::group::testing::worker;

    fn ordinals(chosen: &[&Arc<PodRecord>]) -> Vec<i64> {
        chosen.iter().filter_map(|worker| worker.ordinal).collect()
    }

    #[test]
    fn pending_then_starting_then_newest() {
        let workers = [
            worker(1, PodState::Ready),
            worker(2, PodState::Pending),
            worker(3, PodState::Ready),
            worker(4, PodState::Starting),
            worker(5, PodState::Terminating),
            worker(6, PodState::Failed),
        ];
        assert_eq!(ordinals(&choose_to_remove(&workers, 3)), [2, 4, 3]);
        assert_eq!(ordinals(&choose_to_remove(&workers, 10)), [2, 4, 3, 1]);
        assert_eq!(ordinals(&choose_to_remove(&workers, 0)), [0; 0]);
    }

    proptest! {
        #[test]
        fn never_a_ready_worker_before_one_that_is_not(
            states in proptest::collection::vec(0..5_usize, 0..40), count in 0..45_usize,
        ) {
            use PodState::{Failed, Pending, Ready, Starting, Terminating};
            let all = [Pending, Starting, Ready, Failed, Terminating];
            let workers: Vec<_> = (1..).zip(&states).map(|(i, &s)| worker(i, all[s])).collect();
            let chosen = choose_to_remove(&workers, count);
            let live = workers.iter().filter(|w| w.state <= Ready).count();
            prop_assert_eq!(chosen.len(), count.min(live));
            prop_assert!(chosen.is_sorted_by_key(|w| w.state));
            let spared_not_ready = live - workers.iter().filter(|w| w.state == Ready).count();
            if chosen.iter().any(|w| w.state == Ready) {
                prop_assert_eq!(chosen.iter().filter(|w| w.state < Ready).count(), spared_not_ready);
            }
        }
    }
}
