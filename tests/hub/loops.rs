//! Services that answer each other: whatever they answer, what one message sets going ends.

use super::stage::{STORE, eager};
use crate::engine::ask;
use crate::support::answer::json;
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::scripted::{Asked, Reply, Scripted};
use serde_json::{Value, json};
use sqlx::PgConnection;
use std::time::Duration;

/// An endpoint that acknowledges everything with one more message of the key that it was asked about, each another.
async fn parrot() -> Scripted {
    Scripted::start(|asked: &Asked| {
        let key = asked.json()["message"].clone();
        asked.acknowledge(json!({ "messages": [{ "message": key, "payload": { "after": asked.id() } }] }))
    })
    .await
}

/// Waits until nothing waits to be routed or sent; returns what has become of each delivery, with its number.
async fn ends(app: &TestApp) -> Vec<(String, i64)> {
    let mut db = app.connect().await;
    eventually("all has ended", async || {
        app.server.run_until_idle().await.unwrap();
        let left = "SELECT (SELECT count(*) FROM dispatch) + (SELECT count(*) FROM scheduled)
                + (SELECT count(*) FROM deliveries WHERE status = 'PENDING')
                + (SELECT count(*) FROM hub_messages WHERE state = 'pending')";
        ask::<i64>(&mut db, left).await == 0
    })
    .await;
    let counts = "SELECT status || coalesce(' ' || split_part(last_error, ':', 1), ''), count(*)
        FROM deliveries GROUP BY 1 ORDER BY 1";
    sqlx::query_as(counts).fetch_all(&mut db).await.unwrap()
}

/// How many messages have come of one within its budget, and how many beyond.
async fn descendants(db: &mut PgConnection, root: &str) -> (i64, i64) {
    let count = "SELECT count(*) FILTER (WHERE NOT beyond), count(*) FILTER (WHERE beyond)
        FROM (
            SELECT EXISTS (
                SELECT FROM deliveries AS d WHERE d.message_id = m.id AND d.last_error LIKE 'loop: more than%'
            ) AS beyond
            FROM hub_messages AS m
            WHERE m.root_id = $1::text::uuid AND m.state = 'routed'
        ) AS of_root";
    sqlx::query_as(count).bind(root).fetch_one(db).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_mappings_whose_services_answer_with_their_own_key_send_it_once_each_in_every_chain() {
    let endpoint = parrot().await;
    let app = TestApp::start().await;
    app.endpoint("e", &endpoint.url, json!({})).await;
    for name in ["a", "b"] {
        app.mapping(name, "e", &["order:update"], json!({})).await;
    }
    let id = app.tell("order:update", json!({})).await;
    // The message goes to both; what a answers goes to b alone, what b answers to a alone, and that to nobody.
    let ended = ends(&app).await;
    assert_eq!(ended, [("COMPLETE".to_owned(), 4), ("ERROR loop".to_owned(), 6)]);
    assert_eq!(endpoint.asked().len(), 4);
    let child = app.told(app.told(&id).await["children"][0].as_str().unwrap()).await;
    let states: Vec<_> = child["deliveries"].as_array().unwrap().iter().collect();
    assert_eq!((child["state"].as_str(), states.len()), (Some("routed"), 2), "{child}");
    let parked = states.iter().find(|delivery| delivery["status"] == "ERROR").unwrap();
    assert!(parked["last_error"].as_str().unwrap().starts_with("loop"), "{parked}");

    // Run again by hand it goes once more, and no further than before.
    let path = format!("{STORE}/deliveries/{}/retry", parked["id"].as_str().unwrap());
    assert_eq!(app.post(&path, &json!({})).await.status(), 200);
    let again = ends(&app).await;
    assert!(again.iter().all(|(status, _)| status == "COMPLETE" || status == "ERROR loop"), "{again:?}");
    assert!(endpoint.asked().len() <= 6, "{}", endpoint.asked().len());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_echo_of_the_request_is_no_message() {
    let echo = |asked: &Asked| Reply::Says(200, Vec::new(), asked.body.clone());
    let endpoint = Scripted::start(echo).await;
    let app = TestApp::start().await;
    app.endpoint("e", &endpoint.url, json!({})).await;
    app.parameter("key", json!("a value"), "string").await;
    for name in ["a", "b"] {
        app.mapping(name, "e", &["order:update"], json!({ "parameters": ["key"] })).await;
    }
    let payload =
        json!({ "order": { "number": "R1", "total": 1.5 }, "parameters": [{ "name": "x", "value": 1 }] });
    for form in 0..3 {
        match form {
            // In another spelling, as a framework writes what it has read; and as the one element of a list.
            1 => endpoint.follow(|asked| {
                Reply::Says(200, Vec::new(), serde_json::to_string_pretty(&asked.json()).unwrap())
            }),
            2 => endpoint.follow(|asked| Reply::Says(200, Vec::new(), json!([asked.json()]).to_string())),
            _ => {}
        }
        let id = app.tell("order:update", payload.clone()).await;
        assert_eq!(ends(&app).await, [("COMPLETE".to_owned(), 2 * (form + 1))]);
        assert_eq!(app.told(&id).await["children"], json!([]), "{form}");
    }
    // The same key with something else to say is a message.
    endpoint.follow(|asked| asked.acknowledge(json!({ "message": "order:update", "payload": { "n": 1 } })));
    let id = app.tell("order:update", payload).await;
    ends(&app).await;
    assert_eq!(app.told(&id).await["children"].as_array().unwrap().len(), 2);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_asks_for_itself_again_later_is_asked_until_it_is_done() {
    let endpoint = Scripted::start(|asked: &Asked| {
        let n = asked.json()["payload"]["n"].as_i64().unwrap();
        let (key, delay) = if n % 2 == 0 { ("work:check", 0.0) } else { ("work:begin", 0.02) };
        if n == 9 {
            return asked.acknowledge(json!({}));
        }
        let again = json!({ "message": key, "payload": { "n": n + 1 }, "delay": delay });
        asked.acknowledge(json!({ "messages": [again] }))
    })
    .await;
    let app = TestApp::start().await;
    app.endpoint("e", &endpoint.url, json!({})).await;
    app.mapping("m", "e", &["work:*"], json!({})).await;
    app.tell("work:begin", json!({ "n": 0 })).await;
    // Ten times: the circle has a pause in it, and is meant.
    assert_eq!(ends(&app).await, [("COMPLETE".to_owned(), 10)]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_may_allow_more_visits() {
    let endpoint = parrot().await;
    let app = TestApp::start().await;
    app.endpoint("e", &endpoint.url, json!({})).await;
    let mut options = eager();
    options["revisit"] = json!(3);
    app.mapping("m", "e", &["order:update"], json!({ "options": options })).await;
    app.tell("order:update", json!({})).await;
    assert_eq!(ends(&app).await, [("COMPLETE".to_owned(), 3), ("ERROR loop".to_owned(), 1)]);
    for wrong in [json!(0), json!(-1), json!("3"), json!(1.5), json!(1000)] {
        let options = json!({ "revisit": wrong });
        let body =
            json!({ "endpoint": "e", "service": "take", "messages": ["order:new"], "options": options });
        assert_eq!(app.put(&format!("{STORE}/mappings/wrong"), &body).await.status(), 422, "{wrong}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_has_so_many_descendants_and_what_comes_beyond_is_parked() {
    let endpoint = Scripted::start(|asked: &Asked| {
        let delay = if asked.json()["message"] == "tree:grow" { 0.0 } else { 0.01 };
        let child = json!({ "message": "tree:branch", "payload": {}, "delay": delay });
        let note = json!({ "level": "info", "subject": asked.id() });
        asked.acknowledge(json!({ "messages": [child, child, child], "notifications": [note] }))
    })
    .await;
    let settings = [("POSTRIDER_HUB_DESCENDANTS", "30")];
    let app = TestApp::with(&settings, |app| app).await;
    // Whoever counts, counts together with the others.
    let other = TestApp::on(app.database.clone(), &settings, |app| app).await;
    app.endpoint("e", &endpoint.url, json!({})).await;
    app.mapping("m", "e", &["tree:*", "notification:*"], json!({})).await;
    let mut db = app.connect().await;
    let mut id = String::new();
    for roots in 1..=2 {
        id = app.tell("tree:grow", json!({})).await;
        ends(&app).await;
        let (lives, beyond) = descendants(&mut db, &id).await;
        assert!(lives == 30 && beyond > 0, "{lives} {beyond}");
        assert!((10 * roots..=31 * roots).contains(&endpoint.asked().len()), "{}", endpoint.asked().len());
    }
    let (parked, why): (String, String) = sqlx::query_as(
        "SELECT d.id::text, d.last_error FROM deliveries AS d JOIN hub_messages AS m ON m.id = d.message_id
         WHERE m.root_id = $1::text::uuid AND d.last_error LIKE 'loop: more than%' ORDER BY d.id LIMIT 1",
    )
    .bind(&id)
    .fetch_one(&mut db)
    .await
    .unwrap();
    assert!(why.contains("30"), "{why}");
    // Nothing is lost: somebody may have it sent, and what that brings stays where it is again.
    let (before, beyond) = (endpoint.asked().len(), descendants(&mut db, &id).await.1);
    assert_eq!(app.post(&format!("{STORE}/deliveries/{parked}/retry"), &json!({})).await.status(), 200);
    ends(&app).await;
    assert_eq!(endpoint.asked().len(), before + 1);
    assert!(descendants(&mut db, &id).await.1 > beyond - 1);
    other.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_answer_brings_beyond_the_budget_is_parked_and_the_rest_is_not() {
    let endpoint = Scripted::start(|asked: &Asked| {
        let child = |n: usize| json!({ "message": "part:new", "payload": { "n": n } });
        let children = if asked.json()["message"] == "part:new" { 0 } else { 25 };
        asked.acknowledge(json!({ "messages": (0..children).map(child).collect::<Vec<_>>() }))
    })
    .await;
    let app = TestApp::with(&[("POSTRIDER_HUB_DESCENDANTS", "20")], |app| app).await;
    app.endpoint("e", &endpoint.url, json!({ "concurrency": 20 })).await;
    app.mapping("m", "e", &["order:new", "part:new"], json!({})).await;
    app.tell("order:new", json!({})).await;
    assert_eq!(ends(&app).await, [("COMPLETE".to_owned(), 21), ("ERROR loop".to_owned(), 5)]);
    app.stop().await;
}

/// What an endpoint of a random world answers to a key: messages, each with whether it waits.
type Answers = Vec<(usize, Vec<(usize, bool)>)>;

const KEYS: [&str; 4] = ["a:x", "a:y", "b:x", "b:y"];
const PATTERNS: [&str; 6] = ["a:x", "a:y", "b:x", "b:y", "a:*", "b:*"];

#[derive(Debug, Clone)]
struct World {
    /// Of each mapping: what it takes, how often, and whether in a line.
    mappings: Vec<(Vec<usize>, u32, bool)>,
    answers: Answers,
    push: usize,
}

fn worlds() -> impl proptest::strategy::Strategy<Value = World> {
    use proptest::collection::vec;
    use proptest::prelude::*;
    let mapping = (vec(0..PATTERNS.len(), 1..3), 1u32..4, any::<bool>());
    let answer = (0..KEYS.len(), vec((0..KEYS.len(), proptest::bool::weighted(0.2)), 0..4));
    (vec(mapping, 1..4), vec(answer, 1..5), 0..KEYS.len()).prop_map(|(mappings, answers, push)| World {
        mappings,
        answers,
        push,
    })
}

/// Builds the world in a store of its own, pushes its message, and waits until all has ended.
async fn play(app: &TestApp, number: usize, world: &World, budget: usize) -> Result<(), String> {
    let store = format!("/stores/world{number}");
    let answers = world.answers.clone();
    let endpoint = Scripted::start(move |asked: &Asked| {
        let key = asked.json()["message"].as_str().unwrap().to_owned();
        let answer = answers.iter().find(|(of, _)| KEYS[*of] == key);
        let message = |(key, waits): &(usize, bool)| {
            let delay = if *waits { 0.005 } else { 0.0 };
            json!({ "message": KEYS[*key], "payload": { "after": asked.id() }, "delay": delay })
        };
        let messages: Vec<Value> =
            answer.map(|(_, keys)| keys.iter().map(message).collect()).unwrap_or_default();
        asked.acknowledge(json!({ "messages": messages }))
    })
    .await;
    let url = json!({ "url": endpoint.url, "concurrency": 16 });
    assert_eq!(app.put(&format!("{store}/endpoints/e"), &url).await.status(), 201);
    for (n, (patterns, revisit, serial)) in world.mappings.iter().enumerate() {
        let messages: Vec<&str> = patterns.iter().map(|pattern| PATTERNS[*pattern]).collect();
        let options = json!({ "revisit": revisit, "serial": serial });
        let body = json!({ "endpoint": "e", "service": "take", "messages": messages, "options": options });
        assert_eq!(app.put(&format!("{store}/mappings/m{n}"), &body).await.status(), 201);
    }
    let body = json!({ "message": KEYS[world.push], "payload": {} });
    let pushed = json(app.post(&format!("{store}/messages"), &body).await, 201).await;
    let over = tokio::time::timeout(Duration::from_mins(1), ends(app)).await;
    let asked = endpoint.asked().len();
    if over.is_err() {
        return Err(format!("it goes on after {asked} requests"));
    }
    let mut db = app.connect().await;
    let (lives, _) = descendants(&mut db, pushed["message_id"].as_str().unwrap()).await;
    let most = world.mappings.len() * (budget + 1);
    if usize::try_from(lives).unwrap() > budget || asked > most {
        return Err(format!("{lives} descendants, {asked} requests"));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_services_answer_every_message_ends_within_its_budget() {
    use proptest::strategy::{Strategy as _, ValueTree as _};
    const BUDGET: usize = 40;
    let app = TestApp::with(&[("POSTRIDER_HUB_DESCENDANTS", "40")], |app| app).await;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    // One in which everything answers everything, and then random ones.
    let all = (0..KEYS.len()).map(|key| (key, (0..3).map(|n| (n, n == 2)).collect())).collect();
    let hostile = World { mappings: vec![(vec![4, 5], 3, false); 3], answers: all, push: 0 };
    for number in 0..12 {
        let world =
            if number == 0 { hostile.clone() } else { worlds().new_tree(&mut runner).unwrap().current() };
        if let Err(why) = play(&app, number, &world, BUDGET).await {
            panic!("{why}: {world:?}");
        }
    }
    app.stop().await;
}
