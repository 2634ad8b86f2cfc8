//! The log, to standard error.

use std::path::Path;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use super::redact::Quiet;
use super::traces::{self, Traces};
use crate::domain::watch::{Log, LogFormat, LogLevel};

/// What of the configuration must be known before anything is logged. A file that is wrong is told of by whoever reads it whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Early {
    /// How it logs.
    pub log: Log,
    /// Where traces go.
    pub otlp: Option<String>,
}

impl Early {
    /// Looks into a configuration.
    pub fn read(config: &Path) -> Early {
        let Ok(text) = std::fs::read_to_string(config) else { return Early::default() };
        let Ok(table) = text.parse::<toml::Table>() else { return Early::default() };
        let word = |table_name: &str, key: &str| table.get(table_name)?.get(key)?.as_str().map(str::to_owned);
        let format = match word("log", "format").as_deref() {
            Some("json") => LogFormat::Json,
            _ => LogFormat::Pretty,
        };
        let level = word("log", "level").and_then(|level| {
            [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace]
                .into_iter()
                .find(|one| one.as_str() == level)
        });
        let otlp = word("telemetry", "otlp").map(|url| url.trim_end_matches('/').to_owned());
        Early { log: Log { format, level }, otlp }
    }

    /// Which lines are written: `RUST_LOG` wins over `-v`, and that over the configuration.
    fn filter(&self, verbose: u8) -> EnvFilter {
        let said = match (verbose, self.log.level) {
            (0, None) => "warn".to_owned(),
            (0, Some(level @ (LogLevel::Error | LogLevel::Warn))) => level.as_str().to_owned(),
            // Libraries are heard only when they warn: what they say below that is for `RUST_LOG`.
            (0, Some(level)) => format!("warn,lifeboat={}", level.as_str()),
            (1, _) => "warn,lifeboat=info".to_owned(),
            _ => "warn,lifeboat=debug".to_owned(),
        };
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(said))
    }
}

/// Starts logging and tracing. What comes back must be kept until the end, and told of it.
pub fn start(early: &Early, verbose: u8) -> Option<Traces> {
    // It would say so where it just could not, and panic: hence no internal errors.
    let base = tracing_subscriber::fmt::layer().log_internal_errors(false).with_writer(Quiet::default);
    let layer = match early.log.format {
        LogFormat::Pretty => base.with_target(false).with_filter(early.filter(verbose)).boxed(),
        LogFormat::Json => {
            base.json().with_current_span(false).with_span_list(true).with_filter(early.filter(verbose)).boxed()
        }
    };
    let traces = early.otlp.as_deref().and_then(traces::start);
    // A second call (in tests) keeps the first one's settings.
    let _ = tracing_subscriber::registry().with(layer).with(traces.as_ref().map(Traces::layer)).try_init();
    traces
}
