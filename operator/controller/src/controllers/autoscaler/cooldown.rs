//! The annotation in which an autoscaler keeps until when it rests, as dask-kubernetes writes it: seconds since the
//! epoch, with a fraction. Pure.

use dask_operator_api::DaskAutoscaler;
use dask_operator_api::labels::COOLDOWN_UNTIL;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

/// Until when an autoscaler rests. What cannot be read as a time counts as none.
pub(super) fn read(autoscaler: &DaskAutoscaler) -> Option<Timestamp> {
    let seconds: f64 = autoscaler.annotations().get(COOLDOWN_UNTIL)?.trim().parse().ok()?;
    let since_epoch = SignedDuration::try_from_secs_f64(seconds).ok()?;
    Timestamp::UNIX_EPOCH.checked_add(since_epoch).ok()
}

/// The annotation's value for this time, to the millisecond.
pub(super) fn written(until: Timestamp) -> String {
    let milliseconds = until.as_millisecond();
    format!("{}.{:03}", milliseconds.div_euclid(1000), milliseconds.rem_euclid(1000))
}

#[cfg(test)]
mod tests {
    use dask_operator_api::DaskAutoscalerSpec;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn autoscaler(value: &str) -> DaskAutoscaler {
        let mut autoscaler = DaskAutoscaler::new("a", DaskAutoscalerSpec::default());
        autoscaler.annotations_mut().insert(COOLDOWN_UNTIL.to_owned(), value.to_owned());
        autoscaler
    }

    #[rstest]
    #[case("1800000000.5", Some(1_800_000_000_500))]
    #[case("1800000000", Some(1_800_000_000_000))]
    #[case(" 1.8e9 ", Some(1_800_000_000_000))]
    #[case("-1", Some(-1_000))]
    #[case("soon", None)]
    #[case("", None)]
    #[case("nan", None)]
    #[case("inf", None)]
    #[case("1e300", None)]
    fn pythons_floats_are_read(#[case] value: &str, #[case] expected: Option<i64>) {
        assert_eq!(read(&autoscaler(value)).map(Timestamp::as_millisecond), expected);
    }

    #[test]
    fn without_the_annotation_there_is_no_rest() {
        assert_eq!(read(&DaskAutoscaler::new("a", DaskAutoscalerSpec::default())), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(milliseconds in 0_i64..4_000_000_000_000) {
            let until = Timestamp::from_millisecond(milliseconds).unwrap();
            let found = read(&autoscaler(&written(until))).unwrap();
            prop_assert!((found.as_microsecond() - until.as_microsecond()).abs() < 1_000);
        }
    }
}
