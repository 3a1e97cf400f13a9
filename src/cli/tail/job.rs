//! Follows a job: each message of its log as a line of JSON, until the job has ended.

use crate::cli::database::advised;
use crate::jobs::follow::BATCH;
use crate::jobs::message::read_on;
use crate::jobs::store::broadcasts::{self, Head};
use anyhow::Context as _;
use sqlx::postgres::PgPool;
use std::io::Write as _;
use std::time::Duration;

/// How often to look.
const LOOK: Duration = Duration::from_millis(250);

/// Prints the last `lines` messages, and what is said from then on.
pub(super) async fn follow(pool: &PgPool, job: i64, lines: u32, retention: Duration) -> anyhow::Result<()> {
    let mut after: Option<i64> = None;
    loop {
        let head = broadcasts::head(pool, job).await.map_err(advised)?;
        let Head { newest, finished } = head.with_context(|| format!("there is no job {job}"))?;
        let from = *after.get_or_insert((newest - i64::from(lines)).max(0));
        let found = if from < newest {
            broadcasts::after(pool, job, from, retention, BATCH).await?
        } else {
            Vec::new()
        };
        // More may have been said between the two looks: it is read already.
        let newest = found.last().map_or(newest, |last| last.seq.max(from));
        let nothing = found.is_empty();
        for message in read_on(job, from, newest, found, true) {
            writeln!(std::io::stdout(), "{}", printable(&serde_json::to_string(&message)?))?;
        }
        after = Some(newest);
        if finished && nothing {
            return Ok(());
        }
        if nothing {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// JSON in one line in which nothing obeys but the line's end: a terminal takes some characters for commands
/// that JSON lets stand in strings.
fn printable(json: &str) -> String {
    let mut line = String::with_capacity(json.len());
    for c in json.chars() {
        if matches!(c, '\n' | '\r' | '\t') {
            // In JSON these are white space between tokens.
            line.push(' ');
        } else if c.is_control() {
            line.extend(format!("\\u{:04x}", u32::from(c)).chars());
        } else {
            line.push(c);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_told_nothing_but_text() {
        assert_eq!(printable("{\"a\":\"\u{9b}2J ü\"}"), r#"{"a":"\u009b2J ü"}"#);
    }
}
