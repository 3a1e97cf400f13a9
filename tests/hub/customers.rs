//! Webhooks of customers: one definition each, with event names of their own.

use super::stage::{STORE, eager};
use crate::engine::ask;
use crate::support::answer::{json, refusal, violations};
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::scripted::{Asked, Reply, Scripted};
use serde_json::{Value, json};

pub(super) fn put(path: &str) -> String {
    format!("{STORE}/{path}")
}

/// A receiver that takes everything and says nothing of it.
async fn silent() -> Scripted {
    Scripted::start(|_| Reply::Says(202, Vec::new(), "ok".to_owned())).await
}

pub(super) async fn state(app: &TestApp, endpoint: &str) -> Value {
    json(app.get(&put(&format!("endpoints/{endpoint}"))).await, 200).await
}

/// How many messages of this key there are.
pub(super) async fn count(app: &TestApp, key: &str) -> usize {
    let page = json(app.get(&put(&format!("messages?message={key}&limit=500"))).await, 200).await;
    page["messages"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_webhook_of_a_customer_is_one_definition() {
    let customer = silent().await;
    let app = TestApp::start().await;
    let definition = json!({
        "url": format!("{}/hooks", customer.url), "wire": "raw", "events": ["invoice.*", "order_created"],
        "options": { "method": "PUT", "headers": { "X-Event": "{message}" } },
        "signing_secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    });
    json(app.put(&put("endpoints/acme"), &definition).await, 201).await;
    for key in ["invoice.created", "invoice.paid:late", "order_created"] {
        let id = app.tell(key, json!({ "id": key })).await;
        let message = app.delivered(&id, "COMPLETE").await;
        assert_eq!(
            (&message["deliveries"][0]["mapping"], &message["state"]),
            (&json!("acme"), &json!("routed"))
        );
        let asked = customer.asked().pop().unwrap();
        assert_eq!((asked.method.as_str(), asked.path.as_str()), ("PUT", "/hooks"));
        assert_eq!((asked.header("x-event"), asked.json()), (Some(key), json!({ "id": key })));
        assert_eq!(asked.header("webhook-id"), message["deliveries"][0]["id"].as_str());
        assert!(asked.header("webhook-signature").is_some() && asked.header("x-hub-store").is_none());
    }
    let other = app.tell("invoice", json!({})).await;
    assert_eq!(app.told(&other).await["state"], "unrouted");

    // Its mapping shows, and is changed where it was made.
    let mapping = json(app.get(&put("mappings/acme")).await, 200).await;
    assert_eq!((&mapping["service"], &mapping["messages"]), (&json!(""), &definition["events"]));
    assert_eq!(mapping["state"]["of_endpoint"], true);
    let words = |problem: Value| problem["detail"].as_str().unwrap().to_owned();
    let own = json!({ "endpoint": "acme", "service": "", "messages": ["a.b"] });
    let problem = refusal(app.put(&put("mappings/acme"), &own).await, 409).await;
    assert!(words(problem).contains("definition of the endpoint"));
    refusal(app.delete(&put("mappings/acme")).await, 409).await;

    // What is read may be put back; other events are those of the same mapping.
    let mut read = state(&app, "acme").await;
    read["events"] = json!(["invoice"]);
    json(app.put(&put("endpoints/acme"), &read).await, 200).await;
    let id = app.tell("invoice", json!({})).await;
    app.delivered(&id, "COMPLETE").await;
    assert_eq!(count(&app, "invoice").await, 2);

    // Without events there is no mapping, and its name is free; with it, another's is taken.
    read.as_object_mut().unwrap().retain(|name, _| name != "events" && name != "options");
    json(app.put(&put("endpoints/acme"), &read).await, 200).await;
    refusal(app.get(&put("mappings/acme")).await, 404).await;
    json(app.put(&put("mappings/acme"), &own).await, 201).await;
    read["events"] = json!(["invoice.*"]);
    let problem = refusal(app.put(&put("endpoints/acme"), &read).await, 409).await;
    assert!(words(problem).contains("another mapping of this name"));
    assert_eq!(app.delete(&put("mappings/acme")).await.status(), 204);

    // With the endpoint goes what its definition made.
    json(app.put(&put("endpoints/acme"), &read).await, 200).await;
    eventually("nothing is under way", async || app.delete(&put("endpoints/acme")).await.status() == 204)
        .await;
    refusal(app.get(&put("mappings/acme")).await, 404).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn event_names_are_those_of_the_applications_of_the_field() {
    let service = Scripted::start(|asked: &Asked| match asked.json()["message"].as_str().unwrap() {
        "ObjectCreated:Put" => asked.acknowledge(json!({ "message": "customer.subscription.updated" })),
        _ => asked.acknowledge(json!({})),
    })
    .await;
    let app = TestApp::start().await;
    app.endpoint("e", &service.url, json!({})).await;
    let keys = ["order", "ORDER_CREATED", "ObjectCreated:*", "customer.subscription.*", "a.b:c-d.e"];
    app.mapping("m", "e", &keys, json!({})).await;
    for key in ["order", "ORDER_CREATED", "ObjectCreated:Put", "a.b:c-d.e"] {
        let id = app.tell(key, json!({})).await;
        let message = app.delivered(&id, "COMPLETE").await;
        for child in message["children"].as_array().unwrap() {
            let child = app.delivered(child.as_str().unwrap(), "COMPLETE").await;
            assert_eq!(child["message"], "customer.subscription.updated");
        }
    }
    let mut db = app.connect().await;
    let published = "SELECT publish('s1', 'customer.subscription.deleted', '{}'::json)";
    let id: uuid::Uuid = ask(&mut db, published).await;
    eventually("what SQL publishes too", async || {
        app.told(&id.to_string()).await["deliveries"][0]["status"] == "COMPLETE"
    })
    .await;
    let sent: Vec<String> =
        service.asked().iter().map(|asked| asked.json()["message"].as_str().unwrap().to_owned()).collect();
    assert_eq!(sent.len(), 6, "{sent:?}");
    assert_eq!(count(&app, "customer.subscription.*").await, 2);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_that_breaks_a_rule_is_refused_with_every_violation() {
    let app = TestApp::start().await;
    let url = "http://127.0.0.1:9";
    let definition = json!({
        "url": url, "wire": "row", "events": ["or der"], "disable": {}, "options": { "method": "GET", "content_type": "x" },
        "headers": { "Host": "a", "Content-Type": "b", "webhook-id": "c", "X-A": "{nobody}", "X-B": { "secret": "short" }, "x y": "" },
        "sign": [
            { "kind": "hmac", "header": "X-S", "hash": "md5", "over": "{order}", "separator": "{id}", "secrets": [] },
            { "kind": "jwt", "header": "X-T", "alg": "none", "claims": { "iat": 1, "x": null }, "secrets": ["12345678", "12345678"] },
            { "kind": "rsa", "header": "x-s", "over": "{body}", "alg": "RS256", "secrets": ["12345678"] },
            { "kind": "hmac", "header": "X-U", "secrets": ["12345678", "12345678"], "hush": 1 },
        ],
    });
    let problem = refusal(app.put(&put("endpoints/e"), &definition).await, 422).await;
    let expected = [
        ("/disable", "minProperties"),
        ("/events/0", "pattern"),
        ("/headers/Content-Type", "header"),
        ("/headers/Host", "header"),
        ("/headers/X-A", "template"),
        ("/headers/X-B/secret", "pattern"),
        ("/headers/webhook-id", "header"),
        ("/headers/x y", "header"),
        ("/options/content_type", "content_type"),
        ("/options/method", "enum"),
        ("/sign/0/hash", "enum"),
        ("/sign/0/over", "template"),
        ("/sign/0/secrets", "minItems"),
        ("/sign/0/separator", "template"),
        ("/sign/1/alg", "enum"),
        ("/sign/1/claims/iat", "claim"),
        ("/sign/1/claims/x", "type"),
        ("/sign/2/kind", "enum"),
        ("/sign/3/hush", "additionalProperties"),
        ("/sign/3/secrets", "separator"),
        ("/wire", "enum"),
    ];
    assert_eq!(violations(&problem), expected);
    let hmac = json!({ "kind": "hmac", "header": "X-S", "secrets": ["a secret of it"] });
    for (members, place) in [
        (json!({ "wire": "raw", "token": "x123" }), ("/token", "wire")),
        (json!({ "options": {} }), ("/options", "dependentRequired")),
        (json!({ "sign": [hmac, hmac] }), ("/sign/1/header", "uniqueItems")),
        (json!({ "sign": [hmac], "headers": { "x-s": "1" } }), ("/headers", "uniqueItems")),
        (json!({ "headers": { "X-A": "1", "x-a": "2" } }), ("/headers/x-a", "uniqueItems")),
        (json!({ "wire": "raw", "events": ["a"], "options": { "ack": "strict" } }), ("/options/ack", "wire")),
        (json!({ "events": ["a"], "options": { "method": "PUT" } }), ("/options/method", "wire")),
        (
            json!({ "sign": [{ "kind": "jwt", "header": "X-T", "alg": "RS256", "secrets": ["no key at all"] }] }),
            ("/sign/0/secrets/0", "key"),
        ),
        (
            json!({ "sign": [{ "kind": "hmac", "header": "X-T", "secrets": ["[redacted]"] }] }),
            ("/sign/0/secrets/0", "secret"),
        ),
        (json!({ "headers": { "X-A": { "secret": "[redacted]" } } }), ("/headers/X-A/secret", "secret")),
    ] {
        let mut definition = json!({ "url": url });
        definition.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let problem = refusal(app.put(&put("endpoints/e"), &definition).await, 422).await;
        assert_eq!(violations(&problem), [place], "{definition}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_that_asks_for_what_the_wire_does_not_have_is_refused_whichever_is_put_last() {
    let app = TestApp::start().await;
    let url = "http://127.0.0.1:9";
    let raw = json!({ "url": url, "wire": "raw", "enabled": false });
    json(app.put(&put("endpoints/bare"), &raw).await, 201).await;
    json(app.put(&put("endpoints/full"), &json!({ "url": url, "enabled": false })).await, 201).await;
    let mapping = |endpoint: &str, parameters: Value, options: Value| json!({ "endpoint": endpoint, "service": "", "messages": ["a.b"], "parameters": parameters, "options": options });
    let strict = mapping("bare", json!(["api_key"]), json!({ "ack": "strict" }));
    let problem = refusal(app.put(&put("mappings/m"), &strict).await, 422).await;
    assert_eq!(violations(&problem), [("/options/ack", "wire"), ("/parameters", "wire")]);
    let shaped = mapping(
        "full",
        json!([]),
        json!({ "method": "PATCH", "content_type": "application/cloudevents+json" }),
    );
    let problem = refusal(app.put(&put("mappings/m"), &shaped).await, 422).await;
    assert_eq!(violations(&problem), [("/options/content_type", "wire"), ("/options/method", "wire")]);

    json(
        app.put(&put("mappings/m"), &mapping("full", json!(["api_key"]), json!({ "ack": "strict" }))).await,
        201,
    )
    .await;
    let problem = refusal(app.put(&put("endpoints/full"), &raw).await, 409).await;
    assert!(
        problem["detail"].as_str().unwrap().starts_with("the mapping m does not go with this: /options/ack"),
        "{problem}"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_of_headers_and_signatures_come_back_as_stand_ins_that_keep_them_and_are_shown_nowhere() {
    const HEADER: &str = "Bearer hush-of-the-header";
    const SIGNING: &str = "hush-of-the-signature";
    const NEXT: &str = "hush-of-the-next-signature";
    let receiver = Scripted::start(|asked: &Asked| {
        let said = format!("{:?} {SIGNING} {NEXT}", asked.headers);
        if asked.header("x-first").is_some() {
            Reply::Says(500, Vec::new(), said)
        } else {
            Reply::status(200)
        }
    })
    .await;
    let app = TestApp::start().await;
    let mut definition = json!({
        "url": receiver.url, "wire": "raw", "events": ["a.b"], "options": eager(),
        "headers": { "Authorization": { "secret": HEADER }, "X-First": "1" },
        "sign": [
            { "kind": "hmac", "header": "X-One", "separator": ",", "secrets": [SIGNING] },
            { "kind": "hmac", "header": "X-Two", "hash": "sha512", "secrets": [SIGNING] },
        ],
    });
    json(app.put(&put("endpoints/e"), &definition).await, 201).await;
    let shown = state(&app, "e").await;
    assert_eq!(shown["headers"]["Authorization"], json!({ "secret": "[redacted]" }));
    assert_eq!(shown["sign"][1]["secrets"], json!(["[redacted]"]));

    // In another order, and with one more: each stand-in is what the same header has.
    definition = shown.clone();
    let signs = definition["sign"].as_array_mut().unwrap();
    signs.reverse();
    signs[1]["secrets"] = json!(["[redacted]", NEXT]);
    json(app.put(&put("endpoints/e"), &definition).await, 200).await;
    let id = app.tell("a.b", json!({ "n": 1 })).await;
    eventually("it is refused", async || receiver.asked().len() > 1).await;
    let asked = &receiver.asked()[0];
    assert_eq!(asked.header("authorization"), Some(HEADER));
    let (one, two) = (asked.header("x-one").unwrap(), asked.header("x-two").unwrap());
    assert_eq!((one.split(',').count(), one.len(), two.len()), (2, 129, 128), "{one} {two}");

    let checked = json!({ "message": "a.b", "payload": { "n": 2 } });
    let tested = json(app.post(&put("mappings/e/check"), &checked).await, 200).await;
    assert_eq!(
        (&tested["request"]["method"], &tested["request"]["body"]),
        (&json!("POST"), &json!(r#"{"n":2}"#))
    );
    assert_eq!(tested["request"]["headers"]["authorization"], "[redacted]");

    definition["headers"].as_object_mut().unwrap().remove("X-First");
    definition["sign"] = json!([]);
    json(app.put(&put("endpoints/e"), &definition).await, 200).await;
    let message = app.delivered(&id, "COMPLETE").await;
    let attempts = json!(app.attempts(&message).await).to_string();
    assert!(attempts.contains("[redacted]"), "{attempts}");
    let mut db = app.connect().await;
    let rows = "SELECT string_agg(e::text, ' ') || (SELECT string_agg(a::text, ' ') FROM delivery_attempts AS a) FROM endpoints AS e";
    let stored: String = ask(&mut db, rows).await;
    for text in [attempts, tested.to_string(), stored, shown.to_string(), json!(app.log().await).to_string()]
    {
        assert!(!text.contains("hush-of"), "{text}");
    }
    app.stop().await;
}
