//! A stream of what is said about a job, read event by event.

use anyhow::{Context as _, bail, ensure};
use reqwest::Response;
use serde_json::Value;

/// A stream that is open.
pub(super) struct Stream {
    answer: Response,
    received: String,
}

impl Stream {
    pub(super) fn new(answer: Response) -> Self {
        Self { answer, received: String::new() }
    }

    /// Waits for the next event and prints it; its status must be `expected`.
    pub(super) async fn show(&mut self, expected: &str) -> anyhow::Result<()> {
        let event = self.next().await?.context("the stream has ended")?;
        for line in event.lines() {
            println!("  stream: {line}");
        }
        let data =
            event.lines().find_map(|line| line.strip_prefix("data: ")).context("an event without data")?;
        let message: Value = serde_json::from_str(data)?;
        let status = &message["message"]["status"];
        ensure!(status == expected, "the stream says {status}, not {expected}");
        Ok(())
    }

    /// Whether nothing follows.
    pub(super) async fn is_over(&mut self) -> anyhow::Result<bool> {
        Ok(self.next().await?.is_none())
    }

    async fn next(&mut self) -> anyhow::Result<Option<String>> {
        loop {
            if let Some((event, rest)) = self.received.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.received = rest;
                // A line that begins with a colon only shows that the stream lives.
                if !event.starts_with(':') {
                    return Ok(Some(event));
                }
                continue;
            }
            match self.answer.chunk().await? {
                Some(bytes) => self.received.push_str(std::str::from_utf8(&bytes)?),
                None if self.received.is_empty() => return Ok(None),
                None => bail!("the stream ends in the middle of an event"),
            }
        }
    }
}
