//! Questions that are asked about an object while something lasts, rarely and ever more rarely, and their answers.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::cluster_cache::ObjectKey;
use crate::cluster_cache::records::PodProblem;

/// Pause after the first question; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(15);
/// Longest pause between two questions.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

#[derive(Debug)]
struct Inquiry {
    subject: Box<str>,
    pause: Duration,
    next: Timestamp,
    answer: Option<PodProblem>,
}

/// The last question about each object. Forgotten at a restart, which costs one more question.
#[derive(Debug, Default)]
pub struct Inquiries {
    entries: Mutex<HashMap<ObjectKey, Inquiry>>,
}

impl Inquiries {
    /// Takes the turn to ask about `subject` of the object, or says how long to wait for it.
    ///
    /// # Errors
    /// The time until the next question.
    pub fn turn(&self, key: &ObjectKey, subject: &str, now: Timestamp) -> Result<(), Duration> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let same = entries.get_mut(key).filter(|inquiry| *inquiry.subject == *subject);
        let Some(inquiry) = same else {
            let next = now + FIRST_PAUSE;
            let inquiry = Inquiry { subject: subject.into(), pause: FIRST_PAUSE, next, answer: None };
            entries.insert(key.clone(), inquiry);
            return Ok(());
        };
        let wait = Duration::try_from(inquiry.next - now).unwrap_or_default();
        // Longer than a pause only if the clock was set back.
        if !wait.is_zero() && wait <= inquiry.pause {
            return Err(wait);
        }
        inquiry.pause = (inquiry.pause * 2).min(LONGEST_PAUSE);
        inquiry.next = now + inquiry.pause;
        Ok(())
    }

    /// How long until the next turn, from when this one was taken.
    pub fn pause(&self, key: &ObjectKey) -> Duration {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(key).map_or(FIRST_PAUSE, |inquiry| inquiry.pause)
    }

    /// Keeps the answer to the question whose turn was taken.
    pub fn answered(&self, key: &ObjectKey, answer: Option<PodProblem>) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(inquiry) = entries.get_mut(key) {
            inquiry.answer = answer;
        }
    }

    /// The last answer about `subject`.
    pub fn answer(&self, key: &ObjectKey, subject: &str) -> Option<PodProblem> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(key).filter(|inquiry| *inquiry.subject == *subject)?.answer.clone()
    }

    /// There is nothing left to ask about this object.
    pub fn forget(&self, key: &ObjectKey) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

#[cfg(test)]
mod tests {
    use dask_operator_api::Reason;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn key() -> ObjectKey {
        ObjectKey::new("ns", "c")
    }

    #[test]
    fn the_pauses_grow_to_five_minutes() {
        let inquiries = Inquiries::default();
        let asked: Vec<i64> =
            (0..1_500).filter(|second| inquiries.turn(&key(), "a", at(*second)).is_ok()).collect();
        assert_eq!(asked, [0, 15, 45, 105, 225, 465, 765, 1_065, 1_365]);
        assert_eq!(inquiries.turn(&key(), "a", at(1_400)), Err(Duration::from_secs(265)));
        assert_eq!(inquiries.turn(&key(), "b", at(1_400)), Ok(()), "another one is asked about at once");
    }

    #[test]
    fn a_clock_that_was_set_back_stretches_no_pause() {
        let inquiries = Inquiries::default();
        assert_eq!(inquiries.turn(&key(), "a", at(100_000)), Ok(()));
        assert_eq!(inquiries.turn(&key(), "a", at(0)), Ok(()));
    }

    #[test]
    fn an_answer_is_about_one_subject_and_stays_until_the_next() {
        let inquiries = Inquiries::default();
        let problem = PodProblem { reason: Reason::ContainerCannotStart, message: "no Secret".to_owned() };
        inquiries.answered(&key(), Some(problem.clone()));
        assert_eq!(inquiries.answer(&key(), "a"), None, "nobody asked");
        inquiries.turn(&key(), "a", at(0)).unwrap();
        inquiries.answered(&key(), Some(problem.clone()));
        assert_eq!(inquiries.answer(&key(), "a"), Some(problem));
        assert_eq!(inquiries.answer(&key(), "b"), None);
        inquiries.forget(&key());
        assert_eq!(inquiries.answer(&key(), "a"), None);
    }
}
