//! Subscribers that listen: one stream a job.

use super::{Job, Window};
use crate::client::request_with;
use crate::lab::Instance;
use crate::times::Times;
use anyhow::{Context as _, ensure};
use postrider::internals::jobs::BUILT_IN;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What was sent may still be on its way for this long.
const LATE: Duration = Duration::from_secs(1);

/// Streams that are open, and what ends them.
pub(super) struct Streams {
    /// When each message was sent, in microseconds since the start, and when it came.
    tasks: JoinSet<anyhow::Result<Vec<(u64, Instant)>>>,
    stop: CancellationToken,
}

/// Opens a stream of each job.
pub(super) async fn open(instance: &Instance<'_>, jobs: &[Job]) -> anyhow::Result<Streams> {
    let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
    for job in jobs {
        let mut stream = TcpStream::connect(instance.address).await?;
        let path = format!("/messages/{BUILT_IN}/{}/broadcasts", job.id);
        let headers =
            format!("accept: text/event-stream\r\ncardsavr-messaging-access-key: {}\r\n", job.stream_key);
        stream.write_all(&request_with("GET", &path, instance.admin(), &headers, "")).await?;
        let mut head = vec![0; 12];
        stream.read_exact(&mut head).await?;
        ensure!(head.ends_with(b" 200"), "a stream was refused: {}", String::from_utf8_lossy(&head));
        let stop = stop.clone();
        tasks.spawn(async move { listen(stream, &stop).await });
    }
    Ok(Streams { tasks, stop })
}

async fn listen(mut stream: TcpStream, stop: &CancellationToken) -> anyhow::Result<Vec<(u64, Instant)>> {
    let (mut received, mut events) = (Vec::new(), Vec::new());
    loop {
        let Some(read) = stop.run_until_cancelled(stream.read_buf(&mut received)).await else {
            return Ok(events);
        };
        ensure!(read? > 0, "the server ended a stream");
        let came = Instant::now();
        // Events are lines; what frames them and what says that the stream lives are other lines.
        while let Some(end) = received.iter().position(|byte| *byte == b'\n') {
            if let Some(data) = received[..end].strip_prefix(b"data: ") {
                events.push((sent_at(data)?, came));
            }
            received.drain(..=end);
        }
    }
}

/// When the message of an event was sent.
fn sent_at(data: &[u8]) -> anyhow::Result<u64> {
    let message: serde_json::Value = serde_json::from_slice(data)?;
    message["message"]["at"].as_u64().context("a message that nobody sent")
}

/// Ends the streams; returns how long messages took from their sender to who listens.
pub(super) async fn finish(mut streams: Streams, start: Instant, window: Window) -> anyhow::Result<Times> {
    tokio::time::sleep(LATE).await;
    streams.stop.cancel();
    let mut times = Times::new();
    while let Some(events) = streams.tasks.join_next().await {
        for (at, came) in events?? {
            let sent = start + Duration::from_micros(at);
            if window.contains(sent) {
                times.note(came - sent);
            }
        }
    }
    ensure!(times.count() > 0, "nothing came over the streams");
    Ok(times)
}
