//! Values for the tests of this module.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::view::{Idleness, LinkView, Sample, Source};

/// What a scheduler without workers says.
pub(crate) fn sample(id: &str) -> Sample {
    Sample {
        asked: Timestamp::from_second(1_800_000_000).unwrap(),
        taken: Timestamp::from_second(1_800_000_000).unwrap(),
        scheduler_id: id.into(),
        started: None,
        source: Source::Standard,
        workers: 0,
        threads: 0,
        queued: None,
        unrunnable: None,
        adaptive_target: None,
        idleness: Idleness::Unknown,
        members: None,
        drains: BTreeMap::new(),
    }
}

/// A link that heard this and has no trouble.
pub(crate) fn heard(sample: Sample) -> LinkView {
    LinkView { asked: true, sample: Some(Arc::new(sample)), failure: None }
}
