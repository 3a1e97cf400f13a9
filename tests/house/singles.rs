//! Whatever a listing says of a thing, reading that thing by itself says too; and what was read can be put back.

use crate::support::answer::json;
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::scripted::{Asked, Reply, Scripted};
use crate::support::sdk;
use axum::http::Method;
use serde_json::{Value, json};

/// The store of the test.
const STORE: &str = "/stores/s1";

/// Listings of other things than what stands below their address.
const OTHERS: &[&str] = &["/reports"];

/// The things on a page.
fn items(page: &Value) -> Vec<Value> {
    let list = page.as_array().or_else(|| page.as_object()?.values().find_map(Value::as_array));
    list.unwrap_or_else(|| panic!("no page: {page}")).clone()
}

/// Whether what was read by itself says all that the listing says.
fn says_all(single: &Value, item: &Value) -> bool {
    let mut item = item.as_object().unwrap().clone();
    let Some(mut state) = single.get("state").filter(|state| state.is_object()).cloned() else {
        return item.iter().all(|(name, value)| single.get(name) == Some(value));
    };
    // A definition: what was put stands as it was put, what there is to say of it in `state`.
    item.remove("name");
    let mut put = single.as_object().unwrap().clone();
    put.remove("state");
    let put = Value::Object(put);
    if let Some(definition) = item.remove("definition") {
        return definition == put && Value::Object(item) == state;
    }
    state.as_object_mut().unwrap().extend(put.as_object().unwrap().clone());
    Value::Object(item) == state
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_listing_says_of_a_thing_reading_it_alone_says_too() {
    let gone = Scripted::start(|_: &Asked| Reply::status(410)).await;
    let directory = tempfile::tempdir().unwrap();
    let file = sdk::file(directory.path());
    let app = TestApp::with(&[("POSTRIDER_SDK_FILE", file.to_str().unwrap())], |app| app).await;
    let breaker = json!({ "breaker": { "failures": 1, "cooldown": "1h" } });
    app.endpoint("gone", &gone.url, breaker).await;
    let schedule = json!({ "schedule": { "every": "1h", "message": "orders:poll" }, "options": {} });
    app.mapping("ship", "gone", &["order:*"], schedule).await;
    app.parameter("realm", json!("r"), "string").await;
    let poller = json!({ "api": "http://127.0.0.1:9", "every": "1h" });
    json(app.put(&format!("{STORE}/pollers/shop"), &poller).await, 201).await;
    json(app.post(&format!("{STORE}/pollers/shop/run"), &json!({})).await, 202).await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    app.push("q", &json!({})).await;
    let schedule = json!({ "every": "1h", "message": {} });
    json(app.put("/queues/q/schedules/hourly", &schedule).await, 201).await;
    json(app.post("/queues/q/pause", &json!({})).await, 200).await;
    let agent = |method: Method, path: &str| app.request_as(&["customer_agent"], method, path);
    let jobs = "/place_card_on_single_site_jobs";
    json(agent(Method::POST, jobs).json(&json!({ "cardholder_id": 7 })).send().await.unwrap(), 201).await;
    app.tell("order:new", json!({})).await;
    // There is something to be hidden.
    for (path, members) in [
        ("endpoints", &["gone_at"]),
        ("mappings", &["next_tick"]),
        ("pollers", &["last_error"]),
        ("deliveries", &["last_error"]),
    ] {
        eventually(&format!("{members:?} of {path} are there"), async || {
            let listed = items(&json(app.get(&format!("{STORE}/{path}")).await, 200).await);
            listed.first().is_some_and(|item| members.iter().all(|member| item[*member].is_string()))
        })
        .await;
    }

    let api: Value = json(app.anonymous(Method::GET, "/openapi.json").send().await.unwrap(), 200).await;
    let paths = api["paths"].as_object().unwrap();
    let reads = |path: &&String| paths[*path]["get"].is_object();
    let mut seen = Vec::new();
    for list in paths.keys().filter(reads).filter(|path| !OTHERS.contains(&path.as_str())) {
        let is_below = |path: &String| {
            let rest = path.strip_prefix(list.as_str()).and_then(|rest| rest.strip_prefix("/{"));
            rest.and_then(|rest| rest.strip_suffix('}')).is_some_and(|name| !name.contains('/'))
        };
        if !paths.keys().filter(reads).any(is_below) {
            continue;
        }
        let address = list.replace("{store}", "s1").replace("{queue}", "q").replace("/{job_type}", jobs);
        if address.contains('{') {
            continue;
        }
        let is_jobs = address == jobs;
        let read = async |address: &str| {
            let request =
                if is_jobs { agent(Method::GET, address) } else { app.request(Method::GET, address) };
            json(request.send().await.unwrap(), 200).await
        };
        eventually(&format!("each of {list} says alone what it says in the list"), async || {
            let listed = items(&read(&address).await);
            assert!(!listed.is_empty(), "{list} lists nothing");
            for item in listed {
                let key = ["name", "message_id", "id"].map(|name| &item[name]);
                // A delivery has its message's id too, and a site's name is not its address.
                let key = if list.ends_with("/deliveries") || list == "/merchant_sites" {
                    key[2]
                } else {
                    key.into_iter().find(|key| !key.is_null()).unwrap()
                };
                let key = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
                if !says_all(&read(&format!("{address}/{key}")).await, &item) {
                    return false;
                }
            }
            true
        })
        .await;
        seen.push(list);
    }
    assert!(seen.len() >= 9, "only these were read: {seen:?}");

    // And what was read can be put back.
    for path in [
        "/queues/q",
        "/queues/q/schedules/hourly",
        "/stores/s1/endpoints/gone",
        "/stores/s1/mappings/ship",
        "/stores/s1/parameters/realm",
        "/stores/s1/pollers/shop",
    ] {
        let read = json(app.get(path).await, 200).await;
        let put = json(app.put(path, &read).await, 200).await;
        assert!(read["state"].is_object() && put.get("state").is_none(), "{path}: {read} {put}");
    }
    app.stop().await;
}
