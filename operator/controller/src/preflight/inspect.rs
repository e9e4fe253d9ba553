//! Looking at the Kubernetes cluster for [`super::evaluate`].

use std::collections::BTreeSet;
use std::time::Duration;

use dask_operator_api::{GROUP, VERSION};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, Error, ResourceExt};
use serde::Deserialize;
use tokio::time::timeout;

use super::evaluate::{Denied, Missing, Observed, Preflight, Schema, evaluate};
use super::requirements::{EVENT_RIGHT, KINDS, RIGHTS, Right};
use crate::settings::NamespaceSelection;

/// Longest time of an inspection.
const LIMIT: Duration = Duration::from_secs(30);
/// Questions asked at a time.
const CONCURRENCY: usize = 8;
const NO_EVENTS: &str = "no Events will be seen on Dask resources; grant it, or set --events-enabled=false";

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// Only what needs no more than a few small reads: that everything is served and namespaces exist.
    Quick,
    /// The definitions' schemas and all rights too.
    Full,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Inspection {
    pub(super) preflight: Preflight,
    /// The namespaces to watch; `None` for all.
    pub(super) namespaces: Option<BTreeSet<String>>,
}

/// Looks at what the operator needs.
#[derive(Clone)]
pub(super) struct Inspector {
    pub(super) client: Client,
    pub(super) selection: NamespaceSelection,
    pub(super) events: bool,
}

/// A definition, as far as it is looked at.
#[derive(Deserialize)]
struct Definition {
    spec: DefinitionSpec,
}

#[derive(Deserialize)]
struct DefinitionSpec {
    versions: Vec<DefinitionVersion>,
}

#[derive(Deserialize)]
struct DefinitionVersion {
    name: String,
    schema: Option<Validation>,
}

#[derive(Deserialize)]
struct Validation {
    #[serde(rename = "openAPIV3Schema")]
    open_api_v3_schema: Option<Schema>,
}

impl Inspector {
    /// Looks, and says what is missing.
    ///
    /// # Errors
    /// What a person can do when the API server gives no answer.
    pub(super) async fn inspect(&self, depth: Depth) -> Result<Inspection, Missing> {
        let unreachable = |error: String| {
            Missing::new(
                format!("the API server does not answer ({error})"),
                "check that it runs and that the network lets the operator reach it",
            )
        };
        match timeout(LIMIT, self.look(depth)).await {
            Ok(Ok(inspection)) => Ok(inspection),
            Ok(Err(Error::Api(status))) => Err(unreachable(status.message.clone())),
            Ok(Err(error)) => Err(unreachable(error.to_string())),
            Err(_) => Err(unreachable(format!("nothing within {} s", LIMIT.as_secs()))),
        }
    }

    async fn look(&self, depth: Depth) -> Result<Inspection, Error> {
        let mut missing = Vec::new();
        let existing = match &self.selection {
            NamespaceSelection::Patterns(_) => allowed(self.namespaces().await)?,
            NamespaceSelection::All | NamespaceSelection::Names(_) => Some(BTreeSet::new()),
        };
        if existing.is_none() {
            missing.push(Missing::new(
                "no right to list namespaces, which the patterns of --namespace need",
                "grant it by a ClusterRole, or give the namespaces by name",
            ));
        }
        let namespaces = self.selection.resolve(&existing.unwrap_or_default());
        if missing.is_empty() && namespaces.as_ref().is_some_and(BTreeSet::is_empty) {
            missing.push(Missing::new(
                "no namespace matches the patterns of --namespace",
                "create one, or correct the patterns",
            ));
        }
        let mut observed = Observed { resources: self.resources().await?, ..Observed::default() };
        if let NamespaceSelection::Names(names) = &self.selection {
            observed.absent_namespaces = self.absent(names).await?;
        }
        if depth == Depth::Full {
            for kind in KINDS.iter().filter(|kind| !kind.fields.is_empty()) {
                if let Some(schema) = allowed(self.schema(kind.plural).await)?.flatten() {
                    observed.schemas.insert(kind.plural, schema);
                }
            }
            observed.denied = self.denied(&RIGHTS, namespaces.as_ref()).await?;
            if self.events {
                let denied = self.denied(&[EVENT_RIGHT], namespaces.as_ref()).await?;
                observed.denied_optional = denied.into_iter().map(|denied| (denied, NO_EVENTS)).collect();
            }
        }
        let mut preflight = evaluate(&observed);
        preflight.missing.extend(missing);
        Ok(Inspection { preflight, namespaces })
    }

    async fn namespaces(&self) -> Result<BTreeSet<String>, Error> {
        let namespaces =
            Api::<Namespace>::all(self.client.clone()).list_metadata(&ListParams::default()).await?;
        Ok(namespaces.iter().map(ResourceExt::name_any).collect())
    }

    /// Those of the names that are not there, as far as this process may know.
    async fn absent(&self, names: &BTreeSet<String>) -> Result<Vec<String>, Error> {
        let api = Api::<Namespace>::all(self.client.clone());
        let mut absent = Vec::new();
        for name in names {
            let found = allowed(api.get_metadata_opt(name).await)?;
            if matches!(found, Some(None)) {
                absent.push(name.clone());
            }
        }
        Ok(absent)
    }

    /// What is served of the group, subresources included.
    async fn resources(&self) -> Result<BTreeSet<String>, Error> {
        match self.client.list_api_group_resources(&format!("{GROUP}/{VERSION}")).await {
            Ok(list) => Ok(list.resources.into_iter().map(|resource| resource.name).collect()),
            // The answer is plain text, so it has no reason that could be asked for.
            Err(Error::Api(status)) if status.code == 404 => Ok(BTreeSet::new()),
            Err(error) => Err(error),
        }
    }

    /// Typed too narrowly for `Api`, on purpose: a whole definition takes megabytes in memory.
    async fn schema(&self, plural: &str) -> Result<Option<Schema>, Error> {
        let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.{GROUP}");
        let request = http::Request::get(path).body(Vec::new()).map_err(Error::HttpError)?;
        let definition: Definition = match self.client.request(request).await {
            Ok(definition) => definition,
            Err(Error::Api(status)) if status.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let version = definition.spec.versions.into_iter().find(|version| version.name == VERSION);
        Ok(version.and_then(|version| version.schema?.open_api_v3_schema))
    }

    /// Those of the rights that this process does not have, in all namespaces or in these.
    async fn denied(
        &self,
        rights: &[Right],
        namespaces: Option<&BTreeSet<String>>,
    ) -> Result<Vec<Denied>, Error> {
        let verbs = rights.iter().flat_map(|right| right.verbs.iter().map(move |verb| (*right, *verb)));
        let everywhere = verbs.map(|(right, verb)| Denied { right, verb, namespace: None }).collect();
        let denied = self.ask(everywhere).await?;
        let Some(namespaces) = namespaces else { return Ok(denied) };
        let each = namespaces.iter().flat_map(|name| {
            denied.iter().map(move |denied| Denied { namespace: Some(name.clone()), ..denied.clone() })
        });
        self.ask(each.collect()).await
    }

    async fn ask(&self, rights: Vec<Denied>) -> Result<Vec<Denied>, Error> {
        let answers =
            stream::iter(rights).map(|right| async { self.has(&right).await.map(|has| (right, has)) });
        let answers: Vec<(Denied, bool)> = answers.buffered(CONCURRENCY).try_collect().await?;
        Ok(answers.into_iter().filter(|(_, has)| !has).map(|(denied, _)| denied).collect())
    }

    async fn has(&self, asked: &Denied) -> Result<bool, Error> {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    group: some(asked.right.group),
                    resource: some(asked.right.resource),
                    subresource: some(asked.right.subresource),
                    verb: some(asked.verb),
                    namespace: asked.namespace.clone(),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let api = Api::<SelfSubjectAccessReview>::all(self.client.clone());
        let review = allowed(api.create(&PostParams::default(), &review).await)?;
        // Who may not even ask is taken to have the right; the call itself will tell.
        Ok(review.and_then(|review| review.status).is_none_or(|status| status.allowed))
    }
}

/// `None` if the API server refuses the call for want of a right.
fn allowed<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::Api(status)) if status.is_forbidden() => Ok(None),
        Err(error) => Err(error),
    }
}
