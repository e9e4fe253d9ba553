//! `dask-testbed`: the local Kubernetes from the command line.
#![expect(clippy::print_stdout, reason = "a command answers on standard output")]

use std::{
    error::Error,
    ffi::OsString,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{self, ExitCode},
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use testbed::{
    Cluster, ClusterConfig, chain, images, python, tools,
    vm::{self, Release},
};

/// A real Kubernetes on this machine.
#[derive(Debug, Parser)]
#[command(name = "dask-testbed", version)]
struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Bring a cluster up, or find it running
    Up(Up),
    /// Take a cluster down and remove everything it had on this machine
    Down {
        #[command(flatten)]
        cluster: Name,
        /// Every cluster of this checkout
        #[arg(long, conflicts_with = "name")]
        all: bool,
    },
    /// List the clusters of this checkout
    Status,
    /// Print the path of the administrator's kubeconfig
    Kubeconfig(Name),
    /// Run kubectl, of the cluster's own version, as administrator
    Kubectl {
        #[command(flatten)]
        cluster: Name,
        /// What kubectl is to do
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Import an OCI image archive on every node
    Load {
        #[command(flatten)]
        cluster: Name,
        /// Archive as `docker save` and `dask-testbed image` write it
        archive: PathBuf,
    },
    /// Break a node and mend it
    Node {
        #[command(flatten)]
        cluster: Name,
        /// What to do to it
        change: NodeChange,
        /// Which node, such as node1
        node: String,
    },
    /// Make an image archive and print its path
    #[command(subcommand)]
    Image(Image),
    /// The programs of the cluster
    #[command(subcommand)]
    Tools(Tools),
    /// Test the local Kubernetes in virtual machines with control groups of version 2
    Vm {
        /// A static `dask-operator`
        #[arg(long)]
        operator: PathBuf,
        /// Which releases; all of them if none is named
        #[arg(long = "release")]
        releases: Vec<Release>,
    },
    /// Run a Python program with Dask, in the versions of the Dask test image unless others are asked for
    Python {
        /// What else it needs, such as pytest or distributed==2024.12.0
        #[arg(long = "with", value_name = "REQUIREMENT")]
        requirements: Vec<String>,
        /// The program, or any option of Python, with its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        args: Vec<OsString>,
    },
}

#[derive(Debug, Args)]
struct Name {
    /// Name of the cluster
    #[arg(long, default_value = "dev")]
    name: String,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "one for each switch of the command line")]
struct Up {
    #[command(flatten)]
    cluster: Name,
    /// Nodes that run containers
    #[arg(long, default_value_t = 2)]
    nodes: u32,
    /// Only etcd and the API server; needs no root
    #[arg(long, conflicts_with = "nodes")]
    api_only: bool,
    /// With --api-only: also kube-controller-manager
    #[arg(long, requires = "api_only")]
    controller_manager: bool,
    /// Write the API server's audit log
    #[arg(long)]
    audit_log: bool,
    /// Requests per second of the controllers
    #[arg(long)]
    controller_qps: Option<u32>,
    /// Notice a dead node in seconds instead of a minute
    #[arg(long)]
    fast_node_failure: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum NodeChange {
    /// Power cut: everything on it dies
    Kill,
    /// Start it, or reset it
    Restart,
    /// Cut its network
    Partition,
    /// Mend its network
    Heal,
}

#[derive(Debug, Subcommand)]
enum Image {
    /// The Dask test image
    Dask {
        /// Names to give it instead of localhost/dask-test
        #[arg(long = "name")]
        names: Vec<String>,
    },
    /// The operator image, around this program
    Operator {
        /// A static or nearly static `dask-operator`
        program: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum Tools {
    /// Build every program that is missing
    Build,
    /// Print where a program is
    Path {
        /// Such as kubectl or helm
        program: String,
    },
}

impl Up {
    fn config(self) -> ClusterConfig {
        let base = if self.api_only {
            ClusterConfig::api_only(self.cluster.name)
        } else {
            ClusterConfig::with_nodes(self.cluster.name, self.nodes)
        };
        ClusterConfig {
            controller_manager: base.controller_manager || self.controller_manager,
            audit_log: self.audit_log,
            controller_qps: self.controller_qps,
            fast_node_failure: self.fast_node_failure,
            ..base
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .without_time()
        .with_level(false)
        .with_target(false)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    match run(Command::parse().action).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("error: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

async fn run(action: Action) -> Result<(), Box<dyn Error>> {
    match action {
        Action::Up(up) => {
            let cluster = Cluster::up(up.config()).await?;
            println!("export KUBECONFIG={}", cluster.kubeconfig_path().display());
        }
        Action::Down { cluster, all } => {
            let names = if all { testbed::names() } else { vec![cluster.name] };
            for name in names {
                testbed::down(&name).await?;
            }
        }
        Action::Kubeconfig(cluster) => {
            println!("{}", Cluster::attach(&cluster.name).await?.kubeconfig_path().display());
        }
        Action::Status => {
            for status in testbed::status() {
                println!("{status}");
            }
        }
        Action::Kubectl { cluster, args } => {
            let cluster = Cluster::attach(&cluster.name).await?;
            let mut kubectl = process::Command::new(tools::path("kubectl")?);
            // Returns only if kubectl could not take our place.
            return Err(kubectl.env("KUBECONFIG", cluster.kubeconfig_path()).args(args).exec().into());
        }
        Action::Load { cluster, archive } => {
            Cluster::attach(&cluster.name).await?.load_image(&archive).await?;
        }
        Action::Node { cluster, change, node } => {
            let cluster = Cluster::attach(&cluster.name).await?;
            match change {
                NodeChange::Kill => cluster.kill_node(&node).await?,
                NodeChange::Restart => cluster.restart_node(&node).await?,
                NodeChange::Partition => cluster.partition_node(&node).await?,
                NodeChange::Heal => cluster.heal_node(&node).await?,
            }
        }
        Action::Image(Image::Dask { names }) if names.is_empty() => println!("{}", images::dask()?.display()),
        Action::Image(Image::Dask { names }) => {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            println!("{}", images::dask_as(&names)?.display());
        }
        Action::Image(Image::Operator { program }) => println!("{}", images::operator(&program)?.display()),
        Action::Python { requirements, args } => {
            let requirements: Vec<&str> = requirements.iter().map(String::as_str).collect();
            let environment = python::environment(&requirements)?;
            // Returns only if Python could not take our place.
            return Err(process::Command::new(environment.join("bin/python")).args(args).exec().into());
        }
        Action::Vm { operator, releases } => {
            let releases = if releases.is_empty() { Release::ALL.to_vec() } else { releases };
            let mut failed = Vec::new();
            for release in releases {
                // The machine ends with the thread that started it: this one waits for it.
                if let Err(error) = vm::test(release, &operator) {
                    tracing::error!("{}", chain(&error));
                    failed.push(release.to_string());
                }
            }
            if !failed.is_empty() {
                return Err(format!("{} did not pass", failed.join(" and ")).into());
            }
        }
        Action::Tools(Tools::Build) => tools::build()?,
        Action::Tools(Tools::Path { program }) => println!("{}", tools::path(&program)?.display()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Action, clap::Error> {
        Command::try_parse_from(line.split(' ')).map(|command| command.action)
    }

    fn config(line: &str) -> ClusterConfig {
        match parse(line).unwrap() {
            Action::Up(up) => up.config(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn up_becomes_a_configuration() {
        assert_eq!(config("dask-testbed up"), ClusterConfig::with_nodes("dev", 2));
        let api = config("dask-testbed up --api-only --controller-manager --audit-log --name x");
        assert_eq!(api, ClusterConfig::api_only("x").with_controller_manager().with_audit_log());
        let quick = config("dask-testbed up --nodes 3 --fast-node-failure --controller-qps 100");
        let expected = ClusterConfig::with_nodes("dev", 3).with_fast_node_failure();
        assert_eq!(quick, expected.with_controller_qps(100));
    }

    #[test]
    fn releases_are_named_by_their_code_names() {
        match parse("dask-testbed vm --operator o --release trixie").unwrap() {
            Action::Vm { operator, releases } => {
                assert_eq!((operator, releases), (PathBuf::from("o"), vec![Release::Trixie]));
            }
            other => panic!("{other:?}"),
        }
        assert!(parse("dask-testbed vm --operator o --release woody").is_err());
    }

    #[test]
    fn contradictions_are_refused() {
        for line in [
            "up --api-only --nodes 2",
            "up --controller-manager",
            "down --all --name x",
            "node explode node1",
        ] {
            assert!(parse(&format!("dask-testbed {line}")).is_err(), "{line}");
        }
    }

    #[test]
    fn everything_after_its_name_is_kubectls() {
        match parse("dask-testbed kubectl --name x get pods -A -o wide").unwrap() {
            Action::Kubectl { cluster, args } => {
                assert_eq!(cluster.name, "x");
                assert_eq!(args, ["get", "pods", "-A", "-o", "wide"]);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn everything_after_its_requirements_is_pythons() {
        match parse("dask-testbed python --with pytest --with distributed==2024.12.0 -m pytest --with x")
            .unwrap()
        {
            Action::Python { requirements, args } => {
                assert_eq!(requirements, ["pytest", "distributed==2024.12.0"]);
                assert_eq!(args, ["-m", "pytest", "--with", "x"]);
            }
            other => panic!("{other:?}"),
        }
        assert!(parse("dask-testbed python").is_err());
    }
}
