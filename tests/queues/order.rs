//! The order of the checks: 401 before the body is looked at, then 404, 403, 413, 415, 400, 422.

use crate::support::answer::refusal;
use crate::support::app::TestApp;
use axum::http::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What can be wrong with a push.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mistake {
    Token,
    Queue,
    Role,
    Size,
    Kind,
    Text,
    Option,
    Schema,
}

/// Every mistake with the status of the check that finds it, in the order of the checks.
const ORDER: [(Mistake, u16); 8] = [
    (Mistake::Token, 401),
    (Mistake::Queue, 404),
    (Mistake::Role, 403),
    (Mistake::Size, 413),
    (Mistake::Kind, 415),
    (Mistake::Text, 400),
    (Mistake::Option, 400),
    (Mistake::Schema, 422),
];

#[tokio::test(flavor = "multi_thread")]
async fn of_several_mistakes_the_first_in_the_order_is_told() {
    let app = TestApp::with(&[("POSTRIDER_MAX_BODY", "1KiB")], |app| app).await;
    app.define("q", json!({ "incoming": { "schema": { "type": "integer" } } })).await;
    for mended in 0..=ORDER.len() {
        // The first mistakes are mended one by one; all those behind stay.
        let left: Vec<Mistake> = ORDER[mended..].iter().map(|(mistake, _)| *mistake).collect();
        for batch in [false, true] {
            let response = push(&app, &left, batch).await;
            match ORDER.get(mended) {
                Some((_, status)) => drop(refusal(response, *status).await),
                None => assert_eq!(response.status(), 201),
            }
        }
    }
    app.stop().await;
}

/// A push with these mistakes, of one message or of a batch of one.
async fn push(app: &TestApp, mistakes: &[Mistake], batch: bool) -> reqwest::Response {
    let wrong = |mistake| mistakes.contains(&mistake);
    let queue = if wrong(Mistake::Queue) { "nowhere" } else { "q" };
    let path = if batch { "messages:batch?atomic=true&" } else { "messages?" };
    let option = if wrong(Mistake::Option) { "delay=soon" } else { "" };
    let path = format!("/queues/{queue}/{path}{option}");
    let role = if wrong(Mistake::Role) { "other_writer" } else { "q_writer" };
    let token = if wrong(Mistake::Token) { "no.token.here".to_owned() } else { app.token(&[role]) };
    let kind = if wrong(Mistake::Kind) { "text/plain" } else { "application/json" };
    let message = if wrong(Mistake::Schema) { "\"five\"" } else { "5" };
    let text = if batch { format!("[{message}]") } else { message.to_owned() };
    let text = if wrong(Mistake::Text) { format!("{{{text}") } else { text };
    let text = if wrong(Mistake::Size) { text + &" ".repeat(2000) } else { text };
    let request = app.anonymous(Method::POST, &path).bearer_auth(token).header("content-type", kind);
    request.body(text).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_asks_for_the_token_then_the_queue_then_the_role() {
    let app = TestApp::start().await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    let id = app.push("q", &json!(1)).await;
    let routes = [
        (Method::POST, "/messages".to_owned()),
        (Method::GET, "/messages?limit=none".to_owned()),
        (Method::POST, "/messages:batch".to_owned()),
        (Method::POST, "/messages:retry?limit=none".to_owned()),
        (Method::GET, format!("/messages/{id}?view=other")),
        (Method::GET, "/messages/malformed".to_owned()),
        (Method::DELETE, format!("/messages/{id}")),
        (Method::GET, String::new()),
        (Method::DELETE, String::new()),
        (Method::PUT, "/handler".to_owned()),
        (Method::POST, "/pause".to_owned()),
        (Method::POST, "/resume".to_owned()),
        (Method::POST, format!("/messages/{id}/retry")),
        (Method::POST, "/claim?max=none".to_owned()),
        (Method::POST, format!("/messages/{id}/heartbeat")),
        (Method::POST, format!("/messages/{id}/complete")),
        (Method::POST, format!("/messages/{id}/fail")),
    ];
    for (method, rest) in routes {
        let here = format!("/queues/q{rest}");
        let nowhere = format!("/queues/nowhere{rest}");
        for path in [&here, &nowhere] {
            refusal(app.anonymous(method.clone(), path).body("{").send().await.unwrap(), 401).await;
        }
        let stranger = |path| app.request_as(&["stranger"], method.clone(), path).body("{").send();
        refusal(stranger(&nowhere).await.unwrap(), 404).await;
        refusal(stranger(&here).await.unwrap(), 403).await;
    }
    // A definition is put where nothing is yet, so that only the token and the role come before the body.
    refusal(app.anonymous(Method::PUT, "/queues/new").body("{").send().await.unwrap(), 401).await;
    let stranger = app.request_as(&["queue_writer"], Method::PUT, "/queues/new").body("{");
    refusal(stranger.send().await.unwrap(), 403).await;
    refusal(app.request(Method::PUT, "/queues/new").body("{").send().await.unwrap(), 415).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_body_of_a_request_that_may_not_be_made_is_not_waited_for() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    let stranger = app.token(&["stranger"]);
    for (queue, token, status) in
        [("q", "none", "401"), ("nowhere", &*stranger, "404"), ("q", &*stranger, "403")]
    {
        let mut stream = TcpStream::connect(app.server.address().unwrap()).await.unwrap();
        let head = format!(
            "POST /queues/{queue}/messages HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
             authorization: Bearer {token}\r\ncontent-length: 1000\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // The connection closes, since what is left of the body is in the way, and the client is told.
        let mut answer = String::new();
        stream.shutdown().await.unwrap();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    }
    app.stop().await;
}
