//! Asking endpoints: whether they can be reached, and what services they have.

use super::stage::STORE;
use crate::support::answer::{json, refusal};
use crate::support::app::TestApp;
use crate::support::scripted::{Asked, Reply, Scripted};
use serde_json::{Value, json};

fn says(status: u16, body: &str) -> Reply {
    Reply::Says(status, Vec::new(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_says_whether_an_endpoint_can_be_reached() {
    let endpoint = Scripted::start(|_: &Asked| says(404, "nothing here")).await;
    let app = TestApp::start().await;
    let check = async |name: &str| {
        json(app.post(&format!("{STORE}/endpoints/{name}/check"), &json!({})).await, 200).await
    };
    app.endpoint("here", &format!("{}/hub", endpoint.url), json!({ "token": "token-1" })).await;
    assert_eq!(
        check("here").await,
        json!({ "reachable": true, "status": 404, "cause": null, "error": null, "advice": null })
    );
    let asked = endpoint.asked();
    assert_eq!((asked[0].path.as_str(), asked[0].header("x-hub-token")), ("/hub", Some("token-1")));

    app.endpoint("nobody", "http://127.0.0.1:9", json!({})).await;
    let found = check("nobody").await;
    assert_eq!(
        found,
        json!({
            "reachable": false, "status": null, "cause": "refused",
            "error": "refused: the server accepts no connection",
            "advice": "Check the port in the endpoint's \"url\", and that the server is running.",
        })
    );
    endpoint.follow(|_: &Asked| {
        Reply::Says(
            307,
            vec![("Location", "https://elsewhere.example/hub?token=token-1".to_owned())],
            String::new(),
        )
    });
    let found = check("here").await;
    assert_eq!((&found["reachable"], &found["cause"]), (&json!(true), &json!("redirect")));
    let error = "redirect: the server answered 307 Temporary Redirect, which is not followed, to \
        https://elsewhere.example/hub?token=[redacted]";
    assert_eq!(found["error"], error);
    app.endpoint("slow", &endpoint.url, json!({ "timeout": "50ms" })).await;
    endpoint.follow(|_: &Asked| Reply::Hangs);
    assert_eq!(check("slow").await["error"], "timeout: no answer in time");
    // A name that leads into a private network: the address is looked at when it is dialled.
    let closed = TestApp::on(app.database.clone(), &[("POSTRIDER_ALLOW_NETWORKS", "")], |app| app).await;
    app.endpoint("local", "http://localhost:9", json!({})).await;
    let found = json(closed.post(&format!("{STORE}/endpoints/local/check"), &json!({})).await, 200).await;
    assert_eq!((&found["reachable"], &found["cause"]), (&json!(false), &json!("address_not_allowed")));
    assert!(found["error"].as_str().unwrap().contains("not public"), "{found}");
    closed.stop().await;
    refusal(app.post(&format!("{STORE}/endpoints/none/check"), &json!({})).await, 404).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalogue_is_kept_and_its_services_become_mappings_that_are_switched_off() {
    let catalogue = json!({
        "name": "books",
        "services": [
            {
                "name": "order_export", "path": "/orders",
                "requires": { "parameters": [{ "name": "access_token", "data_type": "string" }, { "name": "realm", "description": "The realm" }] },
                "recommends": { "messages": ["order:new"], "filters": [{ "path": "payload.paid", "operator": "eq", "value": "yes" }] },
            },
            { "name": "taken", "path": "/taken" },
            { "name": "wrong", "path": "../wrong" },
            { "name": "root", "path": "/" },
        ],
    });
    let body = catalogue.to_string();
    let endpoint = Scripted::start(move |asked: &Asked| {
        if asked.path == "/hub/endpoint.json" { says(200, &body) } else { asked.acknowledge(json!({})) }
    })
    .await;
    let app = TestApp::start().await;
    app.endpoint("books", &format!("{}/hub/", endpoint.url), json!({})).await;
    app.mapping("taken", "books", &["a:b"], json!({})).await;
    app.parameter("realm", json!("r"), "string").await;
    let import =
        async || json(app.post(&format!("{STORE}/endpoints/books/import"), &json!({})).await, 200).await;
    let missing = json!([{ "name": "access_token", "data_type": "string", "description": null }]);
    let mut report = import().await;
    let note = report["note"].take();
    assert_eq!(
        report,
        json!({
            "catalogue": catalogue, "made": ["order_export", "root"], "note": null, "kept": ["taken"],
            "skipped": [
                { "service": "wrong", "reason": "/service must be a path below the endpoint's URL, such as drop_ship, or \"\" for that itself" },
            ],
            "missing_parameters": missing,
        })
    );
    assert!(note.as_str().unwrap().contains("switched off"), "{note}");
    let again = import().await;
    assert_eq!((&again["kept"], &again["note"]), (&json!(["order_export", "taken", "root"]), &json!(null)));
    let listed = json(app.get(&format!("{STORE}/endpoints")).await, 200).await;
    assert_eq!(listed[0]["catalogue"], catalogue);
    let mapping = json(app.get(&format!("{STORE}/mappings/order_export")).await, 200).await;
    assert_eq!((&mapping["enabled"], &mapping["service"]), (&json!(false), &json!("orders")));

    // Switched on as it is, it delivers.
    let id = app.tell("order:new", json!({ "paid": "yes" })).await;
    let mut on: Value = mapping;
    on["enabled"] = json!(true);
    json(app.put(&format!("{STORE}/mappings/order_export"), &on).await, 200).await;
    app.delivered(&id, "COMPLETE").await;
    let delivered = endpoint.asked().into_iter().next_back().unwrap();
    assert_eq!(delivered.path, "/hub/orders");
    assert_eq!(delivered.json()["payload"]["parameters"], json!([{ "name": "realm", "value": "r" }]));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_catalogue_changes_nothing() {
    let endpoint = Scripted::start(|_: &Asked| Reply::status(404)).await;
    let app = TestApp::start().await;
    app.endpoint("e", &endpoint.url, json!({ "timeout": "1s" })).await;
    let moved =
        || Reply::Says(302, vec![("location", "http://127.0.0.1:9/endpoint.json".to_owned())], String::new());
    let deep = "[".repeat(200);
    let replies: [Box<dyn Fn() -> Reply>; 7] = [
        Box::new(|| Reply::status(404)),
        Box::new(moved),
        Box::new(|| says(200, "<html>")),
        Box::new(|| says(200, "[]")),
        Box::new(move || says(200, &deep)),
        Box::new(|| Reply::Endless),
        Box::new(|| Reply::Resets),
    ];
    for (number, reply) in replies.iter().enumerate() {
        let reply = reply();
        endpoint.follow(move |_: &Asked| reply.clone());
        let problem = refusal(app.post(&format!("{STORE}/endpoints/e/import"), &json!({})).await, 409).await;
        assert!(problem["detail"].as_str().unwrap().contains("endpoint.json"), "{number}: {problem}");
    }
    let listed = json(app.get(&format!("{STORE}/endpoints")).await, 200).await;
    assert_eq!(listed[0]["catalogue"], json!(null));
    assert_eq!(json(app.get(&format!("{STORE}/mappings")).await, 200).await, json!([]));
    app.stop().await;
}
