//! Every subscriber sees every message once and in order, however it reads and whatever happens to servers.

use super::{JOBS, ann, channel, ok, statuses, worker};
use crate::support::app::{TestApp, database};
use axum::http::Method;
use futures::StreamExt as _;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const WRITERS: usize = 8;
const EACH: usize = 25;
const SUBSCRIBERS: usize = 20;

/// Writes from many clients at once, then ends the job.
async fn write_all(app: &TestApp, id: i64) {
    let worker = worker(app);
    let writers = (0..WRITERS).map(|writer| {
        let worker = &worker;
        async move {
            for n in 0..EACH {
                let status = json!({ "status": "UPDATING", "writer": writer, "n": n });
                ok(worker.post(&format!("{}/broadcasts", channel(id)), &status).await).await;
            }
        }
    });
    futures::future::join_all(writers).await;
    worker.say(id, &json!({ "status": "DONE", "termination_type": "BILLABLE" })).await;
}

/// Polls until the final message has come to either of two pollers of one key.
async fn poll_to_the_end(app: &TestApp, id: i64, key: &str, query: &str) -> Vec<Value> {
    let ann = ann(app);
    let over = std::sync::atomic::AtomicBool::new(false);
    let poller = async || {
        let mut batches: Vec<Vec<Value>> = Vec::new();
        let started = Instant::now();
        while !over.load(std::sync::atomic::Ordering::Acquire) {
            assert!(started.elapsed() < Duration::from_mins(2), "the final message never came");
            let batch = ann.poll(id, key, query).await;
            if batch.last().is_some_and(|last| last["message"]["termination_type"].is_string()) {
                over.store(true, std::sync::atomic::Ordering::Release);
            }
            batches.push(batch);
        }
        batches
    };
    let (one, other) = futures::join!(poller(), poller());
    for batches in [&one, &other] {
        check_order(&batches.concat());
    }
    let mut all = one.concat();
    all.extend(other.concat());
    all
}

/// Of each writer, what comes later was written later.
fn check_order(messages: &[Value]) {
    for writer in 0..WRITERS {
        let of: Vec<u64> = messages
            .iter()
            .filter(|message| message["message"]["writer"] == writer)
            .map(|message| message["message"]["n"].as_u64().unwrap())
            .collect();
        assert!(of.windows(2).all(|pair| pair[0] < pair[1]), "{of:?}");
    }
}

/// Every message is there, and none twice.
fn check_complete(messages: &[Value]) {
    let seen: BTreeSet<String> = messages.iter().map(|message| message["message"].to_string()).collect();
    let written: BTreeSet<(u64, u64)> = messages
        .iter()
        .filter_map(|m| Some((m["message"]["writer"].as_u64()?, m["message"]["n"].as_u64()?)))
        .collect();
    assert_eq!(written.len(), WRITERS * EACH, "some are missing");
    assert_eq!(messages.len(), WRITERS * EACH + 1, "some came twice: {}", seen.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pollers_of_one_key_see_every_message_once_and_in_order() {
    let app = TestApp::start().await;
    let ann = ann(&app);
    let (id, first) = ann.create().await;
    worker(&app).claim().await;
    let mut keys = vec![first];
    while keys.len() < SUBSCRIBERS {
        keys.push(ann.register(id).await);
    }
    let readers = keys.iter().enumerate().map(|(n, key)| {
        // Some poll, some wait.
        let query = if n % 2 == 0 { "" } else { "?wait=9" };
        poll_to_the_end(&app, id, key, query)
    });
    let ((), read) = futures::join!(write_all(&app, id), futures::future::join_all(readers));
    for messages in read {
        check_complete(&messages);
    }
    app.stop().await;
}

/// Reads a stream from `after`, which moves, until it ends; returns whether the final message came.
async fn stream(app: &TestApp, id: i64, key: &str, after: &mut i64, into: &mut Vec<Value>) -> bool {
    let request = ann(app).request(Method::GET, &format!("{}/broadcasts", channel(id)));
    let request = request.header("cardsavr-messaging-access-key", key).header("accept", "text/event-stream");
    let Ok(answer) = request.header("last-event-id", after.to_string()).send().await else { return false };
    assert!(answer.status().is_success(), "{}", answer.status());
    let (mut bytes, mut text) = (answer.bytes_stream(), String::new());
    while let Some(Ok(part)) = bytes.next().await {
        text.push_str(std::str::from_utf8(&part).unwrap());
        while let Some((event, rest)) = text.split_once("\n\n") {
            let data = event.lines().find_map(|line| line.strip_prefix("data: "));
            if let Some(data) = data {
                let message: Value = serde_json::from_str(data).unwrap();
                assert_eq!(message["seq"], *after + 1, "out of order");
                *after += 1;
                let last = message["message"]["termination_type"].is_string();
                into.push(message);
                if last {
                    return true;
                }
            }
            text = rest.to_owned();
        }
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_long_polls_go_on_over_two_servers_and_a_restart() {
    let database = database().await;
    let writer = TestApp::on(database.clone(), &[], |app| app).await;
    let reader = TestApp::on(database.clone(), &[], |app| app).await;
    let (id, key) = ann(&writer).create().await;
    worker(&writer).claim().await;
    let halfway = WRITERS * EACH / 2;

    // The readers' server stops when they have read half; they go on at another.
    let (mut streamed, mut after) = (Vec::new(), 0);
    let mut polled: Vec<Value> = Vec::new();
    let read = async {
        {
            let stream = stream(&reader, id, &key, &mut after, &mut streamed);
            let long_poll = async {
                while polled.len() < halfway {
                    let last = polled.last().map_or(0, |message| message["seq"].as_i64().unwrap());
                    polled.extend(ann(&reader).poll(id, &key, &format!("?wait=9&after={last}")).await);
                }
            };
            futures::pin_mut!(stream);
            futures::pin_mut!(long_poll);
            // Whichever is first: the stream is cut off in the middle.
            futures::future::select(stream, long_poll).await;
        }
        reader.stop().await;
        let reader = TestApp::on(database.clone(), &[], |app| app).await;
        while !stream(&reader, id, &key, &mut after, &mut streamed).await {}
        while polled.len() < WRITERS * EACH + 1 {
            let last = polled.last().map_or(0, |message| message["seq"].as_i64().unwrap());
            polled.extend(ann(&reader).poll(id, &key, &format!("?wait=9&after={last}")).await);
        }
        reader
    };
    let ((), reader) = futures::join!(write_all(&writer, id), read);
    check_complete(&streamed);
    check_complete(&polled);
    let seqs: Vec<i64> = polled.iter().map(|message| message["seq"].as_i64().unwrap()).collect();
    assert!(seqs.windows(2).all(|pair| pair[0] + 1 == pair[1]));

    // Whoever has read the final message is told not to come back.
    let request = ann(&reader).request(Method::GET, &format!("{}/broadcasts", channel(id)));
    let request = request.header("cardsavr-messaging-access-key", &key).header("accept", "text/event-stream");
    let over = request.header("last-event-id", after.to_string()).send().await.unwrap();
    assert_eq!(over.status(), 204);
    writer.stop().await;
    reader.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_server_ends_its_streams() {
    let app = TestApp::start().await;
    let (id, key) = ann(&app).create().await;
    worker(&app).say(id, &json!({ "status": "AUTH" })).await;
    let request = ann(&app).request(Method::GET, &format!("{}/broadcasts", channel(id)));
    let request = request.header("cardsavr-messaging-access-key", &key).header("accept", "text/event-stream");
    let answer = request.send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut bytes = answer.bytes_stream();
    // A comment comes before the first event.
    let mut first = Vec::new();
    while !first.ends_with(b"\n\n") || !first.windows(5).any(|part| part == b"id: 1") {
        first.extend(bytes.next().await.unwrap().unwrap());
    }
    let stopped = Instant::now();
    app.stop().await;
    while let Some(part) = bytes.next().await {
        drop(part);
    }
    assert!(stopped.elapsed() < Duration::from_secs(15), "the stream held the server up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_that_is_cut_off_loses_nothing_for_who_reads_on_from_a_place() {
    let app = TestApp::start().await;
    let (ann, worker) = (ann(&app), worker(&app));
    let (id, key) = ann.create().await;
    for n in 0..5 {
        worker.say(id, &json!({ "status": format!("S{n}") })).await;
    }
    // An answer that never arrives: the cursor has moved, but the place is the client's own.
    assert_eq!(ann.poll(id, &key, "").await.len(), 5);
    for _ in 0..2 {
        let log = ann.poll(id, &key, "?after=2").await;
        assert_eq!(statuses(&log), ["S2", "S3", "S4"]);
        assert_eq!(log[0]["seq"], 3);
    }
    // A long poll whose client hangs up takes nothing with it.
    let path = format!("{}/broadcasts?wait=9&after=5", channel(id));
    let hung = ann.request(Method::GET, &path).header("cardsavr-messaging-access-key", &key);
    hung.timeout(Duration::from_millis(200)).send().await.unwrap_err();
    worker.say(id, &json!({ "status": "S5" })).await;
    assert_eq!(statuses(&ann.poll(id, &key, "?wait=9&after=5").await), ["S5"]);
    assert_eq!(statuses(&ann.poll(id, &key, "").await), ["S5"]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_poll_writes_nothing() {
    let app = TestApp::start().await;
    let ann = ann(&app);
    let (id, key) = ann.create().await;
    let mut db = app.connect().await;
    let written = "SELECT xmin::text || cursor FROM registrations ORDER BY id";
    let before: Vec<String> = sqlx::query_scalar(written).fetch_all(&mut db).await.unwrap();
    for _ in 0..3 {
        assert!(ann.poll(id, &key, "").await.is_empty());
        assert_eq!(ok(ann.get(&channel(id)).await).await, json!([]));
    }
    let after: Vec<String> = sqlx::query_scalar(written).fetch_all(&mut db).await.unwrap();
    assert_eq!(before, after);
    assert_eq!(ok(ann.get(&format!("{JOBS}/{id}")).await).await["status"], "REQUESTED");
    app.stop().await;
}
