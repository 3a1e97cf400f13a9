//! Postrider as a crate: what an application writes in its own transaction, and what it defines in its own code.

#[path = "../examples/orders.rs"]
#[expect(dead_code, reason = "its main is for whoever runs it by hand")]
mod orders;

use crate::support::app::{TestApp, config, database};
use crate::support::eventually;
use axum::http::Method;
use postrider::client::{Client, Options};
use postrider::{App, Parts};
use postrider::{Failure, Message};
use serde_json::{Value, json};
use sqlx::Connection as _;
use std::time::Duration;

async fn echo(message: Message) -> Result<Value, Failure> {
    message.json()
}

/// A queue's definition whose handler is the one of that name.
fn native(name: &str) -> Value {
    json!({ "handler": { "kind": "native", "name": name } })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_stores_an_order_and_sends_its_receipt() {
    // A worker verifies no tokens: it has no key for that.
    let config = config(&[("POSTRIDER_JWT_SECRET", "")]);
    assert!(orders::run(config, &database().await).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_transaction_enqueues_runs_when_it_commits_and_only_then() {
    let app = TestApp::with(&[], |app| app.handler("echo", echo).queue("q", native("echo"))).await;
    let (client, mut db) = (Client::default(), app.connect().await);
    // The application's own search path does not matter.
    sqlx::raw_sql("SET search_path = public").execute(&mut db).await.unwrap();
    let mut tx = db.begin().await.unwrap();
    let gone = client.enqueue(&mut tx, "q", &json!(1), &Options::default()).await.unwrap();
    tx.rollback().await.unwrap();
    let mut tx = db.begin().await.unwrap();
    let one = client.enqueue(&mut tx, "q", &json!({ "n": 1 }), &Options::default()).await.unwrap();
    let many = client.enqueue_many(&mut tx, "q", &[json!(2), json!("3")], &Options::default()).await.unwrap();
    assert_eq!(app.get(&format!("/queues/q/messages/{one}")).await.status(), 404);
    tx.commit().await.unwrap();
    for (id, result) in [(one, json!({ "n": 1 })), (many[0], json!(2)), (many[1], json!("3"))] {
        eventually("it runs", async || {
            let message: Value = app.get(&format!("/queues/q/messages/{id}")).await.json().await.unwrap();
            message["status"] == "COMPLETE" && message["result"] == result
        })
        .await;
    }
    assert_eq!(app.get(&format!("/queues/q/messages/{gone}")).await.status(), 404);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_options_mean_what_they_mean_over_http() {
    let app = TestApp::with(&[], |app| app.handler("echo", echo).queue("q", native("echo"))).await;
    let (client, mut db) = (Client::default(), app.connect().await);
    let keyed = Options { idempotency_key: Some("k".to_owned()), ..Options::default() };
    let first = client.enqueue(&mut db, "q", &json!(1), &keyed).await.unwrap();
    assert_eq!(client.enqueue(&mut db, "q", &json!(1), &keyed).await.unwrap(), first);
    let another = client.enqueue(&mut db, "q", &json!(2), &keyed).await.unwrap_err().to_string();
    assert!(another.contains("used with another payload"), "{another}");
    let for_many = client.enqueue_many(&mut db, "q", &[1], &keyed).await.unwrap_err().to_string();
    assert!(for_many.contains("that of one message"), "{for_many}");
    let later = Options { delay: Some(Duration::from_hours(1)), priority: Some(7), ..Options::default() };
    let later = client.enqueue(&mut db, "q", &json!(1), &later).await.unwrap();
    let message: Value = app.get(&format!("/queues/q/messages/{later}")).await.json().await.unwrap();
    assert_eq!(message["status"], "PENDING");
    let (rank, hours): (i16, bool) = sqlx::query_as(
        "SELECT rank, run_at BETWEEN now() + interval '59 min' AND now() + interval '60 min'
        FROM scheduled WHERE item = $1",
    )
    .bind(later)
    .fetch_one(&mut db)
    .await
    .unwrap();
    assert_eq!((rank, hours), (-7, true));
    let nowhere = client.enqueue(&mut db, "nowhere", &json!(1), &Options::default()).await.unwrap_err();
    assert!(nowhere.to_string().contains("there is no queue 'nowhere'"), "{nowhere}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_publishes_in_stores_and_speaks_to_who_follows_a_job() {
    let app = TestApp::start().await;
    let (client, mut db) = (Client::default(), app.connect().await);
    let id = client.publish(&mut db, "s1", "order:new", &json!({ "id": 7 })).await.unwrap();
    eventually("nobody wants it", async || {
        let message: Value = app.get(&format!("/stores/s1/messages/{id}")).await.json().await.unwrap();
        message["state"] == "unrouted" && message["payload"] == json!({ "id": 7 })
    })
    .await;
    let no_key = client.publish(&mut db, "s1", "orders/create", &json!({})).await.unwrap_err().to_string();
    assert!(no_key.contains("is no message key"), "{no_key}");
    let nobody = client.broadcast(&mut db, 1, "RUNNING").await.unwrap_err().to_string();
    assert!(nobody.contains("there is no job 1"), "{nobody}");
    let job = app.post("/place_card_on_single_site_jobs", &json!({ "cardholder_id": 7 })).await;
    let job: Value = job.json().await.unwrap();
    let status = json!({ "status": "UPDATING", "percent_complete": 80 });
    let number = client.broadcast(&mut db, job["id"].as_i64().unwrap(), &status).await.unwrap();
    let log =
        format!("/messages/place_card_on_single_site_jobs/{}/broadcasts?after={}", job["id"], number - 1);
    let log = app.request(Method::GET, &log);
    let log = log.header("cardsavr-messaging-access-key", job["access_key"].as_str().unwrap());
    let log: Value = log.send().await.unwrap().json().await.unwrap();
    assert_eq!(log[0]["message"]["percent_complete"], 80, "{log}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_in_code_is_put_in_place_at_each_start() {
    let database = database().await;
    let app =
        TestApp::on(database.clone(), &[], |app| app.handler("echo", echo).queue("q", native("echo"))).await;
    app.define("q", json!({ "handler": { "kind": "native", "name": "echo" }, "options": { "priority": 3 } }))
        .await;
    app.stop().await;
    let app =
        TestApp::on(database.clone(), &[], |app| app.handler("echo", echo).queue("q", native("echo"))).await;
    let definition: Value = app.get("/queues/q").await.json().await.unwrap();
    assert_eq!(definition["options"]["priority"], Value::Null, "{definition}");
    app.stop().await;
    let misspelt = App::new(config(&[])).queue("q", json!({ "handlr": {} }));
    let refused = format!("{:#}", misspelt.start(&database, Parts::Worker).await.err().unwrap());
    assert!(refused.starts_with("the queue q: ") && refused.contains("/handlr"), "{refused}");
}
