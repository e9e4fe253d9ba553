//! Running other programs to their end, with a deadline.

use std::{ffi::OsStr, fmt::Write as _, io, path::Path, process::Stdio, time::Duration};

use tokio::{io::AsyncWriteExt, process::Command};

/// Most commands here answer within a second; none may hang.
const DEFAULT_DEADLINE: Duration = Duration::from_mins(1);

/// Why a program did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be started, or its pipes broke.
    #[error("failed to run `{command}`")]
    Start {
        /// The command line.
        command: String,
        /// What the system answered.
        source: io::Error,
    },
    /// It ran and reported a failure.
    #[error("failed to run `{command}` ({status}): {output}")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it printed, standard error first.
        output: String,
    },
    /// It did not end in time and was killed.
    #[error("failed to run `{command}`: it did not end within {seconds} s")]
    Deadline {
        /// The command line.
        command: String,
        /// How long was waited.
        seconds: u64,
    },
}

/// One command line. Dropping it, or the future of [`Invocation::run`], kills the program.
#[derive(Debug)]
pub struct Invocation {
    command: Command,
    input: Option<Vec<u8>>,
    deadline: Duration,
}

impl Invocation {
    /// Prepares `program` without arguments.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        Self { command, input: None, deadline: DEFAULT_DEADLINE }
    }

    /// Appends arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// Appends the words of a line; for arguments without spaces.
    #[must_use]
    pub fn words(self, line: &str) -> Self {
        self.args(line.split_whitespace())
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs in this folder.
    #[must_use]
    pub fn in_dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Writes `input` to the program's standard input.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.command.stdin(Stdio::piped());
        self.input = Some(input.into());
        self
    }

    /// Kills the program if it has not ended by then.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs to the end and returns standard output.
    ///
    /// # Errors
    /// When the program cannot be started, does not end in time or reports a failure.
    pub async fn run(mut self) -> Result<String, Error> {
        let command = self.line();
        let Ok(output) = tokio::time::timeout(self.deadline, self.output()).await else {
            return Err(Error::Deadline { command, seconds: self.deadline.as_secs() });
        };
        let output = output.map_err(|source| Error::Start { command: command.clone(), source })?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(text);
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        let output_text = [stderr.trim(), text.trim()].join("\n").trim().to_owned();
        Err(Error::Failed { command, status: output.status, output: output_text })
    }

    /// The command itself, for a program that is to run beside us.
    #[must_use]
    pub fn into_command(self) -> Command {
        self.command
    }

    async fn output(&mut self) -> io::Result<std::process::Output> {
        let mut child = self.command.spawn()?;
        let (stdin, input) = (child.stdin.take(), self.input.take());
        let write = async {
            if let (Some(mut stdin), Some(input)) = (stdin, input) {
                // A program that ends early closes its input: its own message says more than a broken pipe.
                let _ = stdin.write_all(&input).await;
            }
        };
        let ((), output) = tokio::join!(write, child.wait_with_output());
        output
    }

    fn line(&self) -> String {
        let command = self.command.as_std();
        let mut line =
            Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
        for argument in command.get_args() {
            let _ = write!(line, " {}", argument.to_string_lossy());
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn input_goes_in_and_output_comes_out() {
        let long = "x".repeat(1 << 20);
        assert_eq!(Invocation::new("cat").input(long.clone()).run().await.unwrap(), long);
    }

    #[tokio::test]
    async fn failure_names_command_status_and_answer() {
        let run = Invocation::new("/bin/sh").args(["-c", "echo out; echo why >&2; exit 3"]).run();
        let error = run.await.unwrap_err().to_string();
        for part in ["`sh -c", "3", "why\nout"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_killed() {
        let sleep = Invocation::new("sleep").words("600").deadline(Duration::from_millis(50));
        let error = sleep.run().await.unwrap_err();
        assert!(matches!(error, Error::Deadline { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let error = Invocation::new("no-such-program").run().await.unwrap_err().to_string();
        assert!(error.contains("no-such-program"), "{error}");
    }
}
