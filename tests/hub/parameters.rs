//! Which parameters of its store an answer may set.

use super::stage::STORE;
use crate::support::answer::json;
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::scripted::{Asked, Scripted};
use serde_json::{Value, json};
use sqlx::Connection as _;

/// An endpoint whose answers set what the payload's `set` says.
async fn setting() -> Scripted {
    Scripted::start(|asked: &Asked| {
        asked.acknowledge(json!({ "parameters": asked.json()["payload"]["set"] }))
    })
    .await
}

/// What a service is sent, by name.
fn sent(asked: &Asked) -> Value {
    let list = asked.json()["payload"]["parameters"].take();
    let pairs = list.as_array().unwrap().iter();
    pairs.map(|p| (p["name"].as_str().unwrap().to_owned(), p["value"].clone())).collect()
}

async fn value(app: &TestApp, name: &str) -> Value {
    json(app.get(&format!("{STORE}/parameters/{name}")).await, 200).await["value"].take()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_sets_what_is_new_and_what_it_is_sent_and_nothing_of_another_integration() {
    let endpoint = setting().await;
    let app = TestApp::start().await;
    app.endpoint("e", &endpoint.url, json!({})).await;
    app.parameter("theirs", json!("a password of theirs"), "password").await;
    app.parameter("shop", json!("blue"), "string").await;
    app.parameter("mine", json!("a password of mine"), "password").await;
    app.mapping("m", "e", &["a:set"], json!({ "parameters": ["mine"] })).await;
    app.mapping("them", "e", &["b:ask"], json!({ "parameters": ["theirs", "shop"] })).await;
    let any = json!({ "options": { "parameters": "any" } });
    app.mapping("any", "e", &["c:set"], any).await;

    for n in 1..=2 {
        let set = json!({ "theirs": "stolen", "shop": "red", "mine": format!("new {n}"), "since": n });
        let id = app.tell("a:set", json!({ "set": set })).await;
        let message = app.delivered(&id, "COMPLETE").await;
        assert_eq!(message["deliveries"][0]["attempts"], 1);
    }
    let id = app.tell("b:ask", json!({})).await;
    app.delivered(&id, "COMPLETE").await;
    let id = app.tell("a:set", json!({})).await;
    app.delivered(&id, "COMPLETE").await;
    let asked = endpoint.asked();
    assert_eq!(sent(&asked[2]), json!({ "theirs": "a password of theirs", "shop": "blue" }));
    assert_eq!(sent(&asked[3]), json!({ "mine": "new 2", "since": 2 }));

    let mut log = app.log().await;
    log.sort_by(|a, b| a.2.cmp(&b.2));
    let said: Vec<_> = log.iter().map(|(level, subject, _, times)| (&**level, &**subject, *times)).collect();
    assert_eq!(said, [("warn", "A parameter was not set", 2); 2]);
    assert!(
        log[0].2.contains("the parameter shop,") && log[1].2.contains("the parameter theirs,"),
        "{log:?}"
    );
    assert!(!format!("{log:?}").contains("stolen"));

    // Only where it is allowed any.
    let id = app.tell("c:set", json!({ "set": { "theirs": "given", "shop": "green" } })).await;
    app.delivered(&id, "COMPLETE").await;
    let id = app.tell("b:ask", json!({})).await;
    app.delivered(&id, "COMPLETE").await;
    let id = app.tell("c:set", json!({})).await;
    app.delivered(&id, "COMPLETE").await;
    let asked = endpoint.asked();
    assert_eq!(sent(&asked[5]), json!({ "theirs": "given", "shop": "green" }));
    assert_eq!(
        sent(&asked[6]),
        json!({ "shop": "green" }),
        "a password of others is not sent to whoever set it"
    );
    assert_eq!(app.log().await.len(), 2);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_settlements_that_make_one_name_the_one_that_commits_first_has_it() {
    let endpoint = setting().await;
    let app = TestApp::start().await;
    app.endpoint("e", &endpoint.url, json!({})).await;
    app.mapping("m", "e", &["a:set"], json!({})).await;
    let mut other = app.connect().await;
    let mut watch = app.connect().await;
    for (name, commits) in [("kept", true), ("undone", false)] {
        // Another settlement has made it, and has not committed.
        let mut tx = other.begin().await.unwrap();
        sqlx::query(
            "INSERT INTO parameters (store_id, name, data_type, value) SELECT id, $1, 'string', '\"theirs\"' FROM stores",
        )
        .bind(name)
        .execute(&mut *tx)
        .await
        .unwrap();
        let set = json!({ name: "ours" });
        let id = app.tell("a:set", json!({ "set": set })).await;
        let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
            AND wait_event_type = 'Lock' AND query LIKE '%INSERT INTO parameters%')";
        eventually("the settlement waits", async || {
            sqlx::query_scalar::<_, bool>(waits).fetch_one(&mut watch).await.unwrap()
        })
        .await;
        if commits {
            tx.commit().await.unwrap();
        } else {
            tx.rollback().await.unwrap();
        }
        app.delivered(&id, "COMPLETE").await;
        assert_eq!(value(&app, name).await, if commits { "theirs" } else { "ours" }, "{name}");
    }
    let log = app.log().await;
    assert!(log.len() == 1 && log[0].2.contains("the parameter kept,"), "{log:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_mappings_that_set_the_same_new_names_at_once_each_name_has_one() {
    let endpoint = setting().await;
    let app = TestApp::start().await;
    app.endpoint("e", &endpoint.url, json!({ "concurrency": 8 })).await;
    let second = TestApp::on(app.database.clone(), &[], |app| app).await;
    for mapping in 0..4 {
        app.mapping(&format!("m{mapping}"), "e", &[&format!("m{mapping}:set")], json!({})).await;
    }
    let mut told = Vec::new();
    for name in 0..10 {
        for mapping in 0..4 {
            let set = json!({ format!("n{name}"): mapping });
            told.push(app.tell(&format!("m{mapping}:set"), json!({ "set": set })).await);
        }
    }
    for id in &told {
        app.delivered(id, "COMPLETE").await;
    }
    let mut db = app.connect().await;
    let rows: Vec<(String, i64, String)> = sqlx::query_as(
        "SELECT p.name, count(*), min(p.value::text) FROM parameters AS p
         JOIN learned_parameters AS l ON l.name = p.name JOIN mappings AS m ON m.id = l.mapping_id
         WHERE m.name = 'm' || (p.value #>> '{}') GROUP BY p.name",
    )
    .fetch_all(&mut db)
    .await
    .unwrap();
    assert!(rows.len() == 10 && rows.iter().all(|row| row.1 == 1), "whose value it is has it: {rows:?}");
    let links: i64 =
        sqlx::query_scalar("SELECT count(*) FROM learned_parameters").fetch_one(&mut db).await.unwrap();
    assert_eq!(links, 10);
    assert_eq!(app.log().await.iter().map(|entry| entry.3).sum::<i64>(), 30, "and the others were told");
    second.stop().await;
    app.stop().await;
}
