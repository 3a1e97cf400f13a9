//! The reports on deliveries, each on a known case.

use super::stage::STORE;
use super::upkeep::act;
use crate::support::answer::json;
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::scripted::{Reply, Scripted};
use serde_json::{Value, json};

async fn rows(app: &TestApp, report: &str) -> Vec<Value> {
    let rows = json(app.get(&format!("/reports/{report}")).await, 200).await;
    rows.as_array().unwrap().clone()
}

/// The values of these columns, row by row.
fn columns(rows: &[Value], names: &[&str]) -> Value {
    rows.iter().map(|row| names.iter().map(|name| row[name].clone()).collect::<Value>()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_delivered_what_fails_and_what_waits_is_told_apart() {
    let flaky = Scripted::start(|asked| match asked.before {
        0 => Reply::status(503),
        _ => asked.acknowledge(json!({})),
    })
    .await;
    let dead = Scripted::start(|_| Reply::status(500)).await;
    let app = TestApp::start().await;
    app.endpoint("flaky", &flaky.url, json!({})).await;
    app.endpoint("dead", &dead.url, json!({})).await;
    app.mapping("ship", "flaky", &["order:new"], json!({})).await;
    let slow = json!({ "options": { "retry": { "base": "1h", "cap": "1h" } } });
    app.mapping("bill", "dead", &["bill:new"], slow).await;
    app.mapping("file", "dead", &["file:new"], json!({ "options": { "retries_allowed": false } })).await;
    app.mapping("later", "flaky", &["later:new"], json!({ "enabled": false })).await;
    let ids = [app.tell("order:new", json!({})).await, app.tell("order:new", json!({})).await];
    let (bill, file) = (app.tell("bill:new", json!({})).await, app.tell("file:new", json!({})).await);
    app.tell("later:new", json!({})).await;
    for id in &ids {
        app.delivered(id, "COMPLETE").await;
    }
    app.delivered(&file, "ERROR").await;
    eventually("the bill has failed once", async || app.told(&bill).await["deliveries"][0]["attempts"] == 1)
        .await;

    let attempts = rows(&app, "delivery_attempts_by_outcome").await;
    let expected = json!([
        ["s1", "dead", "failed", 500, 2, 2],
        ["s1", "flaky", "delivered", 200, 2, 2],
        ["s1", "flaky", "failed", 503, 2, 2]
    ]);
    assert_eq!(
        columns(&attempts, &["store", "endpoint", "outcome", "status", "attempts", "deliveries"]),
        expected
    );

    let latency = rows(&app, "delivery_latency").await;
    let of = ["store", "mapping", "endpoint", "delivered", "first_percent"];
    assert_eq!(columns(&latency, &of), json!([["s1", "ship", "flaky", 2, 0.0]]));

    let failing = rows(&app, "failing_endpoints").await;
    let of = ["endpoint", "attempts", "failed", "failed_percent", "unfinished", "parked", "circuit"];
    let expected = json!([["dead", 2, 2, 100.0, 1, 1, "closed"], ["flaky", 4, 2, 50.0, 1, 0, "closed"]]);
    assert_eq!(columns(&failing, &of), expected);
    assert!(failing[0]["commonest_error"].as_str().unwrap().contains("500"), "{failing:?}");

    let backlog = rows(&app, "retry_backlog").await;
    let mut of: Vec<Value> = backlog.clone();
    of.sort_by_key(|row| row["mapping"].to_string());
    let names =
        ["mapping", "endpoint", "unfinished", "fresh", "retrying", "held", "in_line", "most_attempts"];
    let expected = json!([["bill", "dead", 1, 0, 1, 0, 0, 1], ["later", "flaky", 1, 1, 0, 1, 0, 0]]);
    assert_eq!(columns(&of, &names), expected);
    assert!(of[0]["next_attempt_at"].is_string());

    // An endpoint that was gone long ago is told of for as long as it is.
    let past = "UPDATE delivery_attempts SET finished_at = finished_at - interval '2 hours';
        UPDATE deliveries SET finished_at = finished_at - interval '2 hours';
        UPDATE circuits SET gone_at = now(), open_until = now() + interval '1 hour'
            WHERE lane = (SELECT id FROM endpoints WHERE name = 'dead')";
    act(&mut app.connect().await, past).await;
    assert_eq!(rows(&app, "delivery_latency").await, Vec::<Value>::new());
    assert_eq!(rows(&app, "delivery_attempts_by_outcome").await, Vec::<Value>::new());
    let failing = rows(&app, "failing_endpoints").await;
    assert_eq!(columns(&failing, &["endpoint", "attempts", "circuit"]), json!([["dead", 0, "open"]]));
    let longer = json(app.get("/reports/delivery_latency?period=3h").await, 200).await;
    assert_eq!(longer[0]["delivered"], 2);
    let page = json(app.get(&format!("{STORE}/messages")).await, 200).await;
    // Five that were pushed, and the one that tells which delivery is parked.
    assert_eq!(page["messages"].as_array().unwrap().len(), 6);
    app.stop().await;
}
