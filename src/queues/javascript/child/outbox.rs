//! Everything that leaves the child: its lines to the parent, and the log of the run in progress.

use super::limits;
use super::{End, Event};
use crate::queues::javascript::protocol::{LogLine, encode};
use parking_lot::Mutex;
use std::borrow::Cow;
use std::io::{self, Write};
use std::mem;
use std::time::Instant;

/// The way out, shared by the thread that runs JavaScript and the one that reads: the second hands the log
/// over when the first hangs.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    began: Option<Instant>,
    lines: Vec<LogLine>,
    bytes: usize,
    full: bool,
}

impl Outbox {
    /// A run begins, with an empty log.
    pub(super) fn begin(&self, began: Instant) {
        *self.log.lock() = Log { began: Some(began), ..Log::default() };
    }

    /// Adds a line to the log, or, once it is full, one line that says so.
    pub(super) fn log(&self, level: &'static str, mut text: String) {
        let mut log = self.log.lock();
        if log.full {
            return;
        }
        truncate(&mut text, limits::LOG_LINE);
        let level = if log.lines.len() + 1 >= limits::LOG_LINES || log.bytes + text.len() > limits::LOG_BYTES
        {
            log.full = true;
            "the log is full; what follows is not kept".clone_into(&mut text);
            "warn"
        } else {
            level
        };
        log.bytes += text.len();
        let at = log.began.map_or(0, |began| began.elapsed().as_millis());
        log.lines.push(LogLine {
            level: Cow::Borrowed(level),
            at_ms: u64::try_from(at).unwrap_or(u64::MAX),
            text,
        });
    }

    /// Ends the run: its end and its log.
    pub(super) fn end(&self, end: End) -> io::Result<()> {
        let logs = mem::take(&mut self.log.lock().lines);
        Self::send(&Event::End { end, logs })
    }

    /// One line in one write.
    pub(super) fn send(event: &Event) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(&encode(event))?;
        stdout.flush()
    }
}

/// Shortens `text` to at most `bytes`, between two characters.
fn truncate(text: &mut String, bytes: usize) {
    if text.len() > bytes {
        text.truncate(text.floor_char_boundary(bytes));
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_says_once_that_it_is_full() {
        let outbox = Outbox::default();
        outbox.begin(Instant::now());
        for _ in 0..3 * limits::LOG_LINES {
            outbox.log("log", "x".to_owned());
        }
        let log = outbox.log.lock();
        assert_eq!(log.lines.len(), limits::LOG_LINES);
        assert_eq!(log.lines.iter().filter(|line| line.level == "warn").count(), 1);
    }

    #[test]
    fn a_long_line_is_cut_between_two_characters() {
        let outbox = Outbox::default();
        outbox.log("log", "é".repeat(limits::LOG_LINE));
        let log = outbox.log.lock();
        assert_eq!(log.lines[0].text.chars().count(), limits::LOG_LINE / 2 + 1);
        assert!(log.lines[0].text.ends_with("é…"));
    }
}
