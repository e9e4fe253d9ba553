use kube::core::response::{StatusCause, StatusDetails};
use rstest::rstest;

use super::*;
use crate::cluster_cache::ObjectKey;

fn target(kind: &'static str) -> Target {
    Target { verb: "create", kind: kind.into(), key: ObjectKey::new("ns", "x") }
}

fn status(code: u16, message: &str) -> Status {
    Status::failure(message, "").with_code(code)
}

fn refusal(kind: &'static str, status: &Status) -> (Reason, String) {
    let refusal = classify_refusal(&target(kind), status).unwrap();
    (refusal.reason, refusal.message)
}

#[rstest]
#[case::quota(
    403,
    "pods \"x\" is forbidden: exceeded quota: workers, requested: limits.cpu=2,pods=1, used: limits.cpu=3,pods=3, \
     limited: limits.cpu=4,pods=3",
    Reason::QuotaExceeded,
    "ResourceQuota \"workers\" in namespace \"ns\" leaves no room for a Pod: requested limits.cpu=2,pods=1, used \
     limits.cpu=3,pods=3, limited to limits.cpu=4,pods=3; raise the quota or ask for less"
)]
#[case::quota_in_other_words(
    403,
    "pods \"x\" is forbidden: exceeded quota: workers, in some new way",
    Reason::QuotaExceeded,
    "a quota leaves no room for a Pod: workers, in some new way; raise the quota or ask for less"
)]
#[case::quota_wants_requests(
    403,
    "pods \"x\" is forbidden: failed quota: q: must specify limits.cpu for: worker",
    Reason::QuotaExceeded,
    "the API server refused to create a Pod: failed quota: q: must specify limits.cpu for: worker; set the named requests \
     or limits in the pod spec"
)]
#[case::rights(
    403,
    "pods is forbidden: User \"system:serviceaccount:dask:dask-operator\" cannot create resource \"pods\" in API group \
     \"\" in the namespace \"ns\"",
    Reason::Forbidden,
    "the API server refused to create a Pod: User \"system:serviceaccount:dask:dask-operator\" cannot create resource \
     \"pods\" in API group \"\" in the namespace \"ns\"; grant this right to the operator, as its Helm chart does"
)]
#[case::owner_rights(
    403,
    "pods \"x\" is forbidden: cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set \
     finalizers on: ",
    Reason::Forbidden,
    "the API server refused to create a Pod: cannot set blockOwnerDeletion if an ownerReference refers to a resource you \
     can't set finalizers on: ; grant this right to the operator, as its Helm chart does"
)]
#[case::credentials(
    401,
    "Unauthorized",
    Reason::Forbidden,
    "the API server refused to create a Pod: the operator's credentials were not accepted; check the service account of \
     the operator"
)]
#[case::pod_security(
    403,
    "pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\": runAsNonRoot != true",
    Reason::AdmissionRefused,
    "the API server refused to create a Pod: violates PodSecurity \"restricted:latest\": runAsNonRoot != true; set the \
     named fields in the pod spec, or change the label pod-security.kubernetes.io/enforce of namespace \"ns\""
)]
#[case::service_account(
    403,
    "pods \"x\" is forbidden: error looking up service account ns/dask: serviceaccount \"dask\" not found",
    Reason::AdmissionRefused,
    "the API server refused to create a Pod: error looking up service account ns/dask: serviceaccount \"dask\" not found; \
     create the service account ns/dask, or name another in the pod spec"
)]
#[case::limit_range(
    403,
    "pods \"x\" is forbidden: maximum cpu usage per Container is 1, but limit is 2",
    Reason::AdmissionRefused,
    "the API server refused to create a Pod: maximum cpu usage per Container is 1, but limit is 2; change what it objects \
     to"
)]
#[case::webhook(
    403,
    "admission webhook \"policy.example.org\" denied the request: no team label.",
    Reason::AdmissionRefused,
    "the API server refused to create a Pod: admission webhook \"policy.example.org\" denied the request: no team label; \
     change what it objects to, or ask the administrator of the cluster"
)]
#[case::webhook_with_its_own_code(
    400,
    "admission webhook \"p\" denied the request: no",
    Reason::AdmissionRefused,
    "the API server refused to create a Pod: admission webhook \"p\" denied the request: no; change what it objects to, or \
     ask the administrator of the cluster"
)]
#[case::webhook_down(
    500,
    "Internal error occurred: failed calling webhook \"p\": failed to call webhook: EOF",
    Reason::AdmissionRefused,
    "the API server refused to create a Pod: Internal error occurred: failed calling webhook \"p\": failed to call webhook: \
     EOF; change what it objects to, or ask the administrator of the cluster"
)]
#[case::policy(
    422,
    "pods \"x\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: needs a limit",
    Reason::AdmissionRefused,
    "the API server refused to create a Pod: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: needs a limit; \
     change what it objects to, or ask the administrator of the cluster"
)]
#[case::undecodable(
    400,
    "Pod in version \"v1\" cannot be handled as a Pod: unknown field",
    Reason::InvalidPod,
    "the API server refused to create a Pod: Pod in version \"v1\" cannot be handled as a Pod: unknown field; correct it in \
     spec.worker.spec"
)]
#[case::too_large(
    413,
    "Request entity too large: limit is 3145728",
    Reason::InvalidPod,
    "the API server refused to create a Pod: Request entity too large: limit is 3145728; correct it in spec.worker.spec"
)]
fn what_the_user_reads(
    #[case] code: u16,
    #[case] message: &str,
    #[case] expected_reason: Reason,
    #[case] expected_message: &str,
) {
    let (reason, text) = refusal("Pod", &status(code, message));
    assert_eq!(text, expected_message);
    assert_eq!(reason, expected_reason);
}

fn invalid_with(causes: &[(&str, &str)]) -> Status {
    let cause = |(field, message): &(&str, &str)| StatusCause {
        reason: "FieldValueInvalid".to_owned(),
        field: (*field).to_owned(),
        message: (*message).to_owned(),
    };
    let details: StatusDetails =
        serde_json::from_value(serde_json::json!({"kind": "Pod", "name": "x"})).unwrap();
    let details = StatusDetails { causes: causes.iter().map(cause).collect(), ..details };
    status(422, "Pod \"x\" is invalid: [all of it]").with_details(details)
}

#[test]
fn fields_and_values_of_an_invalid_pod_are_named() {
    let (reason, message) = refusal(
        "Pod",
        &invalid_with(&[("spec.containers[0].name", "Invalid value: \"A_B\": must be a DNS label")]),
    );
    assert_eq!(reason, Reason::InvalidPod);
    assert_eq!(
        message,
        "the API server refused to create a Pod: spec.containers[0].name: Invalid value: \"A_B\": must be a DNS label; \
         correct it in spec.worker.spec"
    );
}

#[test]
fn many_causes_are_counted() {
    let causes: Vec<_> = ["a", "b", "c", "d", "e"].map(|field| (field, "Required value")).into();
    let (_, message) = refusal("Pod", &invalid_with(&causes));
    assert!(message.contains("c: Required value; and 2 more; correct"), "{message}");
}

#[rstest]
#[case("Deployment", Reason::InvalidPod, "correct it in spec.scheduler.spec")]
#[case("Service", Reason::AdmissionRefused, "correct it in spec.scheduler.service")]
#[case("DaskWorkerGroup", Reason::AdmissionRefused, "correct it")]
fn the_cure_names_the_place_where_the_user_wrote_it(
    #[case] kind: &'static str,
    #[case] expected: Reason,
    #[case] cure: &str,
) {
    let (reason, message) = refusal(kind, &status(422, "it is invalid: bad port"));
    assert_eq!(reason, expected);
    assert!(message.ends_with(&format!("; {cure}")), "{message}");
}

#[rstest]
#[case::not_found(404, "namespaces \"ns\" not found")]
#[case::conflict(409, "the object has been modified")]
#[case::busy(429, "Too many requests, please try again later.")]
#[case::server_error(500, "Internal error occurred: etcdserver: request timed out")]
#[case::unavailable(503, "apiserver not ready")]
#[case::gateway(504, "Timeout: request did not complete within the allotted timeout")]
#[case::going_namespace(
    403,
    "pods \"x\" is forbidden: unable to create new content in namespace ns because it is being terminated"
)]
fn what_calls_for_another_try_is_no_refusal(#[case] code: u16, #[case] message: &str) {
    assert_eq!(classify_refusal(&target("Pod"), &status(code, message)), None);
}

#[test]
fn a_label_is_not_corrected_in_the_pod_spec() {
    let (reason, message) = refusal("Pod", &invalid_with(&[("metadata.labels", "Invalid value: \"a b\"")]));
    assert_eq!(reason, Reason::InvalidPod);
    let cure =
        "metadata.labels: Invalid value: \"a b\"; correct it in spec.worker.metadata, or in the labels";
    assert!(message.contains(cure), "{message}");
    let both = [("metadata.labels", "bad"), ("spec.containers", "bad")];
    assert!(refusal("Pod", &invalid_with(&both)).1.contains("correct it in spec.worker.spec"));
}

#[test]
fn a_webhook_that_talks_much_does_not_hide_the_cure() {
    let words = format!("admission webhook \"w\" denied the request: {}", "ä".repeat(100_000));
    let (_, message) = refusal("Pod", &status(403, &words));
    assert!(
        message.len() < 1_000 && message.ends_with("administrator of the cluster"),
        "{} bytes",
        message.len()
    );
}
