//! Whether this process may write.

use tokio::sync::watch;

/// The gate before every write. Clones share one state.
#[derive(Clone, Debug)]
pub struct Leadership {
    state: watch::Receiver<bool>,
}

impl Leadership {
    /// Follows what the election announces.
    #[must_use]
    pub fn follow(state: watch::Receiver<bool>) -> Self {
        Self { state }
    }

    /// For a process that runs alone, without election.
    #[must_use]
    pub fn always() -> Self {
        Self { state: watch::channel(true).1 }
    }

    /// Whether this process leads now.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        *self.state.borrow()
    }

    /// The state as a channel, to wait for a change.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<bool> {
        self.state.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_election_it_always_leads() {
        assert!(Leadership::always().is_leader());
    }

    #[test]
    fn it_follows_the_election() {
        let (send, receive) = watch::channel(false);
        let leadership = Leadership::follow(receive);
        assert!(!leadership.is_leader());
        send.send_replace(true);
        assert!(leadership.is_leader());
    }
}
