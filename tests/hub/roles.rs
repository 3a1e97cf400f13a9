//! Who may do what in which store.

use super::stage::STORE;
use crate::support::app::TestApp;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn each_role_opens_what_it_says_in_its_store_alone() {
    let app = TestApp::start().await;
    app.endpoint("off", "http://127.0.0.1:9", json!({ "enabled": false })).await;
    app.mapping("all", "off", &["order:*"], json!({})).await;
    let id = app.tell("order:new", json!({})).await;
    let endpoint = json!({ "url": "http://127.0.0.1:9", "enabled": false });
    let mapping = json!({ "endpoint": "off", "service": "s", "messages": ["a:b"], "enabled": false });
    let since = json!({ "since": "2100-01-01T00:00:00Z" });
    let reads = [
        "messages",
        &format!("messages/{id}"),
        "deliveries",
        "log-entries",
        "mappings",
        "mappings/all",
        "endpoints",
        "endpoints/off",
        "parameters",
    ];
    let mut operations: Vec<(u8, Method, String, Value)> =
        reads.iter().map(|path| (1, Method::GET, (*path).to_owned(), json!(null))).collect();
    let mut more =
        |right, method, path: &str, body: Value| operations.push((right, method, path.to_owned(), body));
    more(2, Method::POST, "messages", json!({ "message": "order:new" }));
    more(3, Method::PUT, "endpoints/off", endpoint);
    more(3, Method::PUT, "mappings/other", mapping);
    more(3, Method::PUT, "parameters/p", json!({ "value": 1 }));
    more(3, Method::POST, "deliveries/retry", json!({}));
    more(3, Method::POST, "endpoints/off/recover", since);
    for (role, right) in [
        ("system_admin", 3),
        ("hub_admin", 3),
        ("s1_hub_admin", 3),
        ("hub_writer", 2),
        ("s1_hub_writer", 2),
        ("hub_reader", 1),
        ("s1_hub_reader", 1),
        ("s2_hub_admin", 0),
        ("queue_admin", 0),
        ("s1_writer", 0),
    ] {
        for (needed, method, path, body) in &operations {
            let request = app.request_as(&[role], method.clone(), &format!("{STORE}/{path}")).json(body);
            let status = request.send().await.unwrap().status();
            if right >= *needed {
                assert!(status.is_success(), "{role}: {method} {path}: {status}");
            } else {
                assert_eq!(status, StatusCode::FORBIDDEN, "{role}: {method} {path}");
            }
        }
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_learns_which_stores_there_are() {
    let app = TestApp::start().await;
    app.tell("order:new", json!({})).await;
    for store in ["s1", "none"] {
        let answer = app.request_as(&["s2_hub_admin"], Method::GET, &format!("/stores/{store}/messages"));
        let answer = answer.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
        assert!(!answer.text().await.unwrap().contains(store));
    }
    app.stop().await;
}
