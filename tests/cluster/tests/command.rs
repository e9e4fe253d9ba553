//! The command `dask-testbed`, each time in a data folder of its own.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use common::{eventually, processes};
use testbed::tools;

/// A data folder; its clusters are taken down when the test ends.
struct Data {
    dir: tempfile::TempDir,
}

impl Data {
    fn empty() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// With all programs, except those that are given instead as shell scripts.
    fn with_programs(replaced: &[(&str, &str)]) -> Self {
        let data = Self::empty();
        let real = tools::bin_dir();
        let bin = data.dir.path().join("bin").join(tools::version());
        fs::create_dir_all(&bin).unwrap();
        for program in fs::read_dir(&real).unwrap().map(|entry| entry.unwrap().path()) {
            let target = bin.join(program.file_name().unwrap());
            match replaced.iter().find(|(name, _)| target.ends_with(name)) {
                Some((_, script)) => {
                    fs::write(&target, format!("#!/bin/sh\n{script}\n")).unwrap();
                    fs::set_permissions(&target, fs::Permissions::from_mode(0o755)).unwrap();
                }
                None => symlink(program, target).unwrap(),
            }
        }
        data
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dask-testbed"));
        command.args(line.split_whitespace()).env("DASK_TESTBED_DIR", self.dir.path());
        command
    }

    fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// Standard output of a command that succeeds.
    fn ok(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(output.status.success(), "{line}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Standard error of a command that fails.
    fn refused(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(!output.status.success(), "{line} succeeded: {output:?}");
        stderr(&output)
    }

    fn state_dir(&self, cluster: &str) -> PathBuf {
        self.dir.path().join("clusters").join(cluster)
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        let output = self.run("down --all");
        assert!(output.status.success() || std::thread::panicking(), "{}", stderr(&output));
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Which process it is: number, start time and boot.
fn pid_of(state_dir: &Path, process: &str) -> String {
    fs::read_to_string(state_dir.join(format!("run/{process}.pid"))).unwrap()
}

#[test]
fn cluster_outlives_the_command_until_it_is_taken_down() {
    let data = Data::with_programs(&[]);
    let answer = data.ok("up --api-only --name one");
    let kubeconfig = answer.trim().strip_prefix("export KUBECONFIG=").unwrap().to_owned();
    assert_eq!(data.ok("kubeconfig --name one").trim(), kubeconfig);
    assert!(data.ok("kubectl --name one get namespaces -o name").contains("namespace/default"));
    assert!(data.ok("status").starts_with("one: ready, 2 processes, https://127.0.0.1:"));

    data.ok("up --api-only --name two");
    data.ok("down --name one");
    assert!(processes(&data.state_dir("one")).is_empty());
    assert!(!data.state_dir("one").exists());
    assert!(data.ok("status").starts_with("two: ready"), "the other one is left alone");
    assert!(data.refused("kubeconfig --name one").contains("dask-testbed up --name one"));

    data.ok("down --all");
    assert!(processes(&data.state_dir("two")).is_empty());
    assert_eq!(data.ok("status"), "");
    let left: Vec<_> = fs::read_dir(data.dir.path().join("clusters")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn data_folder_may_be_given_relative_to_the_current_one() {
    let data = Data::with_programs(&[]);
    let output = data
        .command("up --api-only --name near")
        .env("DASK_TESTBED_DIR", data.dir.path().file_name().unwrap())
        .current_dir(data.dir.path().parent().unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(data.ok("status").starts_with("near: ready"));
}

#[test]
fn same_name_in_two_checkouts_is_two_clusters() {
    let (here, there) = (Data::with_programs(&[]), Data::with_programs(&[]));
    for data in [&here, &there] {
        data.ok("up --api-only --name dev");
    }
    here.ok("kubectl --name dev create namespace only-here");
    assert!(there.refused("kubectl --name dev get namespace only-here").contains("not found"));
    here.ok("down --name dev");
    assert!(there.ok("status").starts_with("dev: ready"));
}

#[test]
fn two_commands_at_once_make_one_cluster() {
    let data = Data::with_programs(&[]);
    let start = || -> Child {
        let mut command = data.command("up --api-only --name shared");
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let outputs = [start(), start()].map(|child| child.wait_with_output().unwrap());
    for output in &outputs {
        assert!(output.status.success(), "{}", stderr(output));
    }
    assert_eq!(outputs[0].stdout, outputs[1].stdout);
    assert_eq!(processes(&data.state_dir("shared")).len(), 2, "etcd and kube-apiserver, once");
}

#[test]
fn missing_programs_are_named_with_the_cure() {
    let data = Data::empty();
    let error = data.refused("up --api-only");
    assert!(error.contains("etcd is not built") && error.contains("make tools"), "{error}");
    let error = data.refused("tools path helm");
    assert!(error.contains("helm is not built"), "{error}");
}

#[test]
fn failed_start_tells_why_stops_the_rest_and_keeps_the_logs() {
    let data = Data::with_programs(&[("kube-apiserver", "echo the disk is on fire; exit 1")]);
    let error = data.refused("up --api-only --name burnt");
    assert!(error.contains("kube-apiserver ended") && error.contains("the disk is on fire"), "{error}");
    let state_dir = data.state_dir("burnt");
    assert!(processes(&state_dir).is_empty(), "etcd was left running");
    assert!(fs::read_to_string(state_dir.join("log/kube-apiserver.log")).unwrap().contains("on fire"));
    assert!(data.ok("status").starts_with("burnt: broken"));
}

#[tokio::test]
async fn interrupted_start_is_cleaned_by_the_next() {
    // An API server that never becomes ready, as on a machine that hangs.
    let data = Data::with_programs(&[("kube-apiserver", "exec sleep 600")]);
    let mut up = data.command("up --api-only --name cut").stderr(Stdio::null()).spawn().unwrap();
    let state_dir = data.state_dir("cut");
    eventually("both processes", Duration::from_mins(1), || match processes(&state_dir).len() {
        2 => Ok(()),
        count => Err(count.to_string()),
    })
    .await;
    up.kill().unwrap();
    up.wait().unwrap();
    assert_eq!(processes(&state_dir).len(), 2, "they outlive the command");
    let first = pid_of(&state_dir, "etcd");

    let program = data.dir.path().join("bin").join(tools::version()).join("kube-apiserver");
    fs::remove_file(&program).unwrap();
    symlink(tools::path("kube-apiserver").unwrap(), &program).unwrap();
    data.ok("up --api-only --name cut");
    assert_ne!(pid_of(&state_dir, "etcd"), first);
    assert_eq!(processes(&state_dir).len(), 2, "those of the first start are gone");
}

#[test]
fn nodes_of_the_api_tier_are_refused() {
    let data = Data::with_programs(&[]);
    data.ok("up --api-only --name flat");
    let error = data.refused("node --name flat kill node1");
    assert!(error.contains("no nodes"), "{error}");
    let error = data.refused("load --name flat /no/such/archive.tar");
    assert!(error.contains("no nodes"), "{error}");
}
