//! Uniqueness and own keys by every way in: batches, SQL, the library, JavaScript, schedules, a value that is given.

use crate::support::answer::{json, refusal, violations};
use crate::support::app::TestApp;
use crate::support::eventually;
use postrider::Client;
use postrider::client::Options;
use serde_json::{Value, json};
use sqlx::postgres::{PgConnection, PgDatabaseError};
use sqlx::{AssertSqlSafe, Executor as _};
use std::time::Duration;

async fn define(app: &TestApp, rule: Value) {
    app.define("q", json!({ "handler": { "kind": "worker" }, "options": { "unique": rule } })).await;
}

async fn count(app: &TestApp) -> usize {
    json(app.get("/queues/q/messages?limit=500").await, 200).await["messages"].as_array().unwrap().len()
}

/// Calls a function of SQL that returns ids.
async fn call(db: &mut PgConnection, call: &str) -> sqlx::Result<Vec<String>> {
    let statement = format!("SELECT (array[]::uuid[] || {call})::text[]");
    sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(db).await
}

/// The SQLSTATE and the words of a refusal.
async fn refused(db: &mut PgConnection, arguments: &str) -> (String, String) {
    let error = call(db, arguments).await.unwrap_err();
    let error = error.as_database_error().unwrap().downcast_ref::<PgDatabaseError>();
    (error.code().to_owned(), error.message().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_tells_of_each_message_what_became_of_it() {
    let app = TestApp::start().await;
    define(&app, json!({ "key": "/a" })).await;
    let first = app.push("q", &json!({ "a": 1 })).await;
    let batch = json!([{ "a": 1 }, { "a": 2 }, {}, { "a": 2 }, {}]);
    let answer = json(app.post("/queues/q/messages:batch", &batch).await, 201).await;
    assert_eq!(answer[0], json!({ "id": first, "unique": "existing" }));
    assert_eq!(answer[3], json!({ "id": answer[1]["id"], "unique": "existing" }));
    let alone: Vec<&Value> = [1, 2, 4].iter().map(|n| &answer[*n]).collect();
    assert!(alone.iter().all(|one| one.as_object().unwrap().len() == 1), "{answer}");
    assert_eq!(count(&app).await, 4);

    define(&app, json!({ "key": "/a", "conflict": "reject" })).await;
    let batch = json!([{ "a": 3 }, { "a": 3 }, { "a": 1 }]);
    let problem = refusal(app.post("/queues/q/messages:batch?atomic=true", &batch).await, 409).await;
    assert!(problem["held_by"].is_string(), "{problem}");
    assert_eq!(count(&app).await, 4, "all or none");
    let answer = json(app.post("/queues/q/messages:batch", &batch).await, 201).await;
    assert_eq!(violations(&answer[1]), [("", "unique")]);
    assert_eq!((&answer[1]["held_by"], &answer[2]["held_by"]), (&answer[0]["id"], &json!(first)));
    assert_eq!(count(&app).await, 5);
    let fresh = json!([{ "a": 4 }, { "a": 5 }]);
    json(app.post("/queues/q/messages:batch?atomic=true", &fresh).await, 201).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_sent_again_under_its_key_is_answered_as_the_first_time() {
    let app = TestApp::start().await;
    define(&app, json!({ "key": "/a", "while": "waiting", "conflict": "reject" })).await;
    let send = async |key: &str, body: &Value| {
        let request = app.request(axum::http::Method::POST, "/queues/q/messages:batch");
        request.header("idempotency-key", key).json(body).send().await.unwrap()
    };
    let held = app.push("q", &json!({ "a": 1 })).await;
    let body = json!([{ "a": 1 }, { "a": 2 }]);
    let first = json(send("k", &body).await, 201).await;
    assert_eq!(first[0]["held_by"], json!(held));
    json(app.post("/queues/q/claim?max=10", &json!(null)).await, 200).await;
    assert_eq!(json(send("k", &body).await, 200).await, first);
    assert_eq!(count(&app).await, 2);
    // One of which nothing is stored does not use its key up.
    app.push("q", &json!({ "a": 3 })).await;
    let body = json!([{ "a": 3 }]);
    assert!(json(send("l", &body).await, 201).await[0]["held_by"].is_string());
    json(app.post("/queues/q/claim?max=10", &json!(null)).await, 200).await;
    assert!(json(send("l", &body).await, 201).await[0]["id"].is_string());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_returns_the_message_that_there_is_and_raises_where_the_queue_rejects() {
    let app = TestApp::start().await;
    let mut db = app.connect().await;
    define(&app, json!({ "key": "/a" })).await;
    let first = app.push("q", &json!({ "a": 1 })).await;
    assert_eq!(call(&mut db, r#"enqueue('q', '{"a":1,"b":2}')"#).await.unwrap(), [first.as_str()]);
    assert_eq!(call(&mut db, r#"enqueue('q', '{"a":1}'::jsonb)"#).await.unwrap(), [first.as_str()]);
    let many = r#"enqueue_many('q', ARRAY['{"a":1}','{"a":2}','{"a":2}','{}','{}'])"#;
    let ids = call(&mut db, many).await.unwrap();
    assert_eq!((&ids[0], &ids[1]), (&first, &ids[2]));
    assert_ne!(ids[3], ids[4]);
    assert_eq!(count(&app).await, 4);

    define(&app, json!({ "key": "/a", "conflict": "reject" })).await;
    let (code, words) = refused(&mut db, r#"enqueue('q', '{"a":1}')"#).await;
    assert_eq!(code, "23505");
    assert!(words.contains(&first), "{words}");
    let (code, _) = refused(&mut db, r#"enqueue_many('q', ARRAY['{"a":7}','{"a":1}'])"#).await;
    assert_eq!(code, "23505");
    assert_eq!(count(&app).await, 4, "all or none");

    define(&app, json!({ "key": "/a", "conflict": "replace" })).await;
    let replaced =
        call(&mut db, r#"enqueue('q', '{"a":1,"n":5}', delay => '1 hour', priority => 3, key => 'k')"#).await;
    assert_eq!(replaced.unwrap(), [first.as_str()]);
    let whole = app.whole_message("q", &first).await;
    assert_eq!(
        (&whole["request"]["n"], &whole["priority"], &whole["key"]),
        (&json!(5), &json!(3), &json!("k"))
    );
    assert!(whole["run_at"].is_string());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_sql_too_the_idempotency_key_is_looked_at_first() {
    let app = TestApp::start().await;
    let mut db = app.connect().await;
    define(&app, json!({ "key": "/a" })).await;
    let first = app.push("q", &json!({ "a": 1 })).await;
    let keyed = |body: &str| format!("enqueue('q', '{body}', idempotency_key => 'k')");
    for body in [r#"{"a":1,"b":2}"#, r#"{"b": 2, "\u0061": 1}"#] {
        assert_eq!(call(&mut db, &keyed(body)).await.unwrap(), [first.as_str()]);
    }
    let (code, words) = refused(&mut db, &keyed(r#"{"a":1}"#)).await;
    assert_eq!(
        (code.as_str(), words.as_str()),
        ("23505", "this idempotency key was used with another payload")
    );
    // Over HTTP it is the same key.
    let request = app.request(axum::http::Method::POST, "/queues/q/messages").header("idempotency-key", "k");
    assert_eq!(json(request.json(&json!({ "a": 1, "b": 2 })).send().await.unwrap(), 200).await["id"], first);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_is_given_goes_before_the_one_that_is_found() {
    let app = TestApp::start().await;
    let mut db = app.connect().await;
    define(&app, json!({ "key": "/a" })).await;
    let given = "/queues/q/messages?unique=A%20%26%20B";
    let first = json(app.post(given, &json!({ "a": 1 })).await, 201).await["id"].clone();
    let first = first.as_str().unwrap();
    assert_eq!(json(app.post(given, &json!({ "a": 2 })).await, 200).await["id"], first);
    app.push("q", &json!({ "a": 1 })).await;
    // As a text that is found.
    assert_eq!(json(app.post("/queues/q/messages", &json!({ "a": "A & B" })).await, 200).await["id"], first);
    assert_eq!(call(&mut db, "enqueue('q', '5', unique_value => 'A & B')").await.unwrap(), [first]);
    let many = "enqueue_many('q', ARRAY['5', '6'], unique_values => ARRAY['A & B', NULL])";
    assert_eq!(call(&mut db, many).await.unwrap()[0], first);
    let items = json!({ "messages": [{ "message": 5, "unique": "A & B" }, { "message": 6, "unique": "C" }] });
    let answer = json(app.post("/queues/q/messages:batch", &items).await, 201).await;
    assert_eq!(answer[0], json!({ "id": first, "unique": "existing" }));

    for bad in ["", &"x".repeat(256), "%00"] {
        refusal(app.post(&format!("/queues/q/messages?unique={bad}"), &json!(1)).await, 400).await;
    }
    let long = "enqueue('q', '5', unique_value => repeat('é', 256))";
    assert_eq!(refused(&mut db, long).await.0, "22023");
    let uneven = "enqueue_many('q', ARRAY['5', '6'], unique_values => ARRAY['A'])";
    assert_eq!(refused(&mut db, uneven).await.0, "22023");

    // Without a rule nobody knows for how long it would be unique.
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    let problem = refusal(app.post("/queues/q/messages?unique=A", &json!(1)).await, 400).await;
    assert!(problem["detail"].as_str().unwrap().contains("`unique`"), "{problem}");
    assert_eq!(refused(&mut db, "enqueue('q', '5', unique_value => 'A')").await.0, "22023");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_item_of_a_batch_that_breaks_a_rule_is_named_and_nothing_is_stored() {
    let app = TestApp::start().await;
    define(&app, json!({})).await;
    let items = json!({ "messages": [
        { "message": 1, "key": "fine" }, { "key": "k" }, 7, { "message": 1, "kez": "k" }, { "message": 1, "key": 5 },
        { "message": 1, "unique": "" }
    ] });
    let problem = refusal(app.post("/queues/q/messages:batch", &items).await, 422).await;
    let expected = [
        ("/messages/1", "required"),
        ("/messages/2", "type"),
        ("/messages/3/kez", "additionalProperties"),
        ("/messages/4/key", "text"),
        ("/messages/5/unique", "text"),
    ];
    assert_eq!(violations(&problem), expected);
    for body in [json!({ "messages": [] }), json!({ "messages": 1 }), json!({ "message": 1 }), json!({})] {
        refusal(app.post("/queues/q/messages:batch", &body).await, 400).await;
    }
    assert_eq!(count(&app).await, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_library_and_a_handler_in_javascript_push_by_the_same_rules() {
    let app = TestApp::start().await;
    define(&app, json!({ "key": "key", "while": "waiting" })).await;
    let mut db = app.connect().await;
    let client = Client::default();
    let called = |key: &str| Options { key: Some(key.to_owned()), ..Options::default() };
    let first = client.enqueue(&mut db, "q", &1, &called("booking:42")).await.unwrap().to_string();
    assert_eq!(client.enqueue(&mut db, "q", &2, &called("booking:42")).await.unwrap().to_string(), first);
    let given = Options { unique: Some("booking:42".to_owned()), ..Options::default() };
    assert_eq!(client.enqueue(&mut db, "q", &3, &given).await.unwrap().to_string(), first);
    assert!(client.enqueue_many(&mut db, "q", &[3], &given).await.is_err());

    let source = "module.exports = async (m) => {
        const push = (options) => messagingService.queueMessage('q', { js: true }, options);
        const answer = [await push({ key: 'booking:42' }), await push({ key: 43, unique: 'x' }), await push({ unique: 'x' })];
        try { await push({ unique: '' }) } catch (e) { answer.push(e.message) }
        return answer;
    }";
    app.define_javascript("js", source).await;
    define_roles(&app, json!({ "key": "key", "while": "waiting" })).await;
    let done = app.handled("js", &json!(1)).await;
    let answer = &done["result"];
    assert_eq!((&answer[0], &answer[1]), (&json!(first), &answer[2]), "{done}");
    assert_eq!(app.message("q", answer[1].as_str().unwrap()).await["key"], "43");
    assert!(answer[3].as_str().unwrap().contains("`unique`"), "{done}");

    define_roles(&app, json!({ "key": "key", "conflict": "reject" })).await;
    let source = "module.exports = async () => {
        try { await messagingService.queueMessage('q', 1, { key: 'booking:42' }) } catch (e) { return [e.status, e.message] }
    }";
    app.define_javascript("js", source).await;
    let done = app.handled("js", &json!(1)).await;
    assert_eq!(done["result"][0], 409, "{done}");
    assert!(done["result"][1].as_str().unwrap().contains(&first), "{done}");
    app.stop().await;
}

/// As [`define`], for a queue that the handler of `js` may use.
async fn define_roles(app: &TestApp, rule: Value) {
    let roles = json!({ "roles": ["js_writer"] });
    let handler = json!({ "kind": "worker" });
    app.define("q", json!({ "roles": roles, "handler": handler, "options": { "unique": rule } })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moment_of_a_schedule_whose_value_is_held_pushes_nothing_or_renews_the_one_that_waits() {
    let app = TestApp::start().await;
    let mut db = app.connect().await;
    let outcomes = "SELECT coalesce(array_agg(outcome || ' ' || coalesce(item::text, '-') ORDER BY at), '{}') FROM ticks";
    for conflict in ["existing", "reject", "replace"] {
        define(&app, json!({ "key": "/a", "while": "waiting", "conflict": conflict })).await;
        let first = app.push("q", &json!({ "a": 1, "by": "hand" })).await;
        let schedule = json!({ "every": "1h", "message": { "a": 1, "by": "schedule" } });
        json(app.put("/queues/q/schedules/s", &schedule).await, 201).await;
        app.elapse(Duration::from_hours(1)).await;
        let mut found: Vec<String> = Vec::new();
        eventually("its moment comes", async || {
            found = sqlx::query_scalar(outcomes).fetch_one(&mut db).await.unwrap();
            !found.is_empty()
        })
        .await;
        let (expected, by) = match conflict {
            "replace" => (format!("fired {first}"), "schedule"),
            _ => ("overlapped -".to_owned(), "hand"),
        };
        assert_eq!(found, [expected], "{conflict}");
        let reported = json(app.get("/reports/schedule_runs").await, 200).await[0]["why"].clone();
        let advises = reported.as_str().is_some_and(|why| why.contains("options.unique"));
        assert_eq!(advises, conflict != "replace", "{reported}");
        assert_eq!(app.message("q", &first).await["request"]["by"], by, "{conflict}");
        let state = json(app.get("/queues/q/schedules/s").await, 200).await["state"].clone();
        assert_eq!(state["last_message"] == first, conflict == "replace", "{state}");

        // By hand too.
        let ran = app.post("/queues/q/schedules/s/run", &json!(null)).await;
        if conflict == "reject" {
            assert_eq!(refusal(ran, 409).await["held_by"], json!(first));
        } else {
            assert_eq!(json(ran, 200).await["id"], first);
        }
        json(app.post("/queues/q/claim", &json!(null)).await, 200).await;
        let ran = json(app.post("/queues/q/schedules/s/run", &json!(null)).await, 201).await;
        assert_ne!(ran["id"], first);
        assert_eq!(app.delete("/queues/q").await.status(), 204);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schedules_do_not_wait_for_a_transaction_that_takes_the_value_of_one() {
    let app = TestApp::start().await;
    define(&app, json!({ "key": "/a" })).await;
    app.define("plain", json!({ "handler": { "kind": "worker" } })).await;
    let mut db = app.connect().await;
    for (queue, name, a) in [("q", "held", 1), ("q", "free", 2), ("plain", "plain", 1)] {
        let schedule = json!({ "every": "1h", "message": { "a": a } });
        json(app.put(&format!("/queues/{queue}/schedules/{name}"), &schedule).await, 201).await;
    }
    let mut taking = app.connect().await;
    taking.execute("BEGIN; SELECT enqueue('q', '{\"a\": 1}')").await.unwrap();
    app.elapse(Duration::from_hours(1)).await;
    let fired = "SELECT coalesce(array_agg(s.name || ' ' || outcome ORDER BY s.name), '{}')
        FROM ticks JOIN queue_schedules AS s ON s.id = owner";
    let mut found: Vec<String> = Vec::new();
    eventually("all moments come", async || {
        found = sqlx::query_scalar(fired).fetch_one(&mut db).await.unwrap();
        found.len() == 3
    })
    .await;
    assert_eq!(found, ["free fired", "held overlapped", "plain fired"]);
    taking.execute("ROLLBACK").await.unwrap();
    app.stop().await;
}
