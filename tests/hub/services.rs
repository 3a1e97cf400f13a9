//! Circuits of services: one that answers badly holds up neither the other services of its endpoint nor, for long, what
//! it would take.

use super::stage::STORE;
use super::upkeep::act;
use crate::commands::run;
use crate::engine::ask;
use crate::support::answer::{json, text};
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::scripted::{Asked, Reply, Scripted};
use postrider::internals::flow::parts;
use serde_json::{Value, json};
use sqlx::Connection as _;

/// An endpoint that takes everything but what goes to its service `bad` or says `poison`.
async fn moody() -> Scripted {
    Scripted::start(|asked: &Asked| {
        if is_bad(asked) || asked.json()["payload"]["poison"] == true {
            Reply::status(500)
        } else {
            asked.acknowledge(json!({}))
        }
    })
    .await
}

fn is_bad(asked: &Asked) -> bool {
    asked.path.ends_with("/bad")
}

/// A server with an endpoint that has two services, and a mapping to each.
async fn started(endpoint: &Scripted, members: Value) -> TestApp {
    let app = TestApp::start().await;
    app.endpoint("e", &endpoint.url, members).await;
    app.mapping("bad", "e", &["bad:new"], json!({ "service": "bad" })).await;
    app.mapping("good", "e", &["good:new"], json!({ "service": "good" })).await;
    app
}

/// The services of the endpoint whose circuits are open.
async fn open_services(app: &TestApp) -> Vec<String> {
    let endpoints = json(app.get(&format!("{STORE}/endpoints")).await, 200).await;
    let services = endpoints[0]["services"].as_array().cloned().unwrap_or_default();
    let open = |service: &Value| service["open_until"].is_string() && service["failures"].as_i64() > Some(0);
    services.iter().filter(|service| open(service)).map(|service| text_of(&service["service"])).collect()
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Whether any circuit of the endpoint is open.
async fn is_open(app: &TestApp) -> bool {
    let endpoints = json(app.get(&format!("{STORE}/endpoints")).await, 200).await;
    endpoints[0]["open_until"].is_string() || !open_services(app).await.is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_messages_of_one_service_do_not_hold_up_another_of_the_same_endpoint() {
    let endpoint = moody().await;
    let app = started(&endpoint, json!({ "breaker": { "failures": 5, "cooldown": "1h" } })).await;
    for n in 0..10 {
        app.tell("bad:new", json!({ "n": n })).await;
    }
    eventually("a circuit opens", async || is_open(&app).await).await;
    let mut good = Vec::new();
    for n in 0..10 {
        good.push(app.tell("good:new", json!({ "n": n })).await);
    }
    for id in &good {
        app.delivered(id, "COMPLETE").await;
    }
    assert_eq!(open_services(&app).await, ["bad"]);
    let endpoints = json(app.get(&format!("{STORE}/endpoints")).await, 200).await;
    assert_eq!((&endpoints[0]["open_until"], &endpoints[0]["failures"]), (&Value::Null, &json!(0)));
    let told = run(&app.database, &["doctor"]).await.out;
    assert!(told.contains("warn  their circuits are open: s1/e/bad"), "{told}");
    let metrics = text(app.get("/metrics").await, 200).await;
    assert!(metrics.contains("postrider_open_circuits{store=\"s1\"} 1\n"), "{metrics}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_cooldown_one_that_was_never_tried_goes_before_those_that_failed() {
    let endpoint = moody().await;
    let app = TestApp::start().await;
    // When it opens, each of the twelve has been tried.
    let breaker = json!({ "concurrency": 1, "breaker": { "failures": 14, "cooldown": "2s" } });
    app.endpoint("e", &endpoint.url, breaker).await;
    app.mapping("all", "e", &["order:new"], json!({})).await;
    for n in 0..12 {
        app.tell("order:new", json!({ "poison": true, "n": n })).await;
    }
    eventually("a circuit opens", async || is_open(&app).await).await;
    let before = endpoint.asked().len();
    let good = app.tell("order:new", json!({ "poison": false })).await;
    app.delivered(&good, "COMPLETE").await;
    let place = endpoint.asked().iter().position(|asked| asked.id() == good).unwrap();
    // One that was on its way when the good one came, and those that ends of cooldowns let go before it was there.
    assert!(place <= before + 3, "{place} after {before}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_service_counts_no_attempt_and_leaves_when_its_endpoint_is_put_again() {
    let endpoint = moody().await;
    let app = started(&endpoint, json!({ "breaker": { "failures": 1, "cooldown": "1h" } })).await;
    let first = app.tell("bad:new", json!({})).await;
    eventually("its circuit opens", async || open_services(&app).await == ["bad"]).await;
    let asked = endpoint.asked().len();
    let mut waiting = Vec::new();
    for n in 0..20 {
        waiting.push(app.tell("bad:new", json!({ "n": n })).await);
    }
    app.server.run_until_idle().await.unwrap();
    assert_eq!(endpoint.asked().len(), asked, "nothing is sent");
    for id in &waiting {
        let delivery = &app.told(id).await["deliveries"][0];
        assert_eq!(
            (&delivery["status"], &delivery["attempts"]),
            (&json!("PENDING"), &json!(0)),
            "{delivery}"
        );
    }
    endpoint.follow(|asked| asked.acknowledge(json!({})));
    app.endpoint("e", &endpoint.url, json!({})).await;
    assert!(open_services(&app).await.is_empty());
    for id in waiting.iter().chain([&first]) {
        app.delivered(id, "COMPLETE").await;
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_great_many_that_wait_for_a_service_take_no_place_of_the_others() {
    let endpoint = moody().await;
    let app = started(&endpoint, json!({ "breaker": { "failures": 1, "cooldown": "1h" } })).await;
    app.tell("bad:new", json!({})).await;
    eventually("its circuit opens", async || open_services(&app).await == ["bad"]).await;
    let mut db = app.connect().await;
    act(&mut db, "SELECT publish('s1', 'bad:new', '{}') FROM generate_series(1, 5000)").await;
    eventually("they are routed", async || {
        ask::<i64>(&mut db, "SELECT count(*) FROM deliveries").await == 5001
    })
    .await;
    let good = app.tell("good:new", json!({})).await;
    app.delivered(&good, "COMPLETE").await;
    app.server.run_until_idle().await.unwrap();
    let waiting = "SELECT count(*) FROM scheduled WHERE run_at > now() + interval '50 minutes'";
    assert_eq!(ask::<i64>(&mut db, waiting).await, 5001);
    assert!(endpoint.asked().iter().filter(|asked| is_bad(asked)).count() <= 2, "it is left alone");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_servers_one_tries_a_service_again_and_both_learn_that_it_is_back() {
    let endpoint = moody().await;
    let first = started(&endpoint, json!({ "breaker": { "failures": 1, "cooldown": "1s" } })).await;
    let second = TestApp::on(first.database.clone(), &[], |app| app).await;
    let mut ids = vec![first.tell("bad:new", json!({})).await];
    eventually("its circuit opens", async || open_services(&second).await == ["bad"]).await;
    // Whoever tries is not answered until we say so.
    let before = endpoint.asked().len();
    endpoint.follow(|asked| {
        if is_bad(asked) { asked.acknowledge(json!({})).held() } else { asked.acknowledge(json!({})) }
    });
    for n in 0..20 {
        let app = if n % 2 == 0 { &first } else { &second };
        ids.push(app.tell("bad:new", json!({ "n": n })).await);
    }
    eventually("one tries", async || endpoint.asked().len() > before).await;
    // Others come and go meanwhile; both servers claim for the service all the time.
    for n in 0..10 {
        for app in [&first, &second] {
            app.tell("bad:new", json!({ "late": n })).await;
            let good = app.tell("good:new", json!({ "n": n })).await;
            app.delivered(&good, "COMPLETE").await;
        }
    }
    let bad = endpoint.asked()[before..].iter().filter(|asked| is_bad(asked)).count();
    assert_eq!(bad, 1, "one at a time");
    endpoint.release();
    for id in &ids {
        second.delivered(id, "COMPLETE").await;
    }
    assert!(open_services(&first).await.is_empty());
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_left_alone_is_so_after_a_restart() {
    let endpoint = moody().await;
    let app = started(&endpoint, json!({ "breaker": { "failures": 1, "cooldown": "1h" } })).await;
    app.tell("bad:new", json!({})).await;
    eventually("its circuit opens", async || open_services(&app).await == ["bad"]).await;
    let (database, asked) = (app.database.clone(), endpoint.asked().len());
    app.stop().await;
    let app = TestApp::on(database, &[], |app| app).await;
    assert_eq!(open_services(&app).await, ["bad"]);
    let waits = app.tell("bad:new", json!({})).await;
    let good = app.tell("good:new", json!({})).await;
    app.delivered(&good, "COMPLETE").await;
    app.server.run_until_idle().await.unwrap();
    assert_eq!(app.told(&waits).await["deliveries"][0]["attempts"], 0);
    assert_eq!(endpoint.asked().len(), asked + 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_reached_is_the_endpoints_failure_and_a_bad_answer_its_services() {
    let app = TestApp::start().await;
    let breaker = json!({ "breaker": { "failures": 2, "cooldown": "1h" } });
    app.endpoint("e", "http://127.0.0.1:1", breaker.clone()).await;
    app.mapping("all", "e", &["order:new"], json!({})).await;
    app.tell("order:new", json!({})).await;
    eventually("a circuit opens", async || is_open(&app).await).await;
    assert!(open_services(&app).await.is_empty());
    // It is somewhere else now, and answers.
    let endpoint = Scripted::start(|asked| asked.acknowledge(json!({ "message_id": "another" }))).await;
    app.endpoint("e", &endpoint.url, breaker).await;
    eventually("the service's opens", async || open_services(&app).await == ["take"]).await;
    let endpoints = json(app.get(&format!("{STORE}/endpoints")).await, 200).await;
    assert_eq!(endpoints[0]["open_until"], Value::Null, "an answer, however bad, closes the endpoint's");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_no_mapping_names_any_more_is_forgotten() {
    let endpoint = moody().await;
    let app = started(&endpoint, json!({ "breaker": { "failures": 1, "cooldown": "1h" } })).await;
    app.tell("bad:new", json!({})).await;
    eventually("its circuit opens", async || open_services(&app).await == ["bad"]).await;
    assert_eq!(app.delete(&format!("{STORE}/mappings/bad")).await.status(), 204);
    let database = app.database.clone();
    app.stop().await;
    let mut db = sqlx::PgConnection::connect_with(&database.clone().options([("search_path", "postrider")]))
        .await
        .unwrap();
    act(&mut db, "DELETE FROM duties").await;
    // What tidies does so when it starts.
    let app = TestApp::on(database, &[], |app| app).await;
    eventually("it is forgotten", async || open_services(&app).await.is_empty()).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_connections_that_both_would_try_a_service_one_does_and_who_knows_less_does_not() {
    let endpoint = moody().await;
    let app = started(&endpoint, json!({ "breaker": { "failures": 1, "cooldown": "1h" } })).await;
    app.tell("bad:new", json!({})).await;
    eventually("its circuit opens", async || open_services(&app).await == ["bad"]).await;
    let mut db = app.connect().await;
    let (lane, known): (i32, i64) =
        sqlx::query_as("SELECT lane, changes FROM circuits").fetch_one(&mut db).await.unwrap();
    // Leases as of two processes that have claimed.
    let leases = "INSERT INTO leases (expires_at, lease, lane, ranks, items, attempts)
        SELECT now() + interval '1 hour', interval '1 hour', id, '{0}', ARRAY[gen_random_uuid()], '{1}'
        FROM endpoints, generate_series(1, 2) RETURNING id";
    let leases: Vec<uuid::Uuid> = sqlx::query_scalar(leases).fetch_all(&mut db).await.unwrap();
    let (mut one, mut two) = (app.connect().await, app.connect().await);
    let (first, second) = tokio::join!(
        parts::reserve(&mut one, lane, "bad", leases[0], known),
        parts::reserve(&mut two, lane, "bad", leases[1], known),
    );
    let (first, second) = (first.unwrap(), second.unwrap());
    assert!(first != second, "{first} {second}");
    // Who knows all of it does not either, while the lease of who tries is there.
    let other = leases[usize::from(first)];
    assert!(!parts::reserve(&mut db, lane, "bad", other, known + 1).await.unwrap());
    act(&mut db, "DELETE FROM leases").await;
    assert!(parts::reserve(&mut db, lane, "bad", other, known + 1).await.unwrap());
    app.stop().await;
}
