//! Subcommands, and what an argument list without one means.

use std::ffi::{OsStr, OsString};

use clap::{Parser, Subcommand};

use super::Settings;

/// Kubernetes operator for Dask clusters.
#[derive(Debug, Parser)]
#[command(name = "dask-operator", version, args_override_self = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the binary can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator (the default)
    #[command(args_override_self = true)]
    Run(Box<Settings>),
    /// Print the custom resource definitions as YAML
    Crd,
    /// Print the version
    Version,
    /// Print the reference of all metrics as Markdown
    #[command(hide = true)]
    MetricsReference,
}

impl Cli {
    /// Reads the arguments, the first of which is the name of the program.
    ///
    /// # Errors
    /// When they are not understood, and for `--help` and `--version`, whose text is the error's.
    pub fn from_arguments(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut arguments: Vec<OsString> = arguments.into_iter().collect();
        if arguments.is_empty() {
            arguments.push("dask-operator".into());
        }
        if arguments.get(1).is_none_or(|first| starts_run(first)) {
            arguments.insert(1, "run".into());
        }
        Self::try_parse_from(arguments)
    }
}

/// Whether a first argument belongs to `run`: an option of it, or a Python file for kopf.
fn starts_run(first: &OsStr) -> bool {
    let first = first.to_string_lossy();
    let about_program = ["-h", "--help", "-V", "--version"].contains(&&*first);
    let python_file = first.ends_with(".py") || first.contains('/');
    (first.starts_with('-') && !about_program) || python_file
}

pub(super) fn settings<I>(arguments: I) -> Result<Settings, clap::Error>
where
    I: IntoIterator,
    I::Item: Into<OsString>,
{
    #[derive(Parser)]
    #[command(name = "dask-operator run", args_override_self = true)]
    struct Run {
        #[command(flatten)]
        settings: Settings,
    }

    let arguments = arguments.into_iter().map(Into::into);
    Run::try_parse_from(std::iter::once("dask-operator".into()).chain(arguments)).map(|run| run.settings)
}
