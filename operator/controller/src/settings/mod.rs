//! The command line and its environment variables, in one typed struct.
//!
//! Arguments of kopf, which ran the operator of dask-kubernetes, are accepted, so that the binary can be swapped
//! into an existing deployment; those without a meaning here are named in a warning.

mod cli;
mod identity;
mod logging;
mod namespaces;
mod probe_server;
mod scheduler_access;
mod worker_allocation;

use std::ffi::OsString;
use std::time::Duration;

use clap::{ArgAction, Args};

pub use cli::{Cli, Command};
pub use logging::{EventLevel, LogFormat};
pub use namespaces::{NamespaceSelection, NamespaceSelector};
pub use probe_server::ProbeServer;
pub use scheduler_access::SchedulerAccess;

use crate::controllers::group::WorkerAllocation;
use crate::pods::telemetry::Telemetry;

/// Settings of `dask-operator run`. [`Settings::from_arguments`] makes one from arguments alone.
#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct Settings {
    /// Watch all namespaces (the default without --namespace)
    #[arg(short = 'A', long, conflicts_with = "namespaces")]
    pub all_namespaces: bool,
    /// Namespace to watch; repeatable. Patterns as `team-*,!team-test` are matched with the namespaces that exist
    /// at the start, which needs the right to list namespaces
    #[arg(short = 'n', long = "namespace", value_name = "NAME", value_delimiter = ',')]
    pub namespaces: Vec<NamespaceSelector>,

    /// Address of the server for probes and metrics, and the path of its health probe; `none` for no server
    #[arg(short = 'L', long, value_name = "URL", default_value = "http://0.0.0.0:8080/healthz")]
    pub liveness: ProbeServer,

    /// Let a Lease decide which replica writes; without it, run one replica only [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub leader_elect: Option<bool>,
    /// Name of the Lease
    #[arg(long, value_name = "NAME", default_value = "dask-operator")]
    pub lease_name: String,
    /// Namespace of the Lease [default: that of the pod]
    #[arg(long, value_name = "NAME", env = "POD_NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// Name of this replica in the Lease and in Events; must differ between replicas [default: host name and a
    /// random number]
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pub identity: Option<String>,

    /// Workers of a group created at once [default: as many as the API server takes]
    #[arg(
        long,
        value_name = "NUMBER",
        env = "DASK_KUBERNETES__CONTROLLER__WORKER_ALLOCATION__BATCH_SIZE",
        value_parser = worker_allocation::batch_size
    )]
    pub worker_batch_size: Option<worker_allocation::BatchSize>,
    /// Seconds between two such batches
    #[arg(
        long,
        value_name = "SECONDS",
        env = "DASK_KUBERNETES__CONTROLLER__WORKER_ALLOCATION__DELAY",
        default_value = "0",
        value_parser = worker_allocation::delay
    )]
    pub worker_batch_delay: Duration,

    /// Mount modules into the pods of clusters that make schedulers cheap to ask and let workers drain at SIGTERM
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value = "true",
        default_missing_value = "true",
        value_parser = logging::boolean,
        action = ArgAction::Set
    )]
    pub telemetry: bool,

    /// Publish Events
    #[arg(
        long,
        value_name = "BOOL",
        env = "DASK_KUBERNETES__CONTROLLER__EVENTS__ENABLED",
        num_args = 0..=1,
        require_equals = true,
        default_value = "true",
        default_missing_value = "true",
        value_parser = logging::boolean,
        action = ArgAction::Set
    )]
    pub events_enabled: bool,
    /// Least severity of Events: a level of Python's logging, by name or number; WARNING and above leave out
    /// Events of type Normal
    #[arg(
        long,
        value_name = "LEVEL",
        env = "DASK_KUBERNETES__CONTROLLER__EVENTS__LEVEL",
        default_value = "INFO"
    )]
    pub events_level: EventLevel,
    /// Calls to the API server that may be under way at once
    #[arg(long, value_name = "NUMBER", default_value = "32", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub max_in_flight: u16,

    /// How schedulers are reached: `direct`, by the address of their pod or Service; `port-forward`, through the API
    /// server; or `auto`, which is direct for an operator that runs in the cluster
    #[arg(
        long,
        value_name = "HOW",
        env = "DASK_OPERATOR_SCHEDULER_ACCESS",
        value_enum,
        default_value = "auto"
    )]
    pub scheduler_access: SchedulerAccess,

    /// Threads that do the work
    #[arg(
        long,
        value_name = "NUMBER",
        env = "TOKIO_WORKER_THREADS",
        default_value = "2",
        value_parser = clap::value_parser!(u16).range(1..=64)
    )]
    pub threads: u16,

    /// Log filter, as `info` or `info,dask_operator=debug`; `PUT /log-level` changes it while running
    #[arg(long, value_name = "FILTER", env = "RUST_LOG", value_parser = logging::filter)]
    pub log_level: Option<String>,
    /// Log the operator's own debug messages
    #[arg(short, long)]
    pub verbose: bool,
    /// Log debug messages of libraries too
    #[arg(short, long)]
    pub debug: bool,
    /// Log warnings and errors only
    #[arg(short, long)]
    pub quiet: bool,
    /// `text` or `json`; kopf's `plain`, `full` and templates mean `text`
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,

    /// Arguments of kopf that need no counterpart.
    #[command(flatten)]
    pub kopf: KopfArguments,
}

/// Arguments of `kopf run` that are accepted and have no effect, but for `--standalone`.
#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct KopfArguments {
    /// Run without leader election, unless --leader-elect is given
    #[arg(long, help_heading = "Accepted from kopf")]
    pub standalone: bool,
    /// Ignored
    #[arg(long, help_heading = "Accepted from kopf")]
    pub dev: bool,
    /// Ignored: a Lease replaces peering
    #[arg(short = 'P', long, value_name = "NAME", help_heading = "Accepted from kopf")]
    pub peering: Option<String>,
    /// Ignored: a Lease replaces peering
    #[arg(
        short,
        long,
        value_name = "NUMBER",
        allow_negative_numbers = true,
        help_heading = "Accepted from kopf"
    )]
    pub priority: Option<i64>,
    /// Ignored: there are no Python modules to load
    #[arg(short, long = "module", value_name = "MODULE", help_heading = "Accepted from kopf")]
    pub modules: Vec<String>,
    /// Ignored
    #[arg(long, help_heading = "Accepted from kopf")]
    pub log_prefix: bool,
    /// Ignored
    #[arg(long, help_heading = "Accepted from kopf")]
    pub no_log_prefix: bool,
    /// Ignored
    #[arg(long, value_name = "KEY", help_heading = "Accepted from kopf")]
    pub log_refkey: Option<String>,
    /// Ignored: there are no Python files to load
    #[arg(value_name = "FILE", help_heading = "Accepted from kopf")]
    pub files: Vec<String>,
}

impl Settings {
    /// The settings of `dask-operator run` with these arguments; what they leave open comes from the environment.
    ///
    /// # Errors
    /// When an argument or variable is not understood; the text names it, its value and the cure.
    pub fn from_arguments<I>(arguments: I) -> Result<Self, clap::Error>
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        cli::settings(arguments)
    }

    /// Whether a Lease decides who writes.
    #[must_use]
    pub fn leader_election(&self) -> bool {
        self.leader_elect.unwrap_or(!self.kopf.standalone)
    }

    /// The namespace for the Lease: as given, or that of the pod.
    #[must_use]
    pub fn lease_namespace(&self) -> Option<String> {
        identity::lease_namespace(self.lease_namespace.as_deref())
    }

    /// The name of this replica. Without a given one it differs from call to call.
    #[must_use]
    pub fn identity(&self) -> String {
        self.identity.clone().filter(|name| !name.is_empty()).unwrap_or_else(identity::random)
    }

    /// How fast workers may be created.
    #[must_use]
    pub fn worker_allocation(&self) -> WorkerAllocation {
        WorkerAllocation {
            batch_size: self.worker_batch_size.and_then(|size| size.0),
            delay: self.worker_batch_delay,
        }
    }

    /// Whether pods get the preload modules.
    #[must_use]
    pub fn telemetry(&self) -> Telemetry {
        Telemetry::new(self.telemetry)
    }

    /// Which namespaces to watch.
    #[must_use]
    pub fn namespaces(&self) -> NamespaceSelection {
        NamespaceSelection::new(&self.namespaces)
    }

    /// The log filter to start with.
    #[must_use]
    pub fn log_filter(&self) -> &str {
        match self {
            Self { log_level: Some(filter), .. } if !filter.is_empty() => filter,
            Self { debug: true, .. } => "debug",
            Self { verbose: true, .. } => "info,dask_operator=debug",
            Self { quiet: true, .. } => "warn",
            _ => "info",
        }
    }

    /// What of the arguments has no effect here, in words for a person.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let kopf = &self.kopf;
        let ignored: Vec<&str> = [
            (kopf.dev, "--dev"),
            (kopf.peering.is_some(), "--peering"),
            (kopf.priority.is_some(), "--priority"),
            (!kopf.modules.is_empty(), "--module"),
            (kopf.log_prefix, "--log-prefix"),
            (kopf.no_log_prefix, "--no-log-prefix"),
            (kopf.log_refkey.is_some(), "--log-refkey"),
            (!kopf.files.is_empty(), "Python files"),
        ]
        .into_iter()
        .filter_map(|(given, name)| given.then_some(name))
        .collect();
        let mut warnings = Vec::new();
        if !ignored.is_empty() {
            warnings.push(format!("arguments of kopf that have no effect here: {}", ignored.join(", ")));
        }
        if let LogFormat::Foreign(format) = &self.log_format {
            warnings.push(format!("--log-format {format:?} is kopf's; logging as text (use text or json)"));
        }
        warnings
    }
}

#[cfg(test)]
mod tests;
