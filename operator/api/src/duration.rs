//! Lengths of time as Kubernetes writes them: `90s`, `10m`, `1h30m`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration as StdDuration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// What the API server accepts.
const PATTERN: &str = "^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$";
/// The units of [`PATTERN`], longest name first, in milliseconds.
const UNITS: [(&str, f64); 4] = [("ms", 1.0), ("s", 1_000.0), ("m", 60_000.0), ("h", 3_600_000.0)];

/// A length of time, never negative, kept as the user wrote it and exact to the millisecond.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duration {
    text: String,
    length: StdDuration,
}

/// A text that is no length of time.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("duration \"{0}\" must be numbers with units ms, s, m or h, such as \"90s\" or \"1h30m\"")]
pub struct InvalidDuration(String);

impl Duration {
    /// Its length.
    #[must_use]
    pub fn length(&self) -> StdDuration {
        self.length
    }
}

impl FromStr for Duration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        let invalid = || InvalidDuration(text.to_owned());
        let mut rest = text;
        let mut millis = 0.0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
            let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
            let (unit, factor) =
                UNITS.into_iter().find(|(unit, _)| rest[digits..].starts_with(unit)).ok_or_else(invalid)?;
            millis += number * factor;
            rest = &rest[digits + unit.len()..];
        }
        let length = StdDuration::try_from_secs_f64(millis.round() / 1_000.0).map_err(|_| invalid())?;
        if text.is_empty() { Err(invalid()) } else { Ok(Self { text: text.to_owned(), length }) }
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": PATTERN, "maxLength": 32})
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case("90s", 90_000)]
    #[case("1h30m", 5_400_000)]
    #[case("250ms", 250)]
    #[case("1.5m", 90_000)]
    #[case("0s", 0)]
    #[case("2m3s4ms", 123_004)]
    fn lengths(#[case] text: &str, #[case] millis: u64) {
        let duration: Duration = text.parse().unwrap();
        assert_eq!(duration.length(), StdDuration::from_millis(millis));
        assert_eq!(duration.to_string(), text, "kept as written");
    }

    #[rstest]
    #[case("")]
    #[case("10")]
    #[case("s")]
    #[case("-1s")]
    #[case("1d")]
    #[case("1.2.3s")]
    #[case("1s ")]
    #[case("99999999999999999999999h")]
    fn what_is_none_names_itself_and_the_cure(#[case] text: &str) {
        let error = text.parse::<Duration>().unwrap_err().to_string();
        assert!(error.contains(&format!("\"{text}\"")) && error.contains("90s"), "{error}");
    }

    #[test]
    fn it_is_a_string_in_json() {
        let duration: Duration = serde_json::from_value(json!("10m")).unwrap();
        assert_eq!(serde_json::to_value(&duration).unwrap(), "10m");
        assert!(serde_json::from_value::<Duration>(json!(10)).is_err());
    }
}
