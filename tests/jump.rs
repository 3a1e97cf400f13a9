//! Quick jump: one field takes any id or name, and leads to what the caller may read.

use crate::support::answer::{json, refusal};
use crate::support::app::TestApp;
use axum::http::Method;
use serde_json::{Value, json};

const JOBS: &str = "/place_card_on_single_site_jobs";

/// Where `q` leads somebody: kind, by what, and address of each place.
async fn places(app: &TestApp, token: &str, q: &str) -> Vec<[String; 3]> {
    let q: String = url::form_urlencoded::byte_serialize(q.as_bytes()).collect();
    let request = app.anonymous(Method::GET, &format!("/jump?q={q}")).bearer_auth(token);
    let answer = json(request.send().await.unwrap(), 200).await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let place = |place: &Value| [text(&place["kind"]), text(&place["by"]), text(&place["see"])];
    answer["places"].as_array().unwrap().iter().map(place).collect()
}

/// One place.
fn place(kind: &str, by: &str, see: impl Into<String>) -> [String; 3] {
    [kind.to_owned(), by.to_owned(), see.into()]
}

/// A queue, a store and a job, each of which has what can be looked for.
struct Things {
    app: TestApp,
    message: String,
    lease: String,
    hub_message: String,
    delivery: String,
    job: String,
    job_lease: String,
}

async fn things() -> Things {
    let app = TestApp::start().await;
    app.define("mail", json!({ "handler": { "kind": "worker" } })).await;
    let push = app.request(Method::POST, "/queues/mail/messages").header("idempotency-key", "order-7");
    let message =
        json(push.json(&json!(1)).send().await.unwrap(), 201).await["id"].as_str().unwrap().to_owned();
    let claimed = json(app.post("/queues/mail/claim", &json!(null)).await, 200).await;
    app.endpoint("mail", "http://127.0.0.1:9", json!({ "enabled": false })).await;
    app.mapping("ship", "mail", &["order:*"], json!({})).await;
    let body = json!({ "message": "order:new", "payload": {} });
    let push = app.request(Method::POST, "/stores/s1/messages").header("idempotency-key", "order-7");
    let told = json(push.json(&body).send().await.unwrap(), 201).await;
    let hub_message = told["message_id"].as_str().unwrap().to_owned();
    let delivery = app.told(&hub_message).await["deliveries"][0]["id"].as_str().unwrap().to_owned();
    let ann = app.token_of("ann", &["cardholder_agent"]);
    let create = app.anonymous(Method::POST, JOBS).bearer_auth(&ann).header("idempotency-key", "order-7");
    let created = json(create.json(&json!({ "cardholder_id": 7 })).send().await.unwrap(), 201).await;
    let job = created["id"].to_string();
    let worker =
        app.anonymous(Method::POST, &format!("{JOBS}/claim")).bearer_auth(app.token_of("w", &["job_worker"]));
    let taken = json(worker.json(&json!({})).send().await.unwrap(), 200).await;
    let lease = |claimed: &Value| claimed[0]["lease"].as_str().unwrap().to_owned();
    Things { message, lease: lease(&claimed), hub_message, delivery, job, job_lease: lease(&taken), app }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_id_lease_key_and_name_leads_to_where_it_is_read() {
    let Things { app, message, lease, hub_message, delivery, job, job_lease } = things().await;
    let all = app.token_of("ann", &["system_admin"]);
    let of_queue = format!("/queues/mail/messages/{message}");
    let of_store = format!("/stores/s1/messages/{hub_message}");
    let of_job = format!("{JOBS}/{job}");
    for (q, wanted) in [
        (&*message, vec![place("message", "id", &of_queue)]),
        (&*lease, vec![place("message", "lease", &of_queue)]),
        (&*hub_message, vec![place("hub_message", "id", &of_store)]),
        (&*delivery, vec![place("delivery", "id", format!("/stores/s1/deliveries/{delivery}"))]),
        (&*job, vec![place("job", "id", &of_job)]),
        (&*job_lease, vec![place("job", "lease", &of_job)]),
        (
            "order-7",
            vec![
                place("message", "idempotency_key", &of_queue),
                place("hub_message", "idempotency_key", &of_store),
                place("job", "idempotency_key", &of_job),
            ],
        ),
        (
            "mail",
            vec![
                place("queue", "name", "/queues/mail"),
                place("endpoint", "name", "/stores/s1/endpoints/mail"),
            ],
        ),
        ("ship", vec![place("mapping", "name", "/stores/s1/mappings/ship")]),
        ("s1", vec![place("store", "name", "/stores/s1/messages")]),
        (&JOBS[1..], vec![place("job_type", "name", JOBS)]),
        ("nothing", vec![]),
        ("0193e0b4-7a5c-7d3e-8f4a-2b9c1d0e5f6a", vec![]),
    ] {
        let found = places(&app, &all, q).await;
        assert_eq!(found, wanted, "{q}");
        for [_, _, see] in found {
            let read = app.anonymous(Method::GET, &see).bearer_auth(&all).send().await.unwrap();
            assert_eq!(read.status(), 200, "{see}");
        }
        let spaced = places(&app, &all, &format!(" {q}\t")).await;
        assert_eq!(spaced, wanted, "as it is pasted");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_led_to_what_its_roles_do_not_let_it_read() {
    let Things { app, message, lease, hub_message, delivery, job, job_lease } = things().await;
    let everything = [
        &*message,
        &lease,
        &hub_message,
        &delivery,
        &job,
        &job_lease,
        "order-7",
        "mail",
        "ship",
        "s1",
        &JOBS[1..],
    ];
    // Of all that there is: how many places each sees.
    for (subject, roles, count) in [
        ("eve", &["mail_writer"][..], 3),
        ("eve", &["queue_admin"][..], 4),
        ("eve", &["s1_hub_reader"][..], 6),
        ("eve", &["s2_hub_reader"][..], 0),
        ("eve", &["other_writer", "cardholder_agent"][..], 1),
        ("ann", &["cardholder_agent"][..], 4),
        ("eve", &["customer_agent"][..], 3),
    ] {
        let token = app.token_of(subject, roles);
        let mut found = Vec::new();
        for q in everything {
            found.extend(places(&app, &token, q).await);
        }
        assert_eq!(found.len(), count, "{subject} {roles:?}: {found:#?}");
        for [_, _, see] in found {
            let read = app.anonymous(Method::GET, &see).bearer_auth(&token).send().await.unwrap();
            assert_eq!(read.status(), 200, "{subject} {roles:?}: {see}");
        }
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_nothing_or_may_read_nothing_is_told() {
    let app = TestApp::start().await;
    for query in ["", "?q=", "?q=%20", &format!("?q={}", "x".repeat(256))] {
        refusal(app.get(&format!("/jump{query}")).await, 400).await;
        refusal(
            app.request_as(&["nobody"], Method::GET, &format!("/jump{query}")).send().await.unwrap(),
            403,
        )
        .await;
    }
    refusal(app.request_as(&["nobody"], Method::GET, "/jump?q=x").send().await.unwrap(), 403).await;
    refusal(app.anonymous(Method::GET, "/jump?q=x").send().await.unwrap(), 401).await;
    app.stop().await;
}
