//! What becomes of the webhook of a customer who does not look after it any more.

use super::customers::{count, put, state};
use super::stage::eager;
use super::upkeep::act;
use crate::commands::run;
use crate::engine::ask;
use crate::support::answer::json;
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::scripted::{Reply, Scripted};
use serde_json::{Value, json};

/// An endpoint that fails and is switched off when it does for too long, and somebody whom that is told.
async fn failing(disable: Value) -> (Scripted, Scripted, TestApp) {
    let endpoint = Scripted::start(|_| Reply::Says(500, Vec::new(), "no".to_owned())).await;
    let app = TestApp::start().await;
    let pager = Scripted::agreeable().await;
    app.endpoint("pager", &pager.url, json!({})).await;
    app.mapping("alerts", "pager", &["hub:*"], json!({ "service": "alert" })).await;
    app.endpoint("e", &endpoint.url, json!({ "disable": disable, "events": ["a.*"], "options": eager() }))
        .await;
    (endpoint, pager, app)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_fails_for_too_long_is_switched_off_and_sends_what_it_held_once_it_is_on_again() {
    let (endpoint, pager, app) = failing(json!({ "failures": 3 })).await;
    let first = app.tell("a.first", json!({})).await;
    eventually("it is switched off", async || state(&app, "e").await["enabled"] == false).await;
    let shown = state(&app, "e").await;
    assert!(
        shown["state"]["disabled_at"].is_string() && shown["state"]["failing_since"].is_string(),
        "{shown}"
    );
    assert_eq!(shown["disable"], json!({ "failures": 3 }));
    eventually("it is told", async || !pager.asked().is_empty()).await;
    let told = pager.asked()[0].json();
    assert_eq!(told["message"], "hub:endpoint_disabled", "{told}");
    let payload = &told["payload"];
    assert_eq!(payload["endpoint"], "e");
    assert!(payload["failures"].as_i64().unwrap() >= 3 && payload["since"].is_string(), "{payload}");
    assert!(payload["error"].as_str().unwrap().starts_with("status: "), "{payload}");
    assert!(
        app.log()
            .await
            .iter()
            .any(|(level, subject, ..)| level == "error" && subject == "An endpoint is switched off")
    );

    let doctor = run(&app.database, &["doctor"]).await.out;
    assert!(doctor.contains("warn  their failures switched them off: s1/e"), "{doctor}");
    let report = json(app.get("/reports/failing_endpoints").await, 200).await;
    assert!(report.as_array().unwrap().iter().any(|row| row["disabled_since"].is_string()), "{report}");

    // What comes meanwhile waits, and nobody is asked.
    app.server.run_until_idle().await.unwrap();
    let asked = endpoint.asked().len();
    let second = app.tell("a.second", json!({})).await;
    app.server.run_until_idle().await.unwrap();
    for id in [&first, &second] {
        assert_eq!(app.told(id).await["deliveries"][0]["status"], "PENDING");
    }
    assert_eq!((endpoint.asked().len(), pager.asked().len()), (asked, 1));

    // Put back as it is shown, it stays off.
    json(app.put(&put("endpoints/e"), &shown).await, 200).await;
    assert!(state(&app, "e").await["state"]["disabled_at"].is_string());
    app.server.run_until_idle().await.unwrap();
    assert_eq!(endpoint.asked().len(), asked);

    endpoint.follow(|asked| asked.acknowledge(json!({})));
    let mut on = shown.clone();
    on["enabled"] = json!(true);
    json(app.put(&put("endpoints/e"), &on).await, 200).await;
    for id in [&first, &second] {
        app.delivered(id, "COMPLETE").await;
    }
    let shown = state(&app, "e").await;
    let (disabled, failing) = (&shown["state"]["disabled_at"], &shown["state"]["failing_since"]);
    assert_eq!((disabled, failing), (&Value::Null, &Value::Null));
    assert_eq!(count(&app, "hub:endpoint_disabled").await, 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_another_attempt_goes_at_once_when_it_is_switched_on() {
    let (endpoint, _pager, app) = failing(json!({ "failures": 1 })).await;
    let patient = json!({ "retry": { "base": "1h", "cap": "1h" } });
    let definition =
        json!({ "url": endpoint.url, "disable": { "failures": 1 }, "events": ["a.*"], "options": patient });
    json(app.put(&put("endpoints/e"), &definition).await, 200).await;
    let id = app.tell("a.b", json!({})).await;
    eventually("it is switched off", async || state(&app, "e").await["enabled"] == false).await;
    let mut db = app.connect().await;
    // Full jitter may have drawn a short pause.
    act(&mut db, "UPDATE scheduled SET run_at = now() + interval '50 minutes' WHERE lane IN (SELECT id FROM endpoints)")
        .await;
    endpoint.follow(|asked| asked.acknowledge(json!({})));
    json(app.put(&put("endpoints/e"), &definition).await, 200).await;
    app.delivered(&id, "COMPLETE").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_in_between_counts_anew() {
    let (endpoint, pager, app) = failing(json!({ "failures": 3 })).await;
    endpoint.follow(|asked| match asked.before {
        0..2 => Reply::status(500),
        _ => asked.acknowledge(json!({})),
    });
    for _ in 0..4 {
        let id = app.tell("a.b", json!({})).await;
        app.delivered(&id, "COMPLETE").await;
    }
    app.server.run_until_idle().await.unwrap();
    let shown = state(&app, "e").await;
    assert_ne!(shown["enabled"], false);
    assert_eq!((endpoint.asked().len(), pager.asked().len()), (12, 0));
    assert_eq!(shown["state"]["failing_since"], Value::Null);
    let mut db = app.connect().await;
    assert_eq!(ask::<i64>(&mut db, "SELECT count(*) FROM endpoint_failures").await, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_switched_off_when_it_has_failed_for_so_long_and_not_before() {
    let (endpoint, pager, app) = failing(json!({ "failures": 2, "after": "5d" })).await;
    app.tell("a.b", json!({})).await;
    eventually("it fails again and again", async || endpoint.asked().len() > 5).await;
    let mut db = app.connect().await;
    eventually("that is counted", async || {
        ask::<i64>(&mut db, "SELECT coalesce(max(failures), 0)::bigint FROM endpoint_failures").await > 3
    })
    .await;
    assert_ne!(state(&app, "e").await["enabled"], false);
    act(&mut db, "UPDATE endpoint_failures SET since = now() - interval '121 hours'").await;
    eventually("it is switched off", async || state(&app, "e").await["enabled"] == false).await;
    eventually("it is told", async || pager.asked().len() == 1).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_that_see_it_fail_switch_it_off_once() {
    let endpoint = Scripted::start(|_| Reply::status(500).held()).await;
    let first = TestApp::start().await;
    let second = TestApp::on(first.database.clone(), &[], |app| app).await;
    let members =
        json!({ "disable": { "failures": 2 }, "concurrency": 4, "events": ["a.*"], "options": eager() });
    first.endpoint("e", &endpoint.url, members).await;
    for _ in 0..8 {
        first.tell("a.b", json!({})).await;
        second.tell("a.b", json!({})).await;
    }
    eventually("both have asked", async || endpoint.asked().len() == 8).await;
    endpoint.release();
    eventually("it is switched off", async || state(&first, "e").await["enabled"] == false).await;
    let mut db = first.connect().await;
    eventually("all ends are written", async || {
        ask::<i64>(&mut db, "SELECT count(*) FROM delivery_attempts").await >= 8
    })
    .await;
    first.server.run_until_idle().await.unwrap();
    second.server.run_until_idle().await.unwrap();
    let messages = "SELECT count(*) FROM hub_messages WHERE message = 'hub:endpoint_disabled'";
    assert_eq!(ask::<i64>(&mut db, messages).await, 1);
    let occurrences =
        "SELECT sum(occurrences) FROM log_entries WHERE subject = 'An endpoint is switched off'";
    assert_eq!(ask::<i64>(&mut db, occurrences).await, 1);
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_without_disable_counts_nothing_and_goes_on_being_tried() {
    let endpoint = Scripted::start(|_| Reply::status(500)).await;
    let app = TestApp::start().await;
    app.endpoint("e", &endpoint.url, json!({})).await;
    app.mapping("m", "e", &["a.*"], json!({})).await;
    app.tell("a.b", json!({})).await;
    eventually("it is tried again", async || endpoint.asked().len() > 8).await;
    let mut db = app.connect().await;
    assert_eq!(ask::<i64>(&mut db, "SELECT count(*) FROM endpoint_failures").await, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_from_before_it_was_switched_on_does_not_switch_it_off_again() {
    let (endpoint, pager, app) = failing(json!({ "failures": 1 })).await;
    endpoint.follow(|_| Reply::status(500).held());
    let early = app.tell("a.early", json!({})).await;
    eventually("an attempt is under way", async || endpoint.asked().len() == 1).await;
    let late = app.tell("a.late", json!({})).await;
    eventually("another one too", async || endpoint.asked().len() == 2).await;
    endpoint.release_once();
    eventually("it is switched off", async || state(&app, "e").await["enabled"] == false).await;

    // Somebody mends the receiver and switches it on, and only then the other attempt fails.
    let mut on = state(&app, "e").await;
    on["enabled"] = json!(true);
    endpoint.follow(|asked| asked.acknowledge(json!({})));
    json(app.put(&put("endpoints/e"), &on).await, 200).await;
    endpoint.release();
    for id in [&early, &late] {
        app.delivered(id, "COMPLETE").await;
    }
    app.server.run_until_idle().await.unwrap();
    let shown = state(&app, "e").await;
    assert_eq!((&shown["enabled"], &shown["state"]["disabled_at"]), (&json!(true), &Value::Null), "{shown}");
    assert_eq!((count(&app, "hub:endpoint_disabled").await, pager.asked().len()), (1, 1));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_from_before_it_was_put_clears_no_failure_of_the_new_definition() {
    let (endpoint, _pager, app) = failing(json!({ "failures": 1, "after": "1h" })).await;
    endpoint.follow(|asked| asked.acknowledge(json!({})).held());
    app.tell("a.early", json!({})).await;
    eventually("an attempt is under way", async || endpoint.asked().len() == 1).await;
    let mut definition = state(&app, "e").await;
    definition["options"] = json!({ "retry": { "base": "1h", "cap": "1h" } });
    endpoint.follow(|_| Reply::status(500));
    json(app.put(&put("endpoints/e"), &definition).await, 200).await;
    app.tell("a.late", json!({})).await;
    eventually("it fails", async || state(&app, "e").await["state"]["failing_since"].is_string()).await;
    endpoint.release();
    let mut db = app.connect().await;
    eventually("the early one is done", async || {
        ask::<i64>(&mut db, "SELECT count(*) FROM deliveries WHERE status = 'COMPLETE' AND mapping_id IN (SELECT id FROM mappings WHERE name = 'e')").await == 1
    })
    .await;
    assert!(state(&app, "e").await["state"]["failing_since"].is_string());
    app.stop().await;
}
