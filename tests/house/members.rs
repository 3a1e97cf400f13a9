//! Every operation of the API's description that reads an object refuses a member that it does not know, and names it.

use crate::support::answer::{json, refusal, violations};
use crate::support::app::TestApp;
use axum::http::Method;
use serde_json::{Value, json};

/// The operations whose body is the caller's own: what they do not know they store, or pass on, as it stands.
const OPEN: &[&str] = &["push_message", "push_messages", "create_job", "update_job", "broadcast", "ask"];

/// Those that only who signs comes to: a body that is not encrypted is not looked into.
const SIGNED: &[&str] = &["log_in", "refresh_session"];

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_refuses_a_member_that_it_does_not_know_and_names_it() {
    let app = TestApp::start().await;
    app.define("guarded", json!({ "handler": { "kind": "worker" } })).await;
    let message = app.push("guarded", &json!({})).await;
    let endpoint = json!({ "url": "http://127.0.0.1:9" });
    json(app.put("/stores/shop/endpoints/warehouse", &endpoint).await, 201).await;
    let jobs = "/place_card_on_single_site_jobs";
    let agent = |method: Method, path: &str| app.request_as(&["customer_agent"], method, path);
    let job = agent(Method::POST, jobs).json(&json!({ "cardholder_id": 7 })).send().await.unwrap();
    let job = json(job, 201).await["id"].to_string();
    let api: Value = json(app.anonymous(Method::GET, "/openapi.json").send().await.unwrap(), 200).await;

    let (mut refused, mut open) = (Vec::new(), Vec::new());
    for (path, operations) in api["paths"].as_object().unwrap() {
        let address = path
            .replace("{queue}", "guarded")
            .replace("{id}", &message)
            .replace("{name}", "warehouse")
            .replace("{job_type}", jobs.trim_start_matches('/'))
            .replace("{job_id}", &job)
            .replace("{store}", "shop");
        for (method, operation) in operations.as_object().unwrap() {
            if operation["requestBody"].is_null() {
                continue;
            }
            assert!(!address.contains('{'), "{path} has a parameter that this test does not know");
            let name = operation["operationId"].as_str().unwrap();
            if SIGNED.contains(&name) {
                continue;
            }
            if OPEN.contains(&name) {
                open.push(name);
                continue;
            }
            let method = method.to_uppercase().parse::<Method>().unwrap();
            let is_agents = operation["tags"][0] == "job channels";
            let request = if is_agents { agent(method, &address) } else { app.request(method, &address) };
            let problem = refusal(request.json(&json!({ "nonsense": 1 })).send().await.unwrap(), 422).await;
            let found = violations(&problem);
            assert!(found.contains(&("/nonsense", "additionalProperties")), "{name}: {found:?}");
            refused.push(name);
        }
    }
    open.sort_unstable();
    let mut known = OPEN.to_vec();
    known.sort_unstable();
    assert_eq!(open, known);
    assert!(refused.len() >= 12, "only these were tried: {refused:?}");
    app.stop().await;
}
