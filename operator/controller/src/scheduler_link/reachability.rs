//! The condition `SchedulerReachable`, from what is known. Pure.

use dask_operator_api::Reason;

use super::view::{LinkView, Source};

/// What is to be said about the scheduler: the condition's status, reason and message. `None` as long as this operator
/// has not asked: then what was found before still stands. `ready` says whether the scheduler's pod is.
#[must_use]
pub fn reachability(view: &LinkView, ready: bool) -> Option<(Option<bool>, Reason, String)> {
    if let Some(failure) = &view.failure {
        if failure.reason == Reason::SeveralSchedulers {
            return Some((None, failure.reason, failure.message.clone()));
        }
        if failure.reason == Reason::SchedulerNotRunning || !ready {
            let message = match failure.reason {
                Reason::SchedulerNotRunning => failure.message.clone(),
                _ => "the scheduler is starting".to_owned(),
            };
            return Some((None, Reason::SchedulerNotRunning, message));
        }
        return Some((Some(false), failure.reason, failure.message.clone()));
    }
    let sample = view.sample.as_ref()?;
    Some(match sample.source {
        Source::Telemetry => {
            (Some(true), Reason::Telemetry, "the scheduler answers, by its telemetry module".to_owned())
        }
        Source::Standard => {
            let message =
                "the scheduler answers by Dask's own operations, which do not tell how many tasks wait";
            (Some(true), Reason::StandardOperations, message.to_owned())
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rstest::rstest;

    use super::*;
    use crate::scheduler_link::testing::sample;
    use crate::scheduler_link::{LinkFailure, Sample};

    fn view(source: Option<Source>, failure: Option<Reason>) -> LinkView {
        let since = sample("s").taken;
        LinkView {
            asked: true,
            sample: source.map(|source| Arc::new(Sample { source, ..sample("s") })),
            failure: failure.map(|reason| LinkFailure { reason, message: "words".to_owned(), since }),
        }
    }

    #[rstest]
    #[case(Some(Source::Telemetry), None, true, Some(true), Reason::Telemetry)]
    #[case(Some(Source::Standard), None, true, Some(true), Reason::StandardOperations)]
    #[case(Some(Source::Standard), None, false, Some(true), Reason::StandardOperations)]
    #[case(None, Some(Reason::SchedulerUnreachable), true, Some(false), Reason::SchedulerUnreachable)]
    #[case(
        Some(Source::Standard),
        Some(Reason::SchedulerGarbled),
        true,
        Some(false),
        Reason::SchedulerGarbled
    )]
    #[case(
        Some(Source::Standard),
        Some(Reason::SchedulerUnreachable),
        false,
        None,
        Reason::SchedulerNotRunning
    )]
    #[case(
        Some(Source::Standard),
        Some(Reason::SchedulerNotRunning),
        true,
        None,
        Reason::SchedulerNotRunning
    )]
    #[case(Some(Source::Standard), Some(Reason::SeveralSchedulers), true, None, Reason::SeveralSchedulers)]
    #[case(None, Some(Reason::SeveralSchedulers), false, None, Reason::SeveralSchedulers)]
    fn the_table(
        #[case] source: Option<Source>,
        #[case] failure: Option<Reason>,
        #[case] ready: bool,
        #[case] status: Option<bool>,
        #[case] reason: Reason,
    ) {
        let found = reachability(&view(source, failure), ready).unwrap();
        assert_eq!((found.0, found.1), (status, reason));
    }

    #[test]
    fn nothing_is_said_before_it_was_asked() {
        assert_eq!(reachability(&LinkView::default(), true), None);
    }
}
