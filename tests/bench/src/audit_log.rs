//! When what was written, by the API server's own log. A watch tells of it too, but on a machine whose cores are all busy
//! it is up to a second late.

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
    user: Option<User>,
    object_ref: Option<ObjectReference>,
    response_status: Option<ResponseStatus>,
    request_received_timestamp: Option<Timestamp>,
    stage_timestamp: Timestamp,
}

#[derive(Deserialize)]
struct User {
    username: String,
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

/// A write that was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Who wrote.
    pub user: String,
    /// Verb and resource, such as `create pods` or `patch daskclusters/status`.
    pub what: String,
    /// When the API server got the request.
    pub received: Timestamp,
    /// When it had answered.
    pub answered: Timestamp,
}

impl Answered {
    /// What was written in the namespace, if anything was.
    fn write(self, namespace: &str) -> Option<Write> {
        let object = self.object_ref.filter(|object| object.namespace.as_deref() == Some(namespace))?;
        let done = self.response_status.is_some_and(|status| (200..300).contains(&status.code));
        let resource = match &object.subresource {
            Some(subresource) => format!("{}/{subresource}", object.resource),
            None => object.resource,
        };
        Some(Write {
            user: self.user?.username,
            what: format!("{} {resource}", self.verb),
            received: self.request_received_timestamp?,
            answered: self.stage_timestamp,
        })
        .filter(|_| done && ["create", "update", "patch", "delete"].contains(&self.verb.as_str()))
    }

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
    let created = |answered: Answered| answered.created_pod(namespace).then_some(answered.stage_timestamp);
    let mut times = read(log, created)?;
    times.sort_unstable();
    Ok(times)
}

/// All writes in a namespace that were carried out, in the order in which they were answered.
///
/// # Errors
/// When the log cannot be read.
pub fn writes(log: &Path, namespace: &str) -> Result<Vec<Write>> {
    let mut writes = read(log, |answered| answered.write(namespace))?;
    writes.sort_by_key(|write| write.answered);
    Ok(writes)
}

fn read<T>(log: &Path, pick: impl Fn(Answered) -> Option<T>) -> Result<Vec<T>> {
    let file = File::open(log).with_context(|| format!("failed to read {}", log.display()))?;
    let mut picked = Vec::new();
    for line in BufReader::new(file).lines() {
        // The last line may be half written.
        picked.extend(serde_json::from_str::<Answered>(&line?).ok().and_then(&pick));
    }
    Ok(picked)
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
            "user":{{"username":"someone"}},"requestReceivedTimestamp":"2026-11-29T07:00:{second:02}.000000Z",
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

    #[test]
    fn writes_that_were_carried_out_are_told_by_verb_and_resource() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("audit.log");
        let lines = [
            line("patch", "daskclusters/status", "ns", 200, 5),
            line("create", "services", "ns", 201, 4),
            line("create", "services", "ns", 409, 4),
            line("get", "services", "ns", 200, 4),
            line("create", "services", "other", 201, 4),
        ];
        std::fs::write(&log, lines.join("\n")).unwrap();
        let writes = writes(&log, "ns").unwrap();
        let whats: Vec<&str> = writes.iter().map(|write| write.what.as_str()).collect();
        assert_eq!(whats, ["create services", "patch daskclusters/status"]);
        assert_eq!(writes[0].user, "someone");
        assert_eq!(writes[0].answered.duration_since(writes[0].received).as_millis(), 250);
    }
}
