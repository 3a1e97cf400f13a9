//! A value is the same however it is spelt and whoever works it out: the process over HTTP, the database in SQL.

use crate::support::answer::json;
use crate::support::app::TestApp;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use sqlx::postgres::PgConnection;

/// A JSON text at random, with every kind of spelling that there is.
fn text(random: &mut StdRng, depth: usize) -> String {
    let space = [" ", "", "\n", "\t"][random.random_range(0..4)];
    let many = random.random_range(0..4);
    let value = match random.random_range(0..if depth > 0 { 8 } else { 5 }) {
        0 => ["null", "true", "false"][random.random_range(0..3)].to_owned(),
        1 => ["0", "-0", "1.0", "1", "1e400", "12345678901234567890123", "1E+2"][random.random_range(0..7)]
            .to_owned(),
        2..=4 => string(random),
        5 => format!("[{}]", (0..many).map(|_| text(random, depth - 1)).collect::<Vec<_>>().join(" ,")),
        _ => {
            let member =
                |random: &mut StdRng| format!("{}{space}:{}", string(random), text(random, depth - 1));
            format!("{{{}}}", (0..many).map(|_| member(random)).collect::<Vec<_>>().join(", "))
        }
    };
    format!("{space}{value}{space}")
}

fn string(random: &mut StdRng) -> String {
    const PARTS: &[&str] = &[
        "a",
        "b",
        "\\u0061",
        "\\n",
        "\\u000a",
        "\\u0001",
        "\\u001F",
        "\\/",
        "\\\\",
        "\\\"",
        "\\u005c",
        "é",
        "\\u00e9",
        "😀",
        "\\ud83d\\ude00",
        "\\uD83D",
        "\\ude00",
        "\\u0000",
        "\\\\u0000",
        "\\\\ud83d\\ude00",
        "\\udbff\\udfff",
        "\u{10ffff}",
        "\u{7f}",
        "\\u007f",
        "\\b\\f\\r\\t",
        "ud800",
        "\u{2028}",
        " ",
    ];
    let parts: Vec<&str> =
        (0..random.random_range(0..4)).map(|_| PARTS[random.random_range(0..PARTS.len())]).collect();
    format!("\"{}\"", parts.concat())
}

async fn enqueue(db: &mut PgConnection, body: &str) -> String {
    let enqueue = "SELECT enqueue('q', $1::text)::text";
    sqlx::query_scalar(enqueue)
        .bind(body)
        .fetch_one(db)
        .await
        .unwrap_or_else(|error| panic!("{body}: {error}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn http_and_sql_find_the_same_value_in_every_text() {
    let app = TestApp::start().await;
    let mut db = app.connect().await;
    for key in ["body", "/a/0/b~1"] {
        let options = json!({ "unique": { "key": key, "while": "unfinished" } });
        app.define("q", json!({ "handler": { "kind": "worker" }, "options": options })).await;
        let seed = rand::random();
        let mut random = StdRng::seed_from_u64(seed);
        for _ in 0..200 {
            let value = text(&mut random, 3);
            let (spoil, other) = (string(&mut random), text(&mut random, 1));
            let body = match key {
                "body" => value.clone(),
                _ => format!(r#"{{{spoil}:{other},"\u0061":[{{"b/":0,"b/":{value}}}, {other}]}}"#),
            };
            let answer = app.push_text("q", body.clone()).await;
            let status = answer.status().as_u16();
            assert!([200, 201].contains(&status), "seed {seed}: {status} {body}");
            let by_http = answer.json::<serde_json::Value>().await;
            let Ok(by_http) = by_http else { continue };
            let by_sql = enqueue(&mut db, &body).await;
            let same = by_http["id"] == by_sql;
            assert_eq!(same, value.trim() != "null", "seed {seed}: {body}");
        }
    }
    let page = app.get("/queues/q/messages?limit=1").await;
    json(page, 200).await;
    app.stop().await;
}
