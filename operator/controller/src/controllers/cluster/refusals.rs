//! The refused writes of clusters, by the object that they were for: one that is refused does not keep the others from
//! being written.

use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use strum::{EnumCount, IntoEnumIterator};

use super::plan::Part;
use crate::cluster_cache::ObjectKey;
use crate::controllers::obstacle::{Obstacle, Obstacles, Purpose, StandingRefusal};

/// The refusals that stand, by part of a cluster.
#[derive(Debug, Default)]
pub struct ClusterRefusals {
    by_part: [Obstacles; Part::COUNT],
}

impl ClusterRefusals {
    /// The refusals that still stand for this cluster and this generation of its spec.
    #[must_use]
    pub fn standing(
        &self,
        key: &ObjectKey,
        cluster: &ObjectMeta,
        now: Instant,
    ) -> Vec<(Part, StandingRefusal)> {
        let of_part = |part| self.of(part).standing(key, cluster, Purpose::Creation, now);
        Part::iter().filter_map(|part| Some((part, of_part(part)?))).collect()
    }

    /// Remembers a refusal. Returns how long to wait before the next try, and whether its reason is another one than
    /// that of the last try.
    pub fn refused(
        &self,
        part: Part,
        key: &ObjectKey,
        cluster: &ObjectMeta,
        obstacle: &Obstacle,
        now: Instant,
    ) -> (Duration, bool) {
        let last = self.of(part).last(key);
        let news = last.is_none_or(|last| last.reason != obstacle.reason);
        (self.of(part).refused(key, cluster, Purpose::Creation, obstacle.clone(), now), news)
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

    #[test]
    fn the_refusal_of_one_part_is_none_of_another() {
        let (refusals, key) = (ClusterRefusals::default(), ObjectKey::new("ns", "c"));
        let cluster = ObjectMeta { generation: Some(1), ..ObjectMeta::default() };
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let quota = Obstacle::new(Reason::QuotaExceeded, "no room");
        let refused = |part, seconds| refusals.refused(part, &key, &cluster, &quota, at(seconds));
        let (wait, news) = refused(Part::Service, 0);
        assert_eq!((wait.as_secs(), news), (2, true));
        let standing = refusals.standing(&key, &cluster, at(1));
        assert_eq!(standing.iter().map(|(part, _)| *part).collect::<Vec<_>>(), [Part::Service]);
        assert_eq!(refused(Part::Service, 2).0.as_secs(), 4);
        assert!(!refused(Part::Service, 6).1, "it is known");
        let (wait, news) = refused(Part::DefaultGroup, 2);
        assert_eq!((wait.as_secs(), news), (2, true));
        refusals.written(Part::Service, &key);
        assert_eq!(refusals.standing(&key, &cluster, at(3)).len(), 1);
        refusals.forget(&key);
        assert_eq!(refusals.standing(&key, &cluster, at(3)), []);
    }
}
