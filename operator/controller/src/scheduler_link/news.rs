//! Which news from a scheduler is worth a look at the cluster, its groups and its autoscaler. Pure.

use super::view::{Idleness, LinkView, Sample};

/// Whom a new view concerns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// The cluster.
    pub(super) cluster: bool,
    /// Its groups.
    pub(super) groups: bool,
    /// Its autoscaler.
    pub(super) autoscaler: bool,
}

impl News {
    /// What differs between two views that matters to anybody. The age of a sample does not.
    pub(super) fn between(before: &LinkView, after: &LinkView) -> Self {
        let (old, new) = (before.sample.as_deref(), after.sample.as_deref());
        let id = |sample: Option<&Sample>| sample.map(|sample| sample.scheduler_id.clone());
        let other = id(old) != id(new);
        let failure = |view: &LinkView| view.failure.as_ref().map(|f| (f.reason, f.message.clone()));
        let reach = before.asked != after.asked || failure(before) != failure(after);
        let source = old.map(|sample| sample.source) != new.map(|sample| sample.source);
        let target = |sample: Option<&Sample>| sample.and_then(|sample| sample.adaptive_target);
        let drains = match (old, new) {
            (Some(old), Some(new)) => old.drains != new.drains || old.fenced != new.fenced,
            (None, Some(new)) => !new.drains.is_empty() || !new.fenced.is_empty(),
            _ => false,
        };
        let absent = |sample: Option<&Sample>| sample.and_then(|sample| sample.absent.clone());
        let members = |sample: Option<&Sample>| sample.and_then(|sample| sample.members.clone());
        let roster = match (members(old), members(new)) {
            (None, Some(_)) => true,
            (Some(old), Some(new)) => !old.tells_the_same(&new),
            _ => false,
        };
        let idleness = |sample: Option<&Sample>| sample.map_or(Idleness::Unknown, |sample| sample.idleness);
        Self {
            cluster: other || reach || source || idleness(old) != idleness(new),
            groups: other || reach || drains || roster || absent(old) != absent(new),
            autoscaler: other || reach || target(old) != target(new),
        }
    }

    /// Whether anybody has to look.
    #[cfg(test)]
    pub(super) fn is_any(self) -> bool {
        self != Self::default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dask_operator_api::Reason;

    use super::*;
    use crate::scheduler_link::testing::sample;
    use crate::scheduler_link::{DrainProgress, LinkFailure, Member, Members, Source};

    fn view(sample: Sample) -> LinkView {
        LinkView { asked: true, sample: Some(Arc::new(sample)), failure: None }
    }

    fn news(change: impl FnOnce(&mut Sample)) -> (bool, bool, bool) {
        let mut after = sample("s");
        change(&mut after);
        let News { cluster, groups, autoscaler } = News::between(&view(sample("s")), &view(after));
        (cluster, groups, autoscaler)
    }

    #[expect(clippy::unnecessary_wraps, reason = "as the field wants it")]
    fn members(address: &str, rank: Option<u32>, bytes: u64) -> Option<Arc<Members>> {
        let member = Member { address: address.into(), rank, bytes, ..Member::default() };
        let mut members = Members::default();
        members.insert("u", vec![member]);
        Some(Arc::new(members))
    }

    #[test]
    fn time_and_counts_are_no_news() {
        let quiet = |sample: &mut Sample| {
            sample.taken += std::time::Duration::from_mins(1);
            (sample.queued, sample.workers, sample.threads) = (Some(7), 9, 11);
        };
        assert_eq!(news(quiet), (false, false, false));
    }

    #[test]
    fn each_change_wakes_whom_it_concerns() {
        assert_eq!(news(|sample| sample.scheduler_id = "t".into()), (true, true, true));
        assert_eq!(news(|sample| sample.source = Source::Telemetry), (true, false, false));
        assert_eq!(news(|sample| sample.adaptive_target = Some(3)), (false, false, true));
        assert_eq!(news(|sample| sample.idleness = Idleness::Busy), (true, false, false));
        let drained = |sample: &mut Sample| {
            sample.drains.insert("u".into(), DrainProgress::Drained);
        };
        assert_eq!(news(drained), (false, true, false));
        let fenced = |sample: &mut Sample| {
            sample.fenced.insert("u".into());
        };
        assert_eq!(news(fenced), (false, true, false));
        assert_eq!(news(|sample| sample.absent = Some(["u".into()].into())), (false, true, false));
        assert_eq!(news(|sample| sample.members = members("a", None, 1)), (false, true, false));
    }

    #[test]
    fn workers_are_news_when_others_come_or_become_protected() {
        let change = |after| {
            let before = Sample { members: members("a", Some(1), 1), ..sample("s") };
            News::between(&view(before), &view(Sample { members: after, ..sample("s") })).groups
        };
        assert!(!change(members("a", Some(0), 2)) && !change(None));
        assert!(change(members("a", None, 1)) && change(members("b", Some(1), 1)));
    }

    #[test]
    fn a_failure_is_news_when_it_begins_changes_or_ends() {
        let failing = |message: &str, minutes: i64| LinkView {
            failure: Some(LinkFailure {
                reason: Reason::SchedulerUnreachable,
                message: message.to_owned(),
                since: sample("s").taken + std::time::Duration::from_secs(60 * minutes.unsigned_abs()),
            }),
            ..view(sample("s"))
        };
        assert!(News::between(&view(sample("s")), &failing("a", 0)).cluster);
        assert!(!News::between(&failing("a", 0), &failing("a", 1)).is_any());
        assert!(News::between(&failing("a", 0), &failing("b", 1)).is_any());
        assert!(News::between(&failing("a", 0), &view(sample("s"))).groups);
        assert!(News::between(&LinkView::default(), &view(sample("s"))).autoscaler);
    }
}
