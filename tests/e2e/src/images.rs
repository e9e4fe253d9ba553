//! The images that run in the demo and the tests.

use std::{path::PathBuf, process::Stdio};

use testbed::{images, workspace};
use tokio::process::Command;

/// Why an image is not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operator does not compile.
    #[error("failed to build the operator with `{command}`:\n{output}")]
    Build {
        /// How it was built.
        command: String,
        /// The end of what cargo said.
        output: String,
    },
    /// cargo or rustc could not be started.
    #[error("failed to run {program}")]
    Start {
        /// Which of them.
        program: String,
        /// What the system answered.
        source: std::io::Error,
    },
    /// The archive could not be made.
    #[error(transparent)]
    Archive(#[from] images::Error),
    /// The runtime ended before the work began.
    #[error("failed to make an image: the async runtime is shutting down")]
    Cancelled,
}

/// Lines of cargo's output that make it into an error.
const OUTPUT_LINES: usize = 40;

/// The archive of the operator image, built from this source tree. Minutes the first time; cargo knows what is up
/// to date after that.
///
/// # Errors
/// When the operator does not compile.
pub async fn operator() -> Result<PathBuf, Error> {
    let program = operator_program().await?;
    blocking(move || images::operator(&program)).await
}

/// The archive of the Dask test image, under its own name and those that other people's manifests use.
///
/// # Errors
/// When it cannot be made.
pub async fn dask(names: &'static [&'static str]) -> Result<PathBuf, Error> {
    blocking(move || if names.is_empty() { images::dask() } else { images::dask_as(names) }).await
}

/// The archive of the Dask test image without the commands that distributed dropped.
///
/// # Errors
/// When it cannot be made.
pub async fn dask_today() -> Result<PathBuf, Error> {
    blocking(images::dask_today).await
}

/// Builds the operator as a static program, which is all that its image holds, and returns where it is.
///
/// # Errors
/// When it does not compile.
pub async fn operator_program() -> Result<PathBuf, Error> {
    let host = host_triple().await?;
    // Without --target the flag would reach procedural macros, which cannot be static.
    let arguments =
        ["build", "--release", "--package", "dask-operator", "--bin", "dask-operator", "--target", &host];
    let mut cargo = Command::from(workspace::cargo());
    cargo
        .args(arguments)
        .arg("--message-format=json-render-diagnostics")
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    let (success, stdout, stderr) = output("cargo", cargo).await?;
    executable(&stdout).filter(|_| success).ok_or_else(|| Error::Build {
        command: format!("RUSTFLAGS=\"-C target-feature=+crt-static\" cargo {}", arguments.join(" ")),
        output: last_lines(&stderr, OUTPUT_LINES),
    })
}

/// This machine as rustc calls it, such as `x86_64-unknown-linux-gnu`.
async fn host_triple() -> Result<String, Error> {
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--print", "host-tuple"]).current_dir(workspace::root());
    let (_, stdout, _) = output("rustc", rustc).await?;
    Ok(stdout.trim().to_owned())
}

async fn output(program: &str, mut command: Command) -> Result<(bool, String, String), Error> {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.map_err(|source| Error::Start { program: program.to_owned(), source })?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.success(), text(&output.stdout), text(&output.stderr)))
}

/// The program that cargo's messages, one JSON object a line, say was built.
fn executable(messages: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).next_back()
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

async fn blocking(
    make: impl FnOnce() -> Result<PathBuf, images::Error> + Send + 'static,
) -> Result<PathBuf, Error> {
    match tokio::task::spawn_blocking(make).await {
        Ok(archive) => Ok(archive?),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_cancelled) => Err(Error::Cancelled),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_the_last_artifact_with_an_executable() {
        let messages = r#"{"reason":"compiler-artifact","executable":null}
{"reason":"compiler-artifact","executable":"/t/release/dask-operator"}
not json
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages), Some("/t/release/dask-operator".into()));
        assert_eq!(executable("{\"reason\":\"build-finished\",\"success\":false}"), None);
    }

    #[tokio::test]
    async fn the_host_has_a_triple() {
        let triple = host_triple().await.unwrap();
        assert!(triple.contains("linux") && triple.split('-').count() >= 3, "{triple}");
    }

    #[test]
    fn the_end_of_the_output_is_kept() {
        assert_eq!(last_lines("a\nb\nc", 2), "b\nc");
        assert_eq!(last_lines("a", 2), "a");
    }
}
