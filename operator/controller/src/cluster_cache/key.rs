//! Name of a namespaced object.

use std::fmt;
use std::sync::Arc;

use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

/// Namespace and name of an object. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl ObjectKey {
    /// Key of the object with this name.
    #[must_use]
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// Key of this object.
    #[must_use]
    pub fn of(object: &impl ResourceExt) -> Self {
        Self::new(object.namespace().unwrap_or_default(), object.name_any())
    }

    /// Key of another object in the same namespace.
    #[must_use]
    pub fn sibling(&self, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: self.namespace.clone(), name: name.into() }
    }

    /// The Service and the Deployment of the scheduler, if this is a cluster: both have this name.
    #[must_use]
    pub fn scheduler(&self) -> Self {
        self.sibling(format!("{}-scheduler", self.name))
    }

    /// The default group, if this is a cluster.
    #[must_use]
    pub fn default_group(&self) -> Self {
        self.sibling(format!("{}-default", self.name))
    }

    /// The runner, if this is a job, or the cluster of one, which has the same name.
    #[must_use]
    pub fn runner(&self) -> Self {
        self.sibling(format!("{}-runner", self.name))
    }

    /// The job, if this has the name of a runner.
    #[must_use]
    pub fn job_of_runner(&self) -> Option<Self> {
        self.name.strip_suffix("-runner").map(|job| self.sibling(job))
    }

    /// The same key as the controller runtime spells it.
    #[must_use]
    pub fn object_ref<K: kube::Resource<DynamicType = ()>>(&self) -> ObjectRef<K> {
        ObjectRef::new(&self.name).within(&self.namespace)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
