//! Who may do what: every route with no token, another's, the wrong role, the right one, wrong keys.

use super::{Client, JOBS, ann, channel, worker};
use crate::support::app::TestApp;
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

const POST: Method = Method::POST;
const GET: Method = Method::GET;
const PUT: Method = Method::PUT;

/// A route: what it is sent, who may not for want of a role, and the status for the one who may.
struct Route {
    method: Method,
    path: String,
    body: Value,
    wrong_role: &'static str,
    right: (&'static str, &'static str),
    status: u16,
    /// What somebody else with the right role is told.
    other: u16,
}

/// Every route of a job, in an order in which each succeeds.
fn routes(id: i64, envelope: &str) -> Vec<Route> {
    let p = channel(id);
    let agent = ("ann", "cardholder_agent");
    let works = ("worker", "job_worker");
    let answer = json!({ "envelope_id": envelope, "message": "1234" });
    let route = |method, path: String, body, wrong_role, right, status, other| Route {
        method,
        path,
        body,
        wrong_role,
        right,
        status,
        other,
    };
    let new = json!({ "cardholder_id": 8 });
    vec![
        route(POST, JOBS.to_owned(), new, "job_worker", agent, 201, 201),
        route(GET, JOBS.to_owned(), json!({}), "nobody", agent, 200, 200),
        route(GET, format!("{JOBS}/{id}"), json!({}), "nobody", agent, 200, 404),
        route(POST, format!("{p}/broadcasts/registrations"), json!({}), "job_worker", agent, 200, 404),
        route(GET, format!("{p}/broadcasts/registrations"), json!({}), "job_worker", agent, 200, 404),
        route(GET, format!("{p}/credential_requests"), json!({}), "job_worker", agent, 200, 404),
        route(GET, p.clone(), json!({}), "job_worker", agent, 200, 404),
        route(GET, "/messages/cardholders/7".to_owned(), json!({}), "job_worker", agent, 200, 404),
        route(POST, format!("{p}/credential_responses"), answer, "job_worker", agent, 200, 404),
        route(GET, format!("{p}/credential_responses"), json!({}), "customer_agent", works, 200, 200),
        route(
            POST,
            format!("{p}/credential_requests"),
            json!({ "type": "x" }),
            "customer_agent",
            works,
            201,
            409,
        ),
        route(POST, format!("{p}/broadcasts"), json!({ "status": "A" }), "customer_agent", works, 201, 201),
        route(PUT, format!("{JOBS}/{id}"), json!({ "status": "B" }), "customer_agent", works, 200, 200),
        route(POST, format!("{JOBS}/claim"), json!({}), "customer_agent", works, 200, 200),
        route(
            PUT,
            format!("{JOBS}/{id}"),
            json!({ "status": "CANCEL_REQUESTED" }),
            "nobody",
            agent,
            200,
            404,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_is_for_those_the_contract_names() {
    let app = TestApp::start().await;
    let (ann, worker) = (ann(&app), worker(&app));
    let (id, _) = ann.create().await;
    worker.claim().await;
    let envelope = worker.ask(id, "tfa_request").await;
    for Route { method, path, body, wrong_role, right, status, other } in routes(id, &envelope) {
        let what = format!("{method} {path}");
        let anonymous = app.anonymous(method.clone(), &path).json(&body).send().await.unwrap();
        assert_eq!(anonymous.status(), StatusCode::UNAUTHORIZED, "{what} without a token");
        for role in [wrong_role, "nobody", "queue_writer"] {
            let client = Client { app: &app, subject: "ann", roles: &[role] };
            let answer = client.request(method.clone(), &path).json(&body).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{what} as {role}");
            assert_eq!(answer.headers()["content-type"], "application/problem+json");
        }
        let client = Client { app: &app, subject: right.0, roles: &[right.1] };
        let answer = client.request(method.clone(), &path).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), status, "{what} as {}: {}", right.1, answer.text().await.unwrap());
        let client = Client { app: &app, subject: "bob", roles: &[right.1] };
        let answer = client.request(method.clone(), &path).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), other, "{what} as another {}: {}", right.1, answer.text().await.unwrap());
        let nobody = Client { app: &app, subject: "", roles: &["cardholder_agent"] };
        let answer = nobody.request(method.clone(), &path).json(&body).send().await.unwrap();
        let owns_nothing = [StatusCode::FORBIDDEN, StatusCode::NOT_FOUND].contains(&answer.status());
        let lists_nothing = method == GET && path == JOBS && answer.text().await.unwrap() == "[]";
        assert!(owns_nothing || lists_nothing, "{what} with an empty subject");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_works_for_its_job_and_its_holder_alone() {
    let app = TestApp::start().await;
    let ann = ann(&app);
    let bob = Client { app: &app, subject: "bob", roles: &["cardholder_agent"] };
    let agent = Client { app: &app, subject: "carla", roles: &["customer_agent"] };
    let (id, key) = ann.create().await;
    let (other, other_key) = ann.create().await;
    let carlas = agent.register(id).await;
    let status = async |client: &Client<'_>, job: i64, key: Option<&str>| {
        let mut request = client.request(GET, &format!("{}/broadcasts", channel(job)));
        if let Some(key) = key {
            request = request.header("cardsavr-messaging-access-key", key);
        }
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(status(&ann, id, Some(&key)).await, 200);
    assert_eq!(status(&ann, other, Some(&other_key)).await, 200);
    assert_eq!(status(&agent, id, Some(&carlas)).await, 200);
    assert_eq!(status(&ann, id, None).await, 401, "no key");
    assert_eq!(status(&ann, id, Some("AAAAAAAAAAAAAAAAAAAAAA==")).await, 401, "a wrong key");
    assert_eq!(status(&ann, id, Some(&other_key)).await, 401, "another job's key");
    assert_eq!(status(&bob, id, Some(&key)).await, 401, "another's key");
    assert_eq!(status(&ann, id, Some(&carlas)).await, 401, "an agent's key");
    assert_eq!(status(&ann, 9999, Some(&key)).await, 401, "no such job");
    let nobody = Client { app: &app, subject: "ann", roles: &["nobody"] };
    assert_eq!(status(&nobody, id, Some(&key)).await, 403, "no role");
    let anonymous = app.anonymous(GET, &format!("{}/broadcasts", channel(id)));
    let anonymous = anonymous.header("cardsavr-messaging-access-key", &key).send().await.unwrap();
    assert_eq!(anonymous.status(), 401, "no token");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_creator_sees_what_a_job_asks() {
    let app = TestApp::start().await;
    let (ann, worker) = (ann(&app), worker(&app));
    let (id, _) = ann.create().await;
    worker.claim().await;
    worker.ask(id, "credential_request").await;
    let agent = Client { app: &app, subject: "carla", roles: &["customer_agent", "admin"] };
    let path = format!("{}/credential_requests", channel(id));
    assert_eq!(agent.get(&path).await.status(), StatusCode::NOT_FOUND);
    let all: Value = agent.get("/messages/cardholders/7").await.json().await.unwrap();
    assert_eq!(super::statuses(all.as_array().unwrap()), ["PENDING_NEWCREDS"], "statuses, and no question");
    let job = agent.request(GET, &format!("{JOBS}/{id}"));
    let job = job.header("x-cardsavr-hydration", r#"["credential_requests"]"#).send().await.unwrap();
    let job: Value = job.json().await.unwrap();
    assert_eq!(job["credential_requests"], json!([]));
    app.stop().await;
}
