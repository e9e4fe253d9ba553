//! An Event as an object of `events.k8s.io/v1`.

use dask_operator_api::Reason;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event as KubernetesEvent;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::ObjectMeta;

use super::{Event, EventType};

/// Name of the operator in its Events.
const CONTROLLER: &str = "dask-operator";
/// Longest name of this replica that an Event takes, in bytes.
const LONGEST_INSTANCE: usize = 128;
/// Longest part of the object's name in the Event's, so that it stays within 253 bytes.
const LONGEST_OBJECT_NAME: usize = 200;

/// The object to create. Time and number make its name unique.
///
/// One object for each Event rather than a series of kube's `Recorder`, which keeps the first message for all
/// later ones of the same reason.
pub(super) fn event(
    object: &ObjectReference,
    event: &Event,
    reporter: &str,
    now: Timestamp,
    number: u64,
) -> KubernetesEvent {
    let name = object.name.as_deref().unwrap_or(CONTROLLER);
    let name = &name[..name.floor_char_boundary(LONGEST_OBJECT_NAME)];
    let reason: &str = Reason::into(event.reason);
    KubernetesEvent {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{:x}.{number:x}", now.as_nanosecond())),
            namespace: Some(object.namespace.clone().unwrap_or_else(|| "default".to_owned())),
            ..ObjectMeta::default()
        },
        action: Some(event.action.to_owned()),
        event_time: Some(MicroTime(now)),
        note: Some(event.message.clone()),
        reason: Some(reason.to_owned()),
        regarding: Some(object.clone()),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(reporter[..reporter.floor_char_boundary(LONGEST_INSTANCE)].to_owned()),
        type_: Some(
            match event.type_ {
                EventType::Normal => "Normal",
                EventType::Warning => "Warning",
            }
            .to_owned(),
        ),
        ..KubernetesEvent::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample() -> Event {
        Event {
            type_: EventType::Warning,
            reason: Reason::QuotaExceeded,
            action: "Reconcile",
            message: "no room".to_owned(),
        }
    }

    #[test]
    fn the_whole_object() {
        let object = ObjectReference {
            api_version: Some("kubernetes.dask.org/v1".to_owned()),
            kind: Some("DaskCluster".to_owned()),
            namespace: Some("team".to_owned()),
            name: Some("demo".to_owned()),
            uid: Some("u-1".to_owned()),
            ..ObjectReference::default()
        };
        let now = "2026-11-23T10:00:00.5Z".parse().unwrap();
        let event = serde_json::to_value(event(&object, &sample(), "operator-0", now, 255)).unwrap();
        assert_eq!(
            event,
            json!({
                "apiVersion": "events.k8s.io/v1",
                "kind": "Event",
                "metadata": {"name": format!("demo.{:x}.ff", now.as_nanosecond()), "namespace": "team"},
                "action": "Reconcile",
                "eventTime": "2026-11-23T10:00:00.500000Z",
                "note": "no room",
                "reason": "QuotaExceeded",
                "regarding": {
                    "apiVersion": "kubernetes.dask.org/v1", "kind": "DaskCluster", "namespace": "team",
                    "name": "demo", "uid": "u-1",
                },
                "reportingController": "dask-operator",
                "reportingInstance": "operator-0",
                "type": "Warning",
            })
        );
    }

    #[test]
    fn names_stay_within_the_limits() {
        let object = ObjectReference { name: Some("n".repeat(253)), ..ObjectReference::default() };
        let event = event(&object, &sample(), &"i".repeat(300), Timestamp::MAX, u64::MAX);
        assert!(event.metadata.name.unwrap().len() <= 253);
        assert_eq!(event.reporting_instance.unwrap().len(), 128);
    }
}
