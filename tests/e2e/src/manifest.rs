//! Manifests as files, changed where the machine demands it.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("failed to read manifest {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },
    /// It is no YAML.
    #[error("failed to parse manifest {path}")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: Box<serde_saphyr::Error>,
    },
}

/// Reads a manifest with one object.
///
/// # Errors
/// When there is no such file, or it is no YAML.
pub fn read(path: &Path) -> Result<Value, Error> {
    let text =
        std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    serde_saphyr::from_str(&text)
        .map_err(|source| Error::Parse { path: path.to_owned(), source: Box::new(source) })
}

/// Where a DaskCluster has lists of containers.
const CONTAINERS: [&str; 4] = [
    "/spec/scheduler/spec/initContainers",
    "/spec/scheduler/spec/containers",
    "/spec/worker/spec/initContainers",
    "/spec/worker/spec/containers",
];

/// The manifest of a DaskCluster with another image in every container.
#[must_use]
pub fn with_image(mut cluster: Value, image: &str) -> Value {
    for list in CONTAINERS {
        let containers = cluster.pointer_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            container["image"] = json!(image);
            container["imagePullPolicy"] = json!("IfNotPresent");
        }
    }
    cluster
}

/// The images of a DaskCluster's containers, in the order of the manifest.
#[must_use]
pub fn images(cluster: &Value) -> Vec<&str> {
    let lists = CONTAINERS.iter().filter_map(|list| cluster.pointer(list)?.as_array());
    lists.flatten().filter_map(|container| container["image"].as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_container_gets_the_image_and_nothing_else_changes() {
        let pod = |image: &str| json!({"containers": [{"name": "a", "image": image, "imagePullPolicy": "IfNotPresent"}], "nodeName": "n"});
        let cluster = |image: &str| json!({"kind": "DaskCluster", "spec": {"scheduler": {"spec": pod(image)}, "worker": {"spec": pod(image)}}});
        assert_eq!(with_image(cluster("old"), "new:1"), cluster("new:1"));
        assert_eq!(images(&cluster("old")), ["old", "old"]);
    }

    #[test]
    fn init_containers_count_and_absent_parts_are_no_harm() {
        let changed =
            with_image(json!({"spec": {"worker": {"spec": {"initContainers": [{"name": "i"}]}}}}), "new:1");
        assert_eq!(changed["spec"]["worker"]["spec"]["initContainers"][0]["image"], "new:1");
    }

    #[test]
    fn the_example_of_the_demo_is_a_cluster_of_two() {
        let cluster = read(&testbed::workspace::root().join("examples/cluster.yaml")).unwrap();
        assert_eq!(cluster["kind"], "DaskCluster");
        assert_eq!(cluster["metadata"]["name"], "demo");
        assert_eq!(cluster["spec"]["worker"]["replicas"], 2);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read(Path::new("/no/such.yaml")).unwrap_err().to_string();
        assert!(error.contains("/no/such.yaml"), "{error}");
    }
}
