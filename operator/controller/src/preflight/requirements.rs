//! What the operator needs: definitions, fields of them, and rights.

/// A definition without which the operator cannot work.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) plural: &'static str,
    /// Subresources that must be served.
    pub(super) subresources: &'static [&'static str],
    /// Fields that the operator reads or writes and that older definitions lack.
    pub(super) fields: &'static [&'static str],
}

/// The definitions, in the order in which they are named to a person.
pub(super) const KINDS: [Kind; 4] = [
    Kind {
        plural: "daskclusters",
        subresources: &["status", "scale"],
        fields: &[
            "spec.idleTimeout",
            "spec.update",
            "status.conditions",
            "status.groups",
            "status.observedGeneration",
            "status.phase",
            "status.ready",
            "status.readyReplicas",
            "status.replicas",
            "status.scheduler",
            "status.selector",
        ],
    },
    Kind {
        plural: "daskworkergroups",
        subresources: &["status", "scale"],
        fields: &[
            "status.conditions",
            "status.failures",
            "status.highestOrdinal",
            "status.observedGeneration",
            "status.readyReplicas",
            "status.replicas",
            "status.selector",
        ],
    },
    Kind {
        plural: "daskjobs",
        subresources: &["status"],
        fields: &[
            "spec.cluster.metadata",
            "status.clusterName",
            "status.endTime",
            "status.jobRunnerPodName",
            "status.jobStatus",
            "status.startTime",
        ],
    },
    Kind {
        plural: "daskautoscalers",
        subresources: &["status"],
        fields: &["status.conditions", "status.observedGeneration"],
    },
];

/// Verbs on a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Plural of the resource.
    pub resource: &'static str,
    /// Subresource; empty for the resource itself.
    pub subresource: &'static str,
    /// The verbs.
    pub verbs: &'static [&'static str],
}

impl Right {
    /// The resource as RBAC rules name it.
    #[must_use]
    pub fn name(&self) -> String {
        let subresource =
            if self.subresource.is_empty() { String::new() } else { format!("/{}", self.subresource) };
        let group = if self.group.is_empty() { String::new() } else { format!(".{}", self.group) };
        format!("{}{group}{subresource}", self.resource)
    }
}

const fn right(
    group: &'static str,
    resource: &'static str,
    subresource: &'static str,
    verbs: &'static [&'static str],
) -> Right {
    Right { group, resource, subresource, verbs }
}

const DASK: &str = dask_operator_api::GROUP;

/// The rights that the operator needs in every namespace that it watches.
pub const RIGHTS: [Right; 12] = [
    right(DASK, "daskclusters", "", &["list", "watch", "create", "patch", "delete"]),
    right(DASK, "daskclusters", "status", &["patch"]),
    right(DASK, "daskworkergroups", "", &["list", "watch", "create", "patch"]),
    right(DASK, "daskworkergroups", "status", &["patch"]),
    right("", "pods", "", &["get", "list", "watch", "create", "patch", "delete"]),
    right("", "services", "", &["get", "list", "watch", "create", "patch"]),
    right("apps", "deployments", "", &["get", "list", "watch", "create", "patch", "delete"]),
    right("", "configmaps", "", &["get", "create", "patch"]),
    right(DASK, "daskjobs", "", &["list", "watch", "patch"]),
    right(DASK, "daskjobs", "status", &["patch"]),
    right(DASK, "daskautoscalers", "", &["list", "watch", "patch"]),
    right(DASK, "daskautoscalers", "status", &["patch"]),
];

/// The right to publish Events, without which the operator works silently.
pub const EVENT_RIGHT: Right = right("events.k8s.io", "events", "", &["create"]);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use dask_operator_api::crd;

    use super::*;

    #[test]
    fn the_four_kinds_are_those_of_the_api() {
        let ours: BTreeSet<String> = crd::all().into_iter().map(|crd| crd.spec.names.plural).collect();
        assert_eq!(ours, KINDS.iter().map(|kind| kind.plural.to_owned()).collect());
    }

    /// A field that is added to a status and not here would be lost silently under an older definition.
    #[test]
    fn every_field_of_our_statuses_is_needed() {
        for crd in crd::all() {
            let kind = KINDS.iter().find(|kind| kind.plural == crd.spec.names.plural).unwrap();
            let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
            let status = schema.properties.as_ref().unwrap().get("status");
            let fields = status.and_then(|status| status.properties.as_ref());
            let wanted: BTreeSet<String> =
                fields.into_iter().flatten().map(|(field, _)| format!("status.{field}")).collect();
            let listed: BTreeSet<String> = kind.fields.iter().map(|field| (*field).to_owned()).collect();
            if !listed.is_empty() {
                assert_eq!(
                    listed.difference(&wanted).filter(|f| f.starts_with("status.")).count(),
                    0,
                    "{kind:?}"
                );
                assert_eq!(wanted.difference(&listed).collect::<Vec<_>>(), Vec::<&String>::new(), "{kind:?}");
            }
            let subresources = crd.spec.versions[0].subresources.as_ref();
            let has = |name: &str| match name {
                "status" => subresources.is_some_and(|sub| sub.status.is_some()),
                "scale" => subresources.is_some_and(|sub| sub.scale.is_some()),
                _ => false,
            };
            assert!(kind.subresources.iter().all(|name| has(name)), "{kind:?}");
        }
    }

    #[test]
    fn rights_are_named_as_in_rules() {
        assert_eq!(RIGHTS[1].name(), "daskclusters.kubernetes.dask.org/status");
        assert_eq!(RIGHTS[4].name(), "pods");
    }
}
