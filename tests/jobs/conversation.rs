//! The whole conversation, once through: what each side sees at each step.

use super::{JOBS, ann, channel, ok, refused, statuses, worker};
use crate::support::app::TestApp;
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::Executor as _;

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_followed_and_what_it_asks_is_answered() {
    let app = TestApp::start().await;
    let (ann, worker) = (ann(&app), worker(&app));
    let (id, key) = ann.create().await;
    assert_eq!(ann.poll(id, &key, "").await, Vec::<Value>::new());

    let claimed = ok(worker.post(&format!("{JOBS}/claim?wait=20s&max=10"), &json!({})).await).await;
    assert_eq!(claimed[0]["id"], id);
    assert_eq!((&claimed[0]["cardholder_id"], &claimed[0]["data"]), (&json!(7), &json!({ "site": "shop" })));
    let lease = claimed[0]["lease"].clone();
    let said = json!({ "status": "AUTH", "percent_complete": 5, "site": "x", "lease": lease });
    let job = ok(worker.put(&format!("{JOBS}/{id}"), &said).await).await;
    assert_eq!((&job["status"], &job["percent_complete"]), (&json!("AUTH"), &json!(5)));

    let asked = json!({ "type": "tfa_request", "message": "the code, please", "lease": lease });
    let asked = worker.post(&format!("{}/credential_requests", channel(id)), &asked).await;
    refused(&asked, StatusCode::CREATED);
    let envelope = ok(asked).await["envelope_id"].clone();
    let twice = json!({ "type": "tfa_request" });
    let twice = worker.post(&format!("{}/credential_requests", channel(id)), &twice).await;
    refused(&twice, StatusCode::CONFLICT);

    let request = json!({ "type": "tfa_request", "job_id": id, "envelope_id": envelope, "message": "the code, please" });
    for _ in 0..2 {
        assert_eq!(ok(ann.get(&format!("{}/credential_requests", channel(id))).await).await, request);
    }
    let hydrated = ann.request(Method::GET, &format!("{JOBS}/{id}"));
    let hydrated =
        hydrated.header("x-cardsavr-hydration", r#"["credential_requests"]"#).send().await.unwrap();
    assert_eq!(ok(hydrated).await["credential_requests"], json!([request]));
    let all = ok(ann.get(&channel(id)).await).await;
    assert_eq!(all[0], request);
    assert_eq!(statuses(&all.as_array().unwrap()[1..]), ["AUTH", "PENDING_TFA"]);
    assert_eq!(ok(ann.get(&channel(id)).await).await, json!([request]));
    let of_cardholder = ok(ann.get("/messages/cardholders/7").await).await;
    assert_eq!(of_cardholder.as_array().unwrap().len(), 3);

    let nothing = worker.get(&format!("{}/credential_responses", channel(id))).await;
    refused(&nothing, StatusCode::OK);
    assert_eq!(nothing.text().await.unwrap(), "");
    let code = "73519842";
    let answer = json!({ "type": "tfa_response", "envelope_id": envelope, "message": code });
    let taken = ok(ann.post(&format!("{}/credential_responses", channel(id)), &answer).await).await;
    let submitted = json!({ "type": "credential_response", "job_id": id, "envelope_id": envelope, "message": "submitted" });
    assert_eq!(taken, submitted);
    refused(&ann.post(&format!("{}/credential_responses", channel(id)), &answer).await, StatusCode::CONFLICT);
    let none = ann.get(&format!("{}/credential_requests", channel(id))).await;
    refused(&none, StatusCode::OK);
    assert_eq!(none.text().await.unwrap(), "");
    assert!(!lies_in_the_database(&app, code).await, "the answer lies in the database in clear");

    let picked = ok(worker.get(&format!("{}/credential_responses", channel(id))).await).await;
    assert_eq!(
        picked,
        json!({ "type": "tfa_response", "job_id": id, "envelope_id": envelope, "message": code })
    );
    assert_eq!(ok(worker.get(&format!("{}/credential_responses", channel(id))).await).await, Value::Null);

    let end = json!({ "status": "SUCCESSFUL", "termination_type": "BILLABLE", "lease": lease });
    let job = ok(worker.put(&format!("{JOBS}/{id}"), &end).await).await;
    assert_eq!((&job["percent_complete"], &job["termination_type"]), (&json!(100), &json!("BILLABLE")));
    let other = json!({ "status": "FAILED", "termination_type": "PROCESS_FAILURE", "lease": lease });
    refused(&worker.put(&format!("{JOBS}/{id}"), &other).await, StatusCode::CONFLICT);

    let log = ann.poll(id, &key, "").await;
    assert_eq!(statuses(&log), ["AUTH", "PENDING_TFA", "TFA_CODE_RECEIVED", "SUCCESSFUL"]);
    assert_eq!(log[0]["type"], "job_status");
    assert_eq!(log[0]["job_id"], id);
    assert_eq!(log[0]["message"]["site"], "x");
    assert!(log[0]["message"]["job_timeout"].as_i64().unwrap() <= 300);
    assert!(log[1]["message"]["job_timeout"].as_i64().unwrap() > 300, "a question adds time");
    assert_eq!(log[3]["message"]["termination_type"], "BILLABLE");
    assert!(log[2]["message"].get("termination_type").is_none());
    let late = ann.register(id).await;
    assert_eq!(statuses(&ann.poll(id, &late, "").await), ["SUCCESSFUL"]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn access_keys_are_nowhere_in_the_database_in_clear() {
    let app = TestApp::start().await;
    let ann = ann(&app);
    let (id, created) = ann.create().await;
    let registered = ann.register(id).await;
    for key in [created, registered] {
        assert!(!lies_in_the_database(&app, &key).await, "{key}");
        assert!(!lies_in_the_database(&app, key.trim_end_matches('=')).await, "{key}");
    }
    // Nor is what its worker is to know; the search finds what is there.
    assert!(!lies_in_the_database(&app, "shop").await);
    assert!(lies_in_the_database(&app, "REQUESTED").await);
    app.stop().await;
}

/// Whether any column of any table holds this text, or its bytes.
async fn lies_in_the_database(app: &TestApp, text: &str) -> bool {
    let mut db = app.connect().await;
    let hex: String = text.bytes().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    let search =
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'postrider'::regnamespace AND relkind = 'r'";
    let tables: Vec<String> = sqlx::query_scalar(search).fetch_all(&mut db).await.unwrap();
    db.execute("SET statement_timeout = '60s'").await.unwrap();
    for table in tables {
        let found = format!(
            "SELECT EXISTS (SELECT FROM {table} AS t WHERE position($1 IN t::text) > 0 OR position($2 IN t::text) > 0)"
        );
        let found: bool = sqlx::query_scalar(sqlx::AssertSqlSafe(found))
            .bind(text)
            .bind(&hex)
            .fetch_one(&mut db)
            .await
            .unwrap();
        if found {
            return true;
        }
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_answers_one_wins() {
    let app = TestApp::start().await;
    let (ann, worker) = (ann(&app), worker(&app));
    let (id, _) = ann.create().await;
    worker.claim().await;
    let envelope = worker.ask(id, "tfa_request").await;
    let path = format!("{}/credential_responses", channel(id));
    let answers = (0..50).map(|n| {
        let body = json!({ "envelope_id": envelope, "message": n.to_string() });
        let (ann, path) = (&ann, &path);
        async move { (n, ann.post(path, &body).await.status()) }
    });
    let answers = futures::future::join_all(answers).await;
    let winners: Vec<i32> =
        answers.iter().filter(|(_, status)| *status == StatusCode::OK).map(|(n, _)| *n).collect();
    assert_eq!(winners.len(), 1, "{answers:?}");
    assert!(answers.iter().all(|(_, status)| [StatusCode::OK, StatusCode::CONFLICT].contains(status)));
    let picked = ok(worker.get(&path).await).await;
    assert_eq!(picked["message"], winners[0].to_string());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_broadcasts_in_its_own_transaction() {
    let app = TestApp::start().await;
    let ann = ann(&app);
    let (id, key) = ann.create().await;
    let mut db = app.connect().await;
    for statement in [
        "BEGIN".to_owned(),
        format!("SELECT broadcast({id}, '\"LOST\"')"),
        "ROLLBACK".to_owned(),
        format!("SELECT broadcast({id}, '{{\"status\": \"IMPORTED\", \"percent_complete\": 40}}')"),
    ] {
        db.execute(sqlx::AssertSqlSafe(statement)).await.unwrap();
    }
    let log = ann.poll(id, &key, "?wait=9").await;
    assert_eq!(statuses(&log), ["IMPORTED"]);
    assert_eq!(log[0]["message"]["percent_complete"], 40);
    for wrong in ["'5'", "NULL", "'{\"percent_complete\": 400}'", "'{\"termination_type\": \"DONE\"}'"] {
        let statement = format!("SELECT broadcast({id}, {wrong})");
        let error = db.execute(sqlx::AssertSqlSafe(statement)).await.unwrap_err();
        // It stands in the application's log: nothing of the job does.
        let error = format!("{error:?}");
        assert!(error.contains("22023") && !error.contains("Failing row"), "{wrong}: {error}");
    }
    app.stop().await;
}
