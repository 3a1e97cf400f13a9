//! `Idempotency-Key`: a request that is sent again creates no second job.

use super::{Client, JOBS, ann, channel, ok, refused, statuses, worker};
use crate::support::app::TestApp;
use crate::support::eventually;
use axum::http::{Method, StatusCode};
use reqwest::Response;
use serde_json::{Value, json};
use std::time::Duration;

async fn create(client: &Client<'_>, key: &str, body: &Value) -> Response {
    client.request(Method::POST, JOBS).header("idempotency-key", key).json(body).send().await.unwrap()
}

async fn count(client: &Client<'_>) -> usize {
    ok(client.get(JOBS).await).await.as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_and_body_give_the_first_job_again_with_another_access_key() {
    let app = TestApp::start().await;
    let (ann, worker) = (ann(&app), worker(&app));
    let bob = Client { app: &app, subject: "bob", roles: &["cardholder_agent"] };
    let body = json!({ "cardholder_id": 7, "site": "shop" });
    let first = create(&ann, "k", &body).await;
    refused(&first, StatusCode::CREATED);
    let first = ok(first).await;
    let id = first["id"].as_i64().unwrap();
    worker.say(id, &json!({ "status": "AUTH" })).await;

    let again = create(&ann, "k", &body).await;
    refused(&again, StatusCode::OK);
    let again = ok(again).await;
    assert_eq!((&again["id"], &again["status"]), (&first["id"], &json!("AUTH")), "as it is now");
    // The answer that was lost had a key that reads from the beginning; so has this one.
    assert_ne!(again["access_key"], first["access_key"]);
    for job in [&first, &again] {
        assert_eq!(statuses(&ann.poll(id, job["access_key"].as_str().unwrap(), "").await), ["AUTH"]);
    }
    refused(&create(&ann, "k", &json!({ "cardholder_id": 8 })).await, StatusCode::CONFLICT);
    for bad in ["", &"k".repeat(256)] {
        refused(&create(&ann, bad, &body).await, StatusCode::BAD_REQUEST);
    }
    refused(&create(&ann, "wrong", &json!({})).await, StatusCode::UNPROCESSABLE_ENTITY);
    refused(&create(&ann, "wrong", &body).await, StatusCode::CREATED);
    // Another's key is another key.
    let other = create(&bob, "k", &json!({ "cardholder_id": 9 })).await;
    refused(&other, StatusCode::CREATED);

    let many = json!([body, { "cardholder_id": 8 }]);
    let made = ok(create(&ann, "many", &many).await).await;
    let again = create(&ann, "many", &many).await;
    refused(&again, StatusCode::OK);
    let ids = |jobs: &Value| [jobs[0]["id"].as_i64(), jobs[1]["id"].as_i64()];
    assert_eq!(ids(&ok(again).await), ids(&made));
    assert_eq!((count(&ann).await, count(&bob).await), (4, 1));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_requests_at_once_with_one_key_create_one_job() {
    let app = TestApp::start().await;
    let ann = ann(&app);
    let bodies = [json!({ "cardholder_id": 1 }), json!({ "cardholder_id": 2 })];
    let requests = (0..20).map(|n| create(&ann, "k", &bodies[n % 2]));
    let answers = futures::future::join_all(requests).await;
    let mut found: Vec<u16> = answers.iter().map(|answer| answer.status().as_u16()).collect();
    found.sort_unstable();
    assert_eq!(found, [vec![200; 9], vec![201], vec![409; 10]].concat());
    assert_eq!(count(&ann).await, 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_go_after_a_day_and_finished_jobs_after_a_month_with_all_that_is_theirs() {
    let app = TestApp::start().await;
    let (ann, worker) = (ann(&app), worker(&app));
    let body = json!({ "cardholder_id": 7 });
    let mut ids = Vec::new();
    for key in ["finished", "unfinished"] {
        let id = ok(create(&ann, key, &body).await).await["id"].as_i64().unwrap();
        worker.claim().await;
        worker.ask(id, "tfa_request").await;
        ids.push(id);
    }
    worker.say(ids[0], &json!({ "status": "DONE", "termination_type": "BILLABLE" })).await;
    let mut db = app.connect().await;
    let tables = ["jobs", "registrations", "envelopes", "job_idempotency_keys"];
    let mut left = async || {
        let mut counts = Vec::new();
        for table in tables {
            let count = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
            counts.push(sqlx::query_scalar::<_, i64>(count).fetch_one(&mut db).await.unwrap());
        }
        counts
    };
    assert_eq!(left().await, [2, 2, 2, 2]);
    // All but the other job's own times pass: it has deadlines, which would end it.
    let database = app.database.clone();
    let mut past = app.connect().await;
    let day = Duration::from_hours(24);
    app.stop().await;
    for (statement, kept) in [
        ("UPDATE jobs SET completed_at = completed_at - $1", [2, 1, 2, 2]),
        ("UPDATE job_idempotency_keys SET created_at = created_at - $1", [2, 1, 2, 0]),
        ("UPDATE jobs SET completed_at = completed_at - $1 * 30", [1, 1, 1, 0]),
    ] {
        sqlx::query(statement).bind(day).execute(&mut past).await.unwrap();
        // It tidies up when it starts.
        let app = TestApp::on(database.clone(), &[], |app| app).await;
        eventually("what is old is gone", async || left().await == kept).await;
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_go_although_a_job_that_is_overdue_cannot_be_ended() {
    let app = TestApp::start().await;
    let (ann, worker) = (ann(&app), worker(&app));
    ok(create(&ann, "k", &json!({ "cardholder_id": 7 })).await).await;
    worker.claim().await;
    let (database, mut db, mut holder) = (app.database.clone(), app.connect().await, app.connect().await);
    app.stop().await;
    let past = "UPDATE job_idempotency_keys SET created_at = created_at - interval '1 day';
        UPDATE jobs SET deadline = now() - interval '1 minute'";
    sqlx::raw_sql(past).execute(&mut db).await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT FROM jobs FOR UPDATE").execute(&mut holder).await.unwrap();
    let app = TestApp::on(database, &[], |app| app).await;
    let left = "SELECT count(*) FROM job_idempotency_keys";
    eventually("the key goes", async || {
        sqlx::query_scalar::<_, i64>(left).fetch_one(&mut db).await.unwrap() == 0
    })
    .await;
    sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
    app.stop().await;
}

/// A request with a key: its status and its body.
async fn with_key(client: &Client<'_>, method: Method, path: &str, key: &str, body: &str) -> (u16, String) {
    let request = client.request(method, path).header("idempotency-key", key);
    let answer =
        request.header("content-type", "application/json").body(body.to_owned()).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_says_twice_with_one_key_is_said_once_and_answered_as_the_first_time() {
    let app = TestApp::start().await;
    let (ann, worker) = (ann(&app), worker(&app));
    let (id, access_key) = ann.create().await;
    worker.claim().await;
    let (job, broadcasts) = (format!("{JOBS}/{id}"), format!("{}/broadcasts", channel(id)));
    for (method, path, first_status) in [(Method::PUT, &job, 200), (Method::POST, &broadcasts, 201)] {
        let key = format!("{method}");
        let send = async |key: &str, body: &str| with_key(&worker, method.clone(), path, key, body).await;
        let (status, first) = send(&key, r#"{"status":"AUTH","site":"x"}"#).await;
        assert_eq!(status, first_status, "{first}");
        worker.say(id, &json!({ "status": "BETWEEN" })).await;
        let again = send(&key, "{ \"site\": \"x\", \"status\": \"AUT\\u0048\" }").await;
        assert_eq!(again, (200, first), "{method}");
        assert_eq!(send(&key, r#"{"status":"OTHER"}"#).await.0, 409);
    }
    assert_eq!(
        statuses(&ann.poll(id, &access_key, "").await),
        ["AUTH", "BETWEEN", "AUTH", "BETWEEN"],
        "each once"
    );
    // The same about another job is something else.
    let (other, _) = ann.create().await;
    let elsewhere = format!("{JOBS}/{other}");
    let body = r#"{"status":"AUTH","site":"x"}"#;
    assert_eq!(with_key(&worker, Method::PUT, &elsewhere, "PUT", body).await.0, 409);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_counted_is_answered_again_and_no_other_end_counts() {
    let app = TestApp::start().await;
    let (ann, worker) = (ann(&app), worker(&app));
    let end = r#"{"status":"DONE","termination_type":"BILLABLE"}"#;
    for by_broadcast in [false, true] {
        let (id, access_key) = ann.create().await;
        let (_, lease) = worker.claim().await;
        let (method, path) = if by_broadcast {
            (Method::POST, format!("{}/broadcasts", channel(id)))
        } else {
            (Method::PUT, format!("{JOBS}/{id}"))
        };
        let key = format!("end {id}");
        let send = async |key: &str, body: &str| with_key(&worker, method.clone(), &path, key, body).await;
        let with_lease = format!(r#"{{"lease":"{lease}",{}"#, &end[1..]);
        let ends = futures::future::join_all((0..10).map(|_| send(&key, &with_lease))).await;
        let first = &ends[0].1;
        assert!(ends.iter().all(|(status, body)| *status < 300 && body == first), "{ends:?}");
        assert!(first.contains("BILLABLE"), "{first}");
        assert_eq!(send("another", &with_lease).await.0, 200, "the same end said again is no other end");
        assert_eq!(send(&key, r#"{"status":"DONE","termination_type":"PROCESS_FAILURE"}"#).await.0, 409);
        assert_eq!(statuses(&ann.poll(id, &access_key, "").await), ["DONE"]);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_asked_twice_with_one_key_is_one_question() {
    let app = TestApp::start().await;
    let (ann, worker) = (ann(&app), worker(&app));
    let (id, _) = ann.create().await;
    worker.claim().await;
    let path = format!("{}/credential_requests", channel(id));
    let body = r#"{"type":"tfa_request","message":"code?"}"#;
    let ask = async |key: &str, body: &str| with_key(&worker, Method::POST, &path, key, body).await;
    let (status, first) = ask("k", body).await;
    assert_eq!(status, 201, "{first}");
    assert_eq!(ask("k", body).await, (200, first.clone()));
    assert_eq!(ask("other", body).await.0, 409, "one is pending");
    let asked: Value = serde_json::from_str(&first).unwrap();
    let answer = json!({ "envelope_id": asked["envelope_id"], "message": "1234" });
    ok(ann.post(&format!("{}/credential_responses", channel(id)), &answer).await).await;
    assert_eq!(ask("k", body).await, (200, first), "answered since, and no second question");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_write_does_not_use_its_key_up() {
    let app = TestApp::start().await;
    let (ann, worker) = (ann(&app), worker(&app));
    let (id, _) = ann.create().await;
    let path = format!("{JOBS}/{id}");
    let stale = r#"{"status":"A","lease":"00000000-0000-0000-0000-000000000000"}"#;
    assert_eq!(with_key(&worker, Method::PUT, &path, "k", stale).await.0, 409);
    assert_eq!(with_key(&worker, Method::PUT, &path, "k", r#"{"status":"A"}"#).await.0, 200);
    assert_eq!(with_key(&worker, Method::PUT, &path, "", r#"{"status":"A"}"#).await.0, 400);
    // An agent's write, too, also after the job has ended of it.
    let cancel = r#"{"status":"CANCEL_REQUESTED"}"#;
    let (waits, access_key) = ann.create().await;
    let path = format!("{JOBS}/{waits}");
    let first = with_key(&ann, Method::PUT, &path, "c", cancel).await;
    assert_eq!((first.0, first.1.contains("NEVER_STARTED")), (200, true));
    assert_eq!(with_key(&ann, Method::PUT, &path, "c", cancel).await, first);
    assert_eq!(with_key(&ann, Method::PUT, &path, "d", cancel).await.0, 409);
    assert_eq!(statuses(&ann.poll(waits, &access_key, "").await), ["CANCELED"]);
    app.stop().await;
}
