//! One candidate's view of the election, and its next step. Pure: time is an argument, I/O is the caller's.

use std::time::Instant;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;

use super::evaluate::{Action, Observation, Timing, evaluate, held, observe, released};

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Read the Lease, then ask again.
    Read,
    /// Create or replace the Lease by this one, then tell what became of it.
    Write(Box<Lease>),
    /// Somebody else holds it.
    Wait,
}

/// What is known of the Lease.
#[derive(Clone, Debug, Default)]
enum Known {
    /// It may have changed.
    #[default]
    Outdated,
    Absent,
    Present(Box<Lease>),
}

#[derive(Debug)]
pub(super) struct Candidate {
    me: String,
    timing: Timing,
    known: Known,
    observed: Option<Observation>,
    term_ends: Option<Instant>,
}

impl Candidate {
    pub(super) fn new(me: String, timing: Timing) -> Self {
        Self { me, timing, known: Known::Outdated, observed: None, term_ends: None }
    }

    /// Until when this candidate leads; `None` if it does not.
    pub(super) fn term_ends(&self) -> Option<Instant> {
        self.term_ends
    }

    /// The next step. `wall` is only written down, never compared.
    pub(super) fn step(&self, now: Instant, wall: Timestamp) -> Step {
        let lease = match &self.known {
            Known::Outdated => return Step::Read,
            Known::Absent => None,
            Known::Present(lease) => Some(&**lease),
        };
        match evaluate(lease, &self.me, self.observed.as_ref(), &self.timing, now) {
            Action::Acquire | Action::Renew => {
                Step::Write(Box::new(held(lease, &self.me, &self.timing, wall)))
            }
            Action::Wait(_) => Step::Wait,
        }
    }

    /// The Lease was read; the answer came at `now`.
    pub(super) fn read(&mut self, lease: Option<Lease>, now: Instant) {
        self.observed = observe(self.observed.take(), lease.as_ref(), now);
        self.known = lease.map_or(Known::Absent, |lease| Known::Present(Box::new(lease)));
    }

    /// The API server took the Lease that was sent at `sent`.
    pub(super) fn wrote(&mut self, lease: Lease, sent: Instant, now: Instant) {
        self.read(Some(lease), now);
        // From before the call: others may have seen the record as early as that.
        self.term_ends = Some(sent + self.timing.renew_deadline);
    }

    /// What is known may be outdated: a write failed or was not answered, or it is time to look again.
    pub(super) fn look_again(&mut self) {
        self.known = Known::Outdated;
    }

    /// The term is over, or another candidate was seen to hold the Lease.
    pub(super) fn lost(&mut self) {
        self.term_ends = None;
        self.look_again();
    }

    /// The Lease to write so that the next candidate need not wait, if this one holds the Lease that was last read.
    pub(super) fn release(&self, wall: Timestamp) -> Option<Lease> {
        let Known::Present(lease) = &self.known else { return None };
        let holder = lease.spec.as_ref()?.holder_identity.as_deref();
        (holder == Some(&self.me)).then(|| released(lease, wall))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn wall() -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn candidate(me: &str) -> Candidate {
        Candidate::new(me.to_owned(), Timing::default())
    }

    #[test]
    fn it_reads_before_it_writes_and_then_renews_without_reading() {
        let (mut me, start) = (candidate("me"), Instant::now());
        assert_eq!(me.step(start, wall()), Step::Read);
        me.read(None, start);
        let Step::Write(lease) = me.step(start, wall()) else { panic!("nobody holds it") };
        assert_eq!(me.term_ends(), None, "not before the API server has agreed");
        me.wrote(*lease, start, start + Duration::from_secs(1));
        assert_eq!(me.term_ends(), Some(start + Duration::from_secs(10)), "from when it was sent");
        assert!(matches!(me.step(start + Duration::from_secs(2), wall()), Step::Write(_)));
    }

    #[test]
    fn it_reads_again_after_a_write_without_answer() {
        let (mut me, start) = (candidate("me"), Instant::now());
        me.read(None, start);
        me.look_again();
        assert_eq!(me.step(start, wall()), Step::Read);
        assert_eq!(me.term_ends(), None);
    }

    #[test]
    fn only_the_holder_releases() {
        let (mut me, mut other, start) = (candidate("me"), candidate("other"), Instant::now());
        me.read(None, start);
        let Step::Write(lease) = me.step(start, wall()) else { panic!("nobody holds it") };
        me.wrote((*lease).clone(), start, start);
        other.read(Some(*lease), start);
        assert_eq!(other.step(start, wall()), Step::Wait);
        assert_eq!(other.release(wall()), None);
        let released = me.release(wall()).unwrap();
        other.read(Some(released), start);
        assert!(matches!(other.step(start, wall()), Step::Write(_)), "no wait after a release");
    }
}
