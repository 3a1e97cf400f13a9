//! Definitions: what is refused, what is kept, and when a change takes hold.

use crate::support::answer::{json, refusal, text, violations};
use crate::support::app::TestApp;
use crate::support::gate::Gate;
use axum::http::Method;
use futures::future::join_all;
use serde_json::{Value, json};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_that_breaks_a_rule_is_a_422_with_its_places() {
    let app = TestApp::start().await;
    let schema = |schema: Value| json!({ "incoming": { "schema": schema } });
    let option = |name: &str, value: Value| json!({ "options": { name: value } });
    let handler = |handler: Value| json!({ "handler": handler });
    let bomb = (0..40).fold(json!({ "a0": { "type": "string" } }), |mut definitions, n| {
        let reference = json!({ "$ref": format!("#/definitions/a{n}") });
        definitions[format!("a{}", n + 1)] = json!({ "allOf": [reference, reference] });
        definitions
    });
    let large: String = "x".repeat(65_000);
    let table = [
        (json!(null), ""),
        (json!([]), ""),
        (json!("q"), ""),
        (json!({ "name": "other" }), "/name"),
        (json!({ "name": "Q" }), "/name"),
        (json!({ "name": null }), "/name"),
        (json!({ "colour": 1 }), "/colour"),
        (json!({ "client_id": 1 }), "/client_id"),
        (json!({ "client_id": "" }), "/client_id"),
        (json!({ "roles": [] }), "/roles"),
        (json!({ "roles": { "needsRole": "false" } }), "/roles/needsRole"),
        (json!({ "roles": { "needsRole": 0 } }), "/roles/needsRole"),
        (json!({ "roles": { "needsRole": null } }), "/roles/needsRole"),
        (json!({ "roles": { "replace": "true" } }), "/roles/replace"),
        (json!({ "roles": { "roles": "one" } }), "/roles/roles"),
        (json!({ "roles": { "roles": ["one", ""] } }), "/roles/roles/1"),
        (json!({ "roles": { "needs_role": true } }), "/roles/needs_role"),
        (json!({ "incoming": {} }), "/incoming"),
        (schema(json!("object")), "/incoming/schema"),
        (schema(json!(null)), "/incoming/schema"),
        (schema(json!({ "type": "strin" })), "/incoming/schema/type"),
        (schema(json!({ "required": "a" })), "/incoming/schema/required"),
        (schema(json!({ "pattern": "(" })), "/incoming/schema/pattern"),
        (schema(json!({ "$schema": "https://example.com/mine" })), "/incoming/schema/$schema"),
        (schema(json!({ "$ref": "https://example.com/s.json" })), "/incoming/schema/$ref"),
        (schema(json!({ "$ref": "http://127.0.0.1:1/s.json" })), "/incoming/schema/$ref"),
        (schema(json!({ "$ref": "file:///etc/passwd" })), "/incoming/schema/$ref"),
        (schema(json!({ "$ref": "other.json" })), "/incoming/schema/$ref"),
        (schema(json!({ "$ref": "#/definitions/none" })), "/incoming/schema"),
        (schema(json!({ "$ref": "#/definitions/a40", "definitions": bomb })), "/incoming/schema"),
        (
            schema(
                json!({ "description": large, "title": "over 64 KiB with this title of its own, to be sure ".repeat(20) }),
            ),
            "/incoming/schema",
        ),
        (handler(json!({})), "/handler"),
        (handler(json!({ "kind": "shell" })), "/handler"),
        (handler(json!({ "kind": "javascript" })), "/handler"),
        (handler(json!({ "kind": "javascript", "source": 1 })), "/handler/source"),
        (handler(json!({ "kind": "javascript", "source": "module.exports = (" })), "/handler/source"),
        (handler(json!({ "kind": "javascript", "source": "module.exports = 5" })), "/handler/source"),
        (handler(json!({ "kind": "javascript", "source": "throw new Error('at once')" })), "/handler/source"),
        (handler(json!({ "kind": "worker", "source": "x" })), "/handler/source"),
        (handler(json!({ "kind": "http" })), "/handler"),
        (handler(json!({ "kind": "http", "url": "ftp://example.com" })), "/handler/url"),
        (handler(json!({ "kind": "http", "url": "http://10.0.0.1/" })), "/handler/url"),
        (handler(json!({ "kind": "http", "url": "http://169.254.169.254/latest" })), "/handler/url"),
        (handler(json!({ "kind": "http", "url": "http://[::1]/" })), "/handler/url"),
        (handler(json!({ "kind": "http", "url": "http://2130706434.0x7f/" })), "/handler/url"),
        (handler(json!({ "kind": "http", "url": "https://a:b@example.com" })), "/handler/url"),
        (handler(json!({ "kind": "http", "url": "https://example.com", "secret": "x" })), "/handler/secret"),
        (handler(json!({ "kind": "native", "name": "" })), "/handler/name"),
        (option("timeout", json!("0s")), "/options/timeout"),
        (option("timeout", json!(30)), "/options/timeout"),
        (option("timeout", json!("25h")), "/options/timeout"),
        (option("concurrency", json!(0)), "/options/concurrency"),
        (option("concurrency", json!(1.5)), "/options/concurrency"),
        (option("concurrency", json!("1")), "/options/concurrency"),
        (option("max_attempts", json!(0)), "/options/max_attempts"),
        (option("max_attempts", json!(1001)), "/options/max_attempts"),
        (option("priority", json!(101)), "/options/priority"),
        (option("retention", json!("1s")), "/options/retention"),
        (option("retry", json!({ "base": "2s", "cap": "1s" })), "/options/retry/cap"),
        (option("retry", json!({ "factor": 2 })), "/options/retry/factor"),
        (option("retries", json!(3)), "/options/retries"),
    ];
    for (definition, place) in &table {
        let problem = refusal(app.put("/queues/q", definition).await, 422).await;
        let found = violations(&problem);
        let shown: String = definition.to_string().chars().take(200).collect();
        assert!(found.iter().any(|(pointer, _)| pointer.starts_with(place)), "{shown}: {problem}");
    }
    refusal(app.get("/queues/q").await, 404).await;
    assert_eq!(json(app.get("/queues").await, 200).await, json!([]));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_would_be_a_trap_is_refused() {
    let app = TestApp::start().await;
    let longest = "q".repeat(100);
    for good in ["0", "a.b_c-d", "System", "queues", "system.1", &longest] {
        json(app.put(&format!("/queues/{good}"), &json!({})).await, 201).await;
        json(app.put(&format!("/queues/{good}"), &json!({ "name": good })).await, 200).await;
    }
    for bad in [
        "system",
        "queue",
        "hub",
        "job",
        "s1_hub",
        "-a",
        "_a",
        ".a",
        "a%20b",
        "a%2Fb",
        "a%00",
        "%C3%A4",
        "a:b",
        &"q".repeat(101),
    ] {
        refusal(app.put(&format!("/queues/{bad}"), &json!({})).await, 422).await;
        refusal(app.get(&format!("/queues/{bad}")).await, 404).await;
        refusal(app.post(&format!("/queues/{bad}/messages"), &json!(1)).await, 404).await;
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_comes_back_as_it_was_put_without_its_secret() {
    let app = TestApp::start().await;
    let mut definition = json!({
        "name": "q",
        "client_id": "my-client",
        "roles": { "needsRole": true, "replace": true, "roles": ["one", "two"] },
        "incoming": { "schema": { "type": "object", "description": "\u{e9} 12345678901234567890" } },
        "handler": { "kind": "http", "url": "https://example.com/messages?a=1", "secret": SECRET },
        "options": {
            "timeout": "1m 30s", "concurrency": 4, "max_attempts": 3, "retry": { "base": "1s", "cap": "5m" },
            "priority": -3, "retention": "2days",
        },
    });
    let created = text(app.put("/queues/q", &definition).await, 201).await;
    assert!(!created.contains("MfKQ"));
    let read = text(app.get("/queues/q").await, 200).await;
    let listed = text(app.get("/queues").await, 200).await;
    assert!(!read.contains("MfKQ") && !listed.contains("MfKQ"));
    definition["handler"]["secret"] = json!("[redacted]");
    let read: Value = serde_json::from_str(&read).unwrap();
    let mut put = read.clone();
    let state = put.as_object_mut().unwrap().remove("state").unwrap();
    assert_eq!((put, state), (definition.clone(), json!({ "paused": false, "source": "api" })));
    assert_eq!(serde_json::from_str::<Value>(&created).unwrap(), definition);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed, json!([{ "name": "q", "paused": false, "source": "api", "definition": definition }]));
    // As it is shown it may be put, and keeps its secret; where there is none, nothing is kept.
    assert_eq!(json(app.put("/queues/q", &read).await, 200).await, definition);
    let handler = app.put("/queues/q/handler", &definition["handler"]).await;
    assert_eq!(json(handler, 200).await["handler"], definition["handler"]);
    definition["name"] = json!("other");
    let problem = refusal(app.put("/queues/other", &definition).await, 422).await;
    assert_eq!(violations(&problem), [("/handler/secret", "secret")]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_is_put_by_itself_and_a_broken_one_leaves_the_former() {
    let app = TestApp::start().await;
    refusal(app.put("/queues/q/handler", &json!({ "kind": "worker" })).await, 404).await;
    app.define("q", json!({ "client_id": "c", "handler": { "kind": "worker" } })).await;
    let handler = |source: &str| json!({ "kind": "javascript", "source": source });
    let put = app.put("/queues/q/handler", &handler("module.exports = m => 'first'")).await;
    let definition = json!({ "client_id": "c", "handler": handler("module.exports = m => 'first'") });
    assert_eq!(json(put, 200).await, definition);
    let read = json(app.get("/queues/q").await, 200).await;
    assert_eq!(read["handler"], definition["handler"]);
    assert_eq!(app.handled("q", &json!(1)).await["result"], "first");

    let broken = "module.exports = m => {\n  return 1;\n  let let = 2;\n}";
    let problem = refusal(app.put("/queues/q/handler", &handler(broken)).await, 422).await;
    let message = problem["errors"][0]["message"].as_str().unwrap();
    assert!(message.starts_with("line 3: "), "{message}");
    assert!(problem["errors"][0]["pointer"].as_str().unwrap().ends_with("/source"), "{problem}");
    for bad in [json!({}), json!([]), json!({ "kind": "none" }), json!({ "kind": "worker", "name": "x" })] {
        refusal(app.put("/queues/q/handler", &bad).await, 422).await;
    }
    assert_eq!(app.handled("q", &json!(2)).await["result"], "first");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_definition_is_for_what_is_claimed_afterwards() {
    let gate = Gate::closed();
    let app = TestApp::with(&[], |app| app.handler("gate", gate.handler())).await;
    app.define("q", json!({ "handler": { "kind": "native", "name": "gate" } })).await;
    let old = app.push("q", &json!("old")).await;
    let waiting = app.push("q", &json!("waiting")).await;
    gate.reached_by(1).await;
    app.define_javascript("q", "module.exports = m => 'new: ' + m").await;
    assert_eq!(app.message("q", &old).await["status"], "INPROGRESS");
    gate.pass(1);
    assert_eq!(app.ended("q", &waiting).await["result"], "new: waiting");
    assert_eq!(app.ended("q", &old).await["result"], json!({ "attempt": 1, "message": "old" }));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_learns_of_a_definition_at_once() {
    let app = TestApp::start().await;
    let other = TestApp::on(app.database.clone(), &[], |app| app).await;
    app.define_javascript("q", "module.exports = m => 'first'").await;
    let id = other.push("q", &json!(1)).await;
    assert_eq!(other.ended("q", &id).await["result"], "first");
    other.define_javascript("q", "module.exports = m => 'second'").await;
    let id = app.push("q", &json!(1)).await;
    assert_eq!(app.ended("q", &id).await["result"], "second");
    other.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_made_again_has_none_of_the_former_ones_messages() {
    let app = TestApp::start().await;
    let worker = json!({ "handler": { "kind": "worker" } });
    app.define("q", worker.clone()).await;
    let keyed = app.request(Method::POST, "/queues/q/messages").header("idempotency-key", "k").json(&1);
    let old = json(keyed.send().await.unwrap(), 201).await["id"].as_str().unwrap().to_owned();
    let claimed = json(app.post("/queues/q/claim", &json!(null)).await, 200).await;
    json(app.post("/queues/q/messages?delay=1h", &json!("delayed")).await, 201).await;
    app.push("q", &json!("waiting")).await;

    assert_eq!(app.delete("/queues/q").await.status(), 204);
    for path in ["", "/messages", &format!("/messages/{old}")] {
        refusal(app.get(&format!("/queues/q{path}")).await, 404).await;
    }
    refusal(app.delete("/queues/q").await, 404).await;
    refusal(app.post("/queues/q/messages", &json!(1)).await, 404).await;

    app.define("q", worker).await;
    refusal(app.get(&format!("/queues/q/messages/{old}")).await, 404).await;
    let late = json!({ "lease": claimed[0]["lease"], "result": 1 });
    refusal(app.post(&format!("/queues/q/messages/{old}/complete"), &late).await, 404).await;
    app.elapse(std::time::Duration::from_hours(2)).await;
    app.server.run_until_idle().await.unwrap();
    assert_eq!(json(app.post("/queues/q/claim?max=100", &json!(null)).await, 200).await, json!([]));
    let keyed = app.request(Method::POST, "/queues/q/messages").header("idempotency-key", "k").json(&2);
    let new = json(keyed.send().await.unwrap(), 201).await;
    assert_eq!(json(app.get("/queues/q/messages").await, 200).await["messages"], json!([new]));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_changes_of_one_definition_at_once_all_succeed() {
    let app = TestApp::start().await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    let changes = (0..40).map(async |n| match n % 4 {
        0 => app.put("/queues/q", &json!({ "client_id": format!("c{n}") })).await.status(),
        1 => app.put("/queues/q/handler", &json!({ "kind": "worker" })).await.status(),
        2 => app.post("/queues/q/pause", &json!(null)).await.status(),
        _ => app.put("/queues/new", &json!({})).await.status(),
    });
    let statuses = join_all(changes).await;
    assert!(statuses.iter().all(reqwest::StatusCode::is_success), "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1);
    app.stop().await;
}
