//! What the environment asks of the demo.

use std::path::PathBuf;

use crate::operator::Image;

/// Where the demo runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settings {
    /// On the local Kubernetes, with images of this source tree.
    Local,
    /// On a Kubernetes that is there already.
    Existing {
        /// Its kubeconfig.
        kubeconfig: PathBuf,
        /// The operator image, `DEMO_OPERATOR_IMAGE`.
        operator: Image,
        /// The Dask image, `DEMO_DASK_IMAGE`; it needs dask-kubernetes.
        dask: String,
    },
}

/// The Dask image is not named.
#[derive(Debug, thiserror::Error)]
#[error(
    "failed to read DEMO_DASK_IMAGE: with DEMO_KUBECONFIG it must name an image with Dask and dask-kubernetes"
)]
pub struct Missing;

impl Settings {
    /// Reads `DEMO_KUBECONFIG`, and with it `DEMO_OPERATOR_IMAGE` and `DEMO_DASK_IMAGE`. Empty is as good as unset.
    ///
    /// # Errors
    /// When there is a Kubernetes to use and no image for it.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Missing> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let Some(kubeconfig) = variable("DEMO_KUBECONFIG") else { return Ok(Self::Local) };
        let operator = variable("DEMO_OPERATOR_IMAGE");
        Ok(Self::Existing {
            kubeconfig: kubeconfig.into(),
            operator: operator.map_or(Image::OfTheChart, |reference| Image::parse(&reference)),
            dask: variable("DEMO_DASK_IMAGE").ok_or(Missing)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Settings, Missing> {
        Settings::read(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn local_unless_a_kubeconfig_is_given() {
        assert_eq!(read(&[]).unwrap(), Settings::Local);
        assert_eq!(read(&[("DEMO_KUBECONFIG", "")]).unwrap(), Settings::Local);
        assert_eq!(read(&[("DEMO_DASK_IMAGE", "dask:1")]).unwrap(), Settings::Local);
    }

    #[test]
    fn a_kubernetes_needs_an_image_with_dask() {
        assert!(read(&[("DEMO_KUBECONFIG", "/k")]).unwrap_err().to_string().contains("DEMO_DASK_IMAGE"));
        let (kubeconfig, operator) = (PathBuf::from("/k"), Image::OfTheChart);
        let settings = read(&[("DEMO_KUBECONFIG", "/k"), ("DEMO_DASK_IMAGE", "d:2")]).unwrap();
        assert_eq!(settings, Settings::Existing { kubeconfig, operator, dask: "d:2".to_owned() });
    }

    #[test]
    fn the_operator_can_be_named() {
        let settings =
            read(&[("DEMO_KUBECONFIG", "/k"), ("DEMO_OPERATOR_IMAGE", "o:1"), ("DEMO_DASK_IMAGE", "d:2")]);
        let (kubeconfig, operator) = (PathBuf::from("/k"), Image::parse("o:1"));
        let expected = Settings::Existing { kubeconfig, operator, dask: "d:2".to_owned() };
        assert_eq!(settings.unwrap(), expected);
    }
}
