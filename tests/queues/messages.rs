//! Push and read a message: six keys in their order, the JSON as it was sent, and nobody else's message.

use crate::support::answer::{json, refusal, text};
use crate::support::app::TestApp;
use crate::support::gate::Gate;
use axum::http::Method;
use serde_json::{Value, json};

/// JSON texts that a parse and a print would change.
pub(super) const PECULIAR: &[&str] = &[
    "1.0",
    "1e2",
    "1E+2",
    "-0",
    "12345678901234567890",
    "123456789012345678901234567890.10",
    "null",
    "false",
    r#""""#,
    r#""\u0041\/\u00e9 é 😀 \ud83d\ude00 \\u0000""#,
    r#"{"z":1,"a":2,"m":{"b":1,"a":2}}"#,
    r#"{"a":1,"a":2,"a":{"x":0}}"#,
    "{ \"a\" :\n\t[ 1 ,\r\n 2 ] ,\"\":{ } }",
    "[ ]",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_six_keys_in_order_with_the_json_as_it_was_sent() {
    let app = TestApp::start().await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    for sent in PECULIAR {
        let pushed = app.push_text("q", *sent).await;
        let location = pushed.headers()["location"].to_str().unwrap().to_owned();
        let pushed = text(pushed, 201).await;
        let id = serde_json::from_str::<Value>(&pushed).unwrap()["id"].as_str().unwrap().to_owned();
        assert_eq!(location, format!("/queues/q/messages/{id}"));
        let shown = |status: &str, result: &str| {
            format!(
                r#"{{"id":"{id}","queue":"q","status":"{status}","request":{sent},"result":{result},"error":null}}"#
            )
        };
        assert_eq!(pushed, shown("PENDING", "null"));
        assert_eq!(text(app.get(&location).await, 200).await, shown("PENDING", "null"));

        let claimed = text(app.post("/queues/q/claim", &json!(null)).await, 200).await;
        assert!(claimed.contains(&format!(r#""request":{sent},"attempt":1"#)), "{claimed}");
        let lease = serde_json::from_str::<Value>(&claimed).unwrap()[0]["lease"].clone();
        assert_eq!(text(app.get(&location).await, 200).await, shown("INPROGRESS", "null"));

        let complete = app.request(Method::POST, &format!("{location}/complete"));
        let complete = complete.header("content-type", "application/json");
        let complete =
            complete.body(format!(r#"{{"result": {sent} ,"lease":{lease}}}"#)).send().await.unwrap();
        assert_eq!(text(complete, 204).await, "");
        assert_eq!(text(app.get(&location).await, 200).await, shown("COMPLETE", sent));
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn white_space_around_a_message_is_not_part_of_it() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    let pushed = text(app.push_text("q", "\r\n\t [1,  2] \n").await, 201).await;
    assert!(pushed.contains(r#""request":[1,  2],"result""#), "{pushed}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_goes_from_pending_through_inprogress_to_its_end() {
    let gate = Gate::closed();
    let app = TestApp::with(&[], |app| app.handler("gate", gate.handler())).await;
    app.define("q", json!({ "handler": { "kind": "native", "name": "gate" } })).await;
    let (first, second) = (app.push("q", &json!(1)).await, app.push("q", &json!(2)).await);
    app.until("q", &first, "INPROGRESS").await;
    assert_eq!(app.message("q", &second).await["status"], "PENDING", "one at a time");
    gate.pass(2);
    let ended = app.ended("q", &second).await;
    assert_eq!(ended["status"], "COMPLETE");
    assert_eq!(ended["result"], json!({ "attempt": 1, "message": 2 }));
    assert_eq!(app.message("q", &first).await["status"], "COMPLETE");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_found_only_by_its_own_id_on_its_own_queues_path() {
    let app = TestApp::start().await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    app.define("other", json!({ "handler": { "kind": "worker" } })).await;
    let foreign = app.push("other", &json!(1)).await;
    let mine = app.push("q", &json!(1)).await;
    let fresh = uuid::Uuid::now_v7().to_string();
    let random = uuid::Uuid::new_v4().to_string();
    let (longer, shorter) = (format!("{mine}0"), &mine[..35]);
    let nil = "00000000-0000-0000-0000-000000000000";
    let strange = [
        &*foreign,
        &*fresh,
        &*random,
        &*longer,
        shorter,
        nil,
        "1",
        "abc",
        "-",
        "%00",
        "%2e%2e",
        "a%2Fb",
        "%F0%9F%98%80",
        "%FF",
        "'%20OR%20true--",
        "null",
    ];
    let lease = json!({ "lease": "1" });
    for id in strange {
        for (method, path) in [
            (Method::GET, ""),
            (Method::GET, "?view=full"),
            (Method::DELETE, ""),
            (Method::POST, "/retry"),
            (Method::POST, "/heartbeat"),
            (Method::POST, "/complete"),
            (Method::POST, "/fail"),
        ] {
            let request = app.request(method, &format!("/queues/q/messages/{id}{path}")).json(&lease);
            let problem = refusal(request.send().await.unwrap(), 404).await;
            assert!(problem["detail"].is_string(), "{id}{path}");
        }
    }
    assert_eq!(app.message("other", &foreign).await["status"], "PENDING");
    assert_eq!(app.message("q", &mine).await["status"], "PENDING");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_view_adds_times_attempts_worker_history_and_logs() {
    let app = TestApp::start().await;
    let source = "let n = 0; module.exports = async m => { console.warn('try', m.n); throw { no: m.n } }";
    let options = json!({ "max_attempts": 2, "retry": { "base": "1ms", "cap": "1ms" }, "priority": 7 });
    app.define("q", json!({ "handler": { "kind": "javascript", "source": source }, "options": options }))
        .await;
    let id = app.push("q", &json!({ "n": 5 })).await;
    assert_eq!(app.ended("q", &id).await["error"], json!({ "no": 5 }));

    let raw = text(app.get(&format!("/queues/q/messages/{id}?view=full")).await, 200).await;
    let keys = [
        "id",
        "queue",
        "status",
        "request",
        "result",
        "error",
        "attempts",
        "created_at",
        "started_at",
        "finished_at",
        "run_at",
        "priority",
        "worker",
        "history",
        "logs",
        "request_id",
        "trace_id",
    ];
    let places: Vec<usize> = keys.iter().map(|key| raw.find(&format!("\"{key}\":")).unwrap()).collect();
    assert!(places.is_sorted(), "{raw}");
    let full: Value = serde_json::from_str(&raw).unwrap();
    assert_eq!(full.as_object().unwrap().len(), keys.len());
    assert_eq!((&full["attempts"], &full["priority"], &full["run_at"]), (&json!(2), &json!(7), &json!(null)));
    let worker = full["worker"].as_str().unwrap();
    assert!(worker.ends_with(&format!(":{}", std::process::id())), "{worker}");
    let history = full["history"].as_array().unwrap();
    assert_eq!(history.len(), 2);
    for (entry, attempt) in history.iter().zip(1..) {
        assert_eq!(entry["attempt"], attempt);
        assert_eq!(entry["error"], json!({ "no": 5 }));
        assert_eq!(entry["logs"][0]["level"], "warn");
        assert_eq!(entry["logs"][0]["text"], "try 5");
        assert_eq!(entry["worker"], full["worker"]);
    }
    assert_eq!(full["logs"], history[1]["logs"]);
    assert_eq!(full["started_at"], history[1]["started_at"]);
    assert_eq!(full["finished_at"], history[1]["finished_at"]);
    let times: Vec<_> = [&full["created_at"], &history[0]["started_at"], &history[0]["finished_at"]]
        .into_iter()
        .chain([&full["started_at"], &full["finished_at"]])
        .map(|time| chrono::DateTime::parse_from_rfc3339(time.as_str().unwrap()).unwrap())
        .collect();
    assert!(times[1..].is_sorted(), "{raw}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_view_of_a_message_that_has_not_run_is_empty_where_nothing_happened() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    let id = app.push("q", &json!(1)).await;
    let full = app.whole_message("q", &id).await;
    assert_eq!((&full["attempts"], &full["history"], &full["logs"]), (&json!(0), &json!([]), &json!([])));
    for absent in ["started_at", "finished_at", "run_at", "worker", "result", "error"] {
        assert_eq!(full[absent], json!(null), "{absent}");
    }
    refusal(app.get(&format!("/queues/q/messages/{id}?view=half")).await, 400).await;
    let plain = app.get(&format!("/queues/q/messages/{id}?view=")).await;
    assert_eq!(json(plain, 200).await.as_object().unwrap().len(), 6);
    app.stop().await;
}
