use super::*;

#[test]
fn releases_differ_in_packages_and_so_in_version() {
    let [twelve, thirteen] = Release::ALL;
    assert_ne!(twelve.version(), thirteen.version());
    assert!(thirteen.packages().ends_with(",docker.io,docker-cli") && !twelve.packages().contains("docker"));
    assert!(!PACKAGES.contains(' '), "{PACKAGES}");
}

#[test]
fn kernel_is_found_by_the_beginning_of_its_name() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("vmlinuz-6.1.0-50-cloud-amd64"), "").unwrap();
    assert!(only_file(dir.path(), "vmlinuz-").unwrap().ends_with("vmlinuz-6.1.0-50-cloud-amd64"));
    let error = only_file(dir.path(), "initrd.img-").unwrap_err().to_string();
    assert!(error.contains("find the kernel in"), "{error}");
}
