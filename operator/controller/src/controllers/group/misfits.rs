//! Workers that cannot start as they were made, while their replacements are made otherwise. Pure: no client, no clock.
//!
//! None of them ever ran, so nothing is lost with them, and they say nothing of the template: they are replaced at once.

use std::sync::Arc;

use dask_operator_api::Reason;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodSpec;

use super::removal::{Cause, Object, Removal};
use crate::cluster_cache::records::PodRecord;
use crate::cluster_cache::snapshot::GroupSnapshot;
use crate::controllers::cluster::modules::has_waited;
use crate::pods::form::PodForm;
use crate::pods::invocation::{Role, main_container};

/// Why a worker cannot start as it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// Its image lacks `dask-worker`; the next one runs the Python module.
    CommandMissing,
    /// The ConfigMap with the preload modules is gone and cannot be stored again; the next one does without.
    ModulesMissing,
}

/// A worker that cannot start as it was made.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct MisfitWorker {
    pub(super) pod: Arc<PodRecord>,
    misfit: Misfit,
}

/// The workers that cannot start as they were made, if those that are made now have another form.
pub(super) fn misfits(snapshot: &GroupSnapshot, form: PodForm, now: Timestamp) -> Vec<MisfitWorker> {
    let misfit = |pod: &PodRecord| {
        if form.lacking.is_some() && lacks_command(pod) {
            return Some(Misfit::CommandMissing);
        }
        let unmounted = pod.startup.modules && !snapshot.modules_stored && has_waited(pod, now);
        (pod.is_live() && unmounted).then_some(Misfit::ModulesMissing)
    };
    let workers = snapshot.members.workers.iter().filter(|pod| !pod.running);
    workers.filter_map(|pod| Some(MisfitWorker { misfit: misfit(pod)?, pod: pod.clone() })).collect()
}

/// Whether the worker ended, or cannot start, for a command that its replacement does without.
fn lacks_command(pod: &PodRecord) -> bool {
    use crate::cluster_cache::records::PodState::{Failed, Starting};
    let startup = &pod.startup;
    let stuck = matches!(pod.state, Starting | Failed) && !pod.running;
    stuck && startup.command_missing.is_some() && startup.module_command.is_none()
}

impl MisfitWorker {
    /// Its deletion, which fails if it has begun to run in the meantime.
    pub(super) fn removal(&self) -> Removal {
        Removal {
            object: Object::Pod,
            name: self.pod.name.to_string(),
            uid: self.pod.uid.to_string(),
            version: Some(self.pod.resource_version),
            cause: Cause::Misfit(self.misfit),
        }
    }
}

impl Misfit {
    /// Reason and message of the Event.
    pub(super) fn told(self, spec: &PodSpec, names: &str) -> (Reason, String) {
        let container = main_container(&spec.containers, Role::Worker);
        let image = container.and_then(|container| container.image.as_deref()).unwrap_or_default();
        match self {
            Self::CommandMissing => (
                Reason::CommandReplaced,
                format!(
                    "image \"{image}\" has no command `dask-worker`, which distributed dropped in 2026.6: workers are \
                     started by `python -m distributed.cli.dask_worker` instead (replaced: {names}); `dask worker` in \
                     the template does the same"
                ),
            ),
            Self::ModulesMissing => (
                Reason::WorkerReplaced,
                format!("replaced workers that could not mount the preload modules, which are gone: {names}"),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::cluster_cache::records::{PodState, Startup};
    use crate::controllers::group::testing::{at, record, snapshot};
    use crate::pods::form::Image;

    fn found(startup: Startup, state: PodState, running: bool, stored: bool) -> Option<Misfit> {
        let pod = PodRecord { running, startup, ..record(1, state) };
        let snapshot = GroupSnapshot { modules_stored: stored, ..snapshot(1, vec![Arc::new(pod)]) };
        let form = PodForm { lacking: Some(Image::new("dask")), ..PodForm::default() };
        let found = |form| misfits(&snapshot, form, at(100)).first().map(|worker| worker.misfit);
        assert_ne!(found(PodForm::default()), Some(Misfit::CommandMissing), "the next one would be the same");
        found(form)
    }

    #[rstest]
    #[case::waits(PodState::Starting, false, true)]
    #[case::ended(PodState::Failed, false, true)]
    #[case::runs(PodState::Starting, true, false)]
    #[case::goes(PodState::Terminating, false, false)]
    fn a_worker_without_its_command(#[case] state: PodState, #[case] running: bool, #[case] expected: bool) {
        let image = Some(Image::new("dask"));
        let script = Startup { command_missing: image, ..Startup::default() };
        assert_eq!(found(script, state, running, true), expected.then_some(Misfit::CommandMissing));
        let module = Startup { module_command: image, ..script };
        assert_eq!(
            found(module, state, running, true),
            None,
            "the module fails, too: that is the template's fault"
        );
    }

    #[rstest]
    #[case::patience(81, PodState::Starting, false, None)]
    #[case::long(80, PodState::Starting, false, Some(Misfit::ModulesMissing))]
    #[case::stored(80, PodState::Starting, true, None)]
    #[case::goes(80, PodState::Terminating, false, None)]
    fn a_worker_that_cannot_mount_its_modules(
        #[case] since: i64,
        #[case] state: PodState,
        #[case] stored: bool,
        #[case] expected: Option<Misfit>,
    ) {
        let startup = Startup { modules: true, waiting_since: Some(at(since)), ..Startup::default() };
        assert_eq!(found(startup, state, false, stored), expected);
        let bare = Startup { modules: false, ..startup };
        assert_eq!(found(bare, state, false, stored), None);
    }
}
