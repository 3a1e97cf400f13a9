//! The server against raw sockets: slow, silent, greedy and interrupted clients.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use super::super::body::{BodyLimits, read_json};
use super::*;
use axum::http::HeaderMap;
use axum::routing::{get, post};
use bytes::Bytes;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::task::JoinSet;

const QUICK: ServerLimits = ServerLimits {
    header_timeout: Duration::from_millis(100),
    idle_timeout: Duration::from_secs(1),
    write_timeout: Duration::from_millis(60),
    linger: Duration::from_secs(5),
    max_connections: 2,
    grace: Duration::from_millis(400),
};

/// Longer than any limit above: what has not happened by then does not happen.
const LONG: Duration = Duration::from_secs(10);

struct Server {
    address: std::net::SocketAddr,
    shutdown: CancellationToken,
    /// Lets one `/wait` answer.
    release: Arc<Notify>,
    /// One `/wait` has begun.
    entered: Arc<Notify>,
    task: JoinSet<()>,
}

async fn start() -> Server {
    let (release, entered) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (go, inside) = (Arc::clone(&release), Arc::clone(&entered));
    let limits = BodyLimits { max_body: 1000, timeout: Duration::from_millis(60), min_rate: 1 << 20 };
    let endless = || futures::stream::repeat_with(|| Ok::<_, io::Error>(Bytes::from_static(&[b'x'; 4096])));
    let wait = move || async move {
        inside.notify_one();
        go.notified().await;
        "done"
    };
    let read = move |headers: HeaderMap, body: Body| async move {
        read_json(&headers, body, &limits).await.map(|body| body.raw.get().len().to_string())
    };
    let router = Router::new()
        .route("/", get(|| async { "hi" }))
        .route("/endless", get(move || async move { Body::from_stream(endless()) }))
        .route("/wait", get(wait.clone()).post(wait))
        .route("/body", post(read));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let mut task = JoinSet::new();
    task.spawn(serve(listener, router, shutdown.clone(), QUICK));
    Server { address, shutdown, release, entered, task }
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn stopped(&mut self) {
        tokio::time::timeout(LONG, self.task.join_next()).await.unwrap().unwrap().unwrap();
    }
}

/// Everything until the server closes, and after how long it did.
async fn rest(stream: &mut TcpStream) -> (String, Duration) {
    let (started, mut text) = (Instant::now(), Vec::new());
    let read = tokio::time::timeout(LONG, stream.read_to_end(&mut text)).await.unwrap();
    read.unwrap();
    (String::from_utf8(text).unwrap(), started.elapsed())
}

/// Sends a request and reads its answer, which ends in `end`.
async fn exchange(stream: &mut TcpStream, request: &str, end: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    while !text.ends_with(end) {
        text.push(char::from(tokio::time::timeout(LONG, stream.read_u8()).await.unwrap().unwrap()));
    }
    text
}

const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";

#[tokio::test]
async fn a_connection_that_never_asks_is_closed() {
    let server = start().await;
    let (text, after) = rest(&mut server.connect().await).await;
    assert_eq!(text, "");
    assert!(after >= QUICK.header_timeout && after < QUICK.idle_timeout, "{after:?}");
}

#[tokio::test]
async fn a_head_that_drips_is_cut_off() {
    let server = start().await;
    let mut stream = server.connect().await;
    assert!(exchange(&mut stream, GET, "hi").await.starts_with("HTTP/1.1 200"));
    let (mut read, mut write) = stream.into_split();
    let mut drip = JoinSet::new();
    drip.spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        for byte in GET.bytes().cycle().filter(|byte| *byte != b'\n') {
            tick.tick().await;
            if write.write_all(&[byte]).await.is_err() {
                return;
            }
        }
    });
    let (started, mut text) = (Instant::now(), Vec::new());
    let _ = tokio::time::timeout(LONG, read.read_to_end(&mut text)).await.unwrap();
    assert!(started.elapsed() >= QUICK.header_timeout && started.elapsed() < QUICK.idle_timeout);
    assert!(text.is_empty());
}

#[tokio::test]
async fn an_idle_connection_is_kept_longer_than_a_head_may_take() {
    let server = start().await;
    let mut stream = server.connect().await;
    for _ in 0..2 {
        assert!(exchange(&mut stream, GET, "hi").await.starts_with("HTTP/1.1 200"));
        tokio::time::sleep(QUICK.header_timeout * 2).await;
    }
    assert!(exchange(&mut stream, GET, "hi").await.starts_with("HTTP/1.1 200"));
    let (_, after) = rest(&mut stream).await;
    assert!(after > QUICK.header_timeout * 4, "{after:?}");
}

#[tokio::test]
async fn a_slow_handler_is_not_a_silent_client() {
    let server = start().await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    server.entered.notified().await;
    tokio::time::sleep(QUICK.idle_timeout + QUICK.header_timeout).await;
    server.release.notify_one();
    assert!(exchange(&mut stream, "", "done").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_body_that_stalls_gets_408_and_the_connection_ends() {
    let server = start().await;
    let mut stream = server.connect().await;
    let head = "POST /body HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9";
    stream.write_all(format!("{head}\r\n\r\n123").as_bytes()).await.unwrap();
    let (text, _) = rest(&mut stream).await;
    assert!(text.starts_with("HTTP/1.1 408") && text.contains("application/problem+json"), "{text}");
}

#[tokio::test]
async fn an_answer_that_nobody_takes_is_dropped() {
    let mut server = start().await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    // Both places are taken until the server gives the first connection up.
    let mut second = server.connect().await;
    second.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    server.entered.notified().await;
    let mut third = server.connect().await;
    assert!(exchange(&mut third, GET, "hi").await.starts_with("HTTP/1.1 200"));
    server.shutdown.cancel();
    server.stopped().await;
}

#[tokio::test]
async fn a_client_in_the_middle_of_a_large_body_sees_the_refusal() {
    let server = start().await;
    let (mut read, mut write) = server.connect().await.into_split();
    let mut upload = JoinSet::new();
    upload.spawn(async move {
        let head = "POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 8000000\r\n\r\n";
        write.write_all(head.as_bytes()).await.unwrap();
        // All of it, before anything is read, as simple clients do.
        write.write_all(&vec![b'x'; 8_000_000]).await.is_ok()
    });
    assert!(tokio::time::timeout(LONG, upload.join_next()).await.unwrap().unwrap().unwrap());
    let mut text = String::new();
    tokio::time::timeout(LONG, read.read_to_string(&mut text)).await.unwrap().unwrap();
    assert!(text.starts_with("HTTP/1.1 413"), "{text}");
}

#[tokio::test]
async fn a_body_that_nobody_wanted_may_come_late_and_the_connection_goes_on() {
    let server = start().await;
    let mut stream = server.connect().await;
    for _ in 0..20 {
        // As simple clients do: the head, then the body, and only then they look for the answer.
        stream.write_all(b"POST /wait HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n").await.unwrap();
        server.entered.notified().await;
        server.release.notify_one();
        tokio::task::yield_now().await;
        let text = exchange(&mut stream, "hello", "done").await;
        assert!(text.starts_with("HTTP/1.1 200") && !text.contains("connection: close"), "{text}");
    }
    assert!(exchange(&mut stream, GET, "hi").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_client_that_never_sends_the_body_it_announced_gets_its_answer_and_the_connection_ends() {
    let server = start().await;
    let mut stream = server.connect().await;
    stream.write_all(b"POST /wait HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n").await.unwrap();
    server.entered.notified().await;
    server.release.notify_one();
    let (text, _) = rest(&mut stream).await;
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("connection: close"), "{text}");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let server = start().await;
    let mut busy = Vec::new();
    for _ in 0..QUICK.max_connections {
        let mut stream = server.connect().await;
        stream.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        server.entered.notified().await;
        busy.push(stream);
    }
    let mut next = server.connect().await;
    next.write_all(GET.as_bytes()).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(50), next.read_u8()).await;
    assert!(early.is_err(), "served beyond the limit");
    server.release.notify_one();
    assert!(exchange(&mut next, "", "hi").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn stopping_finishes_what_is_in_flight_and_closes_the_rest() {
    let mut server = start().await;
    let (mut busy, mut idle) = (server.connect().await, server.connect().await);
    assert!(exchange(&mut idle, GET, "hi").await.starts_with("HTTP/1.1 200"));
    busy.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    server.entered.notified().await;
    server.shutdown.cancel();
    let (_, after) = rest(&mut idle).await;
    assert!(after < QUICK.grace, "{after:?}");
    server.release.notify_one();
    let (text, _) = rest(&mut busy).await;
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("done"), "{text}");
    server.stopped().await;
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_request_that_outlasts_the_grace_period_is_dropped() {
    let mut server = start().await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    server.entered.notified().await;
    server.shutdown.cancel();
    let started = Instant::now();
    server.stopped().await;
    assert!(started.elapsed() >= QUICK.grace);
    assert_eq!(rest(&mut busy).await.0, "");
}

#[tokio::test]
async fn a_request_that_says_twice_how_long_its_body_is_gets_400_and_the_connection_ends() {
    let server = start().await;
    let next = "0\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n";
    for fields in [
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "content-length: 0\r\nTRANSFER-ENCODING: chunked",
        "Content-Length: 40\r\nTransfer-Encoding: gzip, chunked",
    ] {
        let mut stream = server.connect().await;
        // Also on a connection that has served others.
        let first = "POST /body HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
            Transfer-Encoding: chunked\r\n\r\n2\r\n12\r\n0\r\n\r\n";
        assert!(exchange(&mut stream, first, "\r\n\r\n2").await.starts_with("HTTP/1.1 200"));
        let request = format!("POST /body HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n{next}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let (answer, _) = rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("connection: close"), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "what follows is nobody's request: {answer}");
    }
}

#[tokio::test]
async fn where_it_cannot_be_known_whether_a_length_is_said_twice_the_connection_ends_with_the_answer() {
    let server = start().await;
    let mut stream = server.connect().await;
    // Two requests at once: the head of the second is not seen alone.
    let both = "GET / HTTP/1.1\r\nHost: x\r\n\r\nPOST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\
        Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n12\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(both.as_bytes()).await.unwrap();
    let (answers, _) = rest(&mut stream).await;
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "{answers}");
    assert_eq!(answers.matches("HTTP/1.1").count(), 2, "{answers}");
    assert!(answers.contains("connection: close"), "{answers}");
}
