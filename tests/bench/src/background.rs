//! Programs that run beside the bench.

use std::fs::File;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// A running program; it ends when this is dropped.
#[derive(Debug)]
pub struct Background {
    process: Child,
}

impl Background {
    /// Starts it, with all that it prints going to `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command, log: File) -> Result<Self> {
        let process = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("failed to start {}", command.get_program().display()))?;
        Ok(Self { process })
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Either fails only if it has ended by itself, which the measurement noticed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_when_it_is_dropped() {
        let sleep = Background::start(Command::new("sleep").arg("60"), nowhere()).unwrap();
        let place = format!("/proc/{}", sleep.pid());
        assert!(std::path::Path::new(&place).exists());
        drop(sleep);
        assert!(!std::path::Path::new(&place).exists());
        let error = Background::start(&mut Command::new("/no/such/program"), nowhere()).unwrap_err();
        assert_eq!(error.to_string(), "failed to start /no/such/program");
    }

    fn nowhere() -> File {
        File::options().write(true).open("/dev/null").unwrap()
    }
}
