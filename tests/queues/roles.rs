//! Who may do what: the roles of a definition, the general ones, workers and administrators.

use crate::support::answer::refusal;
use crate::support::app::TestApp;
use axum::http::Method;
use serde_json::{Value, json};

/// Whether this role may push, read and delete; and whether it may claim. Says so by the routes themselves.
async fn may(app: &TestApp, role: &str) -> (bool, bool) {
    let allowed = async |method: Method, path: &str, body: Value| {
        let request = app.request_as(&[role], method, path).json(&body);
        let response = request.send().await.unwrap();
        let allowed = response.status() != 403;
        if allowed {
            assert!(response.status().is_success(), "{role} {path}: {}", response.status());
        } else {
            refusal(response, 403).await;
        }
        allowed
    };
    let id = app.push("q", &json!(1)).await;
    let message = format!("/queues/q/messages/{id}");
    let push = allowed(Method::POST, "/queues/q/messages", json!(1)).await;
    assert_eq!(allowed(Method::POST, "/queues/q/messages:batch", json!([1])).await, push, "{role}");
    assert_eq!(allowed(Method::GET, &message, json!(null)).await, push, "{role}");
    let work = allowed(Method::POST, "/queues/q/claim", json!(null)).await;
    assert_eq!(allowed(Method::DELETE, &message, json!(null)).await, push, "{role}");
    (push, work)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_definition_says_which_roles_open_a_queue() {
    let app = TestApp::start().await;
    let names = [
        "system_admin",
        "system_writer",
        "queue_writer",
        "q_writer",
        "one",
        "q_worker",
        "queue_admin",
        "Q_writer",
        "other_writer",
        "other_worker",
        "q",
        "",
    ];
    // How many of the names, from the first, may push; q_worker may work besides.
    let general: &[&str] = &["system_admin", "system_writer", "queue_writer", "q_writer"];
    let table: [(Value, &[&str]); 9] = [
        (json!({}), general),
        (json!({ "needsRole": true, "replace": false, "roles": [] }), general),
        (json!({ "roles": ["one"] }), &["system_admin", "system_writer", "queue_writer", "q_writer", "one"]),
        (json!({ "roles": ["one"], "replace": true }), &["system_admin", "one"]),
        (json!({ "roles": [], "replace": true }), &["system_admin"]),
        (json!({ "replace": true }), &["system_admin"]),
        (json!({ "needsRole": false }), &names),
        (json!({ "needsRole": false, "replace": true, "roles": ["one"] }), &names),
        (json!({ "roles": ["queue_admin"], "replace": true }), &["system_admin", "queue_admin"]),
    ];
    for (roles, allowed) in table {
        app.define("q", json!({ "roles": roles, "handler": { "kind": "worker" } })).await;
        for name in names {
            let push = allowed.contains(&name);
            assert_eq!(may(&app, name).await, (push, push || name == "q_worker"), "{name:?} with {roles}");
        }
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_definition_opens_a_queue_to_a_caller_without_a_token() {
    let app = TestApp::start().await;
    app.define("q", json!({ "roles": { "needsRole": false } })).await;
    refusal(app.anonymous(Method::POST, "/queues/q/messages").json(&1).send().await.unwrap(), 401).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_administrators_define_and_administer() {
    let app = TestApp::start().await;
    let definition = json!({ "roles": { "roles": ["one"] }, "handler": { "kind": "worker" } });
    app.define("q", definition.clone()).await;
    let id = app.push("q", &json!(1)).await;
    let null = json!(null);
    let routes = [
        (Method::GET, "/queues".to_owned(), &null),
        (Method::PUT, "/queues/q".to_owned(), &definition),
        (Method::GET, "/queues/q".to_owned(), &null),
        (Method::PUT, "/queues/q/handler".to_owned(), &definition["handler"]),
        (Method::GET, "/queues/q/messages".to_owned(), &null),
        (Method::GET, format!("/queues/q/messages/{id}?view=full"), &null),
        (Method::POST, "/queues/q/pause".to_owned(), &null),
        (Method::POST, "/queues/q/resume".to_owned(), &null),
        (Method::POST, "/queues/q/messages:retry".to_owned(), &null),
        (Method::POST, format!("/queues/q/messages/{id}/retry"), &null),
        (Method::DELETE, "/queues/q".to_owned(), &null),
    ];
    let everything_else =
        ["system_writer", "queue_writer", "q_writer", "q_worker", "q_admin", "one", "Queue_Admin", "admin"];
    for (method, path, body) in &routes {
        let refused = app.request_as(&everything_else, method.clone(), path).json(body).send().await.unwrap();
        refusal(refused, 403).await;
    }
    // A queue that opens to everybody opens to no definition.
    app.define("open", json!({ "roles": { "needsRole": false, "roles": ["one"] } })).await;
    for method in [Method::PUT, Method::GET, Method::DELETE] {
        let refused =
            app.request_as(&["one"], method, "/queues/open").json(&definition).send().await.unwrap();
        refusal(refused, 403).await;
    }
    for admin in ["queue_admin", "system_admin"] {
        app.define("q", definition.clone()).await;
        let id = app.push("q", &json!(1)).await;
        for (method, path, body) in &routes {
            let path = match path.split_once("/messages/") {
                Some((_, rest)) => format!("/queues/q/messages/{id}{}", &rest[36..]),
                None => path.clone(),
            };
            // The full view also asks for the right to read the message at all.
            let roles: &[&str] = if path.ends_with("full") { &[admin, "q_writer"] } else { &[admin] };
            let response = app.request_as(roles, method.clone(), &path).json(body).send().await.unwrap();
            // The message waits, so that there is nothing to run again.
            let expected = if path.ends_with("/retry") { [409, 409] } else { [200, 204] };
            assert!(expected.contains(&response.status().as_u16()), "{method} {path}: {}", response.status());
        }
    }
    app.stop().await;
}
