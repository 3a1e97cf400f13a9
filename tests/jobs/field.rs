//! What clients in the field send, and expect back.

use super::{JOBS, ann, channel, ok, statuses, worker};
use crate::support::app::TestApp;
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn the_guides_headers_and_addresses_work() {
    let app = TestApp::start().await;
    let (ann, worker) = (ann(&app), worker(&app));
    let (id, key) = ann.create().await;
    let token = app.token_of("ann", &["cardholder_agent"]);
    let spellings = [
        "cardsavr-messaging-access-key",
        "x-cardsavr-messaging-access-key",
        "x-cardsavr-cardsavr-messaging-access-key",
    ];
    for (n, header) in spellings.into_iter().enumerate() {
        worker.say(id, &json!({ "status": format!("S{n}") })).await;
        for end in ["", "/", "?", "/?"] {
            let request = app.anonymous(Method::GET, &format!("{}/broadcasts{end}", channel(id)));
            let request = request
                .header("x-cardsavr-session-jwt", &token)
                .header("x-cardsavr-trace", r#"{"key": "my_trace"}"#)
                .header("content-type", "application/json");
            let log = ok(request.header(header, &key).send().await.unwrap()).await;
            let expected = if end.is_empty() { vec![format!("S{n}")] } else { Vec::new() };
            assert_eq!(statuses(log.as_array().unwrap()), expected, "{header} {end}");
        }
    }
    for path in [
        format!("{JOBS}/{id}/"),
        format!("{JOBS}/?ids={id}"),
        format!("{}/", channel(id)),
        format!("{}/broadcasts/registrations/", channel(id)),
        "/messages/cardholders/7/".to_owned(),
        format!("{}/credential_requests/", channel(id)),
    ] {
        assert_eq!(ann.get(&path).await.status(), StatusCode::OK, "{path}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_a_problem_document_with_errors_of_strings() {
    let app = TestApp::start().await;
    let ann = ann(&app);
    for (answer, status, property) in [
        (ann.post(JOBS, &json!({})).await, 422, "cardholder_id"),
        (ann.get(&format!("{JOBS}/999")).await, 404, ""),
        (app.anonymous(Method::GET, &format!("{JOBS}/1")).send().await.unwrap(), 401, ""),
        (ann.get(&format!("{JOBS}/not-a-number")).await, 404, ""),
        (ann.request(Method::POST, JOBS).body("{").send().await.unwrap(), 415, ""),
    ] {
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["status"], status);
        let error = &problem["_errors"][0];
        assert!(error["name"].is_string() && error["message"].is_string(), "{problem}");
        assert_eq!(error["property"], property);
        assert!(problem["message"].is_string());
    }
    assert_eq!(ann.get("/no_such_jobs/1").await.status(), StatusCode::NOT_FOUND);
    let delete = |path: &str| ann.request(Method::DELETE, path).send();
    let answer = delete(&format!("{JOBS}/1")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.headers()["allow"], "GET,HEAD,PUT");
    assert_eq!(delete("/no_such_jobs/1").await.unwrap().status(), StatusCode::NOT_FOUND);
    assert_eq!(
        app.anonymous(Method::GET, "/favicon.ico").send().await.unwrap().status(),
        StatusCode::NOT_FOUND
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_sends_a_header_of_clients_in_the_field_is_refused_in_the_type_that_they_read() {
    let app = TestApp::start().await;
    for (path, status) in [
        (format!("{JOBS}/999"), 404),
        (format!("{JOBS}?nonsense=1"), 400),
        (format!("{}/broadcasts", channel(1)), 401),
        ("/no_such_jobs/1".to_owned(), 404),
    ] {
        for header in ["x-cardsavr-trace", "x-cardsavr-hydration", "x-cardsavr-anything"] {
            let answer = ann(&app).request(Method::GET, &path).header(header, "x").send().await.unwrap();
            assert_eq!(answer.status(), status, "{path}");
            assert_eq!(answer.headers()["content-type"], "application/json", "{path}");
            let problem: Value = answer.json().await.unwrap();
            assert_eq!(problem["status"], status, "{path}");
            assert!(problem["_errors"][0]["message"].is_string(), "{path}: {problem}");
        }
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_jobs_are_created_and_listed_at_once() {
    let app = TestApp::start().await;
    let ann = ann(&app);
    let body = json!([
        { "cardholder_id": 1, "data": { "user": "a" }, "site": "x", "credential_timeout": 60 },
        { "cardholder_id": "2" },
    ]);
    let made = ann.post(JOBS, &body).await;
    assert_eq!(made.status(), StatusCode::CREATED);
    let made = ok(made).await;
    assert_eq!((&made[0]["credential_timeout"], &made[1]["credential_timeout"]), (&json!(60), &json!(240)));
    assert!(made[0]["id"].is_i64() && made[0]["access_key"] != made[1]["access_key"]);
    let claimed = ok(worker(&app).post(&format!("{JOBS}/claim?max=10"), &json!({})).await).await;
    assert_eq!(claimed[0]["data"], json!({ "user": "a", "site": "x" }));
    assert_eq!(claimed[1]["data"], json!({}));
    let list = async |query: &str| {
        let all = ok(ann.get(&format!("{JOBS}{query}")).await).await;
        let ids = all.as_array().unwrap().iter().map(|job| job["cardholder_id"].as_i64().unwrap());
        ids.collect::<Vec<_>>()
    };
    assert_eq!(list("").await, [2, 1]);
    assert_eq!(list("?cardholder_ids=1,9").await, [1]);
    assert_eq!(list("?status=AUTH").await, Vec::<i64>::new());
    assert_eq!(list(&format!("?ids={}", made[1]["id"])).await, [2]);
    assert_eq!(ann.get(&format!("{JOBS}?ids=x")).await.status(), StatusCode::BAD_REQUEST);
    for wrong in [
        json!([]),
        json!(5),
        json!({ "cardholder_id": 1.5 }),
        json!({ "cardholder_id": 1, "job_timeout": 0 }),
    ] {
        let answer = ann.post(JOBS, &wrong).await;
        assert!([400, 422].contains(&answer.status().as_u16()), "{wrong}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn job_types_are_files() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("import_jobs.jobs.json"), r#"{"job_timeout": "10m"}"#).unwrap();
    let queues = directory.path().to_str().unwrap();
    let app = TestApp::with(&[("POSTRIDER_QUEUES_DIR", queues)], |app| app).await;
    let ann = ann(&app);
    let job = ok(ann.post("/import_jobs", &json!({ "cardholder_id": 1 })).await).await;
    let path = format!("/import_jobs/{}", job["id"]);
    assert_eq!(ann.get(&path).await.status(), StatusCode::OK);
    assert_eq!(
        ann.get(&format!("{JOBS}/{}", job["id"])).await.status(),
        StatusCode::NOT_FOUND,
        "another type's"
    );
    app.stop().await;
}
