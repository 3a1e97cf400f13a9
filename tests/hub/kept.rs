//! An endpoint is deleted, and no delivery is lost with its lane.

use super::stage::{STORE, eager};
use crate::engine::ask;
use crate::support::answer::refusal;
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::scripted::{Asked, Reply, Scripted};
use crate::support::weeks::{tidier, untidy};
use serde_json::json;
use sqlx::Connection as _;

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_stays_while_a_delivery_to_it_is_under_way() {
    let endpoint = Scripted::start(|asked: &Asked| asked.acknowledge(json!({})).held()).await;
    let app = TestApp::start().await;
    app.endpoint("e", &endpoint.url, json!({})).await;
    app.mapping("m", "e", &["order:*"], json!({})).await;
    let id = app.tell("order:new", json!({})).await;
    eventually("it is asked", async || endpoint.asked().len() == 1).await;
    assert_eq!(app.delete(&format!("{STORE}/mappings/m")).await.status(), 204);
    let problem = refusal(app.delete(&format!("{STORE}/endpoints/e")).await, 409).await;
    assert!(problem["detail"].as_str().unwrap().contains("under way"), "{problem}");
    endpoint.release();
    app.delivered(&id, "COMPLETE").await;
    eventually("it can go", async || app.delete(&format!("{STORE}/endpoints/e")).await.status() == 204).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_at_an_endpoint_that_is_deleted_goes_where_its_mapping_sends() {
    let old = Scripted::start(|_: &Asked| {
        Reply::Says(503, vec![("Retry-After", "3600".to_owned())], String::new())
    })
    .await;
    let new = Scripted::agreeable().await;
    let app = TestApp::start().await;
    app.endpoint("old", &old.url, json!({})).await;
    app.endpoint("new", &new.url, json!({})).await;
    app.mapping("m", "old", &["order:*"], json!({ "options": eager() })).await;
    let later = app.tell("order:new", json!({ "n": 1 })).await;
    eventually("one waits for an hour", async || {
        app.told(&later).await["deliveries"][0]["next_attempt_at"].is_string()
    })
    .await;
    // Nothing is claimed for an endpoint that is switched off.
    app.endpoint("old", &old.url, json!({ "enabled": false })).await;
    app.server.run_until_idle().await.unwrap();
    let ready = app.tell("order:new", json!({ "n": 2 })).await;
    app.mapping("m", "new", &["order:*"], json!({ "options": eager() })).await;
    assert_eq!(app.delete(&format!("{STORE}/endpoints/old")).await.status(), 204);
    app.delivered(&ready, "COMPLETE").await;
    let path = format!(
        "{STORE}/deliveries/{}/retry",
        app.told(&later).await["deliveries"][0]["id"].as_str().unwrap()
    );
    assert_eq!(app.post(&path, &json!({})).await.status(), 200);
    app.delivered(&later, "COMPLETE").await;
    assert_eq!((old.asked().len(), new.asked().len()), (1, 2));
    let mut db = app.connect().await;
    let left = "SELECT (SELECT count(*) FROM dispatch) + (SELECT count(*) FROM scheduled)";
    assert_eq!(ask::<i64>(&mut db, left).await, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_not_deleted_beneath_a_push_that_still_knows_it() {
    let new = Scripted::agreeable().await;
    let app = TestApp::start().await;
    app.endpoint("old", "http://127.0.0.1:9", json!({ "enabled": false })).await;
    app.endpoint("new", &new.url, json!({})).await;
    let line = json!({ "options": { "serial": true } });
    app.mapping("goes", "old", &["order:*"], line.clone()).await;
    app.mapping("moves", "old", &["order:*"], line.clone()).await;

    // The push knows that its mappings are as they were, and is held before it writes a delivery.
    let mut other = app.connect().await;
    let mut held = other.begin().await.unwrap();
    let joins = "INSERT INTO lines (series, line, head)
        SELECT id, sha256(''), uuid_v7() FROM mappings WHERE name = 'moves'";
    sqlx::raw_sql(joins).execute(&mut *held).await.unwrap();
    let changes = async {
        app.waits_for_a_lock("WITH found AS").await;
        app.mapping("moves", "new", &["order:*"], line).await;
        assert_eq!(app.delete(&format!("{STORE}/mappings/goes")).await.status(), 204);
        let release = async {
            app.waits_for_a_lock("DELETE FROM endpoints").await;
            held.rollback().await.unwrap();
        };
        let path = format!("{STORE}/endpoints/old");
        tokio::join!(app.delete(&path), release).0
    };
    let (id, deleted) = tokio::join!(app.tell("order:new", json!({})), changes);
    assert_eq!(deleted.status(), 204);
    let mut deliveries = Vec::new();
    eventually("neither waits any more", async || {
        deliveries = app.told(&id).await["deliveries"].as_array().unwrap().clone();
        deliveries
            .iter()
            .all(|delivery| !["PENDING", "INPROGRESS"].contains(&delivery["status"].as_str().unwrap()))
    })
    .await;
    deliveries.sort_by_key(|delivery| delivery["mapping"].as_str().unwrap().to_owned());
    let ends: Vec<_> =
        deliveries.iter().map(|delivery| (&delivery["mapping"], &delivery["status"])).collect();
    assert_eq!(json!(ends), json!([["goes", "ERROR"], ["moves", "COMPLETE"]]), "{deliveries:?}");
    assert_eq!(deliveries[0]["last_error"], "the mapping was deleted");
    assert_eq!(new.asked().len(), 1);
    drop(other);
    stop_without_deadlocks(app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_to_an_endpoint_after_it_was_deleted_is_found_there() {
    let new = Scripted::agreeable().await;
    let app = untidy(|app| app).await;
    app.endpoint("old", "http://127.0.0.1:9", json!({ "enabled": false })).await;
    app.endpoint("new", &new.url, json!({})).await;
    app.mapping("goes", "old", &["order:*"], json!({})).await;
    app.mapping("moves", "old", &["order:*"], json!({})).await;
    let id = app.tell("order:new", json!({})).await;
    // As what an answer brings may come, decided before the mappings moved and committed after the deletion.
    let mut late = app.connect().await;
    let mut late = late.begin().await.unwrap();
    let mut gone = app.connect().await;
    sqlx::raw_sql("CREATE TABLE aside AS SELECT lane, rank, item FROM dispatch; DELETE FROM dispatch")
        .execute(&mut gone)
        .await
        .unwrap();
    sqlx::raw_sql("INSERT INTO dispatch (lane, rank, item) SELECT lane, rank, item FROM aside")
        .execute(&mut *late)
        .await
        .unwrap();
    app.mapping("moves", "new", &["order:*"], json!({})).await;
    assert_eq!(app.delete(&format!("{STORE}/mappings/goes")).await.status(), 204);
    assert_eq!(app.delete(&format!("{STORE}/endpoints/old")).await.status(), 204);
    late.commit().await.unwrap();

    let second = tidier(&app).await;
    let mut ends = Vec::new();
    eventually("neither waits any more", async || {
        let message = app.told(&id).await;
        ends = message["deliveries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|delivery| (delivery["mapping"].to_string(), delivery["status"].to_string()))
            .collect();
        ends.sort_unstable();
        json!(ends) == json!([["\"goes\"", "\"ERROR\""], ["\"moves\"", "\"COMPLETE\""]])
    })
    .await;
    assert_eq!(new.asked().len(), 1);
    second.stop().await;
    app.stop().await;
}

/// Stops, and asserts that nobody waited in a circle. What a session has counted is known once it is gone.
async fn stop_without_deadlocks(app: TestApp) {
    let mut db = app.connect().await;
    app.stop().await;
    let others = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
    eventually("every session is gone", async || ask::<i64>(&mut db, others).await == 0).await;
    let circles = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(ask::<i64>(&mut db, circles).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_is_deleted_while_its_delivery_is_run_again() {
    let endpoint = Scripted::start(|_: &Asked| {
        Reply::Says(503, vec![("Retry-After", "3600".to_owned())], String::new())
    })
    .await;
    let app = TestApp::start().await;
    app.endpoint("e", &endpoint.url, json!({})).await;
    app.mapping("m", "e", &["order:*"], json!({})).await;
    let id = app.tell("order:new", json!({})).await;
    eventually("it waits for an hour", async || {
        app.told(&id).await["deliveries"][0]["next_attempt_at"].is_string()
    })
    .await;
    let delivery = app.told(&id).await["deliveries"][0]["id"].as_str().unwrap().to_owned();

    // The deletion has the mapping, and is held before it has the delivery.
    let mut other = app.connect().await;
    let mut held = other.begin().await.unwrap();
    sqlx::raw_sql("SELECT FROM scheduled FOR UPDATE").execute(&mut *held).await.unwrap();
    let retry = async {
        app.waits_for_a_lock("WITH waiting AS").await;
        let path = format!("{STORE}/deliveries/{delivery}/retry");
        let release = async {
            app.waits_for_a_lock("FROM mappings%FOR SHARE").await;
            held.commit().await.unwrap();
        };
        let body = json!({});
        tokio::join!(app.post(&path, &body), release).0
    };
    let path = format!("{STORE}/mappings/m");
    let (deleted, again) = tokio::join!(app.delete(&path), retry);
    assert_eq!(deleted.status(), 204);
    assert_ne!(again.status(), 503);
    app.delivered(&id, "ERROR").await;
    drop(other);
    stop_without_deadlocks(app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_is_deleted_while_the_head_of_its_line_ends() {
    let endpoint = Scripted::start(|asked: &Asked| asked.acknowledge(json!({})).held()).await;
    let app = TestApp::start().await;
    app.endpoint("e", &endpoint.url, json!({})).await;
    app.mapping("m", "e", &["order:*"], json!({ "options": { "serial": true } })).await;
    let first = app.tell("order:new", json!({})).await;
    eventually("the head runs", async || endpoint.asked().len() == 1).await;
    let behind = app.tell("order:new", json!({})).await;

    // The deletion is held among those that wait in the line; then the head leaves it.
    let mut other = app.connect().await;
    let mut held = other.begin().await.unwrap();
    let waiting = "SELECT FROM deliveries WHERE id = (SELECT item FROM line_waits) FOR UPDATE";
    sqlx::raw_sql(waiting).execute(&mut *held).await.unwrap();
    let end = async {
        app.waits_for_a_lock("WITH held AS").await;
        endpoint.release();
        app.waits_for_a_lock("JOIN lines AS l").await;
        held.commit().await.unwrap();
    };
    let path = format!("{STORE}/mappings/m");
    let (deleted, ()) = tokio::join!(app.delete(&path), end);
    assert_eq!(deleted.status(), 204);
    app.delivered(&first, "COMPLETE").await;
    app.delivered(&behind, "ERROR").await;
    drop(other);
    stop_without_deadlocks(app).await;
}
