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
        /// The Dask image, `DEMO_DASK_IMAGE`. `None`: the one that the example names.
        dask: Option<String>,
    },
}

impl Settings {
    /// Reads `DEMO_KUBECONFIG`, and with it `DEMO_OPERATOR_IMAGE` and `DEMO_DASK_IMAGE`. Empty is as good as unset.
    #[must_use]
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let Some(kubeconfig) = variable("DEMO_KUBECONFIG") else { return Self::Local };
        let operator = variable("DEMO_OPERATOR_IMAGE");
        Self::Existing {
            kubeconfig: kubeconfig.into(),
            operator: operator.map_or(Image::OfTheChart, |reference| Image::parse(&reference)),
            dask: variable("DEMO_DASK_IMAGE"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Settings {
        Settings::read(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn local_unless_a_kubeconfig_is_given() {
        assert_eq!(read(&[]), Settings::Local);
        assert_eq!(read(&[("DEMO_KUBECONFIG", "")]), Settings::Local);
        assert_eq!(read(&[("DEMO_DASK_IMAGE", "dask:1")]), Settings::Local);
    }

    #[test]
    fn images_default_to_those_of_chart_and_example() {
        let (kubeconfig, operator) = (PathBuf::from("/k"), Image::OfTheChart);
        assert_eq!(
            read(&[("DEMO_KUBECONFIG", "/k")]),
            Settings::Existing { kubeconfig, operator, dask: None }
        );
    }

    #[test]
    fn images_can_be_named() {
        let settings =
            read(&[("DEMO_KUBECONFIG", "/k"), ("DEMO_OPERATOR_IMAGE", "o:1"), ("DEMO_DASK_IMAGE", "d:2")]);
        let (kubeconfig, operator) = (PathBuf::from("/k"), Image::parse("o:1"));
        assert_eq!(settings, Settings::Existing { kubeconfig, operator, dask: Some("d:2".to_owned()) });
    }
}
