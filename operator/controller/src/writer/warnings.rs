//! The warnings that others tell of a pod. They are read, not watched: a namespace has thousands of Events.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use kube::core::ObjectList;

use super::client::{Writer, requests, target};
use super::error::WriteError;
use super::lanes::Lane;
use crate::cluster_cache::ObjectKey;

/// Warnings read of one pod. The kubelet counts what it says again in one Event, so a pod has few.
const MOST_WARNINGS: u32 = 20;
/// Bytes of a message that are kept.
const MOST_WORDS: usize = 2_000;

/// A warning about a pod, in the words of whoever told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarningEvent {
    /// One word, such as `FailedMount`.
    pub reason: String,
    /// Words.
    pub message: String,
    /// The container that it is about, if it is about one.
    pub container: Option<String>,
    /// When it was told last.
    pub time: Option<Timestamp>,
}

impl From<Event> for WarningEvent {
    fn from(event: Event) -> Self {
        let last = event.last_timestamp.map(|time| time.0);
        let series = event.series.and_then(|series| series.last_observed_time).map(|time| time.0);
        let cut = |mut words: String| {
            words.truncate(words.floor_char_boundary(MOST_WORDS));
            words
        };
        let field = event.involved_object.field_path.as_deref().and_then(container_of);
        Self {
            container: field.map(|name| cut(name.to_owned())),
            reason: cut(event.reason.unwrap_or_default()),
            message: cut(event.message.unwrap_or_default()),
            time: series.or(last).or_else(|| event.event_time.map(|time| time.0)),
        }
    }
}

/// `spec.containers{worker}` → `worker`.
fn container_of(field: &str) -> Option<&str> {
    field.strip_prefix("spec.containers{")?.strip_suffix('}')
}

impl Writer {
    /// The warnings about the pod with this name and UID; for rare cases only, as [`Self::get`].
    ///
    /// # Errors
    /// Any [`WriteError`].
    pub async fn warnings_of(&self, pod: &ObjectKey, uid: &str) -> Result<Vec<WarningEvent>, WriteError> {
        let fields = format!("involvedObject.uid={uid},type=Warning");
        let params = ListParams::default().fields(&fields).limit(MOST_WARNINGS);
        let request = || requests::<Event>(pod).list(&params);
        let list: ObjectList<Event> =
            self.call(target::<Event>("list", pod), Lane::Bulk, "list", request).await?;
        Ok(list.items.into_iter().map(WarningEvent::from).collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn warning(event: &Value) -> WarningEvent {
        let mut whole =
            json!({"metadata": {}, "involvedObject": {}, "reason": "FailedMount", "message": "no Secret"});
        whole.as_object_mut().unwrap().extend(event.as_object().unwrap().clone());
        WarningEvent::from(serde_json::from_value::<Event>(whole).unwrap())
    }

    #[test]
    fn the_time_is_the_last_of_a_series() {
        let time = |event: Value| warning(&event).time.map(|time| time.to_string());
        let (one, two) = ("2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z");
        assert_eq!(time(json!({"firstTimestamp": one, "lastTimestamp": two})).as_deref(), Some(two));
        let series = json!({"count": 2, "lastObservedTime": "2026-01-01T00:01:00.000000Z"});
        let event = json!({"eventTime": "2026-01-01T00:00:00.000000Z", "series": series});
        assert_eq!(time(event).as_deref(), Some(two));
        assert_eq!(time(json!({})), None);
    }

    #[test]
    fn a_warning_may_be_about_a_container() {
        let about = |field: &str| warning(&json!({"involvedObject": {"fieldPath": field}})).container;
        assert_eq!(about("spec.containers{dask}").as_deref(), Some("dask"));
        assert_eq!(about("spec.volumes{data}"), None);
    }

    #[test]
    fn long_words_are_cut() {
        let event = json!({"message": "é".repeat(100_000)});
        assert!(warning(&event).message.len() <= MOST_WORDS);
    }
}
