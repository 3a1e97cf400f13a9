//! Push, read and list messages; read deliveries and log entries.

use super::stage::STORE;
use crate::support::answer::{json, refusal, text, violations};
use crate::support::app::TestApp;
use futures::future::join_all;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use std::collections::HashSet;

async fn push_text(app: &TestApp, body: &str, key: Option<&str>) -> Response {
    let mut request = app.request(Method::POST, &format!("{STORE}/messages"));
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    request.header("content-type", "application/json").body(body.to_owned()).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_stored_as_it_was_sent() {
    let app = TestApp::start().await;
    refusal(app.get(&format!("{STORE}/messages")).await, 404).await;
    let payload = r#"{ "total" : 1.00, "big":12345678901234567890123, "text":"\u00e9", "a":1,"a":2 }"#;
    let answer = push_text(&app, &format!(r#"{{"message":"order:new","payload":{payload}}}"#), None).await;
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    let stored = json(answer, 201).await;
    let id = stored["message_id"].as_str().unwrap();
    assert_eq!(stored, json!({ "message_id": id, "message": "order:new", "state": "unrouted" }));
    assert_eq!(location, format!("{STORE}/messages/{id}"));
    let read = text(app.get(&location).await, 200).await;
    assert!(read.contains(payload), "{read}");
    let mut read: Value = serde_json::from_str(&read).unwrap();
    read["payload"] = json!(null);
    for made in ["created_at", "request_id"] {
        assert!(read.as_object_mut().unwrap().remove(made).unwrap().is_string());
    }
    let expected = json!({
        "message_id": id, "message": "order:new", "state": "unrouted", "reason": null, "payload": null,
        "parent_id": null, "hop": 0, "trace_id": null, "children": [], "deliveries": [], "log_entries": [],
    });
    assert_eq!(read, expected);
    let empty = json(push_text(&app, r#"{"message":"order:new"}"#, None).await, 201).await;
    assert_eq!(app.told(empty["message_id"].as_str().unwrap()).await["payload"], json!({}));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_is_refused_and_stores_nothing() {
    let app = TestApp::start().await;
    for (body, place) in [
        (json!({}), ("", "required")),
        (json!([]), ("", "type")),
        (json!({ "message": "order." }), ("/message", "pattern")),
        (json!({ "message": "orders/create" }), ("/message", "pattern")),
        (json!({ "message": "order:*" }), ("/message", "pattern")),
        (json!({ "message": 7 }), ("/message", "type")),
        (json!({ "message": "order:new", "payload": [] }), ("/payload", "type")),
        (json!({ "message": "order:new", "payload": null }), ("/payload", "type")),
        (json!({ "message": "order:new", "message_id": "1" }), ("/message_id", "additionalProperties")),
    ] {
        let problem = refusal(app.post(&format!("{STORE}/messages"), &body).await, 422).await;
        assert_eq!(violations(&problem), [place], "{body}");
    }
    for body in ["", "{", r#"{"message":"order:new","payload":{"a":"\u00"}}"#] {
        refusal(push_text(&app, body, None).await, 400).await;
    }
    for store in ["hub", "system", "queue", "job", "-a", "a%20b", "a%00", "%C3%A4", &"s".repeat(101)] {
        let path = format!("/stores/{store}/messages");
        let problem = refusal(app.post(&path, &json!({ "message": "order:new" })).await, 422).await;
        assert_eq!(violations(&problem), [("/store", "pattern")], "{store}");
        refusal(app.get(&path).await, 404).await;
    }
    let mut db = app.connect().await;
    let count: i64 =
        sqlx::Row::get(&sqlx::query("SELECT count(*) FROM stores").fetch_one(&mut db).await.unwrap(), 0);
    assert_eq!(count, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_makes_one_message_of_many_pushes() {
    let app = TestApp::start().await;
    app.endpoint("off", "http://127.0.0.1:9", json!({ "enabled": false })).await;
    app.mapping("all", "off", &["order:*"], json!({})).await;
    let body = r#"{"message":"order:new","payload":{"n":1}}"#;
    let first = json(push_text(&app, body, Some("k 1")).await, 201).await;
    assert_eq!(first["state"], "routed");
    assert_eq!(json(push_text(&app, body, Some("k 1")).await, 200).await, first);
    refusal(push_text(&app, r#"{"message":"order:new","payload":{"n":2}}"#, Some("k 1")).await, 409).await;
    refusal(push_text(&app, body, Some(" ")).await, 400).await;
    refusal(push_text(&app, body, Some(&"k".repeat(256))).await, 400).await;

    let answers = join_all((0..20).map(|_| push_text(&app, body, Some("k2")))).await;
    let made = answers.iter().filter(|answer| answer.status() == 201).count();
    let ids: HashSet<String> = join_all(
        answers
            .into_iter()
            .map(async |answer| answer.json::<Value>().await.unwrap()["message_id"].to_string()),
    )
    .await
    .into_iter()
    .collect();
    assert_eq!((made, ids.len()), (1, 1));
    let page = json(app.get(&format!("{STORE}/deliveries")).await, 200).await;
    assert_eq!(page["deliveries"].as_array().unwrap().len(), 2);
    // In another store the key is another one.
    let elsewhere = app.request(Method::POST, "/stores/s2/messages").header("idempotency-key", "k2");
    let elsewhere = elsewhere.header("content-type", "application/json").body(body);
    json(elsewhere.send().await.unwrap(), 201).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_are_narrowed_and_come_in_pages() {
    let app = TestApp::start().await;
    app.endpoint("off", "http://127.0.0.1:9", json!({ "enabled": false })).await;
    app.mapping("orders", "off", &["order:*"], json!({})).await;
    app.mapping("new", "off", &["order:new"], json!({})).await;
    let mut ids = Vec::new();
    for n in 0..7 {
        ids.insert(
            0,
            app.tell(if n % 2 == 0 { "order:new" } else { "product:new" }, json!({ "n": n })).await,
        );
    }
    let list = async |query: &str| json(app.get(&format!("{STORE}/{query}")).await, 200).await;
    let of = |page: &Value, list: &str, id: &str| -> Vec<String> {
        page[list].as_array().unwrap().iter().map(|item| item[id].as_str().unwrap().to_owned()).collect()
    };
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let page = list(&format!("messages?limit=3{after}")).await;
        found.extend(of(&page, "messages", "message_id"));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(found, ids);
    for (query, count) in [
        ("messages", 7),
        ("messages?message=order:new", 4),
        ("messages?message=order:*", 4),
        ("messages?message=order:update", 0),
        ("messages?state=routed", 4),
        ("messages?state=unrouted", 3),
        ("messages?state=unrouted&message=order:*", 0),
        ("messages?created_after=2100-01-01T00:00:00Z", 0),
        ("messages?created_before=2100-01-01T00:00:00Z&created_after=-262143-01-01T00:00:00Z", 7),
        ("deliveries", 8),
        ("deliveries?mapping=new", 4),
        ("deliveries?mapping=none", 0),
        ("deliveries?endpoint=off&status=PENDING", 8),
        ("deliveries?status=INPROGRESS", 0),
        ("deliveries?status=ERROR", 0),
    ] {
        let page = list(query).await;
        let name = query.split('?').next().unwrap();
        assert_eq!(page[name].as_array().unwrap().len(), count, "{query}");
    }
    for query in [
        "messages?message=orders/create",
        "messages?state=lost",
        "messages?limit=0",
        "messages?limit=501",
        "messages?after=x",
        "messages?created_after=now",
        "deliveries?status=DONE",
        "deliveries?mapping=%00",
        "deliveries?after=1",
        "log-entries?level=debug",
        "log-entries?reference=%00",
        "log-entries?after=x",
        "log-entries?message_id=x",
    ] {
        refusal(app.get(&format!("{STORE}/{query}")).await, 400).await;
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_not_found() {
    let app = TestApp::start().await;
    let id = app.tell("order:new", json!({})).await;
    let nobody = uuid::Uuid::now_v7();
    for path in ["messages/{}", "deliveries/{}", "deliveries/{}/attempts"] {
        for missing in ["x", &nobody.to_string(), "%00"] {
            refusal(app.get(&format!("{STORE}/{}", path.replace("{}", missing))).await, 404).await;
        }
    }
    for action in ["retry", "archive"] {
        for missing in ["x", &nobody.to_string()] {
            refusal(app.post(&format!("{STORE}/deliveries/{missing}/{action}"), &json!({})).await, 404).await;
        }
    }
    app.post("/stores/s2/messages", &json!({ "message": "order:new" })).await;
    refusal(app.get(&format!("/stores/s2/messages/{id}")).await, 404).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn log_entries_are_found_by_level_reference_and_message() {
    let app = TestApp::start().await;
    let id = app.tell("order:new", json!({})).await;
    let mut db = app.connect().await;
    for (number, (level, kind, reference)) in
        [("info", "order", "R1"), ("error", "order", "R2"), ("error", "delivery", "R1")]
            .into_iter()
            .enumerate()
    {
        sqlx::query(
            "INSERT INTO log_entries (store_id, level, subject, message_id, reference_type, reference_id, digest)
             SELECT id, $1::log_level, 'subject', CASE WHEN $2 = 'R2' THEN $4::uuid END, $3, $2, int4send($5)
             FROM stores WHERE name = 's1'",
        )
        .bind(level)
        .bind(reference)
        .bind(kind)
        .bind(&id)
        .bind(i32::try_from(number).unwrap())
        .execute(&mut db)
        .await
        .unwrap();
    }
    for (query, count) in [
        ("", 3),
        ("?level=error", 2),
        ("?reference=R1", 2),
        ("?reference=R1&reference_type=order", 1),
        ("?level=warn", 0),
        (&format!("?message_id={id}"), 1),
        ("?limit=2", 2),
    ] {
        let page = json(app.get(&format!("{STORE}/log-entries{query}")).await, 200).await;
        assert_eq!(page["log_entries"].as_array().unwrap().len(), count, "{query}");
    }
    let page = json(app.get(&format!("{STORE}/log-entries?limit=2")).await, 200).await;
    let next = page["next"].as_i64().unwrap();
    let rest = json(app.get(&format!("{STORE}/log-entries?after={next}")).await, 200).await;
    assert_eq!((rest["log_entries"].as_array().unwrap().len(), &rest["next"]), (1, &json!(null)));
    assert_eq!(app.told(&id).await["log_entries"][0]["reference_id"], "R2");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_the_hub_makes_messages_whose_keys_begin_with_hub() {
    let app = TestApp::start().await;
    app.endpoint("e", "http://127.0.0.1:9", json!({ "enabled": false })).await;
    let refused = async |answer: Response, pointer: &str| {
        let problem = refusal(answer, 422).await;
        assert_eq!(violations(&problem), [(pointer, "reserved")]);
    };
    let push = r#"{"message":"hub:endpoint_failing","payload":{}}"#;
    refused(push_text(&app, push, None).await, "/message").await;
    let schedule = json!({ "every": "5m", "message": "hub:endpoint_failing" });
    let mapping = json!({ "endpoint": "e", "service": "s", "schedule": schedule });
    refused(app.put(&format!("{STORE}/mappings/m"), &mapping).await, "/schedule/message").await;
    let poller = |collection: Value| json!({ "api": "http://127.0.0.1:9", "every": "5m", "collections": [collection] });
    let key = poller(json!({ "name": "orders", "key": "hub" }));
    refused(app.put(&format!("{STORE}/pollers/p"), &key).await, "/collections/0/key").await;
    let rules = json!([{ "to": "void", "message": "hub:order_void" }]);
    let rule = poller(json!({ "name": "orders", "key": "order", "rules": rules }));
    refused(app.put(&format!("{STORE}/pollers/p"), &rule).await, "/collections/0/rules/0/message").await;
    let mut db = app.connect().await;
    let publish = "SELECT publish('s1', 'hub:endpoint_failing', '{}')";
    let error = sqlx::query(publish).execute(&mut db).await.unwrap_err();
    assert_eq!(error.as_database_error().unwrap().code().as_deref(), Some("22023"));
    assert_eq!(
        text(app.get(&format!("{STORE}/messages")).await, 200).await,
        r#"{"messages":[],"next":null}"#
    );
    app.stop().await;
}
