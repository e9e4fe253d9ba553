use std::{collections::BTreeMap, os::unix::fs::symlink};

use super::*;

/// All files of a tar archive, by path.
fn read(bytes: impl Read) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(bytes);
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        files.insert(entry.path().unwrap().display().to_string(), content);
    }
    files
}

fn example(dir: &Path) -> PathBuf {
    let mut layer = LayerBuilder::new(dir).unwrap();
    layer.file("bin/tool", 0o755, b"machine code").unwrap();
    let run =
        RunConfig { entrypoint: vec!["/bin/tool".into()], user: "65532".into(), ..RunConfig::default() };
    let out = dir.join("image.tar");
    write(&out, &["localhost/a:1", "example.org/b:2"], &run, vec![layer.finish().unwrap()]).unwrap();
    out
}

fn json_of(files: &BTreeMap<String, Vec<u8>>, path: &str) -> Value {
    serde_json::from_slice(&files[path]).unwrap()
}

fn blob<'a>(files: &'a BTreeMap<String, Vec<u8>>, descriptor: &Value) -> &'a [u8] {
    let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    &files[&blob_path(digest)]
}

#[test]
fn every_blob_is_what_its_descriptor_says() {
    let dir = tempfile::tempdir().unwrap();
    let files = read(File::open(example(dir.path())).unwrap());
    assert!(files.contains_key("oci-layout"));
    let index = json_of(&files, "index.json");
    let manifest: Value = serde_json::from_slice(blob(&files, &index["manifests"][0])).unwrap();
    let config: Value = serde_json::from_slice(blob(&files, &manifest["config"])).unwrap();
    let layer = blob(&files, &manifest["layers"][0]);
    for descriptor in [&index["manifests"][0], &manifest["config"], &manifest["layers"][0]] {
        let content = blob(&files, descriptor);
        assert_eq!(descriptor["digest"], format!("sha256:{}", digest(content)));
        assert_eq!(descriptor["size"], content.len());
    }
    assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
    assert_eq!(config["config"]["User"], "65532");
    assert_eq!(read(layer)["bin/tool"], b"machine code");
}

#[test]
fn every_name_points_to_the_same_manifest() {
    let dir = tempfile::tempdir().unwrap();
    let files = read(File::open(example(dir.path())).unwrap());
    let index = json_of(&files, "index.json");
    let manifests = index["manifests"].as_array().unwrap();
    let names: Vec<_> =
        manifests.iter().map(|entry| entry["annotations"]["io.containerd.image.name"].clone()).collect();
    assert_eq!(names, ["localhost/a:1", "example.org/b:2"]);
    assert_eq!(manifests[0]["digest"], manifests[1]["digest"]);
    assert_eq!(manifests[1]["annotations"]["org.opencontainers.image.ref.name"], "2");
}

#[test]
fn renaming_changes_the_index_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let original = example(dir.path());
    let renamed = dir.path().join("renamed.tar");
    rename(&original, &renamed, &["ghcr.io/dask/dask:latest"]).unwrap();
    let mut before = read(File::open(original).unwrap());
    let mut after = read(File::open(renamed).unwrap());
    let index: Value = serde_json::from_slice(&after.remove("index.json").unwrap()).unwrap();
    before.remove("index.json").unwrap();
    assert_eq!(before, after);
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(index["manifests"][0]["annotations"]["io.containerd.image.name"], "ghcr.io/dask/dask:latest");
}

#[test]
fn same_tree_gives_the_same_layer_wherever_it_lies() {
    let digest_of_tree = || {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("b")).unwrap();
        for name in ["b/two", "a", "skipped"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        symlink("a", dir.path().join("link")).unwrap();
        let mut layer = LayerBuilder::new(dir.path()).unwrap();
        layer.tree(dir.path(), &|path| path != Path::new("skipped")).unwrap();
        layer.finish().unwrap()
    };
    let (mut one, two) = (digest_of_tree(), digest_of_tree());
    assert_eq!(one.digest, two.digest);
    one.file.rewind().unwrap();
    let paths: Vec<_> = read(one.file).into_keys().collect();
    assert_eq!(paths, ["a", "b", "b/two", "link"]);
}

#[test]
fn failed_write_leaves_nothing_under_the_final_name() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("image.tar");
    let error = write_whole(&out, |_| Err(io::Error::other("disk full"))).unwrap_err();
    assert_eq!(error.to_string(), "disk full");
    assert!(!out.exists());
}

#[test]
fn names_and_digests_are_read_from_the_archive() {
    let dir = tempfile::tempdir().unwrap();
    let archive = example(dir.path());
    let index = json_of(&read(File::open(&archive).unwrap()), "index.json");
    let digest = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let expected = [("localhost/a:1".to_owned(), digest.clone()), ("example.org/b:2".to_owned(), digest)];
    assert_eq!(names(&archive).unwrap(), expected);
}
