//! `Idempotency-Key`: a request that is sent again creates no second job.

use super::{Client, JOBS, ann, ok, refused, statuses, worker};
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
