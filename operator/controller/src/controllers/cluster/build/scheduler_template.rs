//! Replacing the pod template of a scheduler's Deployment.

use dask_operator_api::labels;
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};

use crate::writer::diff;

/// Annotations that tell of the template, so that they go with it.
const OF_TEMPLATE: [&str; 2] = [labels::TELEMETRY, labels::MODULE_COMMAND];

/// The merge patch that gives a live Deployment the pod template and annotations of another one, and nothing else.
///
/// What selects its pods stays, because it cannot be changed: labels that the selector asks for keep their values. The
/// patch fails if the Deployment has changed since it was read.
#[must_use]
pub fn template_patch(live: &Deployment, wanted: &Deployment) -> Value {
    let template = |deployment: &Deployment| json!(deployment.spec.as_ref().map(|spec| &spec.template));
    let mut new = template(wanted);
    let selector = live.spec.as_ref().and_then(|spec| spec.selector.match_labels.as_ref());
    for (key, value) in selector.into_iter().flatten() {
        new["metadata"]["labels"][key] = json!(value);
    }
    let mut annotations = json!(wanted.metadata.annotations);
    let old = live.metadata.annotations.iter().flatten().map(|(key, _)| key.as_str());
    for key in
        old.filter(|key| OF_TEMPLATE.contains(key) && annotations.get(key).is_none()).collect::<Vec<_>>()
    {
        annotations[key] = Value::Null;
    }
    let mut patch = json!({"metadata": {
        "resourceVersion": live.metadata.resource_version, "annotations": annotations,
    }});
    if let Some(change) = diff(&template(live), &new) {
        patch["spec"] = json!({"template": change});
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(value: Value) -> Deployment {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_template_changes_and_the_selector_stays() {
        let live = deployment(json!({
            "metadata": {"resourceVersion": "7", "annotations": {"deployment.kubernetes.io/revision": "1"}},
            "spec": {
                "selector": {"matchLabels": {"app": "s", "team": "old"}},
                "template": {
                    "metadata": {"labels": {"app": "s", "team": "old"}, "annotations": {"gone": "x"}},
                    "spec": {
                        "containers": [{"name": "s", "image": "old", "terminationMessagePath": "/dev/x"}],
                        "nodeSelector": {"a": "1"}, "dnsPolicy": "ClusterFirst",
                    },
                },
            },
        }));
        let wanted = deployment(json!({
            "metadata": {"annotations": {"kubernetes.dask.org/template-hash": "h"}},
            "spec": {
                "selector": {"matchLabels": {"app": "s", "team": "new", "more": "1"}},
                "template": {
                    "metadata": {"labels": {"app": "s", "team": "new", "more": "1"}},
                    "spec": {"containers": [{"name": "s", "image": "new"}], "nodeSelector": {"b": "2"}},
                },
            },
        }));
        assert_eq!(
            template_patch(&live, &wanted),
            json!({
                "metadata": {
                    "resourceVersion": "7", "annotations": {"kubernetes.dask.org/template-hash": "h"},
                },
                "spec": {"template": {
                    "metadata": {"labels": {"more": "1"}, "annotations": null},
                    "spec": {
                        "containers": [{"name": "s", "image": "new"}],
                        "nodeSelector": {"a": null, "b": "2"}, "dnsPolicy": null,
                    },
                }},
            })
        );
    }

    #[test]
    fn a_template_that_is_there_already_only_has_its_digest_written() {
        let live = deployment(json!({
            "metadata": {"resourceVersion": "7"},
            "spec": {"selector": {}, "template": {"spec": {"containers": []}}},
        }));
        assert_eq!(template_patch(&live, &live).get("spec"), None);
    }

    #[test]
    fn what_the_old_template_had_is_not_told_of_the_new_one() {
        let annotated = |annotations: Value| {
            deployment(json!({"metadata": {"annotations": annotations}, "spec": {
            "selector": {}, "template": {"spec": {"containers": []}}}}))
        };
        let live = annotated(json!({labels::TELEMETRY: "t", labels::MODULE_COMMAND: "i", "others": "x"}));
        let patch = template_patch(&live, &annotated(json!({labels::TELEMETRY: "t"})));
        let expected = json!({labels::TELEMETRY: "t", labels::MODULE_COMMAND: null});
        assert_eq!(patch["metadata"]["annotations"], expected);
    }
}
