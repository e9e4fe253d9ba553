//! Running other programs, with errors that say what was run and what it answered.

use std::{
    ffi::{OsStr, OsString},
    fmt::Write as _,
    io::{self, Write as _},
    process::{Command, Output, Stdio},
};

/// Why a program did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program could not be started at all.
    #[error(
        "failed to start `{command}`; is {program} installed and in PATH? (tests/cluster/install.sh installs it)"
    )]
    Start {
        /// Name or path of the program.
        program: String,
        /// The whole command line.
        command: String,
        /// What the system answered.
        source: io::Error,
    },
    /// The program ran and reported a failure.
    #[error("failed to run `{command}` ({status}): {output}")]
    Failed {
        /// The whole command line.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it printed, standard error first.
        output: String,
    },
}

/// One command line to run to its end.
#[derive(Debug)]
pub(crate) struct Invocation {
    command: Command,
    input: Vec<u8>,
}

impl Invocation {
    /// Prepares `program` without arguments.
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        Self { command, input: Vec::new() }
    }

    /// Splits a fixed command line at spaces; for arguments that contain none.
    #[must_use]
    pub(crate) fn words(line: &str) -> Self {
        let mut words = line.split_whitespace();
        Self::new(words.next().unwrap_or_default()).args(words)
    }

    /// Appends arguments.
    #[must_use]
    pub(crate) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs in this folder.
    #[must_use]
    pub(crate) fn in_dir(mut self, dir: &std::path::Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Writes `input` to the program's standard input. Only for inputs that the program reads whole.
    #[must_use]
    pub(crate) fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self.command.stdin(Stdio::piped());
        self
    }

    /// Runs to the end and returns what the program printed.
    ///
    /// # Errors
    /// When it cannot be started or ends with anything but success.
    pub(crate) fn run(mut self) -> Result<String, Error> {
        let command = self.line();
        let output = self.output().map_err(|source| Error::Start {
            program: self.command.get_program().to_string_lossy().into_owned(),
            command: command.clone(),
            source,
        })?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(stdout);
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        let output_text = [stderr.trim(), stdout.trim()].join("\n").trim().to_owned();
        Err(Error::Failed { command, status: output.status, output: output_text })
    }

    fn output(&mut self) -> io::Result<Output> {
        let mut child = self.command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that ends early closes its input: its own message says more than a broken pipe.
            let _ = stdin.write_all(&self.input);
        }
        child.wait_with_output()
    }

    fn line(&self) -> String {
        let mut line = self.command.get_program().to_string_lossy().into_owned();
        for argument in self.command.get_args() {
            let _ = write!(line, " {}", argument.to_string_lossy());
        }
        line
    }
}

/// Looks a program up as a shell would, also in the system folders that a user's PATH often lacks.
#[must_use]
pub(crate) fn find_program(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(std::path::PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|candidate| candidate.is_file())
}

/// PATH for programs we start: the user's and the system folders.
#[must_use]
pub(crate) fn search_path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin");
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_input_pass_through() {
        let output = Invocation::new("cat").input("hello").run().unwrap();
        assert_eq!(output, "hello");
    }

    #[test]
    fn failure_names_command_and_answer() {
        let error = Invocation::new("sh").args(["-c", "echo why >&2; exit 3"]).run().unwrap_err().to_string();
        assert!(error.contains("sh -c") && error.contains("why") && error.contains('3'), "{error}");
    }

    #[test]
    fn missing_program_names_the_cure() {
        let error = Invocation::words("no-such-program --flag").run().unwrap_err().to_string();
        assert!(error.contains("no-such-program --flag") && error.contains("install.sh"), "{error}");
    }

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        assert!(find_program("sh").is_some());
        assert_eq!(find_program("no-such-program"), None);
    }
}
