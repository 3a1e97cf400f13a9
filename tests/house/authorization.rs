//! Every operation of the API's description needs a token, and a role.

use crate::support::app::TestApp;
use crate::support::sdk;
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

/// The operations that anybody may call, by their path.
const OPEN: &[&str] = &["/", "/healthz", "/readyz", "/openapi.json"];

/// The operations that a key in the query, or a signature, opens, and no token does.
const BY_KEY: &[&str] = &[
    "/messages/{job_type}/{job_id}/broadcasts/stream",
    "/session/login",
    "/session/refresh",
    "/session/end",
];

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_refuses_no_token_and_no_role() {
    let directory = tempfile::tempdir().unwrap();
    let file = sdk::file(directory.path());
    let app = TestApp::with(&[("POSTRIDER_SDK_FILE", file.to_str().unwrap())], |app| app).await;
    app.define("guarded", json!({ "handler": { "kind": "worker" } })).await;
    let id = app.push("guarded", &json!({})).await;
    let api: Value = app.anonymous(Method::GET, "/openapi.json").send().await.unwrap().json().await.unwrap();

    let mut seen = 0;
    for (path, operations) in api["paths"].as_object().unwrap() {
        let concrete =
            path.replace("{queue}", "guarded").replace("{id}", &id).replace("{name}", "queue_depth");
        let concrete = concrete
            .replace("{job_type}", "place_card_on_single_site_jobs")
            .replace("{job_id}", "1")
            .replace("{store}", "shop")
            .replace("{site_id}", "3")
            .replace("{cardholder_id}", "1");
        assert!(!concrete.contains('{'), "{path} has a parameter that this test does not know");
        for (method, operation) in operations.as_object().unwrap() {
            let Ok(method) = method.to_uppercase().parse::<Method>() else { continue };
            let what = format!("{method} {path}");
            let open = operation["security"].as_array().is_some_and(|ways| ways.contains(&json!({})));
            assert_eq!(open, OPEN.contains(&path.as_str()), "{what}: is it open?");
            let answer = app.anonymous(method.clone(), &concrete).send().await.unwrap().status();
            if open {
                assert_eq!(answer, StatusCode::OK, "{what} for anybody");
                continue;
            }
            seen += 1;
            assert_eq!(answer, StatusCode::UNAUTHORIZED, "{what} without a token");
            let nobody =
                app.request_as(&["nobody"], method.clone(), &concrete).body("{}").send().await.unwrap();
            let by_key = BY_KEY.contains(&path.as_str());
            assert_eq!(operation["security"].is_array(), by_key, "{what}: does it need a token?");
            assert!(
                matches!(nobody.status(), StatusCode::FORBIDDEN | StatusCode::NOT_FOUND)
                    || by_key && nobody.status() == StatusCode::UNAUTHORIZED,
                "{what} without a role: {}",
                nobody.status()
            );
            assert_eq!(nobody.headers()["content-type"], "application/problem+json", "{what}");
            assert!(operation["responses"]["401"].is_object(), "{what} describes its 401");
            assert!(operation["operationId"].is_string(), "{what} has an operation id");
        }
    }
    assert!(seen >= 18, "only {seen} operations were tried");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_to_push_is_never_the_right_to_define() {
    let app = TestApp::start().await;
    app.define("guarded", json!({ "handler": { "kind": "worker" } })).await;
    let definition = json!({ "handler": { "kind": "javascript", "source": "module.exports = () => 1;" } });
    let schedule = json!({ "every": "1h", "message": {} });
    for role in ["system_writer", "queue_writer", "guarded_writer", "guarded_worker"] {
        for (method, path, body) in [
            (Method::PUT, "/queues/guarded", definition.clone()),
            (Method::PUT, "/queues/another", definition.clone()),
            (Method::PUT, "/queues/guarded/handler", definition["handler"].clone()),
            (Method::PUT, "/queues/guarded/schedules/s", schedule.clone()),
            (Method::PUT, "/queues/guarded/schedules", json!({ "schedules": { "s": schedule } })),
            (Method::POST, "/queues/guarded/schedules/s/run", json!(null)),
            (Method::DELETE, "/queues/guarded/schedules/s", json!(null)),
            (Method::GET, "/queues/guarded/schedules/s", json!(null)),
            (Method::GET, "/queues/guarded/schedules", json!(null)),
            (Method::DELETE, "/queues/guarded", json!(null)),
        ] {
            let answer = app.request_as(&[role], method.clone(), path).json(&body).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{role}: {method} {path}");
        }
    }
    app.stop().await;
}
