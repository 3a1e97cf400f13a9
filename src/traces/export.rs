//! Exports spans by OTLP over HTTP, in batches, in a task of its own: whoever ends a span puts it into a bounded queue
//! and goes on. When a collector is down or hangs, spans are lost, and nothing else.

use super::encode;
use super::span::Span;
use crate::config::Traces;
use axum::http::{StatusCode, header};
use metrics::{Unit, counter, describe_counter};
use serde_json::Value;
use std::time::Duration;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

/// Spans that left for a collector which took them.
const EXPORTED: &str = "postrider_spans_exported_total";
/// Spans that were lost: the queue was full, or the collector did not take them.
const DROPPED: &str = "postrider_spans_dropped_total";

/// The most spans that wait, ...
const WAITING: usize = 4096;
/// ... and that go in one request.
const BATCH: usize = 512;
/// How long a span waits for others.
const GATHER: Duration = Duration::from_millis(500);
/// The first pause before a request is repeated, and the longest.
const SHORTEST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(10);
/// How long a batch is tried.
const TRIED: Duration = Duration::from_secs(30);
/// How long the request may take that is under way when the process stops, ...
const LAST: Duration = Duration::from_secs(1);
/// ... and after it all spans that are left.
const FLUSH: Duration = Duration::from_secs(2);
/// The longest answer of a collector that is read.
const ANSWER: usize = 64 << 10;
/// The least time between two lines of the log about a collector.
const QUIET: Duration = Duration::from_mins(1);

/// Where ended spans go.
#[derive(Debug)]
pub(super) struct Outbox(Sender<Span>);

impl Outbox {
    /// Queues a span, unless the queue is full.
    pub(super) fn send(&self, span: Span) {
        if self.0.try_send(span).is_err() {
            dropped(1);
        }
    }
}

fn dropped(spans: usize) {
    counter!(DROPPED).increment(spans as u64);
}

/// What exports the spans of a process.
#[derive(Debug)]
pub struct Exporter {
    settings: Traces,
    client: reqwest::Client,
    spans: Receiver<Span>,
    warned: Option<Instant>,
}

/// Why a batch was not taken.
enum Trouble {
    /// It may pass; after this time, if the collector says so.
    Passing(String, Option<Duration>),
    /// It will be refused again.
    Final(String),
}

impl Exporter {
    /// An exporter, and where its spans are put. It asks nobody before there is a span.
    ///
    /// # Errors
    /// The client cannot be made.
    pub(super) fn new(settings: Traces) -> anyhow::Result<(Outbox, Self)> {
        describe_counter!(EXPORTED, Unit::Count, "Spans that the collector took");
        describe_counter!(
            DROPPED,
            Unit::Count,
            "Spans that were lost: too many waited, or the collector did not take them"
        );
        counter!(EXPORTED).increment(0);
        counter!(DROPPED).increment(0);
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .timeout(settings.timeout)
            .build()?;
        let (send, spans) = mpsc::channel(WAITING);
        Ok((Outbox(send), Self { settings, client, spans, warned: None }))
    }

    /// Exports until `stop`, and then what is left, for a moment.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        while let Some(1..) = stop.run_until_cancelled(self.spans.recv_many(&mut batch, BATCH)).await {
            let full = async {
                loop {
                    let room = BATCH - batch.len();
                    if room == 0 || self.spans.recv_many(&mut batch, room).await == 0 {
                        return;
                    }
                }
            };
            // Whichever comes first: the time, the full batch, or the stop.
            _ = stop.run_until_cancelled(timeout(GATHER, full)).await;
            let body = encode::request(&self.settings.resource, &batch);
            if !self.export(body, batch.len(), &stop).await {
                break;
            }
            batch.clear();
        }
        self.flush(batch).await;
    }

    /// Exports what is left, each batch by one request.
    async fn flush(mut self, mut batch: Vec<Span>) {
        let deadline = Instant::now() + FLUSH;
        // What ends after this is nobody's any more.
        self.spans.close();
        loop {
            while batch.len() < BATCH
                && let Ok(span) = self.spans.try_recv()
            {
                batch.push(span);
            }
            if batch.is_empty() {
                return;
            }
            let body = encode::request(&self.settings.resource, &batch);
            match timeout_at(deadline, self.post(body, batch.len())).await {
                Ok(Ok(())) => {}
                _ => dropped(batch.len()),
            }
            batch.clear();
        }
    }

    /// Exports a batch, again while that may help; returns false if it is not known what came of it when the process stops.
    async fn export(&mut self, body: Vec<u8>, spans: usize, stop: &CancellationToken) -> bool {
        let deadline = Instant::now() + TRIED;
        let mut pause = SHORTEST;
        let why = loop {
            // One that is cut off may have been taken, and would be there twice.
            let late = async {
                stop.cancelled().await;
                sleep(LAST).await;
            };
            let posted = tokio::select! {
                posted = self.post(body.clone(), spans) => posted,
                () = late => return false,
            };
            match posted {
                Ok(()) => return true,
                Err(Trouble::Final(why)) => break why,
                Err(Trouble::Passing(why, after)) => {
                    let wait = after.unwrap_or_else(|| pause.mul_f64(rand::random_range(0.5..1.0)));
                    if Instant::now() + wait >= deadline {
                        break why;
                    }
                    if stop.run_until_cancelled(sleep(wait)).await.is_none() {
                        return false;
                    }
                    pause = (pause * 2).min(LONGEST);
                }
            }
        };
        dropped(spans);
        if self.warned.is_none_or(|warned| warned.elapsed() >= QUIET) {
            self.warned = Some(Instant::now());
            let collector = self.settings.endpoint.host_str();
            tracing::warn!(collector, why, spans, "spans are lost: the collector does not take them");
        }
        true
    }

    async fn post(&self, body: Vec<u8>, spans: usize) -> Result<(), Trouble> {
        let mut request = self.client.post(self.settings.endpoint.clone()).body(body);
        request = request.header(header::CONTENT_TYPE, "application/json");
        for (name, value) in &self.settings.headers {
            request = request.header(name, value);
        }
        // Its words may name the address, which may hold a password.
        let unreached = |error: reqwest::Error| {
            let why = if error.is_timeout() { "it does not answer in time" } else { "it cannot be reached" };
            Trouble::Passing(why.to_owned(), None)
        };
        let mut answer = request.send().await.map_err(unreached)?;
        let status = answer.status();
        let mut read = Vec::new();
        while read.len() < ANSWER
            && let Some(part) = answer.chunk().await.map_err(unreached)?
        {
            read.extend_from_slice(&part);
        }
        let why = format!("it answers {}", status.as_u16());
        match status {
            status if status.is_success() => {
                let refused = refused(&read).min(spans);
                counter!(EXPORTED).increment((spans - refused) as u64);
                if refused > 0 {
                    dropped(refused);
                }
                Ok(())
            }
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Err(Trouble::Passing(why, retry_after(answer.headers()))),
            _ => Err(Trouble::Final(why)),
        }
    }
}

/// How many spans a collector has refused that took the others.
fn refused(answer: &[u8]) -> usize {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let refused = &answer["partialSuccess"]["rejectedSpans"];
    let text = refused.as_str().map_or_else(|| refused.to_string(), str::to_owned);
    text.parse().unwrap_or(0)
}

/// In seconds; a date goes by a clock that is not ours, and is left alone.
fn retry_after(headers: &axum::http::HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::config::Sampler;
    use crate::traces::{Context, Kind};
    use futures::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    fn span() -> Span {
        Span {
            name: "process q".to_owned(),
            kind: Kind::Consumer,
            context: Context { trace: [7; 16], span: [7; 8], flags: 1, state: None },
            parent: None,
            started_at: chrono::DateTime::UNIX_EPOCH,
            took: Duration::ZERO,
            attributes: Vec::new(),
            failed: false,
        }
    }

    #[tokio::test]
    async fn what_is_under_way_when_the_process_stops_is_not_sent_again() {
        let collector = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let settings = Traces {
            endpoint: format!("http://{}", collector.local_addr().unwrap()).parse().unwrap(),
            headers: Vec::new(),
            timeout: Duration::from_secs(10),
            resource: Vec::new(),
            sampler: Sampler { follows_parent: true, ratio: 1.0 },
        };
        let (outbox, exporter) = Exporter::new(settings).unwrap();
        let stop = CancellationToken::new();
        let mut exporting = tokio::task::JoinSet::new();
        exporting.spawn(exporter.run(stop.clone()));
        outbox.send(span());
        let (mut asked, _) = collector.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"]}]}]}") {
            assert_ne!(asked.read_buf(&mut request).await.unwrap(), 0);
        }
        stop.cancel();
        // It has seen the stop by then.
        tokio::task::yield_now().await;
        // Whoever has hung up does not read it.
        drop(asked.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await);
        exporting.join_next().await.unwrap().unwrap();
        assert!(collector.accept().now_or_never().is_none(), "it is sent once");
        assert!(!matches!(asked.read(&mut [0; 9]).now_or_never(), Some(Ok(1..))), "nor on this connection");
    }

    #[test]
    fn what_a_collector_refuses_of_a_batch_is_counted_as_lost() {
        assert_eq!(refused(br#"{"partialSuccess":{"rejectedSpans":"3"}}"#), 3);
        assert_eq!(refused(br#"{"partialSuccess":{"rejectedSpans":2}}"#), 2);
        assert_eq!((refused(b"{}"), refused(b""), refused(b"\x0a\x02")), (0, 0, 0));
    }
}
