//! Values for the tests of this module.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dask_protocol::{WorkerState, WorkerStatus};
use jiff::Timestamp;

use super::matching::Candidate;
use super::view::{Idleness, LinkView, Sample, Source};
use crate::cluster_cache::records::PodRecord;
use crate::controllers::group::testing::running;

/// What a scheduler without workers says.
pub(crate) fn sample(id: &str) -> Sample {
    let taken = Timestamp::from_second(1_800_000_000).unwrap();
    Sample {
        asked: taken,
        taken,
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
        fenced: BTreeSet::new(),
        absent: Some(BTreeSet::new()),
    }
}

/// A link that heard this and has no trouble.
pub(crate) fn heard(sample: Sample) -> LinkView {
    LinkView { asked: true, sample: Some(Arc::new(sample)), failure: None }
}

/// A pod of address 10.0.0.N with UID `uN` and name `wN` that runs.
pub(super) fn candidate(number: i64) -> Candidate {
    let pod =
        PodRecord { uid: format!("u{number}").into(), name: format!("w{number}").into(), ..running(number) };
    Candidate { pod: Arc::new(pod), deployment: None }
}

/// A registered worker that does nothing.
pub(super) fn worker(name: &str, address: &str, status: WorkerStatus) -> WorkerState {
    WorkerState {
        address: address.to_owned(),
        name: name.to_owned(),
        host: String::new(),
        status,
        nthreads: 1,
        executing: 0,
        long_running: 0,
        processing: None,
        stored_bytes: 0,
        keys: None,
        actors: None,
        last_seen: Some(1.0),
    }
}
