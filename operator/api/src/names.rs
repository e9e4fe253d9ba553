//! Names of clusters, groups and of the objects derived from them.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use thiserror::Error;

/// Longest name of a DaskCluster: a label value has 63 characters and `-scheduler` takes 10 of them.
pub const MAX_CLUSTER_NAME: usize = 53;
/// Longest name of a DaskWorkerGroup: it becomes a label value.
pub const MAX_GROUP_NAME: usize = 63;

/// A name that cannot be used, with the cure.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "metadata.name \"{name}\" cannot be used for a {kind}: {problem}; create it again under a name of at most {limit} \
     lower-case letters, digits and '-' that starts and ends with a letter or digit"
)]
pub struct InvalidName {
    kind: &'static str,
    name: String,
    problem: String,
    limit: usize,
}

fn check(kind: &'static str, name: &str, limit: usize) -> Result<(), InvalidName> {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let problem = if name.len() > limit {
        format!("it has {} characters", name.len())
    } else if let Some(bad) = name.chars().find(|c| !alphanumeric(*c) && *c != '-') {
        format!("it contains '{bad}'")
    } else if !name.starts_with(alphanumeric) || !name.ends_with(alphanumeric) {
        "it does not start and end with a letter or digit".to_owned()
    } else {
        return Ok(());
    };
    Err(InvalidName { kind, name: name.to_owned(), problem, limit })
}

/// The valid name of a DaskCluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterName(String);

impl ClusterName {
    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Name of the scheduler's Deployment and Service.
    #[must_use]
    pub fn scheduler(&self) -> String {
        format!("{}-scheduler", self.0)
    }

    /// Name of the default DaskWorkerGroup.
    #[must_use]
    pub fn default_group(&self) -> String {
        format!("{}-default", self.0)
    }
}

impl FromStr for ClusterName {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<Self, InvalidName> {
        check("DaskCluster", name, MAX_CLUSTER_NAME).map(|()| Self(name.to_owned()))
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The valid name of a DaskWorkerGroup.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupName(String);

impl GroupName {
    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Name of the worker with this ordinal: the same for every writer that sees the same group, so that
    /// two of them cannot create the worker twice.
    ///
    /// `group_uid` keeps a group that was deleted and made again from meeting its predecessor's pods.
    #[must_use]
    pub fn worker(&self, group_uid: &str, ordinal: i64) -> String {
        let hash = Sha256::digest(format!("{group_uid}/{ordinal}"));
        let number = hash.iter().take(5).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        format!("{}-worker-{number:010x}", self.0)
    }

    /// Label selector of the group's worker pods.
    #[must_use]
    pub fn worker_selector(&self) -> String {
        format!(
            "{}={},{}={}",
            crate::labels::WORKER_GROUP_NAME,
            self.0,
            crate::labels::COMPONENT,
            crate::labels::WORKER
        )
    }
}

impl FromStr for GroupName {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<Self, InvalidName> {
        check("DaskWorkerGroup", name, MAX_GROUP_NAME).map(|()| Self(name.to_owned()))
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("a")]
    #[case("0")]
    #[case("simple")]
    #[case("dask-user-7f9c")]
    fn good_cluster_names(#[case] name: &str) {
        assert_eq!(name.parse::<ClusterName>().map(|n| n.to_string()), Ok(name.to_owned()));
    }

    #[rstest]
    #[case("", "it does not start and end with a letter or digit")]
    #[case("-a", "it does not start and end with a letter or digit")]
    #[case("a-", "it does not start and end with a letter or digit")]
    #[case("invalid.chars.in.name", "it contains '.'")]
    #[case("Upper", "it contains 'U'")]
    fn bad_cluster_names(#[case] name: &str, #[case] problem: &str) {
        let error = name.parse::<ClusterName>().unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
        assert!(error.contains(&format!("\"{name}\"")), "{error}");
    }

    #[test]
    fn length_limits_are_exact() {
        assert!("a".repeat(53).parse::<ClusterName>().is_ok());
        let error = "a".repeat(54).parse::<ClusterName>().unwrap_err().to_string();
        assert!(error.contains("it has 54 characters") && error.contains("at most 53"), "{error}");
        assert!("a".repeat(63).parse::<GroupName>().is_ok());
        assert!("a".repeat(64).parse::<GroupName>().is_err());
    }

    #[test]
    fn derived_names_are_upstreams() {
        let name: ClusterName = "simple".parse().unwrap();
        assert_eq!(name.scheduler(), "simple-scheduler");
        assert_eq!(name.default_group(), "simple-default");
    }

    #[test]
    fn worker_names_are_stable() {
        let group: GroupName = "simple-default".parse().unwrap();
        // Also from one release to the next: another name for the same worker would make it twice.
        assert_eq!(
            group.worker("8b1a3f0e-0000-4000-8000-000000000000", 1),
            "simple-default-worker-707c2d5b05"
        );
        assert_eq!(group.worker("uid", 1), group.worker("uid", 1));
        assert_ne!(group.worker("uid", 1), group.worker("uid", 2));
        assert_ne!(group.worker("uid", 1), group.worker("other", 1));
    }

    #[test]
    fn the_selector_finds_the_workers_of_one_group() {
        let group: GroupName = "simple-default".parse().unwrap();
        assert_eq!(
            group.worker_selector(),
            "dask.org/workergroup-name=simple-default,dask.org/component=worker"
        );
    }

    proptest! {
        #[test]
        fn worker_names_have_the_documented_shape(uid in "[0-9a-f-]{36}", ordinal in 1_i64..1_000_000) {
            let group: GroupName = "g".parse().unwrap();
            let name = group.worker(&uid, ordinal);
            let hex = name.strip_prefix("g-worker-").unwrap();
            prop_assert_eq!(hex.len(), 10);
            prop_assert!(hex.chars().all(|c| c.is_ascii_hexdigit()));
        }

        #[test]
        fn parsing_never_panics(name in ".{0,80}") {
            let _ = name.parse::<ClusterName>();
            let _ = name.parse::<GroupName>();
        }
    }
}
