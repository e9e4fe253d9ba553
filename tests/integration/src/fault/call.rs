//! One request, as RBAC and the tests see it.

use http::{Method, Uri};
use serde_json::Value;

/// One request to the API server.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Place among all requests of the client, from 1.
    pub number: usize,
    /// Place among the writes, from 1; `None` for reads, Events and Leases.
    pub write: Option<usize>,
    /// RBAC's verb.
    pub verb: &'static str,
    /// Path without host and query.
    pub path: String,
    /// What it is about; `None` for discovery and the like.
    pub resource: Option<Resource>,
    /// The body of a request that changes something.
    pub body: Value,
    /// The status code of the real answer.
    pub status: Option<u16>,
    /// Whether a fault was injected.
    pub spoiled: bool,
}

/// What a request is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// API group; empty for the core.
    pub group: String,
    /// Plural name.
    pub resource: String,
    /// Subresource, such as `status`.
    pub subresource: Option<String>,
    /// Namespace, unless it is about all or the kind has none.
    pub namespace: Option<String>,
    /// Name, unless it is about a list.
    pub name: Option<String>,
}

impl Resource {
    /// `resource` or `resource/subresource`.
    #[must_use]
    pub fn path(&self) -> String {
        match &self.subresource {
            Some(subresource) => format!("{}/{subresource}", self.resource),
            None => self.resource.clone(),
        }
    }

    /// Reads `/api/v1/...` and `/apis/group/version/...`.
    fn parse(path: &str) -> Option<Self> {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        let group = match parts.next()? {
            "api" => String::new(),
            "apis" => parts.next()?.to_owned(),
            _ => return None,
        };
        let _version = parts.next()?;
        let rest: Vec<&str> = parts.collect();
        let (namespace, rest) = match rest.as_slice() {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some((*namespace).to_owned()), rest),
            rest => (None, rest),
        };
        let (resource, rest) = rest.split_first()?;
        let owned = |part: &&str| (*part).to_owned();
        Some(Self {
            group,
            resource: (*resource).to_owned(),
            name: rest.first().map(owned),
            subresource: rest.get(1).map(owned),
            namespace,
        })
    }
}

impl Call {
    pub(super) fn of(method: &Method, uri: &Uri) -> Self {
        let resource = Resource::parse(uri.path());
        let named = resource.as_ref().is_some_and(|resource| resource.name.is_some());
        let watches = uri.query().is_some_and(|query| {
            query.split('&').any(|pair| matches!(pair, "watch" | "watch=true" | "watch=1"))
        });
        let verb = match *method {
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE if named => "delete",
            Method::DELETE => "deletecollection",
            _ if watches => "watch",
            _ if named => "get",
            _ => "list",
        };
        Self {
            number: 0,
            write: None,
            verb,
            path: uri.path().to_owned(),
            resource,
            body: Value::Null,
            status: None,
            spoiled: false,
        }
    }

    /// Whether it changes something.
    #[must_use]
    pub fn is_change(&self) -> bool {
        // A review is a question, asked by POST.
        let review = self.resource.as_ref().is_some_and(|resource| resource.group == "authorization.k8s.io");
        !["get", "list", "watch"].contains(&self.verb) && !review
    }

    /// Whether it changes something, other than an Event or a Lease.
    #[must_use]
    pub fn is_write(&self) -> bool {
        self.is_change() && !self.is_about("events") && !self.is_about("leases")
    }

    /// Whether it is about something in this namespace.
    #[must_use]
    pub fn is_in(&self, namespace: &str) -> bool {
        self.resource.as_ref().is_some_and(|resource| resource.namespace.as_deref() == Some(namespace))
    }

    /// Whether it is about this resource, or `resource/subresource`.
    #[must_use]
    pub fn is_about(&self, path: &str) -> bool {
        self.resource.as_ref().is_some_and(|resource| resource.path() == path)
    }
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.verb, self.path)?;
        if !self.body.is_null() {
            let body = self.body.to_string();
            write!(f, " {}", &body[..body.floor_char_boundary(400)])?;
        }
        Ok(())
    }
}

/// Requests that a message shows at most.
const SHOWN: usize = 8;

/// The requests, one a line, for messages.
#[must_use]
pub fn listed(calls: &[Call]) -> String {
    let mut lines: Vec<String> = calls.iter().take(SHOWN).map(Call::to_string).collect();
    if calls.len() > SHOWN {
        lines.push(format!("and {} more", calls.len() - SHOWN));
    }
    format!("\n  {}", lines.join("\n  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: &Method, uri: &str) -> Call {
        Call::of(method, &uri.parse().unwrap())
    }

    #[rstest::rstest]
    #[case(Method::GET, "/api/v1/namespaces/a/pods?limit=5", "list", "", "pods", false)]
    #[case(Method::GET, "/api/v1/pods?watch=true", "watch", "", "pods", false)]
    #[case(Method::GET, "/api/v1/namespaces/a", "get", "", "namespaces", false)]
    #[case(Method::POST, "/apis/apps/v1/namespaces/a/deployments", "create", "apps", "deployments", true)]
    #[case(Method::DELETE, "/api/v1/namespaces/a/pods/p", "delete", "", "pods", true)]
    #[case(Method::DELETE, "/api/v1/namespaces/a/pods", "deletecollection", "", "pods", true)]
    #[case(
        Method::PATCH,
        "/apis/kubernetes.dask.org/v1/namespaces/a/daskclusters/c/status",
        "patch",
        "kubernetes.dask.org",
        "daskclusters/status",
        true
    )]
    #[case(
        Method::POST,
        "/apis/events.k8s.io/v1/namespaces/a/events",
        "create",
        "events.k8s.io",
        "events",
        false
    )]
    #[case(
        Method::PUT,
        "/apis/coordination.k8s.io/v1/namespaces/a/leases/l",
        "update",
        "coordination.k8s.io",
        "leases",
        false
    )]
    fn requests_are_understood(
        #[case] method: Method,
        #[case] uri: &str,
        #[case] verb: &str,
        #[case] group: &str,
        #[case] path: &str,
        #[case] write: bool,
    ) {
        let call = call(&method, uri);
        let resource = call.resource.clone().unwrap();
        assert_eq!((call.verb, resource.group.as_str(), resource.path().as_str()), (verb, group, path));
        assert_eq!(call.is_write(), write);
    }

    #[test]
    fn discovery_is_about_no_resource() {
        assert_eq!(call(&Method::GET, "/version").resource, None);
        assert_eq!(call(&Method::GET, "/apis").resource, None);
        assert_eq!(call(&Method::GET, "/apis/kubernetes.dask.org/v1").resource, None);
    }
}
