//! Doing one step after the other, and telling it.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use testbed::chain;

use super::transcript::{self, Style};
use crate::Error;

/// A step that did not succeed.
#[derive(Debug, thiserror::Error)]
#[error("failed at step {step}")]
pub struct Failure {
    /// Title of the step.
    pub step: &'static str,
    /// Why.
    pub source: Error,
}

/// Tells what happens to somebody who watches.
#[derive(Debug)]
pub struct Teller<W> {
    out: W,
    style: Style,
    start: Instant,
}

impl<W: Write> Teller<W> {
    /// Tells it to `out`.
    pub fn new(out: W, style: Style) -> Self {
        Self { out, style, start: Instant::now() }
    }

    /// Does one step and tells it. `work` returns what it found and the words for it.
    ///
    /// # Errors
    /// When the step fails.
    pub async fn step<T>(
        &mut self,
        step: &'static str,
        doing: &str,
        work: impl Future<Output = Result<(T, String), Error>>,
    ) -> Result<T, Failure> {
        self.say(&transcript::running(self.style, step, doing));
        let start = Instant::now();
        match work.await {
            Ok((found, detail)) => {
                self.say(&transcript::done(self.style, step, &detail, start.elapsed()));
                Ok(found)
            }
            Err(source) => {
                self.say(&transcript::failed(self.style, step, &chain(&source)));
                Err(Failure { step, source })
            }
        }
    }

    /// Says something else.
    pub fn say(&mut self, text: &str) {
        // Whoever closed the pipe does not want to know; the exit code still tells the outcome.
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }

    /// Since the beginning.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// What was told, for those who kept it.
    pub fn into_inner(self) -> W {
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn told(work: impl Future<Output = Result<(u8, String), Error>>) -> (Result<u8, Failure>, String) {
        let mut teller = Teller::new(Vec::new(), Style::Plain);
        let result = teller.step("Step", "working", work).await;
        (result, String::from_utf8(teller.into_inner()).unwrap())
    }

    #[tokio::test]
    async fn success_is_told_in_a_line() {
        let (result, text) = told(async { Ok((7, "seven of them".to_owned())) }).await;
        assert_eq!(result.unwrap(), 7);
        assert!(text.starts_with("  ✓ Step") && text.contains("seven of them"), "{text}");
    }

    #[tokio::test]
    async fn failure_is_told_with_its_cause_and_names_the_step() {
        let error = Error::Timeout { what: "the sun".into(), seconds: 3, seen: "clouds".into() };
        let (result, text) = told(async { Err(error) }).await;
        assert_eq!(result.unwrap_err().step, "Step");
        assert!(text.contains('✗') && text.contains("clouds"), "{text}");
    }
}
