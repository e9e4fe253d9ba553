//! The refused writes of clusters, by the object that they were for: one that is refused does not keep the others from
//! being written.

use std::time::Duration;

use jiff::Timestamp;
use strum::{EnumCount, IntoEnumIterator};

use super::plan::Part;
use crate::cluster_cache::ObjectKey;
use crate::controllers::obstacle::{Obstacle, Obstacles, StandingRefusal};

/// The refusals that stand, by part of a cluster.
#[derive(Debug, Default)]
pub struct ClusterRefusals {
    by_part: [Obstacles; Part::COUNT],
}

impl ClusterRefusals {
    /// The refusals that still stand for this generation of the cluster's spec.
    #[must_use]
    pub fn standing(
        &self,
        cluster: &ObjectKey,
        generation: Option<i64>,
        now: Timestamp,
    ) -> Vec<(Part, StandingRefusal)> {
        Part::iter()
            .filter_map(|part| Some((part, self.of(part).standing(cluster, generation, now)?)))
            .collect()
    }

    /// Remembers a refusal. Returns how long to wait before the next try, and whether its reason is another one than
    /// that of the last try.
    pub fn refused(
        &self,
        part: Part,
        cluster: &ObjectKey,
        generation: Option<i64>,
        obstacle: &Obstacle,
        now: Timestamp,
    ) -> (Duration, bool) {
        let last = self.of(part).last(cluster);
        let news = last.is_none_or(|last| last.reason != obstacle.reason);
        (self.of(part).refused(cluster, generation, obstacle.clone(), now), news)
    }

    /// The part was written.
    pub fn written(&self, part: Part, cluster: &ObjectKey) {
        self.of(part).clear(cluster);
    }

    /// The cluster is gone.
    pub fn forget(&self, cluster: &ObjectKey) {
        for obstacles in &self.by_part {
            obstacles.clear(cluster);
        }
    }

    fn of(&self, part: Part) -> &Obstacles {
        &self.by_part[part as usize]
    }
}

#[cfg(test)]
mod tests {
    use dask_operator_api::Reason;

    use super::*;
    use crate::controllers::cluster::testing::at;

    #[test]
    fn the_refusal_of_one_part_is_none_of_another() {
        let (refusals, key) = (ClusterRefusals::default(), ObjectKey::new("ns", "c"));
        let quota = Obstacle::new(Reason::QuotaExceeded, "no room");
        let (wait, news) = refusals.refused(Part::Service, &key, Some(1), &quota, at(0));
        assert_eq!((wait.as_secs(), news), (2, true));
        let standing = refusals.standing(&key, Some(1), at(1));
        assert_eq!(standing.iter().map(|(part, _)| *part).collect::<Vec<_>>(), [Part::Service]);
        assert_eq!(refusals.refused(Part::Service, &key, Some(1), &quota, at(2)).0.as_secs(), 4);
        assert!(!refusals.refused(Part::Service, &key, Some(1), &quota, at(6)).1, "it is known");
        let (wait, news) = refusals.refused(Part::DefaultGroup, &key, Some(1), &quota, at(2));
        assert_eq!((wait.as_secs(), news), (2, true));
        refusals.written(Part::Service, &key);
        assert_eq!(refusals.standing(&key, Some(1), at(3)).len(), 1);
        refusals.forget(&key);
        assert_eq!(refusals.standing(&key, Some(1), at(3)), []);
    }
}
