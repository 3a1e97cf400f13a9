//! A server that more clients talk to than it serves: it says so, quickly.

use crate::support::app::TestApp;
use crate::support::eventually;
use reqwest::Method;
use serde_json::json;
use sqlx::{Connection as _, Executor as _};
use std::io::ErrorKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How many requests the server works on at a time.
const PLACES: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_refuses_at_once_and_serves_again_when_there_is_room() {
    let app = TestApp::with(&[], |app| app.in_flight(PLACES)).await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    // Nothing can be stored while the table is locked, so each push keeps its place.
    let mut holder = app.connect().await;
    let mut lock = holder.begin().await.unwrap();
    lock.execute("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut pushes = JoinSet::new();
    let mut turn = 0;
    eventually("it refuses", async || {
        // The database lets no statement wait for ever: who was answered is followed by another.
        while pushes.try_join_next().is_some() {}
        while pushes.len() < PLACES {
            let token = app.token_of(&format!("caller {}", turn % 2), &["system_admin"]);
            let push = app.anonymous(Method::POST, "/queues/q/messages").bearer_auth(token).json(&turn);
            pushes.spawn(async move { push.send().await.unwrap().status() });
            turn += 1;
        }
        let answer = app.get("/queues/q").await;
        answer.status() == 503 && answer.headers().contains_key("retry-after")
    })
    .await;
    assert_eq!(app.get("/healthz").await.status(), 200, "who looks after it still can");
    assert_eq!(app.get("/readyz").await.status(), 200);
    lock.rollback().await.unwrap();
    pushes.join_all().await;
    assert_eq!(app.get("/queues/q").await.status(), 200, "it serves again");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_whose_bodies_do_not_come_leaves_room_to_the_others() {
    let app = TestApp::with(&[], |app| app.in_flight(PLACES)).await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    let address = app.url.trim_start_matches("http://");
    let head = format!(
        "POST /queues/q/messages HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: 2\r\n\r\n1",
        app.token_of("greedy", &["system_admin"])
    );
    let mut slow = Vec::new();
    for _ in 0..2 * PLACES {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    // Beyond its share the caller is refused at once; the others are served as if it were not there.
    eventually("it refuses what is beyond", async || {
        slow.retain(|stream| {
            let mut answer = [0; 12];
            match stream.try_read(&mut answer) {
                Ok(_) => assert_eq!(&answer, b"HTTP/1.1 429"),
                Err(nothing) => assert_eq!(nothing.kind(), ErrorKind::WouldBlock),
            }
            answer == [0; 12]
        });
        slow.len() == PLACES / 4 * 3
    })
    .await;
    for other in 0..PLACES {
        let token = app.token_of(&format!("caller {other}"), &["system_admin"]);
        let push = app.anonymous(Method::POST, "/queues/q/messages").bearer_auth(token).json(&other);
        assert_eq!(push.send().await.unwrap().status(), 201);
    }
    // What comes late comes all the same.
    let mut answer = [0; 12];
    slow[0].write_all(b"2").await.unwrap();
    slow[0].read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 201");
    drop(slow);
    app.stop().await;
}
