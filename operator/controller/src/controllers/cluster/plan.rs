//! What is to be done for a cluster.

use std::time::Duration;

use dask_operator_api::DaskWorkerGroup;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use serde_json::Value;
use strum::{EnumCount, EnumIter, IntoEnumIterator};

use crate::controllers::Obstacle;

/// What a cluster consists of, in the order in which obstacles are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, EnumCount, EnumIter)]
pub enum Part {
    /// The cluster as a whole.
    Cluster,
    /// The scheduler's Service.
    Service,
    /// The ConfigMap that pods mount.
    ConfigMap,
    /// The scheduler's Deployment.
    Deployment,
    /// The default worker group.
    DefaultGroup,
}

/// What keeps the operator from making a part of a cluster, or from bringing it up to date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartObstacle {
    /// The part.
    pub part: Part,
    /// What is in the way.
    pub obstacle: Obstacle,
}

impl PartObstacle {
    /// This is in the way of that part.
    #[must_use]
    pub fn new(part: Part, obstacle: Obstacle) -> Self {
        Self { part, obstacle }
    }
}

/// The writes that bring a cluster nearer to its spec.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterPlan {
    /// The ConfigMap that pods mount is created, or brought up to date.
    pub config_map: Option<Box<ConfigMap>>,
    /// It was stored before, so it is looked for before it is created.
    pub was_stored: bool,
    /// The Service is created.
    pub service: Option<Box<Service>>,
    /// Merge patch of the existing Service.
    pub service_patch: Option<Value>,
    /// What is done to the Deployment.
    pub scheduler: SchedulerWrites,
    /// The same where the ConfigMap of this plan is refused and there is none: pods that mount it would not start.
    pub without_modules: SchedulerWrites,
    /// The default group is created.
    pub default_group: Option<Box<DaskWorkerGroup>>,
    /// Merge patch of the existing default group.
    pub default_group_patch: Option<Value>,
    /// What stands in the way of which part.
    pub obstacles: Vec<PartObstacle>,
    /// When to look again without being woken.
    pub requeue_after: Option<Duration>,
}

/// The writes of the scheduler's Deployment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SchedulerWrites {
    /// The Deployment is created.
    pub create: Option<Box<Deployment>>,
    /// Merge patch of the existing Deployment.
    pub patch: Option<Value>,
    /// The pod template of the existing Deployment is replaced, which restarts the scheduler.
    pub roll: Option<SchedulerRoll>,
}

impl SchedulerWrites {
    /// Whether nothing is to be written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.create.is_none() && self.patch.is_none() && self.roll.is_none()
    }

    /// The same without this annotation of the Deployment.
    #[must_use]
    pub fn without(mut self, annotation: &str) -> Self {
        let rolled = self.roll.as_mut().map(|roll| &mut roll.wanted);
        for deployment in self.create.as_mut().into_iter().chain(rolled) {
            if let Some(annotations) = &mut deployment.metadata.annotations {
                annotations.remove(annotation);
            }
        }
        let pointer = "/metadata/annotations";
        let annotations = self.patch.as_mut().and_then(|patch| patch.pointer_mut(pointer)?.as_object_mut());
        if let Some(annotations) = annotations
            && annotations.remove(annotation).is_some()
            && annotations.is_empty()
            && self.patch.as_ref().is_some_and(|patch| patch.get("spec").is_none())
        {
            self.patch = None;
        }
        self
    }
}

/// A scheduler that is made anew.
#[derive(Clone, Debug, PartialEq)]
pub struct SchedulerRoll {
    /// The Deployment as it would be created.
    pub wanted: Box<Deployment>,
    /// Why.
    pub cause: RollCause,
}

/// Why a scheduler is made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RollCause {
    /// Its template was edited.
    Edited,
    /// Its image lacks the command that the template runs.
    CommandMissing,
    /// Its modules cannot be mounted, so it never started.
    ModulesMissing,
}

impl ClusterPlan {
    /// Whether something is to be written to a part.
    #[must_use]
    pub fn writes(&self, part: Part) -> bool {
        match part {
            Part::Cluster => false,
            Part::Service => self.service.is_some() || self.service_patch.is_some(),
            Part::ConfigMap => self.config_map.is_some(),
            Part::Deployment => !self.scheduler.is_empty(),
            Part::DefaultGroup => self.default_group.is_some() || self.default_group_patch.is_some(),
        }
    }

    /// Leaves out the writes to a part, and those that need it.
    pub fn withhold(&mut self, part: Part) {
        match part {
            Part::Cluster => {}
            Part::Service => (self.service, self.service_patch) = (None, None),
            Part::ConfigMap => {
                // Without it pods are made without modules.
                self.config_map = None;
                self.scheduler = std::mem::take(&mut self.without_modules);
            }
            Part::Deployment => {
                (self.scheduler, self.without_modules) =
                    (SchedulerWrites::default(), SchedulerWrites::default());
            }
            Part::DefaultGroup => (self.default_group, self.default_group_patch) = (None, None),
        }
    }

    /// Whether nothing is to be written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        Part::iter().all(|part| !self.writes(part))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::nothing(None, None)]
    #[case::alone(Some(json!({"metadata": {"annotations": {"a": "1"}}})), None)]
    #[case::others_stay(Some(json!({"metadata": {"annotations": {"a": "1", "b": "2"}}})),
        Some(json!({"metadata": {"annotations": {"b": "2"}}})))]
    #[case::no_annotations(Some(json!({"spec": {"strategy": {}}})), Some(json!({"spec": {"strategy": {}}})))]
    fn an_annotation_is_left_out_and_no_other(#[case] patch: Option<Value>, #[case] expected: Option<Value>) {
        let writes = SchedulerWrites { patch, ..SchedulerWrites::default() }.without("a");
        assert_eq!(writes.patch, expected);
    }
}
