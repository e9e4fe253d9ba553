//! The intent to drain a worker, kept as an annotation on its pod so that it survives the operator.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::reason::Reason;

/// Value of the annotation [`crate::labels::DRAIN`]: why the worker has to go, and since when.
///
/// The deadline is not in it: it is `since` plus the policy's `drainTimeout`, so that an edit of the policy counts
/// for drains that are under way. Each step of a drain can be repeated, so no step is kept either.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainIntent {
    /// Why.
    #[serde(with = "reason_word")]
    pub reason: Reason,
    /// When it was decided, in whole seconds.
    pub since: Timestamp,
}

impl DrainIntent {
    /// The annotation's value.
    ///
    /// # Errors
    /// Never for an intent that this type can hold.
    pub fn to_annotation(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// What the annotation's value says; one that cannot be read still means that the worker has to go, at the latest
    /// when its time has run out.
    #[must_use]
    pub fn from_annotation(value: &str) -> Self {
        serde_json::from_str(value)
            .unwrap_or(Self { reason: Reason::ScaledDown, since: Timestamp::UNIX_EPOCH })
    }
}

mod reason_word {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use crate::reason::Reason;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
    pub(super) fn serialize<S: Serializer>(reason: &Reason, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(reason.into())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Reason, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_short_json_object() {
        let since = "2026-01-01T00:00:00Z".parse().unwrap();
        let intent = DrainIntent { reason: Reason::ScaledDown, since };
        let value = intent.to_annotation().unwrap();
        assert_eq!(value, r#"{"reason":"ScaledDown","since":"2026-01-01T00:00:00Z"}"#);
        assert_eq!(DrainIntent::from_annotation(&value), intent);
    }

    #[test]
    fn a_value_that_cannot_be_read_is_an_old_intent() {
        for value in ["", "yes", r#"{"reason":"Nonsense","since":"2026-01-01T00:00:00Z"}"#] {
            assert_eq!(DrainIntent::from_annotation(value).since, Timestamp::UNIX_EPOCH, "{value}");
        }
    }
}
