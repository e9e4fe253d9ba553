//! What the API server will not do, in words that tell the user what to change. Pure.

use dask_operator_api::Reason;
use kube::core::Status;
use thiserror::Error;

use super::error::Target;

/// Most causes of an invalid object that are named.
const MAX_CAUSES: usize = 3;

/// Most bytes of the API server's words: those of a webhook can be as long as it likes, and the cure behind them has to
/// fit into a condition, which holds 1,000 bytes.
const MOST_WORDS: usize = 700;

/// A refusal that only a person can lift. The message does not name the object, because its siblings are
/// refused for the same reason.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct Refusal {
    /// The reason, for condition, Event and metric.
    pub reason: Reason,
    /// What was refused, why, and the cure.
    pub message: String,
}

/// The refusal in a status, unless the status calls for another try or the namespace is being deleted.
pub(super) fn classify_refusal(target: &Target, status: &Status) -> Option<Refusal> {
    let message = status.message.as_str();
    // Webhooks and policies choose the code themselves; one that cannot be reached is a 500.
    if message.contains("admission webhook \"")
        || message.contains("failed calling webhook")
        || message.contains("ValidatingAdmissionPolicy")
    {
        let cure = "change what it objects to, or ask the administrator of the cluster";
        return Some(refused(Reason::AdmissionRefused, target, words(message), cure));
    }
    match status.code {
        401 => {
            let cure = "check the service account of the operator";
            Some(refused(Reason::Forbidden, target, "the operator's credentials were not accepted", cure))
        }
        403 if is_namespace_terminating(status) => None,
        403 => Some(forbidden(target, message)),
        400 | 405 | 406 | 413 | 415 | 422 => Some(invalid(target, status)),
        _ => None,
    }
}

fn is_namespace_terminating(status: &Status) -> bool {
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    causes.any(|cause| cause.reason == "NamespaceTerminating")
        || status.message.contains("it is being terminated")
}

fn forbidden(target: &Target, message: &str) -> Refusal {
    let namespace = &target.key.namespace;
    let reason = words(message);
    if let Some(quota) = reason.strip_prefix("exceeded quota: ") {
        return exceeded_quota(target, quota);
    }
    if reason.starts_with("failed quota: ") {
        let cure = "set the named requests or limits in the pod spec";
        return refused(Reason::QuotaExceeded, target, reason, cure);
    }
    if (reason.starts_with("User \"") && reason.contains(" cannot ")) || reason.contains("blockOwnerDeletion")
    {
        let cure = "grant this right to the operator, as its Helm chart does";
        return refused(Reason::Forbidden, target, reason, cure);
    }
    if reason.starts_with("violates PodSecurity") {
        let cure = format!(
            "set the named fields in the pod spec, or change the label pod-security.kubernetes.io/enforce of \
             namespace \"{namespace}\""
        );
        return refused(Reason::AdmissionRefused, target, reason, &cure);
    }
    if let Some((_, account)) = reason.split_once("error looking up service account ") {
        let account = account.split(':').next().unwrap_or(account);
        let cure = format!("create the service account {account}, or name another in the pod spec");
        return refused(Reason::AdmissionRefused, target, reason, &cure);
    }
    refused(Reason::AdmissionRefused, target, reason, "change what it objects to")
}

/// `exceeded quota: q, requested: pods=1, used: pods=3, limited: pods=3`, as
/// `k8s.io/apiserver/pkg/admission/plugin/resourcequota/controller.go` words it.
fn exceeded_quota(target: &Target, words: &str) -> Refusal {
    let parsed = words.split_once(", requested: ").and_then(|(name, rest)| {
        let (requested, rest) = rest.split_once(", used: ")?;
        let (used, limited) = rest.split_once(", limited: ")?;
        Some((name, requested, used, limited))
    });
    let message = match parsed {
        Some((name, requested, used, limited)) => format!(
            "ResourceQuota \"{name}\" in namespace \"{}\" leaves no room for a {}: requested {requested}, used {used}, \
             limited to {limited}; raise the quota or ask for less",
            target.key.namespace, target.kind
        ),
        None => {
            format!("a quota leaves no room for a {}: {words}; raise the quota or ask for less", target.kind)
        }
    };
    Refusal { reason: Reason::QuotaExceeded, message }
}

fn invalid(target: &Target, status: &Status) -> Refusal {
    let causes = status.details.as_ref().map_or(&[][..], |details| &details.causes);
    let named: Vec<String> =
        causes.iter().take(MAX_CAUSES).map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
    let what = if named.is_empty() { words(&status.message).to_owned() } else { named.join("; ") };
    let more = causes.len().saturating_sub(MAX_CAUSES);
    let what = if more > 0 { format!("{what}; and {more} more") } else { what };
    let about_metadata = !causes.is_empty() && causes.iter().all(|cause| cause.field.starts_with("metadata"));
    let (reason, cure) = match &*target.kind {
        "Pod" if about_metadata => (
            Reason::InvalidPod,
            "correct it in spec.worker.metadata, or in the labels and annotations of the DaskWorkerGroup or DaskCluster",
        ),
        "Pod" => (Reason::InvalidPod, "correct it in spec.worker.spec"),
        "Deployment" => (Reason::InvalidPod, "correct it in spec.scheduler.spec"),
        "Service" => (Reason::AdmissionRefused, "correct it in spec.scheduler.service"),
        _ => (Reason::AdmissionRefused, "correct it"),
    };
    refused(reason, target, &what, cure)
}

fn refused(reason: Reason, target: &Target, words: &str, cure: &str) -> Refusal {
    let words = words[..words.floor_char_boundary(MOST_WORDS)].trim_end_matches('.');
    Refusal {
        reason,
        message: format!("the API server refused to {} a {}: {words}; {cure}", target.verb, target.kind),
    }
}

/// The reason without the object's name before it, as in `pods "x" is forbidden: reason`.
fn words(message: &str) -> &str {
    let name_ends = |separator| message.split_once(separator).map(|(_, words)| words);
    name_ends(" is forbidden: ").or_else(|| name_ends(" is invalid: ")).unwrap_or(message)
}

#[cfg(test)]
#[path = "refusal_tests.rs"]
mod tests;
