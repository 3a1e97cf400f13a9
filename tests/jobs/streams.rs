//! Streams as proxies and browsers need them: the first byte at once, a key in the query, an end with the token; and
//! places of readers that are not in the log.

use super::{JOBS, ann, channel, ok, statuses, worker};
use crate::support::answer::{refusal, text};
use crate::support::app::{SECRET, TestApp};
use axum::http::{Method, StatusCode};
use futures::StreamExt as _;
use jsonwebtoken::{EncodingKey, Header, encode};
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::timeout;

/// Long enough to tell what never comes.
const LONG: Duration = Duration::from_mins(1);
/// An hour and a bit: messages are past retention then.
const PAST: Duration = Duration::from_secs(3700);

/// What comes of a stream until it has so many events, or ends.
async fn events(answer: Response, most: usize) -> String {
    let (mut bytes, mut text) = (answer.bytes_stream(), String::new());
    let read = async {
        while text.matches("event: ").count() < most || !text.ends_with("\n\n") {
            let Some(Ok(part)) = bytes.next().await else { break };
            text.push_str(std::str::from_utf8(&part).unwrap());
        }
    };
    timeout(LONG, read).await.expect("the events come");
    text
}

fn data(text: &str) -> Vec<Value> {
    text.lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A stream by headers.
fn by_headers(app: &TestApp, id: i64, key: &str) -> RequestBuilder {
    let request = ann(app).request(Method::GET, &format!("{}/broadcasts", channel(id)));
    request.header("cardsavr-messaging-access-key", key).header("accept", "text/event-stream")
}

/// A stream as an `EventSource` opens it, which has no token.
fn by_query(app: &TestApp, id: i64, key: &str, more: &str) -> RequestBuilder {
    let key: String = url::form_urlencoded::byte_serialize(key.as_bytes()).collect();
    app.anonymous(Method::GET, &format!("{}/broadcasts/stream?access_key={key}{more}", channel(id)))
}

/// When a reader is to come back, in milliseconds.
fn retry(text: &str) -> u32 {
    text.lines().find_map(|line| line.strip_prefix("retry: ")).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_bytes_of_a_stream_come_at_once_and_no_proxy_may_keep_them() {
    let app = TestApp::start().await;
    let (id, key) = ann(&app).create().await;
    for request in [by_headers(&app, id, &key), by_query(&app, id, &key, "")] {
        let answer = timeout(LONG, request.send()).await.expect("the head comes").unwrap();
        assert_eq!(answer.status(), 200);
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), "text/event-stream");
        assert_eq!(header("x-accel-buffering"), "no");
        assert_eq!(header("cache-control"), "no-store, no-transform");
        assert_eq!(header("referrer-policy"), "no-referrer");
        // Nothing is said about the job; a comment comes all the same, with when to come back.
        let first = timeout(Duration::from_secs(10), answer.bytes_stream().next())
            .await
            .expect("the first bytes come");
        let first = String::from_utf8(first.unwrap().unwrap().to_vec()).unwrap();
        assert!(first.starts_with(':'), "{first:?}");
        assert!((1000..5000).contains(&retry(&first)), "{first:?}");
    }
    // Those whom a server has dropped do not all come to the next at one moment.
    let mut retries = BTreeSet::new();
    for _ in 0..8 {
        let part = by_headers(&app, id, &key).send().await.unwrap().bytes_stream().next().await;
        retries.insert(retry(std::str::from_utf8(&part.unwrap().unwrap()).unwrap()));
    }
    assert!(retries.len() > 1, "{retries:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_has_nothing_to_say_shows_that_it_lives() {
    let app = TestApp::start().await;
    let (id, key) = ann(&app).create().await;
    let mut bytes = by_headers(&app, id, &key).send().await.unwrap().bytes_stream();
    let mut comments = 0;
    while comments < 2 {
        let part = timeout(LONG, bytes.next()).await.expect("a comment comes").unwrap().unwrap();
        comments += part.starts_with(b":").then_some(1).unwrap();
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_source_needs_the_key_alone_and_goes_on_where_it_was() {
    let app = TestApp::start().await;
    let (id, key) = ann(&app).create().await;
    let (other, others_key) = ann(&app).create().await;
    for n in 0..3 {
        worker(&app).say(id, &json!({ "status": format!("S{n}") })).await;
    }
    let seqs =
        |text: String| data(&text).iter().map(|message| message["seq"].as_i64().unwrap()).collect::<Vec<_>>();
    assert_eq!(seqs(events(by_query(&app, id, &key, "").send().await.unwrap(), 3).await), [1, 2, 3]);
    // It moves nothing: the key's place is where it was.
    assert_eq!(ann(&app).poll(id, &key, "?after=0").await.len(), 3);
    assert_eq!(seqs(events(by_query(&app, id, &key, "&after=1").send().await.unwrap(), 2).await), [2, 3]);
    let back = by_query(&app, id, &key, "&after=0").header("last-event-id", "2").send().await.unwrap();
    assert_eq!(seqs(events(back, 1).await), [3]);
    // A key that stands there as it is, whose `+` is then a space, is meant all the same.
    let bare =
        format!("{}/broadcasts/stream?access_key={}", channel(id), key.replace('+', " ").replace('=', "%3D"));
    assert_eq!(app.anonymous(Method::GET, &bare).send().await.unwrap().status(), 200);

    for (job, key) in [(id, others_key.as_str()), (other, &key), (id, "nonsense"), (id, "")] {
        refusal(by_query(&app, job, key, "").send().await.unwrap(), 401).await;
    }
    let none = format!("{}/broadcasts/stream", channel(id));
    refusal(app.anonymous(Method::GET, &none).send().await.unwrap(), 401).await;
    // A token in its place is none.
    refusal(by_query(&app, id, &app.token(&["admin"]), "").send().await.unwrap(), 401).await;

    let follower = by_query(&app, id, &key, "&after=3").send().await.unwrap();
    worker(&app).say(id, &json!({ "termination_type": "BILLABLE" })).await;
    assert_eq!(seqs(events(follower, usize::MAX).await), [4], "it ends with the final message");
    assert_eq!(by_query(&app, id, &key, "&after=4").send().await.unwrap().status(), StatusCode::NO_CONTENT);
    app.elapse(PAST).await;
    refusal(by_query(&app, id, &key, "").send().await.unwrap(), 401).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_in_queries_can_be_switched_off() {
    let app = TestApp::with(&[("POSTRIDER_QUERY_ACCESS_KEYS", "false")], |app| app).await;
    let (id, key) = ann(&app).create().await;
    refusal(by_query(&app, id, &key, "").send().await.unwrap(), 403).await;
    assert_eq!(by_headers(&app, id, &key).send().await.unwrap().status(), 200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_token_does() {
    let app = TestApp::start().await;
    let (id, key) = ann(&app).create().await;
    // The leeway for clocks of issuers, thirty seconds, is nearly over.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({ "sub": "ann", "roles": ["cardholder_agent"], "exp": now - 20 });
    let token = encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap();
    let stream = app.anonymous(Method::GET, &format!("{}/broadcasts", channel(id))).bearer_auth(&token);
    let stream = stream.header("cardsavr-messaging-access-key", &key).header("accept", "text/event-stream");
    let answer = stream.send().await.unwrap();
    let longer = by_headers(&app, id, &key).send().await.unwrap();
    assert_eq!((answer.status(), longer.status()), (StatusCode::OK, StatusCode::OK));
    // It lives before it ends: the last that is said comes.
    worker(&app).say(id, &json!({ "status": "A" })).await;
    let told = data(&events(answer, usize::MAX).await);
    assert_eq!(statuses(&told), ["A"]);
    // That of a token which lasts goes on.
    worker(&app).say(id, &json!({ "status": "B" })).await;
    assert_eq!(statuses(&data(&events(longer, 2).await)), ["A", "B"]);
    let back = app.anonymous(Method::GET, &format!("{JOBS}/{id}")).bearer_auth(&token).send().await.unwrap();
    refusal(back, 401).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_beyond_the_end_of_a_log_is_told_at_once_where_it_is() {
    let app = TestApp::start().await;
    let (id, key) = ann(&app).create().await;
    worker(&app).say(id, &json!({ "status": "A" })).await;
    worker(&app).say(id, &json!({ "status": "B" })).await;
    let gap = json!({ "type": "gap", "job_id": id, "seq": 2, "message": { "from": 3, "to": 9, "end": 2 } });
    for query in ["?after=9", "?after=9&wait=9"] {
        assert_eq!(ann(&app).poll(id, &key, query).await, std::slice::from_ref(&gap), "{query}");
    }
    let streams = [
        by_headers(&app, id, &key).header("last-event-id", "9"),
        by_query(&app, id, &key, "").header("last-event-id", "9"),
        by_query(&app, id, &key, "&after=9"),
    ];
    for stream in streams {
        let answer = stream.send().await.unwrap();
        let text = events(answer, 1).await;
        assert_eq!(data(&text), std::slice::from_ref(&gap));
        assert!(text.contains("event: gap\nid: 2\n"), "{text}");
    }
    // From there it goes on, and the message that then has the number of its place is not lost.
    let stream = by_query(&app, id, &key, "&after=3").send().await.unwrap();
    worker(&app).say(id, &json!({ "termination_type": "BILLABLE" })).await;
    let told = data(&events(stream, usize::MAX).await);
    assert_eq!(told.iter().map(|message| message["seq"].as_i64().unwrap()).collect::<Vec<_>>(), [2, 3]);
    let told = data(&events(by_query(&app, id, &key, "&after=7").send().await.unwrap(), usize::MAX).await);
    assert_eq!((told.len(), &told[0]["seq"]), (1, &json!(3)), "{told:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feeds_without_keys_tell_what_is_past_retention() {
    let app = TestApp::start().await;
    let ann = ann(&app);
    let (one, _) = ann.create().await;
    let (other, _) = ann.create().await;
    for id in [one, other] {
        worker(&app).say(id, &json!({ "status": "OLD" })).await;
        worker(&app).say(id, &json!({ "status": "OLD" })).await;
    }
    let mut db = app.connect().await;
    let old = "UPDATE broadcasts SET created_at = created_at - interval '2 hours'";
    sqlx::query(old).execute(&mut db).await.unwrap();
    worker(&app).say(other, &json!({ "status": "NEW" })).await;
    let feed = ok(ann.get("/messages/cardholders/7").await).await;
    let gap = |id: i64| json!({ "type": "gap", "job_id": id, "message": { "from": 1, "to": 2 } });
    let feed = feed.as_array().unwrap();
    assert_eq!(feed.len(), 3, "{feed:?}");
    assert_eq!((&feed[0], &feed[1]), (&gap(one), &gap(other)));
    assert_eq!(feed[2]["message"]["status"], "NEW");
    assert_eq!(ok(ann.get("/messages/cardholders/7").await).await, json!([]), "a gap is told once");
    assert_eq!(ok(ann.get(&channel(one)).await).await, json!([gap(one)]));
    assert_eq!(ok(ann.get(&channel(one)).await).await, json!([]));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_of_any_size_stay_as_they_are_written_in_every_way_to_read() {
    const NUMBERS: &str = r#""n":123456789012345678901234567890,"m":-0.10000000000000000000001E+30"#;
    let app = TestApp::start().await;
    let (id, key) = ann(&app).create().await;
    let said = format!(r#"{{"status":"A",{NUMBERS},"deep":[{{{NUMBERS}}}]}}"#);
    let said = worker(&app)
        .request(Method::PUT, &format!("{JOBS}/{id}"))
        .header("content-type", "application/json")
        .body(said);
    text(said.send().await.unwrap(), 200).await;
    let poll = |query: &str| {
        let request = ann(&app).request(Method::GET, &format!("{}/broadcasts{query}", channel(id)));
        request.header("cardsavr-messaging-access-key", &key).send()
    };
    let mut told = vec![events(by_query(&app, id, &key, "").send().await.unwrap(), 1).await];
    told.push(text(poll("?after=0").await.unwrap(), 200).await);
    told.push(text(poll("").await.unwrap(), 200).await);
    told.push(text(ann(&app).get(&channel(id)).await, 200).await);
    told.push(text(ann(&app).get("/messages/cardholders/7").await, 200).await);
    for told in told {
        assert_eq!(told.matches(NUMBERS).count(), 2, "{told}");
    }
    app.stop().await;
}
