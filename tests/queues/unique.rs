//! Messages that are unique by a value: for how long one holds it, and what a push is answered that finds it held.

use crate::support::answer::{json, refusal};
use crate::support::app::TestApp;
use crate::support::eventually;
use serde_json::{Value, json};
use std::time::Duration;

/// Has messages of the queue `q`, which remote workers claim, be unique so.
async fn unique(app: &TestApp, rule: Value) {
    let options = json!({ "unique": rule, "max_attempts": 3, "retry": { "base": "1ms" } });
    app.define("q", json!({ "handler": { "kind": "worker" }, "options": options })).await;
}

async fn push(app: &TestApp, body: Value) -> reqwest::Response {
    app.post("/queues/q/messages", &body).await
}

/// The id of a message that is stored now.
async fn stored(app: &TestApp, body: Value) -> String {
    json(push(app, body).await, 201).await["id"].as_str().unwrap().to_owned()
}

/// The id of the message that holds the value of this one.
async fn existing(app: &TestApp, body: Value) -> String {
    json(push(app, body).await, 200).await["id"].as_str().unwrap().to_owned()
}

/// Claims one message; returns its id and lease.
async fn claim(app: &TestApp) -> (String, String) {
    let claimed = json(app.post("/queues/q/claim", &json!(null)).await, 200).await;
    let text = |name: &str| claimed[0][name].as_str().unwrap_or_else(|| panic!("{claimed}")).to_owned();
    (text("id"), text("lease"))
}

/// Ends an attempt in one of the ways there are.
async fn end(app: &TestApp, how: &str, (id, lease): (String, String), more: Value) {
    let mut body = json!({ "lease": lease });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    assert_eq!(app.post(&format!("/queues/q/messages/{id}/{how}"), &body).await.status(), 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_whose_value_is_held_is_answered_with_the_message_that_holds_it() {
    let app = TestApp::start().await;
    unique(&app, json!({ "key": "/order/id" })).await;
    let first = push(&app, json!({ "order": { "id": 7 }, "n": 1 })).await;
    let location = first.headers()["location"].clone();
    let first = json(first, 201).await;
    let again = push(&app, json!({ "n": 2, "order": { "id": 7, "of": "another body" } })).await;
    assert_eq!(again.headers()["location"], location);
    let again = json(again, 200).await;
    assert_eq!(again, first, "the message as it was pushed first");
    claim(&app).await;
    let again = json(push(&app, json!({ "order": { "id": 7 } })).await, 200).await;
    assert_eq!((&again["id"], &again["status"]), (&first["id"], &json!("INPROGRESS")));
    for other in [json!(8), json!("7"), json!(7.0), json!([7]), json!({ "id": 7 })] {
        stored(&app, json!({ "order": { "id": other } })).await;
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_value_is_not_unique() {
    let app = TestApp::start().await;
    unique(&app, json!({ "key": "/a", "conflict": "reject" })).await;
    for body in [json!({}), json!({ "a": null }), json!(7), json!([]), json!(null), json!({ "b": 1 })] {
        stored(&app, body.clone()).await;
        stored(&app, body).await;
    }
    unique(&app, json!({})).await;
    stored(&app, json!({ "a": 1 })).await;
    stored(&app, json!({ "a": 1 })).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_waits_means_until_it_is_claimed_for_the_first_time() {
    let app = TestApp::start().await;
    unique(&app, json!({ "key": "body", "while": "waiting" })).await;
    let first = stored(&app, json!(1)).await;
    assert_eq!(existing(&app, json!(1)).await, first);
    let claimed = claim(&app).await;
    assert_eq!(claimed.0, first);
    let second = stored(&app, json!(1)).await;
    assert_eq!(existing(&app, json!(1)).await, second);
    // The first waits for another attempt: it has run, and does not hold the value a second time.
    end(&app, "fail", claimed, json!({ "error": "later", "retry": "1h" })).await;
    assert_eq!(existing(&app, json!(1)).await, second);
    assert_eq!(claim(&app).await.0, second);
    stored(&app, json!(1)).await;

    // One that is to wait for its time waits on when that has come.
    let path = "/queues/q/messages?delay=1h";
    let delayed = json(app.post(path, &json!(2)).await, 201).await["id"].clone();
    assert_eq!(existing(&app, json!(2)).await, delayed);
    app.elapse(Duration::from_hours(2)).await;
    let mut db = app.connect().await;
    eventually("it is promoted", async || {
        let count = "SELECT count(*) FROM dispatch WHERE item = $1::text::uuid";
        sqlx::query_scalar::<_, i64>(count).bind(delayed.as_str()).fetch_one(&mut db).await.unwrap() == 1
    })
    .await;
    assert_eq!(existing(&app, json!(2)).await, delayed);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_is_unfinished_means_until_it_has_ended_in_whatever_way() {
    let app = TestApp::start().await;
    unique(&app, json!({ "key": "body", "while": "unfinished" })).await;
    for (how, more) in [
        ("complete", json!({ "result": 1 })),
        ("fail", json!({ "error": "no", "retry": false })),
        ("delete", json!({})),
    ] {
        let first = stored(&app, json!(1)).await;
        let claimed = claim(&app).await;
        assert_eq!(claimed.0, first);
        assert_eq!(existing(&app, json!(1)).await, first);
        if how == "delete" {
            assert_eq!(app.delete(&format!("/queues/q/messages/{first}")).await.status(), 204);
        } else {
            end(&app, how, claimed, more).await;
        }
        let second = stored(&app, json!(1)).await;
        assert_ne!(second, first, "{how}");
        assert_eq!(app.delete(&format!("/queues/q/messages/{second}")).await.status(), 204);
    }

    // While it waits for another attempt it holds its value, until the last is lost with its worker.
    let first = stored(&app, json!(1)).await;
    end(&app, "fail", claim(&app).await, json!({ "error": "later", "retry": true })).await;
    assert_eq!(existing(&app, json!(1)).await, first);
    for _ in 0..2 {
        eventually("it is there again", async || {
            !json(app.post("/queues/q/claim", &json!(null)).await, 200).await.as_array().unwrap().is_empty()
        })
        .await;
        assert_eq!(existing(&app, json!(1)).await, first);
        app.elapse(Duration::from_mins(1)).await;
    }
    assert_eq!(app.ended("q", &first).await["error"]["name"], "WorkerLost");
    assert_ne!(stored(&app, json!(1)).await, first);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_breaks_the_schema_before_it_runs_has_ended() {
    let app = TestApp::start().await;
    let handler = json!({ "kind": "javascript", "source": "module.exports = () => 'ran'" });
    let options = json!({ "unique": { "key": "/a" } });
    let schema = json!({ "schema": { "required": ["b"] } });
    app.define("q", json!({ "handler": handler, "options": options, "incoming": schema })).await;
    let mut db = app.connect().await;
    let enqueue = "SELECT enqueue('q', '{\"a\": 1}')::text";
    let first: String = sqlx::query_scalar(enqueue).fetch_one(&mut db).await.unwrap();
    assert_eq!(app.ended("q", &first).await["error"]["name"], "ValidationError");
    let second: String = sqlx::query_scalar(enqueue).fetch_one(&mut db).await.unwrap();
    assert_ne!(first, second);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn for_a_time_means_by_the_databases_clock_whatever_becomes_of_the_message_and_of_the_server() {
    let app = TestApp::start().await;
    unique(&app, json!({ "key": "body", "while": "24h" })).await;
    let first = stored(&app, json!(1)).await;
    end(&app, "complete", claim(&app).await, json!({ "result": 1 })).await;
    assert_eq!(json(push(&app, json!(1)).await, 200).await["status"], "COMPLETE");
    app.elapse(Duration::from_hours(23)).await;
    let database = app.database.clone();
    app.stop().await;
    let app = TestApp::on(database, &[], |app| app).await;
    assert_eq!(existing(&app, json!(1)).await, first);
    app.elapse(Duration::from_hours(1)).await;
    let second = stored(&app, json!(1)).await;
    // What is deleted holds nothing: there is nothing that it could be answered with.
    assert_eq!(app.delete(&format!("/queues/q/messages/{second}")).await.status(), 204);
    assert_ne!(stored(&app, json!(1)).await, second);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_queue_rejects_the_refusal_names_the_message() {
    let app = TestApp::start().await;
    unique(&app, json!({ "key": "/a", "conflict": "reject" })).await;
    let first = stored(&app, json!({ "a": 1 })).await;
    let problem = refusal(push(&app, json!({ "a": 1 })).await, 409).await;
    assert_eq!(problem["held_by"], json!(first));
    assert!(problem["detail"].as_str().unwrap().contains(&first), "{problem}");
    end(&app, "complete", claim(&app).await, json!({ "result": 1 })).await;
    stored(&app, json!({ "a": 1 })).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_run_again_by_hand_holds_its_value_again_unless_another_took_it() {
    let app = TestApp::start().await;
    unique(&app, json!({ "key": "body" })).await;
    let fail = json!({ "error": "no", "retry": false });
    let first = stored(&app, json!(1)).await;
    end(&app, "fail", claim(&app).await, fail.clone()).await;
    json(app.post(&format!("/queues/q/messages/{first}/retry"), &json!(null)).await, 200).await;
    assert_eq!(existing(&app, json!(1)).await, first);
    end(&app, "fail", claim(&app).await, fail).await;
    let second = stored(&app, json!(1)).await;
    let retry = format!("/queues/q/messages/{first}/retry");
    let problem = refusal(app.post(&retry, &json!(null)).await, 409).await;
    assert_eq!(problem["held_by"], json!(second));
    let many = json(app.post("/queues/q/messages:retry", &json!(null)).await, 200).await;
    assert_eq!(many, json!({ "retried": 0, "more": false }), "nor with others");
    assert_eq!(app.message("q", &first).await["status"], "ERROR");
    end(&app, "complete", claim(&app).await, json!({ "result": 1 })).await;
    json(app.post(&retry, &json!(null)).await, 200).await;
    assert_eq!(existing(&app, json!(1)).await, first, "it holds its value again");
    assert_eq!(claim(&app).await.0, first);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_replaced_runs_again_by_hand_once_no_other_waits() {
    let app = TestApp::start().await;
    unique(&app, json!({ "key": "body", "while": "waiting", "conflict": "replace" })).await;
    let first = stored(&app, json!(1)).await;
    let claimed = claim(&app).await;
    let second = stored(&app, json!(1)).await;
    end(&app, "fail", claimed, json!({ "error": "no", "retry": false })).await;
    let retry = format!("/queues/q/messages/{first}/retry");
    assert_eq!(refusal(app.post(&retry, &json!(null)).await, 409).await["held_by"], json!(second));
    let newer = claim(&app).await;
    assert_eq!(newer.0, second);
    refusal(app.post(&retry, &json!(null)).await, 409).await;
    end(&app, "complete", newer, json!({ "result": 1 })).await;
    json(app.post(&retry, &json!(null)).await, 200).await;
    assert_eq!(claim(&app).await.0, first);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_idempotency_key_is_looked_at_first() {
    let app = TestApp::start().await;
    unique(&app, json!({ "key": "/a", "while": "waiting", "conflict": "reject" })).await;
    let keyed = async |key: &str, body: Value| {
        let request = app.request(axum::http::Method::POST, "/queues/q/messages");
        request.header("idempotency-key", key).json(&body).send().await.unwrap()
    };
    let first = json(keyed("k", json!({ "a": 1 })).await, 201).await["id"].clone();
    // The same request again is no conflict, and another one under its key is not looked at.
    assert_eq!(json(keyed("k", json!({ "a": 1 })).await, 200).await["id"], first);
    let problem = refusal(keyed("k", json!({ "a": 2 })).await, 409).await;
    assert_eq!(problem.get("held_by"), None);
    // What is refused does not use its key up.
    assert_eq!(refusal(keyed("l", json!({ "a": 1 })).await, 409).await["held_by"], first);
    claim(&app).await;
    let second = json(keyed("l", json!({ "a": 1 })).await, 201).await["id"].clone();
    assert_eq!(json(keyed("k", json!({ "a": 1 })).await, 200).await["id"], first);

    unique(&app, json!({ "key": "/a", "while": "waiting" })).await;
    assert_eq!(json(keyed("m", json!({ "a": 1, "b": 2 })).await, 200).await["id"], second);
    claim(&app).await;
    // The key stands for that message, whatever holds the value by now; and for this body, though the message has another.
    assert_eq!(json(keyed("m", json!({ "b": 2, "a": 1 })).await, 200).await["id"], second);
    refusal(keyed("m", json!({ "a": 1 })).await, 409).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_at_once_with_one_idempotency_key_that_are_refused_are_answered_alike() {
    let app = TestApp::start().await;
    unique(&app, json!({ "key": "/a", "conflict": "reject" })).await;
    let first = stored(&app, json!({ "a": 1 })).await;
    for round in 0..10 {
        for path in ["/queues/q/messages", "/queues/q/messages:batch"] {
            let body = if path.ends_with("batch") { json!([{ "a": 1 }]) } else { json!({ "a": 1 }) };
            let pushes = (0..8).map(|_| {
                let request = app.request(axum::http::Method::POST, path);
                request.header("idempotency-key", format!("{round}")).json(&body).send()
            });
            for answer in futures::future::join_all(pushes).await {
                let answer = answer.unwrap();
                if path.ends_with("batch") {
                    assert_eq!(json(answer, 201).await[0]["held_by"], json!(first));
                } else {
                    assert_eq!(refusal(answer, 409).await["held_by"], json!(first));
                }
            }
        }
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_no_value_any_more_is_forgotten_and_what_does_is_kept() {
    let app = TestApp::start().await;
    unique(&app, json!({ "key": "/n" })).await;
    let kept = stored(&app, json!({ "n": "kept" })).await;
    let claimed = claim(&app).await;
    for n in 0..3 {
        stored(&app, json!({ "n": n })).await;
        end(&app, "complete", claim(&app).await, json!({ "result": n })).await;
    }
    app.define("gone", json!({ "options": { "unique": { "key": "body", "while": "48h" } } })).await;
    json(app.post("/queues/gone/messages", &json!(1)).await, 201).await;
    assert_eq!(app.delete("/queues/gone").await.status(), 204);
    app.elapse(Duration::from_hours(25)).await;
    let database = app.database.clone();
    app.stop().await;
    // One that starts sees to the upkeep.
    let app = TestApp::on(database, &[], |app| app).await;
    let mut db = app.connect().await;
    let held = "SELECT array_agg(message_id::text) FROM unique_holders";
    eventually("the others are let go", async || {
        let held: Vec<String> = sqlx::query_scalar(held).fetch_one(&mut db).await.unwrap();
        held == [kept.clone()]
    })
    .await;
    assert_eq!(existing(&app, json!({ "n": "kept" })).await, kept);
    let due = "SELECT count(*) FROM unique_holders WHERE look_at <= now()";
    assert_eq!(
        sqlx::query_scalar::<_, i64>(due).fetch_one(&mut db).await.unwrap(),
        0,
        "it is looked at later"
    );
    drop(claimed);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_without_uniqueness_makes_no_row_and_no_entry_of_an_index_for_it() {
    let app = TestApp::start().await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    let mut db = app.connect().await;
    for n in 0..20 {
        stored(&app, json!(n)).await;
        sqlx::query("SELECT enqueue('q', '1'), enqueue('q', '1', delay => '1 hour')")
            .execute(&mut db)
            .await
            .unwrap();
    }
    sqlx::query("SELECT enqueue_many('q', ARRAY['1', '2'])").execute(&mut db).await.unwrap();
    json(app.post("/queues/q/messages:batch", &json!([1, 2])).await, 201).await;
    end(&app, "complete", claim(&app).await, json!({ "result": 1 })).await;
    // An index without an entry is its first page.
    let sizes =
        "SELECT (sum(pg_relation_size(indexrelid)) / 8192)::bigint, count(*) FROM pg_stat_user_indexes
        WHERE indexrelname = 'dispatch_traceable_idx' OR indexrelname LIKE 'messages%key_id_idx'";
    let (pages, indexes): (i64, i64) = sqlx::query_as(sizes).fetch_one(&mut db).await.unwrap();
    assert!(indexes >= 4, "{indexes}");
    assert_eq!(pages, indexes);
    let rows: i64 =
        sqlx::query_scalar("SELECT count(*) FROM unique_holders").fetch_one(&mut db).await.unwrap();
    assert_eq!(rows, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_whose_values_were_held_are_counted() {
    let app = TestApp::start().await;
    app.define("counted-values", json!({ "options": { "unique": { "key": "body" } } })).await;
    app.push("counted-values", &json!(1)).await;
    app.push("counted-values", &json!([1])).await;
    for conflict in ["existing", "replace", "reject"] {
        let options = json!({ "unique": { "key": "body", "conflict": conflict } });
        app.define("counted-values", json!({ "options": options })).await;
        for body in [json!(1), json!([1])] {
            app.post("/queues/counted-values/messages", &body).await;
        }
    }
    let metrics = crate::support::answer::text(app.get("/metrics").await, 200).await;
    for outcome in ["existing", "replaced", "rejected"] {
        let counted =
            format!("postrider_unique_pushes_total{{queue=\"counted-values\",outcome=\"{outcome}\"}} ");
        let found = metrics.lines().find_map(|line| line.strip_prefix(&counted));
        assert_eq!(found, Some("2"), "{outcome}");
    }
    app.stop().await;
}
