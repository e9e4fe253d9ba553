//! Value of `--scheduler-access`.

use clap::ValueEnum;

/// How schedulers are reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SchedulerAccess {
    /// Direct if the operator runs in a pod, by port-forward otherwise.
    #[default]
    Auto,
    /// By the IP address of their pod, or else that of the cluster's own Service.
    Direct,
    /// Through the API server.
    PortForward,
    /// Not at all, for tests that play the schedulers.
    #[value(hide = true)]
    None,
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("auto", Some(SchedulerAccess::Auto))]
    #[case("direct", Some(SchedulerAccess::Direct))]
    #[case("port-forward", Some(SchedulerAccess::PortForward))]
    #[case("none", Some(SchedulerAccess::None))]
    #[case("portforward", None)]
    fn words(#[case] word: &str, #[case] access: Option<SchedulerAccess>) {
        assert_eq!(SchedulerAccess::from_str(word, false).ok(), access);
    }
}
