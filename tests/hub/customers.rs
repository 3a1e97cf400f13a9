//! Webhooks of customers: one definition each, with event names of their own; and what becomes of one that nobody looks
//! after any more.

use super::stage::{STORE, eager};
use super::upkeep::act;
use crate::commands::run;
use crate::engine::ask;
use crate::support::answer::{json, refusal, violations};
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::scripted::{Asked, Reply, Scripted};
use serde_json::{Value, json};

fn put(path: &str) -> String {
    format!("{STORE}/{path}")
}

/// A receiver that takes everything and says nothing of it.
async fn silent() -> Scripted {
    Scripted::start(|_| Reply::Says(202, Vec::new(), "ok".to_owned())).await
}

async fn state(app: &TestApp, endpoint: &str) -> Value {
    json(app.get(&put(&format!("endpoints/{endpoint}"))).await, 200).await
}

/// How many messages of this key there are.
async fn count(app: &TestApp, key: &str) -> usize {
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
        ("/headers/X-B", "pattern"),
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
        (json!({ "headers": { "X-A": { "secret": "[redacted]" } } }), ("/headers/x-a/secret", "secret")),
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
