//! A server that more clients talk to than it serves: it says so, quickly.

use crate::support::app::TestApp;
use crate::support::eventually;
use serde_json::json;
use std::collections::VecDeque;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

/// How many requests the server works on at a time.
const PLACES: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_refuses_at_once_and_serves_again_when_there_is_room() {
    let app = TestApp::with(&[], |app| app.in_flight(PLACES)).await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    let address = app.url.trim_start_matches("http://");
    let head = format!(
        "POST /queues/q/messages HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: 2\r\n\r\n1",
        app.token(&["system_admin"])
    );
    // Each has a place, and keeps the other half of its body back. A body that does not come is given up after
    // 10 s, so on a slow machine the first of them may be gone when the last arrives: then there is one more.
    let slow = Mutex::new(VecDeque::new());
    eventually("it refuses", async || {
        let lacking = if slow.lock().await.is_empty() { PLACES } else { 1 };
        for _ in 0..lacking {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            slow.lock().await.push_back(stream);
        }
        let answer = app.get("/queues/q").await;
        answer.status() == 503 && answer.headers().contains_key("retry-after")
    })
    .await;
    assert_eq!(app.get("/healthz").await.status(), 200, "who looks after it still can");
    assert_eq!(app.get("/readyz").await.status(), 200);
    // One that has a place comes to its end (those that came too late were refused), and the others give up.
    let mut slow = slow.into_inner();
    let mut answer = [0; 12];
    while &answer != b"HTTP/1.1 201" {
        let mut first: TcpStream = slow.pop_front().expect("one of them has a place");
        if first.write_all(b"2").await.is_ok() {
            _ = first.read_exact(&mut answer).await;
        }
    }
    drop(slow);
    eventually("it serves again", async || app.get("/queues/q").await.status() == 200).await;
    app.stop().await;
}
