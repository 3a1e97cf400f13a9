//! Mappings that are switched off hold their deliveries; those that are deleted park them.

use super::stage::STORE;
use crate::support::answer::{json, refusal};
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::scripted::{Asked, Scripted};
use futures::future::join_all;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_that_is_switched_off_holds_and_sends_in_order_when_it_is_switched_on() {
    let endpoint = Scripted::agreeable().await;
    let app = TestApp::start().await;
    app.endpoint("warehouse", &endpoint.url, json!({})).await;
    let serial = |enabled: bool| json!({ "enabled": enabled, "options": { "serial": true } });
    app.mapping("ship", "warehouse", &["order:*"], serial(false)).await;
    let mut ids = Vec::new();
    for n in 0..5 {
        let id = app.tell("order:new", json!({ "n": n })).await;
        assert_eq!(app.told(&id).await["deliveries"][0]["status"], "PENDING");
        ids.push(id);
    }
    app.server.run_until_idle().await.unwrap();
    assert!(endpoint.asked().is_empty());
    let listed = json(app.get(&format!("{STORE}/mappings")).await, 200).await;
    assert_eq!(listed[0]["held"], 5);

    app.mapping("ship", "warehouse", &["order:*"], serial(true)).await;
    for id in &ids {
        app.delivered(id, "COMPLETE").await;
    }
    let sent: Vec<String> = endpoint.asked().iter().map(Asked::id).collect();
    assert_eq!(sent, ids);
    let listed = json(app.get(&format!("{STORE}/mappings")).await, 200).await;
    assert_eq!(listed[0]["held"], 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_stays_held_however_pushes_and_switches_meet() {
    let endpoint = Scripted::agreeable().await;
    let app = TestApp::start().await;
    let other = TestApp::on(app.database.clone(), &[], |app| app).await;
    app.endpoint("warehouse", &endpoint.url, json!({ "concurrency": 50 })).await;
    app.mapping("ship", "warehouse", &["order:*"], json!({})).await;
    for round in 0..6 {
        let switch = async {
            app.mapping("ship", "warehouse", &["order:*"], json!({ "enabled": round % 2 == 1 })).await;
        };
        let pushes = join_all((0..20).map(|n| other.tell("order:new", json!({ "n": n }))));
        futures::join!(switch, pushes);
    }
    eventually("all 120 are delivered", async || {
        let page = json(app.get(&format!("{STORE}/deliveries?status=COMPLETE&limit=500")).await, 200).await;
        page["deliveries"].as_array().unwrap().len() == 120
    })
    .await;
    other.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deliveries_of_a_deleted_mapping_are_parked_and_stay_to_be_read() {
    let app = TestApp::start().await;
    app.endpoint("off", "http://127.0.0.1:9", json!({ "enabled": false })).await;
    app.mapping("ready", "off", &["order:*"], json!({})).await;
    app.mapping("line", "off", &["order:*"], json!({ "options": { "serial": true } })).await;
    app.mapping("held", "off", &["order:*"], json!({ "enabled": false })).await;
    let first = app.tell("order:new", json!({})).await;
    let second = app.tell("order:new", json!({})).await;
    refusal(app.delete(&format!("{STORE}/endpoints/off")).await, 409).await;
    for name in ["ready", "line", "held"] {
        assert_eq!(app.delete(&format!("{STORE}/mappings/{name}")).await.status(), 204);
        refusal(app.delete(&format!("{STORE}/mappings/{name}")).await, 404).await;
    }
    for id in [&first, &second] {
        let message = app.told(id).await;
        assert_eq!(message["state"], "routed");
        for delivery in message["deliveries"].as_array().unwrap() {
            assert_eq!(delivery["status"], "ERROR", "{delivery}");
            assert_eq!(delivery["last_error"], "the mapping was deleted");
            let id = delivery["id"].as_str().unwrap();
            refusal(app.post(&format!("{STORE}/deliveries/{id}/retry"), &json!({})).await, 409).await;
            let archived =
                json(app.post(&format!("{STORE}/deliveries/{id}/archive"), &json!({})).await, 200).await;
            assert!(archived["archived_at"].is_string());
        }
    }
    let mut db = app.connect().await;
    let left = "SELECT (SELECT count(*) FROM lines) + (SELECT count(*) FROM line_waits) + (SELECT count(*) FROM held_deliveries)";
    let left: i64 = sqlx::Row::get(&sqlx::query(left).fetch_one(&mut db).await.unwrap(), 0);
    assert_eq!(left, 0);
    // Nothing sends to the endpoint any more, so it can go; its deliveries name no endpoint then.
    assert_eq!(app.delete(&format!("{STORE}/endpoints/off")).await.status(), 204);
    let message = app.told(&first).await;
    assert_eq!(message["deliveries"][0]["endpoint"], json!(null));
    assert_eq!(message["deliveries"][0]["mapping"], "held");
    // What comes afterwards is wanted by none.
    let id = app.tell("order:new", json!({})).await;
    assert_eq!(app.told(&id).await["state"], "unrouted");
    app.stop().await;
}
