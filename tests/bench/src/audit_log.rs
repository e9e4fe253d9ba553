//! When pods were created, by the API server's own log. A watch tells of them too, but on a machine whose cores are all
//! busy it is up to a second late.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::Deserialize;

/// One request that was answered.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answered {
    verb: String,
    object_ref: Option<ObjectReference>,
    response_status: Option<ResponseStatus>,
    stage_timestamp: Timestamp,
}

#[derive(Deserialize)]
struct ObjectReference {
    resource: String,
    namespace: Option<String>,
    subresource: Option<String>,
}

#[derive(Deserialize)]
struct ResponseStatus {
    code: u16,
}

impl Answered {
    fn created_pod(&self, namespace: &str) -> bool {
        let pod = self.object_ref.as_ref().is_some_and(|object| {
            object.resource == "pods"
                && object.subresource.is_none()
                && object.namespace.as_deref() == Some(namespace)
        });
        pod && self.verb == "create" && self.response_status.as_ref().is_some_and(|status| status.code == 201)
    }
}

/// When each pod of a namespace was there, in order: the creation was answered with success.
///
/// # Errors
/// When the log cannot be read.
pub fn creations(log: &Path, namespace: &str) -> Result<Vec<Timestamp>> {
    let file = File::open(log).with_context(|| format!("failed to read {}", log.display()))?;
    let mut times = Vec::new();
    for line in BufReader::new(file).lines() {
        // The last line may be half written.
        let Ok(answered) = serde_json::from_str::<Answered>(&line?) else { continue };
        if answered.created_pod(namespace) {
            times.push(answered.stage_timestamp);
        }
    }
    times.sort_unstable();
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(verb: &str, resource: &str, namespace: &str, code: u16, second: u8) -> String {
        let (resource, subresource) = match resource.split_once('/') {
            Some((resource, subresource)) => (resource, format!(r#","subresource":"{subresource}""#)),
            None => (resource, String::new()),
        };
        format!(
            r#"{{"kind":"Event","level":"Metadata","verb":"{verb}","stage":"ResponseComplete",
            "objectRef":{{"resource":"{resource}","namespace":"{namespace}"{subresource}}},
            "responseStatus":{{"metadata":{{}},"code":{code}}},
            "stageTimestamp":"2026-11-29T07:00:{second:02}.250000Z"}}"#
        )
        .replace('\n', "")
    }

    #[test]
    fn only_pods_of_the_namespace_that_were_created_count() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("audit.log");
        let lines = [
            line("create", "pods", "ns", 201, 3),
            line("create", "pods", "ns", 201, 2),
            line("create", "pods", "ns", 409, 4),
            line("create", "pods/binding", "ns", 201, 5),
            line("create", "pods", "other", 201, 6),
            line("create", "services", "ns", 201, 7),
            line("patch", "pods", "ns", 200, 8),
            r#"{"verb":"get","stageTimestamp":"2026-11-29T07:00:09Z"}"#.to_owned(),
            r#"{"verb":"cre"#.to_owned(),
        ];
        std::fs::write(&log, lines.join("\n")).unwrap();
        let times: Vec<_> = creations(&log, "ns").unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(times, ["2026-11-29T07:00:02.25Z", "2026-11-29T07:00:03.25Z"]);
        let error = creations(&folder.path().join("none"), "ns").unwrap_err().to_string();
        assert!(error.contains("none"), "{error}");
    }
}
