//! How much memory the answers of all peers together may take.
//!
//! A [`Budget`] is shared by all connections of a process. Bytes are taken from it as they arrive and given back when
//! the value made of them is dropped. Each connection has a small allowance for free, so those with small answers,
//! which are nearly all, never wait for others. A transfer that has taken something must end within its deadline, so a
//! peer that sends slowly cannot sit on the budget.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

/// Bytes of one message that need nothing of the budget.
pub const FREE: usize = 16 << 10;

/// What there is for the answers of all peers of a process. Clones share it.
#[derive(Debug, Clone)]
pub struct Budget {
    bytes: Arc<Semaphore>,
    total: usize,
    /// For the one large message that is decoded.
    decoding: Arc<Semaphore>,
}

impl Budget {
    /// What a process has by default: the largest message allowed and what is made of it, and a third of both for the
    /// others.
    pub const TOTAL: usize = 64 << 20;

    /// A budget of so many bytes, of which there are 4 GB at most.
    #[must_use]
    pub fn new(total: usize) -> Self {
        let total = total.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        Self { bytes: Arc::new(Semaphore::new(total)), total, decoding: Arc::new(Semaphore::new(1)) }
    }

    /// All of it, whether taken or not.
    #[must_use]
    pub fn total(&self) -> usize {
        self.total
    }

    /// What nobody has taken.
    #[must_use]
    pub fn available(&self) -> usize {
        self.bytes.available_permits()
    }

    /// Room for one message, empty at first. Once something is taken, the rest of the message has `transfer` to come.
    #[must_use]
    pub fn room(&self, transfer: Duration) -> Room {
        Room { budget: self.clone(), permit: None, transfer, until: None }
    }

    /// Waits until no other large message is decoded.
    pub(crate) async fn decoding(&self) -> Option<OwnedSemaphorePermit> {
        self.decoding.clone().acquire_owned().await.ok()
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(Self::TOTAL)
    }
}

/// The transfer took longer than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Late;

/// What one message has taken. Given back when dropped.
#[derive(Debug)]
pub struct Room {
    budget: Budget,
    permit: Option<OwnedSemaphorePermit>,
    transfer: Duration,
    until: Option<Instant>,
}

impl Room {
    /// Bytes taken from the budget.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }

    /// Takes what is missing for so many bytes; waits until others gave back enough.
    pub(crate) async fn cover(&mut self, bytes: usize) -> Result<(), Late> {
        let missing = bytes.saturating_sub(FREE).saturating_sub(self.taken());
        // More than there is would be waited for in vain. The limits of messages see to it that this does not happen.
        let missing = u32::try_from(missing.min(self.budget.total)).unwrap_or(u32::MAX);
        if missing == 0 {
            return Ok(());
        }
        let taking = self.budget.bytes.clone().acquire_many_owned(missing);
        // It is never closed.
        let Ok(more) = self.in_time(taking).await? else { return Err(Late) };
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            None => self.permit = Some(more),
        }
        self.until.get_or_insert_with(|| Instant::now() + self.transfer);
        Ok(())
    }

    /// Waits for a part of the message, no longer than the transfer may take.
    pub(crate) async fn in_time<T>(&self, part: impl Future<Output = T>) -> Result<T, Late> {
        match self.until {
            Some(until) => timeout_at(until, part).await.map_err(|_| Late),
            None => Ok(part.await),
        }
    }

    /// Gives back all but so many bytes: what was made of the message.
    pub(crate) fn keep(&mut self, bytes: usize) {
        let surplus = self.taken().saturating_sub(bytes);
        if let Some(permit) = &mut self.permit {
            drop(permit.split(surplus));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_small_message_needs_nothing() {
        let budget = Budget::new(0);
        let mut room = budget.room(LONG);
        room.cover(FREE).await.unwrap();
        assert_eq!(room.taken(), 0);
    }

    #[tokio::test]
    async fn what_is_taken_comes_back() {
        let budget = Budget::new(1000);
        let mut room = budget.room(LONG);
        room.cover(FREE + 300).await.unwrap();
        room.cover(FREE + 200).await.unwrap();
        room.cover(FREE + 900).await.unwrap();
        assert_eq!((room.taken(), budget.available()), (900, 100));
        room.keep(250);
        assert_eq!((room.taken(), budget.available()), (250, 750));
        room.keep(500);
        assert_eq!(room.taken(), 250);
        drop(room);
        assert_eq!(budget.available(), budget.total());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_holds_something_waits_only_for_the_time_of_its_transfer() {
        let budget = Budget::new(1000);
        let (mut one, mut other) = (budget.room(LONG), budget.room(LONG * 2));
        one.cover(FREE + 600).await.unwrap();
        other.cover(FREE + 400).await.unwrap();
        let begun = Instant::now();
        let (late, patient) = tokio::join!(
            async {
                let late = one.cover(FREE + 700).await;
                drop(one);
                late
            },
            other.cover(FREE + 700)
        );
        assert_eq!((late, patient), (Err(Late), Ok(())));
        assert_eq!(begun.elapsed(), LONG);
        assert_eq!(other.taken(), 700);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_holds_nothing_waits_for_the_others() {
        let budget = Budget::new(1000);
        let (mut one, mut other) = (budget.room(LONG), budget.room(LONG));
        one.cover(FREE + 600).await.unwrap();
        let ((), patient) = tokio::join!(
            async {
                tokio::time::advance(LONG * 3).await;
                drop(one);
            },
            other.cover(FREE + 700)
        );
        assert_eq!((patient, other.taken()), (Ok(()), 700));
    }

    #[tokio::test]
    async fn more_than_there_is_is_not_waited_for() {
        let budget = Budget::new(1000);
        let mut room = budget.room(LONG);
        room.cover(usize::MAX).await.unwrap();
        assert_eq!(room.taken(), 1000);
    }
}
