//! The log: where it goes, how it looks, and the one line that a request leaves in it.

use crate::config::{Config, LogFormat};
use crate::error::Cause;
use axum::http::{HeaderValue, Method, StatusCode};
use parking_lot::Mutex;
use std::io::IsTerminal;
use std::time::{Duration, Instant};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

/// Starts the log of the process, on standard error: pretty on a terminal, else one JSON object a line. A panic
/// is an entry too. A second call changes nothing, so that a program that embeds Postrider keeps its own log.
///
/// # Errors
/// When `POSTRIDER_LOG` is no filter.
pub fn init_logging(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log).map_err(|error| {
        anyhow::anyhow!("POSTRIDER_LOG: `{}` is not a filter such as info: {error}", config.log)
    })?;
    let terminal = std::io::stderr().is_terminal();
    let pretty = match config.log_format {
        LogFormat::Auto => terminal,
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    };
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_timer(SystemTime);
    let started = if pretty {
        log.with_ansi(terminal).with_target(false).compact().try_init()
    } else {
        log.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
    };
    if started.is_ok() {
        std::panic::set_hook(Box::new(|panic| {
            let location = panic.location().map(ToString::to_string);
            tracing::error!(location, payload = panic.payload_as_str(), "panic");
        }));
    }
    Ok(())
}

/// A request, as the log tells of it. No query and no header is in it: both may carry secrets.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    pub(super) id: &'a HeaderValue,
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
    pub(super) status: StatusCode,
    pub(super) took: Duration,
    pub(super) cause: Option<&'a Cause>,
}

/// Writes the line of each request.
#[derive(Debug, Default)]
pub(super) struct AccessLog {
    unavailable: Mutex<Unavailable>,
}

#[derive(Debug, Default)]
struct Unavailable {
    logged: Option<Instant>,
    unlogged: u64,
}

impl AccessLog {
    /// At `debug`; a 500 at `error`, with the chain of errors behind it; a 503 at `warn`, once a second.
    pub(super) fn answered(&self, seen: &Seen<'_>) {
        let Seen { id, method, path, status, took, cause } = seen;
        // As strings, these are escaped by either format: a line break in them does not begin a new entry.
        let (id, cause) = (id.to_str().unwrap_or_default(), cause.map(|cause| cause.0.as_str()));
        if *status == StatusCode::SERVICE_UNAVAILABLE {
            // A server that is full or has lost its database refuses thousands a second.
            if let Some(unlogged) = self.is_due() {
                tracing::warn!(id, %method, path, cause, unlogged, "requests cannot be served now");
            }
        } else if status.is_server_error() {
            tracing::error!(id, %method, path, status = status.as_u16(), ?took, cause, "a request failed");
        } else {
            tracing::debug!(id, %method, path, status = status.as_u16(), ?took, "answered");
        }
    }

    /// Whether a 503 is to be logged, and how many were not since the last.
    fn is_due(&self) -> Option<u64> {
        let mut unavailable = self.unavailable.lock();
        if unavailable.logged.is_some_and(|logged| logged.elapsed() < Duration::from_secs(1)) {
            unavailable.unlogged += 1;
            return None;
        }
        unavailable.logged = Some(Instant::now());
        Some(std::mem::take(&mut unavailable.unlogged))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::Arc;

    #[derive(Debug, Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(log: &AccessLog, status: u16, cause: &str) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            log.answered(&Seen {
                id: &HeaderValue::from_static("r1"),
                method: &Method::GET,
                path: "/queues/x",
                status: StatusCode::from_u16(status).unwrap(),
                took: Duration::from_millis(1),
                cause: Some(&Cause(cause.to_owned())),
            });
        });
        let bytes = captured.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_failure_is_one_entry_whatever_its_cause_says() {
        let line = logged(&AccessLog::default(), 500, "disk\n2026-01-01 INFO all is well\u{1b}[31m");
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(line.contains("ERROR") && line.contains("r1") && line.contains("all is well"), "{line}");
        assert!(!line.contains('\u{1b}'), "{line}");
        let line = logged(&AccessLog::default(), 200, "");
        assert!(line.contains("DEBUG") && line.contains("status=200"), "{line}");
    }

    #[test]
    fn a_server_that_refuses_everybody_does_not_flood_the_log() {
        let log = AccessLog::default();
        assert!(logged(&log, 503, "down").contains("WARN"));
        assert_eq!(logged(&log, 503, "down"), "");
        log.unavailable.lock().logged = None;
        assert!(logged(&log, 503, "down").contains("unlogged=1"));
    }
}
