//! Every operation of the API's description refuses query parameters that it does not know, those that come twice, and
//! values that no text of the database can hold.

use crate::support::answer::{json, refusal, text};
use crate::support::app::TestApp;
use axum::http::Method;
use serde_json::{Value, json};

/// The path with something in the place of its parameters.
fn concrete(path: &str, id: &str) -> String {
    path.replace("{queue}", "guarded")
        .replace("{id}", id)
        .replace("{name}", "queue_depth")
        .replace("{job_type}", "place_card_on_single_site_jobs")
        .replace("{job_id}", "1")
        .replace("{store}", "shop")
        .replace("{site_id}", "3")
        .replace("{cardholder_id}", "1")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_refuses_a_parameter_that_it_does_not_know_and_names_it() {
    let app = TestApp::start().await;
    app.define("guarded", json!({ "handler": { "kind": "worker" } })).await;
    let id = app.push("guarded", &json!({})).await;
    let api: Value = json(app.anonymous(Method::GET, "/openapi.json").send().await.unwrap(), 200).await;

    let (mut seen, mut known) = (0, 0);
    for (path, operations) in api["paths"].as_object().unwrap() {
        let address = concrete(path, &id);
        assert!(!address.contains('{'), "{path} has a parameter that this test does not know");
        for (method, operation) in operations.as_object().unwrap() {
            let Ok(method) = method.to_uppercase().parse::<Method>() else { continue };
            let what = format!("{method} {path}");
            seen += 1;
            let ask = async |address: &str| {
                app.request(method.clone(), address)
                    .header("content-type", "application/json")
                    .body("{}")
                    .send()
                    .await
                    .unwrap()
            };
            let problem = refusal(ask(&format!("{address}?nonsense=1")).await, 400).await;
            let said = problem["detail"].as_str().unwrap();
            assert!(said.contains("`nonsense`"), "{what}: {said}");
            // What needs no token, such as a key in the query itself, is told at once.
            if operation["security"].is_null() {
                let nobody = app.anonymous(method.clone(), &format!("{address}?nonsense=1")).send();
                refusal(nobody.await.unwrap(), 401).await;
            }
            let names = operation["parameters"].as_array().into_iter().flatten();
            for name in names.filter(|one| one["in"] == "query").map(|one| one["name"].as_str().unwrap()) {
                known += 1;
                assert!(said.contains(&format!("`{name}`")), "{what}: {said}");
                let twice = refusal(ask(&format!("{address}?{name}=1&{name}=1")).await, 400).await;
                assert_eq!(twice["detail"], format!("the query parameter `{name}` is there twice"), "{what}");
                let null = refusal(ask(&format!("{address}?{name}=%00")).await, 400).await;
                assert_eq!(null["detail"], format!("`{name}` must not hold the character U+0000"), "{what}");
            }
        }
    }
    assert!(seen >= 40 && known >= 25, "only {seen} operations and {known} parameters were tried");
    // Nothing of it had an effect.
    let listed = json(app.get("/queues/guarded/messages").await, 200).await;
    assert_eq!(listed["messages"].as_array().unwrap().len(), 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_is_taken_also_with_a_slash_at_the_end_and_an_empty_query() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    let jobs = "/place_card_on_single_site_jobs";
    let agent =
        async |path: String| app.request_as(&["customer_agent"], Method::GET, &path).send().await.unwrap();
    for query in ["", "?", "?ids=1", "?ids=1&cardholder_ids=2&status=A%20B", "?&ids=1&"] {
        text(agent(format!("{jobs}{query}")).await, 200).await;
        text(agent(format!("{jobs}/{query}")).await, 200).await;
    }
    refusal(agent(format!("{jobs}/?id=1")).await, 400).await;
    let misspelt = app.post("/queues/q/messages?dealy=10s", &json!(1)).await;
    let said = refusal(misspelt, 400).await["detail"].as_str().unwrap().to_owned();
    assert!(said.contains("`dealy`") && said.contains("`delay`"), "{said}");
    text(app.post("/queues/q/messages?delay=10s&priority=5", &json!(1)).await, 201).await;
    // The pages for reading have parameters of their own.
    assert!(app.anonymous(Method::GET, "/docs/?url=x").send().await.unwrap().status().is_success());
    app.stop().await;
}
