//! In which form pods are made: what the operator adds to them, and which of their commands it replaces.

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::invocation::{self, Form, Role};
use super::telemetry::Telemetry;
use crate::digest;

/// The form in which pods of one role are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PodForm {
    /// Whether they get the preload modules.
    pub telemetry: Telemetry,
    /// The image that lacks `dask-scheduler` or `dask-worker`, so that the command is started as a Python module.
    pub lacking: Option<Image>,
}

/// An image, by a digest of its name: names are the tenant's and have no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Image(u64);

impl Image {
    /// The image of this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        // A digest is 16 hexadecimal digits.
        Self::from_annotation(&digest::of_text(name)).unwrap_or(Self(0))
    }

    /// As [`Self::to_annotation`] wrote it; `None` for anything else.
    #[must_use]
    pub fn from_annotation(value: &str) -> Option<Self> {
        let digits = value.len() == 16 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
        digits.then(|| u64::from_str_radix(value, 16).ok()).flatten().map(Self)
    }

    /// For the annotation `kubernetes.dask.org/module-command`.
    #[must_use]
    pub fn to_annotation(self) -> String {
        format!("{:016x}", self.0)
    }
}

/// The image whose command `dask-scheduler` or `dask-worker` a pod's Dask container runs; `None` if it runs anything else.
#[must_use]
pub fn image_of_script(pod: &PodSpec, role: Role) -> Option<Image> {
    let runs_script = |container: &&Container| {
        invocation::of(container, role).is_some_and(|found| found.form == Form::Script)
    };
    pod.containers
        .iter()
        .find(runs_script)
        .map(|container| Image::new(container.image.as_deref().unwrap_or_default()))
}

/// Starts the command as a module in the containers of this image.
pub fn use_module(pod: &mut PodSpec, role: Role, lacking: Image) {
    let of_image =
        |container: &&mut Container| Image::new(container.image.as_deref().unwrap_or_default()) == lacking;
    for container in pod.containers.iter_mut().filter(of_image) {
        invocation::use_module(container, role);
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn pod(args: &[&str], image: &str) -> PodSpec {
        serde_json::from_value(json!({"containers": [
            {"name": "proxy", "image": "proxy"}, {"name": "worker", "image": image, "args": args},
        ]}))
        .unwrap()
    }

    #[rstest]
    #[case(&["dask-worker"], Some(Image::new("dask:1")))]
    #[case(&["tini", "--", "prepare.sh", "dask-worker", "--name", "x"], Some(Image::new("dask:1")))]
    #[case(&["dask", "worker"], None)]
    #[case(&["dask-scheduler"], None)]
    #[case(&["sh", "-c", "dask-worker"], None)]
    fn only_the_old_commands_can_be_lacking(#[case] args: &[&str], #[case] expected: Option<Image>) {
        assert_eq!(image_of_script(&pod(args, "dask:1"), Role::Worker), expected);
    }

    #[test]
    fn only_the_image_that_lacks_it_gets_the_module() {
        let mut spec = pod(&["dask-worker", "--name", "x"], "dask:1");
        use_module(&mut spec, Role::Worker, Image::new("dask:2"));
        assert_eq!(spec, pod(&["dask-worker", "--name", "x"], "dask:1"));
        use_module(&mut spec, Role::Worker, Image::new("dask:1"));
        assert_eq!(spec, pod(&["python", "-m", "distributed.cli.dask_worker", "--name", "x"], "dask:1"));
    }

    #[rstest]
    #[case("")]
    #[case("0123456789abcde")]
    #[case("0123456789abcdefg")]
    #[case("+123456789abcdef")]
    #[case("é23456789abcdef")]
    fn what_a_tenant_wrote_into_the_annotation_is_no_image(#[case] value: &str) {
        assert_eq!(Image::from_annotation(value), None);
    }

    #[test]
    fn an_annotation_says_which_image_it_was() {
        let image = Image::new("ghcr.io/dask/dask:2026.8.0");
        assert_eq!(Image::from_annotation(&image.to_annotation()), Some(image));
    }
}
