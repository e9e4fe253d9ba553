use super::*;
use crate::controllers::group::testing::{cluster, group};

/// A group with these annotations.
fn annotated(pairs: &[(&str, &str)]) -> Arc<DaskWorkerGroup> {
    let mut group = group(2);
    let annotations = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    group.metadata.annotations = Some(annotations.collect());
    Arc::new(group)
}

struct Story {
    cluster: Arc<DaskCluster>,
    inherited: Inherited,
    start: Instant,
}

impl Story {
    fn of(pairs: &[(&str, &str)]) -> Self {
        let cluster = Arc::new(cluster());
        let inherited = Inherited::new(&annotated(pairs), &cluster);
        Self { cluster, inherited, start: Instant::now() }
    }

    fn look(&mut self, second: u64, pairs: &[(&str, &str)]) -> Settled {
        let now = self.start + Duration::from_secs(second);
        self.inherited.look(&annotated(pairs), &self.cluster, now)
    }
}

fn digest(pairs: &[(&str, &str)]) -> String {
    WorkerMetadata::of(&annotated(pairs), &cluster()).digest()
}

#[test]
fn what_is_seen_first_stands() {
    let settled = Story::of(&[("team", "a")]).look(0, &[("team", "a")]);
    assert_eq!((settled.digest, settled.wait), (digest(&[("team", "a")]), None));
    assert!(settled.is_known && settled.metadata.annotations["team"] == "a");
}

#[test]
fn an_edit_counts_when_it_has_stood() {
    let (old, new) = ([("team", "a")], [("team", "b")]);
    let mut story = Story::of(&old);
    let settled = story.look(5, &new);
    assert_eq!((settled.digest, settled.wait), (digest(&old), Some(SETTLING)));
    assert!(!settled.metadata.annotations.contains_key("team"), "neither value is written");
    assert_eq!(story.look(14, &new).wait, Some(Duration::from_secs(1)));
    let settled = story.look(15, &new);
    assert_eq!((settled.digest, settled.wait), (digest(&new), None));
    assert!(settled.is_new && settled.metadata.annotations["team"] == "b");
    assert!(!story.look(16, &new).is_new);
}

#[test]
fn what_is_stamped_again_and_again_never_counts_and_holds_up_no_other_edit() {
    let mut story = Story::of(&[("stamp", "0"), ("team", "a")]);
    for second in 1..60 {
        let stamp = second.to_string();
        let team = if second < 20 { "a" } else { "b" };
        let settled = story.look(second, &[("stamp", &stamp), ("team", team)]);
        let expected = if second < 30 { "a" } else { "b" };
        assert_eq!(settled.digest, digest(&[("stamp", "0"), ("team", expected)]), "after {second} s");
        assert!(!settled.metadata.annotations.contains_key("stamp"), "after {second} s");
    }
    let last = [("stamp", "59"), ("team", "b")];
    assert_eq!(story.look(69, &last).digest, digest(&last), "the last one reaches running workers");
}

#[test]
fn a_key_that_comes_or_goes_counts_when_it_stands() {
    let (none, one) = ([("team", "a")], [("note", "x"), ("team", "a")]);
    let mut story = Story::of(&none);
    assert_eq!(story.look(1, &one).digest, digest(&none));
    assert_eq!(story.look(11, &one).digest, digest(&one));
    assert_eq!(story.look(12, &none).digest, digest(&one));
    assert_eq!(story.look(22, &none).digest, digest(&none));
}

#[test]
fn what_too_much_changes_at_once_is_not_remembered() {
    let (long, other) = ("x".repeat(MOST_BYTES + 1), "y".repeat(MOST_BYTES + 1));
    let mut story = Story::of(&[("stamp", &long)]);
    let settled = story.look(1, &[("stamp", &other)]);
    assert!(!settled.is_known && story.inherited.unsettled.is_empty());
    assert_eq!(settled.wait, Some(SETTLING));
    assert!(!story.look(5, &[("stamp", "small")]).is_known, "it is still changing");
    assert!(!story.look(14, &[("stamp", "small")]).is_known);
    let settled = story.look(15, &[("stamp", "small")]);
    assert!(settled.is_known);
    assert_eq!(settled.digest, digest(&[("stamp", "small")]));
}

#[test]
fn labels_of_the_cluster_are_looked_at_as_well() {
    let (group, old) = (annotated(&[]), Arc::new(cluster()));
    let mut inherited = Inherited::new(&group, &old);
    let mut new = cluster();
    new.metadata.labels = Some([("team".to_owned(), "a".to_owned())].into());
    let (new, start) = (Arc::new(new), Instant::now());
    let settled = inherited.look(&group, &new, start);
    assert_eq!(settled.digest, WorkerMetadata::of(&group, &old).digest());
    let settled = inherited.look(&group, &new, start + SETTLING);
    assert_eq!(settled.digest, WorkerMetadata::of(&group, &new).digest());
    assert_eq!(settled.metadata.labels["team"], "a");
}
