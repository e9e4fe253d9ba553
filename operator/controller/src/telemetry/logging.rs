//! Logs of the process: format, filter, and changing the filter while running.

use std::io::{self, IsTerminal};
use std::sync::OnceLock;

use dask_protocol::printable;
use thiserror::Error;
use tracing::Subscriber;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use super::json_format::JsonFormat;
use crate::settings::LogFormat;

static CONTROL: OnceLock<LogControl> = OnceLock::new();

/// Logs cannot be started or changed.
#[derive(Debug, Error)]
pub enum LoggingError {
    /// Not a filter.
    #[error(
        "failed to read log filter {filter:?}: give error, warn, info, debug or trace, or directives as info,kube=warn"
    )]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Something else in this process logs already.
    #[error("failed to start logging")]
    Start(#[from] tracing_subscriber::util::TryInitError),
    /// The logs have ended.
    #[error("failed to change the log filter")]
    Change(#[from] reload::Error),
}

/// Changes the log filter of the process.
#[derive(Clone, Debug)]
pub struct LogControl {
    filter: Handle<EnvFilter, Registry>,
}

impl LogControl {
    /// That of this process, once [`start`] was called.
    #[must_use]
    pub fn of_process() -> Option<Self> {
        CONTROL.get().cloned()
    }

    /// Replaces the filter.
    ///
    /// # Errors
    /// When it is not understood; then the old one stays.
    pub fn set(&self, filter: &str) -> Result<(), LoggingError> {
        Ok(self.filter.reload(parse(filter)?)?)
    }

    /// The filter in force.
    ///
    /// # Errors
    /// When the logs have ended.
    pub fn filter(&self) -> Result<String, LoggingError> {
        Ok(self.filter.with_current(ToString::to_string)?)
    }

    pub(crate) fn new(filter: &str) -> Result<(reload::Layer<EnvFilter, Registry>, Self), LoggingError> {
        let (layer, filter) = reload::Layer::new(parse(filter)?);
        Ok((layer, Self { filter }))
    }
}

/// Starts to log to standard error.
///
/// # Errors
/// When the filter is not understood, or something else logs already.
pub fn start(filter: &str, format: &LogFormat) -> Result<(), LoggingError> {
    let (layer, control) = LogControl::new(filter)?;
    tracing_subscriber::registry().with(layer).with(lines(format)).try_init()?;
    let _ = CONTROL.set(control);
    Ok(())
}

fn lines<S>(format: &LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    match format {
        LogFormat::Json => fmt::layer()
            .fmt_fields(fmt::format::JsonFields::new())
            .event_format(JsonFormat)
            .with_writer(io::stderr)
            .boxed(),
        LogFormat::Text | LogFormat::Foreign(_) => text(io::stderr().is_terminal(), io::stderr).boxed(),
    }
}

/// Lines for people. No field begins a line of its own or moves the cursor, whatever is in it: messages and what is
/// logged by its `Display` would be written as they are, and with them names and texts that users chose.
fn text<S, W>(ansi: bool, writer: W) -> impl Layer<S> + Send + Sync
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    let fields = fmt::format::debug_fn(|writer, field, value| {
        let value = printable(&format!("{value:?}"), usize::MAX);
        match field.name() {
            "message" => write!(writer, "{value}"),
            name => write!(writer, "{name}={value}"),
        }
    });
    fmt::layer().fmt_fields(fields.delimited(" ")).with_ansi(ansi).with_writer(writer)
}

fn parse(filter: &str) -> Result<EnvFilter, LoggingError> {
    EnvFilter::try_new(filter).map_err(|source| LoggingError::Filter { filter: filter.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use tracing::level_filters::LevelFilter;

    use super::*;
    use crate::telemetry::testing::Buffer;

    fn logged(log: impl FnOnce()) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let layer = text(false, move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        buffer.text()
    }

    #[test]
    fn no_field_forges_a_line() {
        let forged = "x\n2026-11-30T00:00:00Z  INFO dask_operator: all is well\u{1b}[2K\r";
        let text = logged(|| {
            let span = tracing::info_span!("reconciling", object = %forged);
            let _entered = span.entered();
            tracing::info!(message = forged, name = forged, shown = %forged, debug = ?forged);
            tracing::info!(message = %forged);
            tracing::info!("scheduler says {forged}");
        });
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(!text.contains(['\u{1b}', '\r']), "{text}");
    }

    #[test]
    fn lines_read_as_before() {
        let text = logged(|| {
            let span = tracing::info_span!("reconciling", object = "DaskCluster/ns/c");
            let _entered = span.entered();
            tracing::warn!(workers = 3, name = "w", kind = %"x y", "scheduler answers");
        });
        let (_, line) = text.trim_end().split_once(' ').unwrap();
        let expected = "WARN reconciling{object=\"DaskCluster/ns/c\"}: \
                        dask_operator::telemetry::logging::tests: scheduler answers workers=3 name=\"w\" kind=x y";
        assert_eq!(line.trim_start(), expected);
    }

    #[test]
    fn the_filter_changes_while_running() {
        let (layer, control) = LogControl::new("info").unwrap();
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            assert!(!tracing::enabled!(target: "dask_operator", tracing::Level::DEBUG));
            control.set("warn,dask_operator=debug").unwrap();
            assert!(tracing::enabled!(target: "dask_operator", tracing::Level::DEBUG));
            assert!(!tracing::enabled!(target: "kube", tracing::Level::INFO));
            assert_eq!(control.filter().unwrap(), "dask_operator=debug,warn");
        });
        assert!(control.filter().is_err(), "the subscriber is gone");
    }

    #[test]
    fn an_unknown_filter_is_refused_and_the_old_one_stays() {
        let (_layer, control) = LogControl::new("info").unwrap();
        let error = control.set("loud=x=y").unwrap_err().to_string();
        assert!(error.contains("loud=x=y") && error.contains("directives"), "{error}");
        assert_eq!(control.filter().unwrap(), LevelFilter::INFO.to_string());
    }
}
