//! What can be done to the body of a watch while it runs.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use tokio::sync::watch::Receiver;
use tokio::time::sleep;
use tower::BoxError;

use super::{Call, Fault, Refusal};

/// The state of all watches of a client.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WatchControl {
    /// Bodies that began in an earlier epoch end.
    pub(super) epoch: u64,
    /// Nothing passes.
    pub(super) held: bool,
}

/// A time without lists and watches.
#[derive(Clone, Debug, Default)]
pub(super) enum Blackout {
    /// There was none.
    #[default]
    Never,
    /// It lasts.
    Now,
    /// It is over. Paths that were listed since may be watched; for the others the past is lost.
    Over(BTreeSet<String>),
}

impl Blackout {
    /// What the API server says to this request because of the blackout.
    pub(super) fn answer(&mut self, call: &Call) -> Option<Refusal> {
        match (self, call.verb) {
            (Self::Now, "list" | "watch") => Some(Refusal::UNAVAILABLE),
            (Self::Over(listed), "list") => {
                listed.insert(call.path.clone());
                None
            }
            (Self::Over(listed), "watch") if !listed.contains(&call.path) => Some(Refusal::GONE),
            _ => None,
        }
    }
}

/// The body, shaped by `fault` and by what the test does to all watches.
pub(super) fn shape<B>(
    body: B,
    control: Receiver<WatchControl>,
    fault: &Fault,
) -> UnsyncBoxBody<Bytes, BoxError>
where
    B: http_body_util::BodyExt<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let epoch = control.borrow().epoch;
    let (limit, round) = match *fault {
        Fault::EndWatchAfter(chunks) => (chunks, None),
        Fault::HoldBackWatch { period, open } => (usize::MAX, Some((period, open))),
        _ => (usize::MAX, None),
    };
    let shaped = Shaped { body: Box::pin(body), control, epoch, left: limit, round, start: Instant::now() };
    let frames = stream::unfold(shaped, |mut shaped| async move {
        if shaped.left == 0 {
            return None;
        }
        shaped.left -= 1;
        let frame = tokio::select! {
            frame = shaped.body.frame() => frame?.map_err(Into::into),
            () = cut(shaped.control.clone(), shaped.epoch) => return None,
        };
        if let Some((period, open)) = shaped.round {
            sleep(until_open(shaped.start.elapsed(), period, open)).await;
        }
        let epoch = shaped.epoch;
        let control = shaped.control.wait_for(|control| !control.held || control.epoch != epoch).await;
        if control.is_ok_and(|control| control.epoch != epoch) {
            return None;
        }
        Some((frame, shaped))
    });
    StreamBody::new(frames).boxed_unsync()
}

struct Shaped<B> {
    body: std::pin::Pin<Box<B>>,
    control: Receiver<WatchControl>,
    epoch: u64,
    left: usize,
    round: Option<(Duration, Duration)>,
    start: Instant,
}

/// Returns when the epoch is over.
async fn cut(mut control: Receiver<WatchControl>, epoch: u64) {
    if control.wait_for(|control| control.epoch != epoch).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// How long until the gate is open, which it is at the end of each period.
fn until_open(elapsed: Duration, period: Duration, open: Duration) -> Duration {
    let into = Duration::from_nanos(u64::try_from(elapsed.as_nanos() % period.as_nanos()).unwrap_or(0));
    period.saturating_sub(open).saturating_sub(into)
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn after_a_blackout_what_was_not_listed_again_is_gone() {
        let call = |uri: &str| Call::of(&Method::GET, &uri.parse().unwrap());
        let (list, watch) = (call("/api/v1/pods"), call("/api/v1/pods?watch=true"));
        let mut blackout = Blackout::default();
        assert_eq!(blackout.answer(&watch), None);
        blackout = Blackout::Now;
        assert_eq!(blackout.answer(&watch), Some(Refusal::UNAVAILABLE));
        assert_eq!(blackout.answer(&call("/api/v1/pods/one")), None);
        blackout = Blackout::Over(BTreeSet::new());
        assert_eq!(blackout.answer(&watch), Some(Refusal::GONE));
        assert_eq!(blackout.answer(&list), None);
        assert_eq!(blackout.answer(&watch), None);
    }

    #[rstest::rstest]
    #[case(0, 80)]
    #[case(79, 1)]
    #[case(80, 0)]
    #[case(99, 0)]
    #[case(100, 80)]
    #[case(250, 30)]
    fn the_gate_is_open_at_the_end_of_a_period(#[case] elapsed: u64, #[case] wait: u64) {
        let ms = Duration::from_millis;
        assert_eq!(until_open(ms(elapsed), ms(100), ms(20)), ms(wait));
    }
}
