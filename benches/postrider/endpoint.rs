//! What deliveries and plain requests are sent to: an endpoint that acknowledges at once, or never.

use super::handled::Counter;
use anyhow::Context as _;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// When each message came, by its id.
pub(super) type Arrivals = Arc<Mutex<HashMap<String, Instant>>>;

/// What an endpoint does about a request.
#[derive(Debug, Clone)]
pub(super) enum Manner {
    /// Acknowledges it at once.
    Prompt,
    /// Notes when it came, and acknowledges it at once.
    Noting(Arrivals),
    /// Reads it and never answers.
    Hanging,
}

/// A server on a port of its own; it ends when it is dropped.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    pub(super) taken: Counter,
    received: Arc<AtomicU64>,
    _server: JoinSet<()>,
}

impl Endpoint {
    pub(super) async fn start(manner: Manner) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let taken = Counter::default();
        let mut server = JoinSet::new();
        let (counter, received) = (taken.clone(), Arc::<AtomicU64>::default());
        let bytes = Arc::clone(&received);
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (counter, manner, bytes) = (counter.clone(), manner.clone(), Arc::clone(&bytes));
                connections.spawn(async move { _ = serve(stream, &counter, &manner, &bytes).await });
            }
        });
        Ok(Self { address, taken, received, _server: server })
    }

    /// How many bytes the requests had, heads and bodies, since this was last asked.
    pub(super) fn received(&self) -> u64 {
        self.received.swap(0, Ordering::Relaxed)
    }

    /// Its base URL.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Answers the requests of one connection, one after the other.
async fn serve(
    mut stream: TcpStream,
    taken: &Counter,
    manner: &Manner,
    bytes: &AtomicU64,
) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut received = Vec::with_capacity(4096);
    loop {
        let head = loop {
            if let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            anyhow::ensure!(stream.read_buf(&mut received).await? > 0, "the client is gone");
        };
        let came = Instant::now();
        let length = content_length(&received[..head])?;
        while received.len() < head + 4 + length {
            anyhow::ensure!(stream.read_buf(&mut received).await? > 0, "the client is gone");
        }
        let id = message_id(&received[head + 4..head + 4 + length])?;
        received.drain(..head + 4 + length);
        bytes.fetch_add((head + 4 + length) as u64, Ordering::Relaxed);
        match manner {
            Manner::Prompt => {}
            Manner::Noting(arrivals) => _ = arrivals.lock().insert(id.clone(), came),
            Manner::Hanging => {
                taken.count_one();
                // Until the client has had enough.
                while stream.read_buf(&mut received).await? > 0 {}
                return Ok(());
            }
        }
        let body = format!(r#"{{"message_id":"{id}"}}"#);
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await?;
        taken.count_one();
    }
}

/// The length of the body.
fn content_length(head: &[u8]) -> anyhow::Result<usize> {
    let head = std::str::from_utf8(head).context("not HTTP")?;
    let mut fields = head.split("\r\n").filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    Ok(length.context("no length")?.1.trim().parse()?)
}

/// The message's id in a service request, found without reading all of it: what is measured is the hub.
fn message_id(body: &[u8]) -> anyhow::Result<String> {
    let body = std::str::from_utf8(body).context("not text")?;
    let (_, rest) = body.split_once(r#""message_id":""#).context("no message_id")?;
    Ok(rest.split_once('"').context("no end of message_id")?.0.to_owned())
}
