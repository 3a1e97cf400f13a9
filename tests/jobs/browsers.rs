//! Pages of other origins: what a browser asks before it lets them in, and what it lets them read.

use super::{JOBS, ann, channel, ok, worker};
use crate::support::answer::text;
use crate::support::app::TestApp;
use axum::http::Method;
use reqwest::Response;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const SHOP: &str = "https://shop.example";

/// The names in a header of an answer.
fn names(answer: &Response, header: &str) -> BTreeSet<String> {
    let text = answer.headers().get(header).map_or("", |value| value.to_str().unwrap());
    text.split(',').map(|name| name.trim().to_ascii_lowercase()).filter(|name| !name.is_empty()).collect()
}

fn origin(answer: &Response) -> Option<&str> {
    answer.headers().get("access-control-allow-origin").map(|value| value.to_str().unwrap())
}

/// What a browser asks for a page of `origin` that would send `method` with `headers`.
async fn preflight(app: &TestApp, origin: &str, path: &str, method: &str, headers: &str) -> Response {
    let request = app.anonymous(Method::OPTIONS, path).header("origin", origin);
    let request = request.header("access-control-request-method", method);
    request.header("access-control-request-headers", headers).send().await.unwrap()
}

async fn shop() -> TestApp {
    let allowed = format!("http://localhost:3000, {SHOP}");
    TestApp::with(&[("POSTRIDER_ALLOW_ORIGINS", allowed.as_str())], |app| app).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_needs_no_token_and_allows_every_header_that_a_route_reads() {
    let app = shop().await;
    for (path, method) in [
        (JOBS, "POST"),
        (&channel(1), "GET"),
        ("/queues/q", "PUT"),
        ("/queues/q/messages/1", "DELETE"),
        ("/nowhere", "GET"),
    ] {
        let answer = preflight(&app, SHOP, path, method, "authorization,last-event-id").await;
        assert_eq!(answer.status(), 204, "{method} {path}");
        assert_eq!(origin(&answer), Some(SHOP), "{method} {path}");
        assert!(names(&answer, "access-control-allow-methods").contains(&method.to_ascii_lowercase()));
        assert!(answer.headers().contains_key("access-control-max-age"));
        let allowed = names(&answer, "access-control-allow-headers");
        for read in [
            "authorization",
            "x-access-token",
            "x-cardsavr-session-jwt",
            "content-type",
            "idempotency-key",
            "last-event-id",
            "cardsavr-messaging-access-key",
            "x-cardsavr-messaging-access-key",
            "x-cardsavr-cardsavr-messaging-access-key",
            "x-cardsavr-trace",
            "x-cardsavr-hydration",
            "x-postrider-lease",
            "x-request-id",
            "postrider-delay",
            "postrider-run-at",
            "postrider-priority",
        ] {
            assert!(allowed.contains(read), "{read} is not in {allowed:?}");
        }
    }
    // And whatever else clients in the field send, and nothing else.
    let answer = preflight(&app, SHOP, JOBS, "PUT", "x-cardsavr-paging, X-Cardsavr-Anything, x-other").await;
    let allowed = names(&answer, "access-control-allow-headers");
    assert!(allowed.contains("x-cardsavr-paging") && allowed.contains("x-cardsavr-anything"), "{allowed:?}");
    assert!(!allowed.contains("x-other") && allowed.contains("x-cardsavr-signature"), "{allowed:?}");
    assert!(names(&answer, "access-control-allow-methods").contains("options"));
    assert_eq!(
        (&answer.headers()["access-control-max-age"], &answer.headers()["vary"]),
        (&"7200".parse().unwrap(), &"origin".parse().unwrap())
    );
    // A browser that asks nothing is no preflight.
    let options = app.request(Method::OPTIONS, JOBS).header("origin", SHOP).send().await.unwrap();
    assert_eq!((options.status().as_u16(), origin(&options)), (405, Some(SHOP)));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_header_that_the_description_names_may_be_sent() {
    let app = shop().await;
    let answer = preflight(&app, SHOP, "/queues", "GET", "").await;
    let allowed = names(&answer, "access-control-allow-headers");
    let api: Value = app.anonymous(Method::GET, "/openapi.json").send().await.unwrap().json().await.unwrap();
    let operations =
        api["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values());
    let mut seen = 0;
    for parameter in
        operations.flat_map(|operation| operation["parameters"].as_array().cloned().unwrap_or_default())
    {
        if parameter["in"] == "header" {
            seen += 1;
            let name = parameter["name"].as_str().unwrap().to_ascii_lowercase();
            assert!(allowed.contains(&name), "{name}");
        }
    }
    assert!(seen > 20, "only {seen} were looked at");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_reads_every_answer_refusals_too_and_no_other_page_does() {
    let app = shop().await;
    let (id, key) = ann(&app).create().await;
    let broadcasts = format!("{}/broadcasts", channel(id));
    let read = async |origin: &str, token: bool, path: &str| {
        let request =
            if token { ann(&app).request(Method::GET, path) } else { app.anonymous(Method::GET, path) };
        let key = ("cardsavr-messaging-access-key", key.as_str());
        request.header("origin", origin).header(key.0, key.1).send().await.unwrap()
    };
    let job = format!("{JOBS}/{id}");
    let missing = format!("{JOBS}/999999");
    let unknown = format!("{job}?nonsense=1");
    for (token, path, status) in [
        (true, broadcasts.as_str(), 200),
        (true, &job, 200),
        (false, &job, 401),
        (true, &missing, 404),
        (true, &unknown, 400),
        (true, "/nowhere", 404),
        (true, "/queues", 403),
        (false, "/healthz", 200),
    ] {
        let answer = read(SHOP, token, path).await;
        assert_eq!(answer.status(), status, "{path}");
        assert_eq!(origin(&answer), Some(SHOP), "{path}");
        let exposed = names(&answer, "access-control-expose-headers");
        for name in ["x-request-id", "retry-after", "location", "x-postrider-cancel"] {
            assert!(exposed.contains(name), "{path}: {name} is not in {exposed:?}");
        }
        assert!(names(&answer, "vary").contains("origin"), "{path}");
        assert_eq!(answer.headers()["referrer-policy"], "no-referrer");
        for other in ["https://shop.example.evil", "http://shop.example", "null", "https://SHOP.example"] {
            let answer = read(other, token, path).await;
            assert_eq!((answer.status().as_u16(), origin(&answer)), (status, None), "{other} {path}");
            assert!(names(&answer, "vary").contains("origin"), "a cache must keep them apart");
        }
    }
    let refused = preflight(&app, "https://evil.example", JOBS, "POST", "authorization").await;
    assert!(!refused.status().is_success() && origin(&refused).is_none());
    app.stop().await;

    // None are allowed unless somebody says so; all are when somebody says that.
    let closed = TestApp::start().await;
    let refused = preflight(&closed, SHOP, JOBS, "POST", "authorization").await;
    assert!(!refused.status().is_success() && origin(&refused).is_none());
    closed.stop().await;
    let open = TestApp::with(&[("POSTRIDER_ALLOW_ORIGINS", "*")], |app| app).await;
    assert_eq!(preflight(&open, SHOP, JOBS, "POST", "authorization").await.status(), 204);
    let answer = open.anonymous(Method::GET, JOBS).header("origin", "null").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), origin(&answer)), (401, Some("*")));
    assert!(!answer.headers().contains_key("access-control-allow-credentials"));
    open.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_asks_comes_with_it_whichever_way_it_is_read_or_written() {
    let app = TestApp::start().await;
    let (ann, worker) = (ann(&app), worker(&app));
    let hydrated = |request: reqwest::RequestBuilder| {
        request.header("x-cardsavr-hydration", r#"["credential_requests"]"#)
    };
    let body = json!({ "cardholder_id": 7 });
    let create = |many: bool| {
        let body = if many { json!([body, body]) } else { body.clone() };
        hydrated(ann.request(Method::POST, JOBS)).header("idempotency-key", many.to_string()).json(&body)
    };
    let job = ok(create(false).send().await.unwrap()).await;
    assert_eq!(job["credential_requests"], json!([]));
    assert!(job["access_key"].is_string());
    let jobs = ok(create(true).send().await.unwrap()).await;
    assert!(jobs.as_array().unwrap().iter().all(|job| job["credential_requests"] == json!([])), "{jobs}");
    let plain = ok(ann.post(JOBS, &json!({ "cardholder_id": 7 })).await).await;
    assert!(plain.get("credential_requests").is_none());

    let id = job["id"].as_i64().unwrap();
    worker.say(id, &json!({ "status": "AUTH" })).await;
    let envelope = worker.ask(id, "tfa_request").await;
    let path = format!("{JOBS}/{id}");
    let again = ok(create(false).send().await.unwrap()).await;
    let put = |client: &super::Client<'_>, status: &str| {
        hydrated(client.request(Method::PUT, &path))
            .header("idempotency-key", "put")
            .json(&json!({ "status": status }))
    };
    let cancelled = ok(put(&ann, "CANCEL_REQUESTED").send().await.unwrap()).await;
    let listed =
        ok(hydrated(ann.request(Method::GET, &format!("{JOBS}?ids={id}"))).send().await.unwrap()).await;
    for job in [&again, &cancelled, &listed[0]] {
        assert_eq!(job["credential_requests"][0]["envelope_id"], envelope.as_str(), "{job}");
    }
    // The worker is not asked; and what is told is as it is now, also where the answer is that of before.
    let told = ok(put(&worker, "UPDATING").send().await.unwrap()).await;
    assert_eq!(told["credential_requests"], json!([]));
    worker.say(id, &json!({ "termination_type": "USER_DATA_FAILURE" })).await;
    let before = ok(put(&ann, "CANCEL_REQUESTED").send().await.unwrap()).await;
    assert_eq!((&before["status"], &before["credential_requests"]), (&json!("CANCEL_REQUESTED"), &json!([])));
    text(app.anonymous(Method::GET, &path).send().await.unwrap(), 401).await;
    app.stop().await;
}
