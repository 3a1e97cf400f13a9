//! Bodies that cannot be taken, on every route that reads one: 400, 413 or 415, and never a 500.

use crate::support::answer::{refusal, text};
use crate::support::app::TestApp;
use axum::http::Method;
use bytes::Bytes;
use futures::stream;
use serde_json::json;

fn nested(depth: usize, open: &str, close: &str) -> String {
    open.repeat(depth) + "1" + &close.repeat(depth)
}

/// What is no JSON, or nests too deep.
fn unreadable() -> Vec<Vec<u8>> {
    let mut bodies: Vec<Vec<u8>> = [
        "",
        " \n",
        "{",
        "}",
        "[1,",
        r#"{"a":1,}"#,
        "{'a':1}",
        "{a:1}",
        "nul",
        "True",
        "NaN",
        "Infinity",
        "-Infinity",
        "01",
        "+1",
        ".5",
        "1.",
        "0x10",
        "1 2",
        "1,",
        "\"a",
        r#""\x""#,
        "\"a\nb\"",
        "/* */ 1",
        "1 // one",
        "\u{feff}\u{feff}1",
        "1\u{feff}",
        "\0",
        "1\0",
        "\"\0\"",
    ]
    .iter()
    .map(|body| body.as_bytes().to_vec())
    .collect();
    bodies.extend([&b"\xff"[..], b"\"\xc3\x28\"", b"\"\xed\xa0\x80\"", b"\xff\xfe1\0"].map(<[u8]>::to_vec));
    bodies.push(nested(129, "[", "]").into_bytes());
    bodies.push(nested(129, r#"{"a":"#, "}").into_bytes());
    bodies.push("[".repeat(100_000).into_bytes());
    bodies.push(nested(65, r#"[{"a":"#, "}]").into_bytes());
    bodies
}

/// Every route that reads a body.
const ROUTES: [(Method, &str); 7] = [
    (Method::POST, "/queues/q/messages"),
    (Method::POST, "/queues/q/messages:batch"),
    (Method::PUT, "/queues/q"),
    (Method::PUT, "/queues/q/handler"),
    (Method::POST, "/queues/q/messages/0/heartbeat"),
    (Method::POST, "/queues/q/messages/0/complete"),
    (Method::POST, "/queues/q/messages/0/fail"),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_json_is_a_400_that_says_why() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    for (method, path) in ROUTES {
        for body in unreadable() {
            let request = app.request(method.clone(), path).header("content-type", "application/json");
            let shown = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
            let problem = refusal(request.body(body).send().await.unwrap(), 400).await;
            assert!(problem["detail"].is_string(), "{path}: {shown:?}");
        }
    }
    assert_eq!(app.get("/queues/q/messages").await.text().await.unwrap(), r#"{"messages":[],"next":null}"#);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_looks_dangerous_is_taken() {
    let app = TestApp::start().await;
    app.define_javascript("q", "module.exports = m => m").await;
    let mut bodies = vec![nested(128, "[", "]"), nested(128, r#"{"a":"#, "}"), nested(64, r#"[{"a":"#, "}]")];
    bodies.extend(
        [
            r#""\\u0000""#,
            r#""\ud83d\ude00""#,
            r#""\u0001\u001f\u007f\uffff""#,
            "1e308",
            "1e-400",
            "-1e-400",
            "123456789012345678901234567890123456789012345678901234567890",
            "\u{feff}1",
            r#""[[[[[[[[""#,
            r#"{"__proto__":{"a":1}}"#,
            r#"{"constructor":1,"toString":null,"":""}"#,
            "\"\u{2028}\u{fffe}\"",
        ]
        .map(str::to_owned),
    );
    bodies.push("0.".to_owned() + &"1".repeat(100_000));
    bodies.push(format!("\"{}\"", "é".repeat(200_000)));
    for body in bodies {
        let shown = body.chars().take(40).collect::<String>();
        let pushed = text(app.push_text("q", body.clone()).await, 201).await;
        // The byte order mark is none of the value (RFC 8259, 8.1).
        assert!(pushed.contains(body.trim_start_matches('\u{feff}')), "{shown}");
    }
    app.server.run_until_idle().await.unwrap();
    let listed = app.get("/queues/q/messages?status=COMPLETE").await.text().await.unwrap();
    assert_eq!(listed.matches(r#""status":"COMPLETE""#).count(), 17, "{}", &listed[..200]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_json_in_utf_8_and_not_compressed_is_read() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    let types: [(&[(&str, &str)], u16); 18] = [
        (&[], 415),
        (&[("content-type", "")], 415),
        (&[("content-type", "text/plain")], 415),
        (&[("content-type", "application/x-www-form-urlencoded")], 415),
        (&[("content-type", "multipart/form-data; boundary=x")], 415),
        (&[("content-type", "application/jsonp")], 415),
        (&[("content-type", "application/json, text/plain")], 415),
        (&[("content-type", "application/json; charset=iso-8859-1")], 415),
        (&[("content-type", "application/json; charset=utf-16")], 415),
        (&[("content-type", "application/json"), ("content-type", "application/json")], 415),
        (&[("content-type", "application/json"), ("content-encoding", "gzip")], 415),
        (&[("content-type", "application/json"), ("content-encoding", "identity, br")], 415),
        (&[("content-type", "application/json"), ("content-encoding", "identity")], 200),
        (&[("content-type", "application/json; charset=utf-8")], 200),
        (&[("content-type", "application/json;charset=\"UTF-8\"")], 200),
        (&[("content-type", "Application/JSON")], 200),
        (&[("content-type", "application/vnd.example+json; version=1")], 200),
        (&[("content-type", "application/cloudevents+json")], 200),
    ];
    let bodies = [
        "1",
        "[1]",
        "{}",
        r#"{"kind":"worker"}"#,
        r#"{"lease":"1"}"#,
        r#"{"lease":"1"}"#,
        r#"{"lease":"1"}"#,
    ];
    for ((method, path), body) in ROUTES.into_iter().zip(bodies) {
        for (headers, expected) in types {
            let mut request = app.request(method.clone(), path).body(body);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let response = request.send().await.unwrap();
            if expected == 415 {
                refusal(response, 415).await;
            } else {
                // The last three ask for a message that is not there, once their body is read.
                assert!([200, 201, 404].contains(&response.status().as_u16()), "{path} {headers:?}");
            }
        }
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_a_413_however_its_length_is_told() {
    let app = TestApp::with(&[("POSTRIDER_MAX_BODY", "2KiB")], |app| app).await;
    app.define("q", json!({})).await;
    let filled = |length: usize| format!("\"{}\"", "x".repeat(length - 2));
    assert_eq!(app.push_text("q", filled(2048)).await.status(), 201);
    for (method, path) in ROUTES {
        for length in [2049, 100_000] {
            let whole = app.request(method.clone(), path).header("content-type", "application/json");
            let problem = refusal(whole.body(filled(length)).send().await.unwrap(), 413).await;
            assert_eq!(problem["detail"], "the body is larger than 2048 bytes");

            let pieces: Vec<_> = filled(length)
                .into_bytes()
                .chunks(1000)
                .map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece)))
                .collect();
            let chunked = app.request(method.clone(), path).header("content-type", "application/json");
            let chunked = chunked.body(reqwest::Body::wrap_stream(stream::iter(pieces)));
            refusal(chunked.send().await.unwrap(), 413).await;
        }
    }
    let whole = Bytes::from(filled(2048));
    let pieces: Vec<_> =
        (0..2048).step_by(8).map(|at| Ok::<_, std::io::Error>(whole.slice(at..at + 8))).collect();
    let chunked = app.push_text("q", reqwest::Body::wrap_stream(stream::iter(pieces))).await;
    assert_eq!(chunked.status(), 201);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_is_one_mebibyte_unless_told_otherwise() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    let filled = |length: usize| format!("\"{}\"", "x".repeat(length - 2));
    text(app.push_text("q", filled(1 << 20)).await, 201).await;
    refusal(app.push_text("q", filled((1 << 20) + 1)).await, 413).await;
    app.stop().await;
}
