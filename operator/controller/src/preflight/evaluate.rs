//! What is missing, from what was seen. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use dask_operator_api::{GROUP, VERSION};
use serde::Deserialize;

use super::requirements::{KINDS, Kind, Right};

/// The two ways to install the definitions.
const INSTALL_DEFINITIONS: &str = "run `helm upgrade --install dask-operator charts/dask-operator --set \
     crds.install=true` or `dask-operator crd | kubectl apply -f -`";

/// Something that the operator lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What.
    pub what: String,
    /// What a person can do about it.
    pub cure: String,
}

impl Missing {
    pub(super) fn new(what: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { what: what.into(), cure: cure.into() }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.cure)
    }
}

/// What the operator lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preflight {
    /// Without these it does not start.
    pub missing: Vec<Missing>,
    /// Without these it works, but less well.
    pub advice: Vec<Missing>,
}

impl Preflight {
    /// Whether the operator can work.
    #[must_use]
    pub fn is_fine(&self) -> bool {
        self.missing.is_empty()
    }
}

/// A right that the operator was found not to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Denied {
    pub(super) right: Right,
    pub(super) verb: &'static str,
    /// `None` for all namespaces.
    pub(super) namespace: Option<String>,
}

/// The properties of a definition's schema, as far as they are looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Schema {
    #[serde(default)]
    properties: BTreeMap<String, Self>,
    /// Whatever is not listed is kept as well.
    #[serde(default, rename = "x-kubernetes-preserve-unknown-fields")]
    open: bool,
}

impl Schema {
    /// Whether a value at this path, its parts joined by dots, is kept by the API server.
    fn keeps(&self, path: &str) -> bool {
        let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
        match self.properties.get(first) {
            Some(property) => rest.is_none_or(|rest| property.keeps(rest)),
            None => self.open,
        }
    }
}

/// What was seen of the Kubernetes cluster.
#[derive(Debug, Default)]
pub(super) struct Observed {
    /// Resources and subresources that are served, such as `daskclusters/status`.
    pub(super) resources: BTreeSet<String>,
    /// Schemas, as far as this process may read definitions.
    pub(super) schemas: BTreeMap<&'static str, Schema>,
    /// Rights that were denied.
    pub(super) denied: Vec<Denied>,
    /// Namespaces given by name that do not exist.
    pub(super) absent_namespaces: Vec<String>,
    /// Rights that were denied and that the operator can do without, with the consequence.
    pub(super) denied_optional: Vec<(Denied, &'static str)>,
}

/// What is missing.
pub(super) fn evaluate(observed: &Observed) -> Preflight {
    let definitions = KINDS.iter().filter_map(|kind| definition(kind, observed));
    let namespaces = observed.absent_namespaces.iter().map(|name| {
        Missing::new(
            format!("namespace {name}, given by --namespace, does not exist"),
            format!("run `kubectl create namespace {name}` or correct the argument"),
        )
    });
    let rights = grouped(observed.denied.iter()).into_iter().map(|(what, verbs, denied)| {
        let place = match &denied.namespace {
            Some(namespace) => format!("a Role in namespace {namespace}"),
            None => "a ClusterRole".to_owned(),
        };
        Missing::new(
            what,
            format!(
                "run `helm upgrade --install dask-operator charts/dask-operator` with rbac.create=true, or give the \
                 operator's service account {place} with the verbs [{verbs}] on {}",
                denied.right.name()
            ),
        )
    });
    let missing = definitions.chain(namespaces).chain(rights).collect();

    let optional = grouped(observed.denied_optional.iter().map(|(denied, _)| denied));
    let consequence = |denied: &Denied| {
        let found = observed.denied_optional.iter().find(|(other, _)| other == denied);
        found.map_or("", |(_, consequence)| consequence)
    };
    let advice =
        optional.into_iter().map(|(what, _, denied)| Missing::new(what, consequence(denied))).collect();
    Preflight { missing, advice }
}

fn definition(kind: &Kind, observed: &Observed) -> Option<Missing> {
    let name = format!("CustomResourceDefinition {}.{GROUP}", kind.plural);
    if !observed.resources.contains(kind.plural) {
        let what = format!("{name} is missing, or does not serve version {VERSION}");
        return Some(Missing::new(what, INSTALL_DEFINITIONS));
    }
    let served = |subresource: &&&str| observed.resources.contains(&format!("{}/{subresource}", kind.plural));
    let subresources: Vec<&str> = kind.subresources.iter().filter(|sub| !served(sub)).copied().collect();
    let schema = observed.schemas.get(kind.plural);
    let lost = |field: &&&str| schema.is_some_and(|schema| !schema.keeps(field));
    let fields: Vec<&str> = kind.fields.iter().filter(lost).copied().collect();
    let lacks = match (subresources.is_empty(), fields.is_empty()) {
        (true, true) => return None,
        (false, _) => format!("it has no {} subresource", subresources.join(" and no ")),
        (true, false) => format!("its schema lacks {}", fields.join(", ")),
    };
    Some(Missing::new(format!("{name} is older than this operator, {lacks}"), INSTALL_DEFINITIONS))
}

/// One line for each resource and namespace: what is missing, and the verbs.
fn grouped<'a>(denied: impl Iterator<Item = &'a Denied>) -> Vec<(String, String, &'a Denied)> {
    let mut groups: Vec<(&Denied, Vec<&str>)> = Vec::new();
    for one in denied {
        let same = |(other, _): &&mut (&Denied, Vec<&str>)| {
            other.right == one.right && other.namespace == one.namespace
        };
        match groups.iter_mut().find(same) {
            Some((_, verbs)) => verbs.push(one.verb),
            None => groups.push((one, vec![one.verb])),
        }
    }
    let line = |(denied, verbs): (&'a Denied, Vec<&str>)| {
        let verbs = verbs.join(", ");
        let place =
            denied.namespace.as_ref().map_or("all namespaces".to_owned(), |name| format!("namespace {name}"));
        (format!("no right to {verbs} {} in {place}", denied.right.name()), verbs, denied)
    };
    groups.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use dask_operator_api::crd;
    use serde_json::json;

    use super::*;
    use crate::preflight::requirements::{EVENT_RIGHT, RIGHTS};

    /// Schemas of our own definitions; deriving them takes seconds in a debug build.
    static OURS: LazyLock<BTreeMap<&'static str, Schema>> = LazyLock::new(|| {
        let crds = crd::all();
        let schema = |kind: &Kind| {
            let ours = crds.iter().find(|crd| crd.spec.names.plural == kind.plural).unwrap();
            let schema = serde_json::to_value(&ours.spec.versions[0].schema).unwrap();
            (kind.plural, serde_json::from_value(schema["openAPIV3Schema"].clone()).unwrap())
        };
        KINDS.iter().map(schema).collect()
    });

    fn everything() -> Observed {
        let mut observed = Observed { schemas: OURS.clone(), ..Observed::default() };
        for kind in &KINDS {
            observed.resources.insert(kind.plural.to_owned());
            observed.resources.extend(kind.subresources.iter().map(|sub| format!("{}/{sub}", kind.plural)));
        }
        observed
    }

    fn lines(observed: &Observed) -> Vec<String> {
        evaluate(observed).missing.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nothing_is_missing() {
        assert_eq!(evaluate(&everything()), Preflight::default());
        assert!(evaluate(&everything()).is_fine());
    }

    #[test]
    fn definitions_that_may_not_be_read_are_taken_as_good() {
        let observed = Observed { schemas: BTreeMap::new(), ..everything() };
        assert!(evaluate(&observed).is_fine());
    }

    #[test]
    fn a_missing_definition_is_named_with_the_command_that_installs_it() {
        let mut observed = everything();
        observed.resources.remove("daskclusters");
        let lines = lines(&observed);
        assert_eq!(lines.len(), 1);
        for words in [
            "CustomResourceDefinition daskclusters.kubernetes.dask.org is missing",
            "helm upgrade --install dask-operator charts/dask-operator --set crds.install=true",
            "dask-operator crd | kubectl apply",
        ] {
            assert!(lines[0].contains(words), "{words:?} is not in: {}", lines[0]);
        }
        assert_eq!(evaluate(&Observed::default()).missing.len(), 4, "without any definition");
    }

    #[test]
    fn the_definition_of_dask_kubernetes_is_too_old() {
        let mut observed = everything();
        observed.resources.remove("daskclusters/status");
        let lines = lines(&observed);
        assert_eq!(lines.len(), 1);
        let words =
            "daskclusters.kubernetes.dask.org is older than this operator, it has no status subresource";
        assert!(lines[0].contains(words), "{}", lines[0]);
    }

    #[test]
    fn fields_that_would_be_lost_are_named() {
        let mut observed = everything();
        let old =
            json!({"properties": {"spec": {"properties": {}}, "status": {"properties": {"phase": {}}}}});
        observed.schemas.insert("daskclusters", serde_json::from_value(old).unwrap());
        let lines = lines(&observed);
        assert!(
            lines[0].contains("its schema lacks spec.idleTimeout, spec.update, status.conditions"),
            "{}",
            lines[0]
        );
        assert!(!lines[0].contains("status.phase"), "{}", lines[0]);

        let open = json!({"properties": {
            "spec": {"properties": {"idleTimeout": {}, "update": {}}},
            "status": {"x-kubernetes-preserve-unknown-fields": true},
        }});
        observed.schemas.insert("daskclusters", serde_json::from_value(open).unwrap());
        assert!(evaluate(&observed).is_fine(), "nothing is lost");
    }

    fn denied(right: Right, verb: &'static str, namespace: Option<&str>) -> Denied {
        Denied { right, verb, namespace: namespace.map(ToOwned::to_owned) }
    }

    #[test]
    fn missing_rights_are_named_by_resource_and_place() {
        let [pods, services] = [RIGHTS[4], RIGHTS[5]];
        let observed = Observed {
            denied: vec![
                denied(pods, "create", None),
                denied(pods, "delete", None),
                denied(services, "patch", Some("team-a")),
                denied(services, "patch", Some("team-b")),
            ],
            ..everything()
        };
        let missing = evaluate(&observed).missing;
        let what: Vec<&str> = missing.iter().map(|missing| missing.what.as_str()).collect();
        assert_eq!(
            what,
            [
                "no right to create, delete pods in all namespaces",
                "no right to patch services in namespace team-a",
                "no right to patch services in namespace team-b",
            ]
        );
        assert!(missing[0].cure.contains("ClusterRole with the verbs [create, delete] on pods"));
        assert!(missing[1].cure.contains("Role in namespace team-a"));
    }

    #[test]
    fn what_the_operator_can_do_without_is_advice() {
        let observed = Observed {
            denied_optional: vec![(denied(EVENT_RIGHT, "create", None), "no Events are published")],
            ..everything()
        };
        let preflight = evaluate(&observed);
        assert!(preflight.is_fine());
        assert_eq!(
            preflight.advice[0].to_string(),
            "no right to create events.events.k8s.io in all namespaces: no Events are published"
        );
    }

    #[test]
    fn absent_namespaces_are_named() {
        let observed = Observed { absent_namespaces: vec!["team-z".to_owned()], ..everything() };
        assert_eq!(
            lines(&observed),
            [
                "namespace team-z, given by --namespace, does not exist: run `kubectl create namespace team-z` or \
              correct the argument"
            ]
        );
    }
}
