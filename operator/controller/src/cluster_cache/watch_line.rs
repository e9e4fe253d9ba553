//! The lines that a watch consists of.
//!
//! kube's own reader copies an object whose type comes after it, and so has all types decoded in two ways. Here the
//! text of the object is found first, whatever the order, and decoded once.

use std::borrow::Cow;

use kube::core::Status;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Error};
use serde_json::value::RawValue;

/// What one line says.
#[derive(Debug)]
pub(super) enum Line<K> {
    /// The object is new, or has changed.
    Applied(K),
    /// The object is gone; this was its last state.
    Deleted(K),
    /// Everything up to this resource version was sent.
    Bookmark(String),
    /// The API server ends the watch.
    Ended(Box<Status>),
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type", borrow)]
    change: Cow<'a, str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct Bookmark {
    metadata: BookmarkMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BookmarkMetadata {
    resource_version: String,
}

impl<K: DeserializeOwned> Line<K> {
    /// Reads a line.
    ///
    /// # Errors
    /// When it is no event of a watch, or the object does not fit its type.
    pub(super) fn read(line: &str) -> Result<Self, serde_json::Error> {
        let Event { change, object } = serde_json::from_str(line)?;
        let object = object.get();
        Ok(match &*change {
            "ADDED" | "MODIFIED" => Self::Applied(serde_json::from_str(object)?),
            "DELETED" => Self::Deleted(serde_json::from_str(object)?),
            "BOOKMARK" => {
                let Bookmark { metadata } = serde_json::from_str(object)?;
                Self::Bookmark(metadata.resource_version)
            }
            "ERROR" => Self::Ended(serde_json::from_str(object)?),
            other => return Err(Error::custom(format_args!("unknown type of watch event: {other}"))),
        })
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::ResourceExt;
    use rstest::rstest;

    use super::*;

    fn read(line: &str) -> Result<Line<ConfigMap>, serde_json::Error> {
        Line::read(line)
    }

    #[rstest]
    #[case::added(r#"{"type":"ADDED","object":{"metadata":{"name":"a"}}}"#)]
    #[case::modified(r#"{"type":"MODIFIED","object":{"metadata":{"name":"a"}}}"#)]
    #[case::object_first(r#"{"object":{"metadata":{"name":"a"}},"type":"ADDED"}"#)]
    #[case::escaped(r#"{"type":"\u0041DDED","object":{"metadata":{"name":"a"}}, "more": 1}"#)]
    fn an_object_is_applied(#[case] line: &str) {
        assert!(matches!(read(line), Ok(Line::Applied(object)) if object.name_any() == "a"));
    }

    #[test]
    fn an_object_is_gone() {
        let line = read(r#"{"type":"DELETED","object":{"metadata":{"name":"a"}}}"#);
        assert!(matches!(line, Ok(Line::Deleted(object)) if object.name_any() == "a"));
    }

    #[test]
    fn a_bookmark_is_a_version() {
        let line = read(
            r#"{"type":"BOOKMARK","object":{"kind":"ConfigMap","metadata":{"resourceVersion":"7","annotations":{}}}}"#,
        );
        assert!(matches!(line, Ok(Line::Bookmark(version)) if version == "7"));
    }

    #[test]
    fn the_api_server_says_why_it_ends() {
        let line = read(
            r#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"old"}}"#,
        );
        assert!(matches!(line, Ok(Line::Ended(status)) if status.code == 410));
    }

    #[rstest]
    #[case::unknown(r#"{"type":"MOVED","object":{}}"#, "unknown type of watch event: MOVED")]
    #[case::no_object(r#"{"type":"ADDED"}"#, "missing field `object`")]
    #[case::other_shape(r#"{"type":"ADDED","object":{"data":7}}"#, "invalid type: integer `7`")]
    fn what_is_wrong_is_named(#[case] line: &str, #[case] expected: &str) {
        let error = read(line).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_line_that_was_cut_off_is_told_from_a_wrong_one() {
        assert!(read(r#"{"type":"ADDED","object":{"meta"#).unwrap_err().is_eof());
        assert!(!read(r#"{"type":"ADDED","object":{"data":7}}"#).unwrap_err().is_eof());
    }
}
