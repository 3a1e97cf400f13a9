//! `Idempotency-Key`: a push that is sent again makes no second message.

use crate::support::answer::{json, refusal, text};
use crate::support::app::TestApp;
use axum::http::Method;
use futures::future::join_all;
use serde_json::{Value, json};

async fn push(app: &TestApp, queue: &str, key: &str, message: &str) -> reqwest::Response {
    let request = app.request(Method::POST, &format!("/queues/{queue}/messages"));
    let request = request.header("idempotency-key", key).header("content-type", "application/json");
    request.body(message.to_owned()).send().await.unwrap()
}

async fn batch(app: &TestApp, queue: &str, query: &str, key: &str, messages: &str) -> reqwest::Response {
    let request = app.request(Method::POST, &format!("/queues/{queue}/messages:batch{query}"));
    let request = request.header("idempotency-key", key).header("content-type", "application/json");
    request.body(messages.to_owned()).send().await.unwrap()
}

async fn count(app: &TestApp, queue: &str) -> usize {
    json(app.get(&format!("/queues/{queue}/messages")).await, 200).await["messages"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_and_body_give_the_first_message_again() {
    let app = TestApp::start().await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    app.define("other", json!({})).await;
    let first = push(&app, "q", "k", r#"{"a":1}"#).await;
    let location = first.headers()["location"].clone();
    let first = text(first, 201).await;
    let again = push(&app, "q", "k", " {\"a\":1}\n").await;
    assert_eq!(again.headers()["location"], location);
    assert_eq!(text(again, 200).await, first);
    // What became of it since then is told, too.
    json(app.post("/queues/q/claim", &json!(null)).await, 200).await;
    let again = json(push(&app, "q", "k", r#"{"a":1}"#).await, 200).await;
    assert_eq!(again["status"], "INPROGRESS");
    for other in [r#"{"a":2}"#, r#"{"a":1.0}"#, r#"{"A":1}"#, r#"[{"a":1}]"#] {
        refusal(push(&app, "q", "k", other).await, 409).await;
    }
    text(push(&app, "q", "K", r#"{"a":1}"#).await, 201).await;
    let elsewhere = json(push(&app, "other", "k", r#"{"a":2}"#).await, 201).await;
    assert_ne!(elsewhere["id"], again["id"]);
    assert_eq!((count(&app, "q").await, count(&app, "other").await), (2, 1));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_pushes_at_once_with_one_key_make_one_message() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    for round in 0..5 {
        let key = format!("key {round}");
        let answers = join_all((0..20).map(|_| push(&app, "q", &key, "7"))).await;
        let created = answers.iter().filter(|answer| answer.status() == 201).count();
        assert_eq!(created, 1);
        let mut ids = Vec::new();
        for answer in answers {
            assert!([200, 201].contains(&answer.status().as_u16()), "{}", answer.status());
            ids.push(answer.json::<Value>().await.unwrap()["id"].clone());
        }
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }
    assert_eq!(count(&app, "q").await, 5);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_bodies_at_once_with_one_key_one_is_kept_and_the_other_refused() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    let answers = join_all((0..20).map(|n| push(&app, "q", "k", if n % 2 == 0 { "1" } else { "2" }))).await;
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status().as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [vec![200; 9], vec![201], vec![409; 10]].concat());
    assert_eq!(count(&app, "q").await, 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_1_to_255_characters_sent_once() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    let longest = "k".repeat(255);
    text(push(&app, "q", &longest, "1").await, 201).await;
    text(push(&app, "q", "a key, with; signs/\"and\" spaces", "1").await, 201).await;
    for bad in ["", "  ", &"k".repeat(256), "clé"] {
        refusal(push(&app, "q", bad, "1").await, 400).await;
    }
    let twice = app.request(Method::POST, "/queues/q/messages").json(&1);
    let twice = twice.header("idempotency-key", "a").header("idempotency-key", "b");
    refusal(twice.send().await.unwrap(), 400).await;
    refusal(batch(&app, "q", "", "clé", "[1]").await, 400).await;
    assert_eq!(count(&app, "q").await, 2);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_push_does_not_use_its_key_up() {
    let app = TestApp::start().await;
    app.define("q", json!({ "incoming": { "schema": { "type": "integer" } } })).await;
    refusal(push(&app, "q", "k", "\"no\"").await, 422).await;
    text(push(&app, "q", "k", "1").await, 201).await;
    refusal(push(&app, "q", "k", "\"no\"").await, 422).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_message_is_deleted_is_gone_and_makes_no_new_one() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    let first = json(push(&app, "q", "k", "1").await, 201).await;
    let id = first["id"].as_str().unwrap();
    assert_eq!(app.delete(&format!("/queues/q/messages/{id}")).await.status(), 204);
    let gone = push(&app, "q", "k", "1").await;
    assert!(!gone.headers().contains_key("location"), "there is nothing to go to");
    refusal(gone, 410).await;
    refusal(push(&app, "q", "k", "2").await, 409).await;
    refusal(app.get(&format!("/queues/q/messages/{id}")).await, 404).await;
    assert_eq!(count(&app, "q").await, 0);
    app.stop().await;
}

/// Pairs that say the same, and pairs that do not.
const SPELLINGS: [(&str, &str, bool); 10] = [
    (r#"{"x":1}"#, "{ \"x\" :\n1}", true),
    (r#"{"a":{"b":[1,2],"c":null},"d":""}"#, r#"{"d":"","a":{"c":null,"b":[1,2]}}"#, true),
    (r#""é/😀""#, r#""\u00e9\/\ud83d\ude00""#, true),
    (r#"["\ud800","\u0000"]"#, r#"[ "\uD800", "\u0000" ]"#, true),
    ("[1,2]", "[2,1]", false),
    (r#"{"a":1,"a":2}"#, r#"{"a":2,"a":1}"#, false),
    ("9007199254740993", "9007199254740992", false),
    ("1e400", "1e401", false),
    (r#""\ud800""#, r#""\ud801""#, false),
    (r#""1""#, "1", false),
];

#[tokio::test(flavor = "multi_thread")]
async fn two_bodies_are_the_same_when_they_say_the_same() {
    let app = TestApp::start().await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    for (index, (one, other, same)) in SPELLINGS.into_iter().enumerate() {
        let key = format!("{index}");
        let first = json(push(&app, "q", &key, one).await, 201).await;
        let again = push(&app, "q", &key, other).await;
        assert_eq!(again.status(), if same { 200 } else { 409 }, "{one} and {other}");
        if same {
            assert_eq!(json(again, 200).await["id"], first["id"]);
        }
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_and_http_know_each_others_keys_however_the_body_is_spelt() {
    let app = TestApp::start().await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    let mut db = app.connect().await;
    let mut enqueue = async |payload: &str, key: &str| {
        sqlx::query_scalar::<_, uuid::Uuid>("SELECT enqueue('q', $1::text::json, idempotency_key => $2)")
            .bind(payload)
            .bind(key)
            .fetch_one(&mut db)
            .await
    };
    for (index, (one, other, same)) in SPELLINGS.into_iter().enumerate() {
        let (by_sql, by_http) = (format!("sql {index}"), format!("http {index}"));
        let first = enqueue(one, &by_sql).await.unwrap();
        let again = push(&app, "q", &by_sql, other).await;
        assert_eq!(again.status(), if same { 200 } else { 409 }, "{one} and {other}");
        if same {
            assert_eq!(json(again, 200).await["id"], first.to_string());
        }

        let first = json(push(&app, "q", &by_http, one).await, 201).await;
        assert_eq!(enqueue(one, &by_http).await.unwrap().to_string(), first["id"], "{one}");
        let again = enqueue(other, &by_http).await.map(|id| id.to_string());
        assert_eq!(again.ok(), same.then(|| first["id"].as_str().unwrap().to_owned()), "{one} and {other}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_sent_again_gives_the_first_answer_again() {
    let app = TestApp::start().await;
    let schema = json!({ "incoming": { "schema": { "type": "integer" } } });
    app.define("q", schema).await;
    let mixed = r#"[1,"no",2]"#;
    let first = text(batch(&app, "q", "", "k", mixed).await, 201).await;
    assert_eq!(text(batch(&app, "q", "", "k", " [1, \"n\\u006f\", 2]").await, 200).await, first);
    // What a schema says now does not change what was answered.
    app.define("q", json!({})).await;
    assert_eq!(text(batch(&app, "q", "", "k", mixed).await, 200).await, first);
    assert_eq!(count(&app, "q").await, 2);
    refusal(batch(&app, "q", "", "k", "[1,2]").await, 409).await;
    refusal(batch(&app, "q", "?atomic=true", "k", mixed).await, 409).await;
    refusal(push(&app, "q", "k", mixed).await, 409).await;
    text(push(&app, "q", "single", "[1]").await, 201).await;
    refusal(batch(&app, "q", "", "single", "[1]").await, 409).await;

    let atomic = text(batch(&app, "q", "?atomic=true", "all", "[5,6,7]").await, 201).await;
    assert_eq!(text(batch(&app, "q", "?atomic=true", "all", "[5,6,7]").await, 200).await, atomic);
    assert_eq!(count(&app, "q").await, 6);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_which_nothing_is_stored_does_not_use_its_key_up() {
    let app = TestApp::start().await;
    app.define("q", json!({ "incoming": { "schema": { "type": "integer" } } })).await;
    text(batch(&app, "q", "", "k", r#"["no"]"#).await, 201).await;
    refusal(batch(&app, "q", "?atomic=true", "k", r#"[1,"no"]"#).await, 422).await;
    text(batch(&app, "q", "", "k", "[1]").await, 201).await;
    text(batch(&app, "q", "", "k", "[1]").await, 200).await;
    assert_eq!(count(&app, "q").await, 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_batches_at_once_with_one_key_are_stored_once() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    let answers = join_all((0..20).map(|_| batch(&app, "q", "", "k", "[1,2,3]"))).await;
    let mut found = Vec::new();
    for answer in answers {
        found.push((answer.status().as_u16(), answer.text().await.unwrap()));
    }
    found.sort();
    assert_eq!(found.iter().filter(|(status, _)| *status == 201).count(), 1, "{found:?}");
    assert!(
        found.iter().all(|(status, body)| [200, 201].contains(status) && *body == found[0].1),
        "{found:?}"
    );
    assert_eq!(count(&app, "q").await, 3);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_key_made_is_answered_though_the_schema_does_not_allow_its_body_any_more() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    let first = json(push(&app, "q", "k", "1").await, 201).await;
    let all = text(batch(&app, "q", "", "all", "[1,2]").await, 201).await;
    let atomic = text(batch(&app, "q", "?atomic=true", "atomic", "[1,2]").await, 201).await;
    app.define("q", json!({ "incoming": { "schema": { "type": "string" } } })).await;
    assert_eq!(json(push(&app, "q", "k", " 1").await, 200).await["id"], first["id"]);
    assert_eq!(text(batch(&app, "q", "", "all", "[1,2]").await, 200).await, all);
    assert_eq!(text(batch(&app, "q", "?atomic=true", "atomic", "[1,2]").await, 200).await, atomic);
    // What the key did not make is refused as without one.
    refusal(push(&app, "q", "k", "2").await, 422).await;
    refusal(push(&app, "q", "new", "1").await, 422).await;
    refusal(batch(&app, "q", "?atomic=true", "atomic", "[1,3]").await, 422).await;
    assert_eq!(count(&app, "q").await, 5);
    app.stop().await;
}
