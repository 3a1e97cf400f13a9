//! A server that more clients talk to than it serves: it says so, quickly.

use crate::support::app::TestApp;
use crate::support::eventually;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_refuses_at_once_and_serves_again_when_there_is_room() {
    let app = TestApp::start().await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    let address = app.url.trim_start_matches("http://");
    let head = format!(
        "POST /queues/q/messages HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: 2\r\n\r\n1",
        app.token(&["system_admin"])
    );
    // Each has a place, and keeps the other half of its body back.
    let mut slow = Vec::new();
    for _ in 0..1024 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    eventually("it refuses", async || {
        let asked = Instant::now();
        let answer = app.get("/queues/q").await;
        assert!(asked.elapsed() < Duration::from_secs(5), "an answer took {:?}", asked.elapsed());
        answer.status() == 503 && answer.headers().contains_key("retry-after")
    })
    .await;
    assert_eq!(app.get("/healthz").await.status(), 200, "who looks after it still can");
    assert_eq!(app.get("/readyz").await.status(), 200);
    // The first comes to its end, and the others give up.
    let mut first = slow.swap_remove(0);
    first.write_all(b"2").await.unwrap();
    let mut answer = [0; 12];
    first.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 201");
    drop(slow);
    eventually("it serves again", async || app.get("/queues/q").await.status() == 200).await;
    app.stop().await;
}
