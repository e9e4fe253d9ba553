//! Whether this process may write.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// The gate before every write. Clones share one state.
#[derive(Clone, Debug)]
pub struct Leadership {
    state: watch::Receiver<bool>,
    term: Arc<Mutex<Term>>,
}

/// How long the announced state holds, and what a person should know of it.
#[derive(Debug, Default)]
struct Term {
    /// Without a renewal it ends here, whatever was announced; `None` for no end.
    ends: Option<Instant>,
    notice: Option<String>,
}

impl Leadership {
    /// Follows what somebody announces.
    #[must_use]
    pub fn follow(state: watch::Receiver<bool>) -> Self {
        Self { state, term: Arc::default() }
    }

    /// For a process that runs alone, without election.
    #[must_use]
    pub fn always() -> Self {
        Self::follow(watch::channel(true).1)
    }

    /// For a process that leads for want of an election; `notice` says why.
    #[must_use]
    pub fn unguarded(notice: &str) -> Self {
        let leadership = Self::always();
        leadership.lock().notice = Some(notice.to_owned());
        leadership
    }

    /// A process that does not lead until the herald says so.
    pub(super) fn announced() -> (Herald, Self) {
        let (sender, state) = watch::channel(false);
        let leadership = Self::follow(state);
        (Herald { sender, term: leadership.term.clone() }, leadership)
    }

    /// Whether this process leads now. True only while nobody else can have taken over, even if the task that
    /// renews the lease gets no time to run.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        *self.state.borrow() && self.lock().ends.is_none_or(|end| Instant::now() < end)
    }

    /// How much longer this process leads without a renewal; `None` for no end. Zero if it does not lead.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        if !*self.state.borrow() {
            return Some(Duration::ZERO);
        }
        self.lock().ends.map(|end| end.saturating_duration_since(Instant::now()))
    }

    /// The state as a channel, to wait for a change.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<bool> {
        self.state.clone()
    }

    /// What a person should know: why the election does not work.
    #[must_use]
    pub fn notice(&self) -> Option<String> {
        self.lock().notice.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Term> {
        self.term.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Announces who leads.
#[derive(Debug)]
pub(super) struct Herald {
    sender: watch::Sender<bool>,
    term: Arc<Mutex<Term>>,
}

impl Herald {
    /// This process leads until then, or until further notice; returns whether that is new.
    pub(super) fn leads_until(&self, ends: Option<Instant>) -> bool {
        self.term.lock().unwrap_or_else(PoisonError::into_inner).ends = ends;
        self.sender.send_if_modified(|state| !std::mem::replace(state, true))
    }

    /// This process does not lead; returns whether it did.
    pub(super) fn follows(&self) -> bool {
        self.sender.send_if_modified(|state| std::mem::replace(state, false))
    }

    pub(super) fn notice(&self, notice: Option<String>) {
        self.term.lock().unwrap_or_else(PoisonError::into_inner).notice = notice;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_election_it_always_leads() {
        assert!(Leadership::always().is_leader());
        assert_eq!(Leadership::always().remaining(), None);
        let alone = Leadership::unguarded("no namespace");
        assert!(alone.is_leader());
        assert_eq!(alone.notice().as_deref(), Some("no namespace"));
    }

    #[test]
    fn it_follows_the_election() {
        let (send, receive) = watch::channel(false);
        let leadership = Leadership::follow(receive);
        assert!(!leadership.is_leader());
        assert_eq!(leadership.remaining(), Some(Duration::ZERO));
        send.send_replace(true);
        assert!(leadership.is_leader());
    }

    #[tokio::test(start_paused = true)]
    async fn a_term_that_nobody_renews_ends_by_itself() {
        let (herald, leadership) = Leadership::announced();
        let start = Instant::now();
        herald.leads_until(Some(start + Duration::from_secs(10)));
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(leadership.is_leader());
        assert_eq!(leadership.remaining(), Some(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!leadership.is_leader(), "although nobody said so");
        assert!(*leadership.changes().borrow());
    }

    #[test]
    fn only_changes_are_announced() {
        let (herald, leadership) = Leadership::announced();
        let mut changes = leadership.changes();
        herald.leads_until(None);
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        herald.leads_until(None);
        assert!(!changes.has_changed().unwrap());
        assert!(herald.follows());
        assert!(!herald.follows());
        herald.notice(Some("why".to_owned()));
        assert_eq!(leadership.notice().as_deref(), Some("why"));
    }
}
