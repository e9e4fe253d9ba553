//! Values of the options about logs and Events.

use std::convert::Infallible;
use std::str::FromStr;

use thiserror::Error;
use tracing_subscriber::EnvFilter;

/// How a log line is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
    /// One of kopf's formats or a template of Python; treated as [`LogFormat::Text`].
    Foreign(String),
}

impl FromStr for LogFormat {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "text" => Self::Text,
            "json" => Self::Json,
            _ => Self::Foreign(text.to_owned()),
        })
    }
}

/// Which Events are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventLevel {
    /// All.
    Normal,
    /// Those of type Warning.
    Warning,
}

/// A value that is not understood.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidLogging {
    /// Not a level.
    #[error("not a level: give DEBUG, INFO, WARNING, ERROR, CRITICAL or their number (10 to 50)")]
    Level,
    /// Not a truth value.
    #[error("give true or false")]
    Boolean,
    /// Not a filter.
    #[error(
        "not a log filter ({0}): give error, warn, info, debug or trace, or directives as info,kube=warn"
    )]
    Filter(String),
}

impl FromStr for EventLevel {
    type Err = InvalidLogging;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim().to_ascii_uppercase().as_str() {
            "" | "NULL" | "NONE" | "NOTSET" | "DEBUG" | "INFO" | "NORMAL" => Ok(Self::Normal),
            "WARN" | "WARNING" | "ERROR" | "CRITICAL" | "FATAL" => Ok(Self::Warning),
            number => match number.parse::<u16>() {
                Ok(0..30) => Ok(Self::Normal),
                Ok(_) => Ok(Self::Warning),
                Err(_) => Err(InvalidLogging::Level),
            },
        }
    }
}

/// A truth value as Dask's configuration spells them.
pub(super) fn boolean(text: &str) -> Result<bool, InvalidLogging> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(InvalidLogging::Boolean),
    }
}

/// A log filter, checked but kept as text.
pub(super) fn filter(text: &str) -> Result<String, InvalidLogging> {
    EnvFilter::try_new(text).map_err(|error| InvalidLogging::Filter(error.to_string()))?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("INFO", EventLevel::Normal)]
    #[case("debug", EventLevel::Normal)]
    #[case("20", EventLevel::Normal)]
    #[case("30", EventLevel::Warning)]
    #[case("Warning", EventLevel::Warning)]
    #[case("CRITICAL", EventLevel::Warning)]
    fn levels_of_python(#[case] text: &str, #[case] level: EventLevel) {
        assert_eq!(text.parse(), Ok(level));
    }

    #[test]
    fn unknown_levels_are_refused() {
        assert_eq!("loud".parse::<EventLevel>(), Err(InvalidLogging::Level));
        assert_eq!("-5".parse::<EventLevel>(), Err(InvalidLogging::Level));
    }

    #[rstest]
    #[case("True", true)]
    #[case("1", true)]
    #[case("off", false)]
    #[case("False", false)]
    fn truth_values_of_dask(#[case] text: &str, #[case] value: bool) {
        assert_eq!(boolean(text), Ok(value));
    }

    #[test]
    fn templates_of_kopf_are_foreign() {
        assert_eq!("JSON".parse(), Ok(LogFormat::Json));
        assert_eq!("full".parse(), Ok(LogFormat::Foreign("full".to_owned())));
        assert_eq!("[%(asctime)s]".parse(), Ok(LogFormat::Foreign("[%(asctime)s]".to_owned())));
    }

    #[test]
    fn filters_are_checked() {
        assert_eq!(filter("info,kube=warn"), Ok("info,kube=warn".to_owned()));
        assert!(matches!(filter("info,kube=loud"), Err(InvalidLogging::Filter(_))));
    }
}
