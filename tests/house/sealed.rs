//! No secret lies in clear in the database, and so in no dump of it; and what is shown of a definition may be put back.

use crate::support::answer::json;
use crate::support::app::TestApp;
use crate::support::scripted::{Asked, Reply, Scripted};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;
use std::fmt::Write as _;

/// The secrets of a queue, an endpoint (its signing secret and token), a parameter and a poller, and those of the
/// endpoint's own signature and header.
type Secrets = [&'static str; 7];

const FIRST: Secrets = [
    "whsec_cXVldWVxdWV1ZXF1ZXVlcXVldWVxdWV1ZQ==",
    "whsec_c2lnbmluZ3NpZ25pbmdzaWduaW5nc2lnbmluZw==",
    "token-of-the-endpoint",
    "password-of-the-store",
    "token-of-the-poller",
    "secret-of-the-signature",
    "Bearer of-the-header",
];
const SECOND: Secrets = [
    "whsec_bmV3cXVldWVuZXdxdWV1ZW5ld3F1ZXVlbmV3cQ==",
    "whsec_bmV3c2lnbm5ld3NpZ25uZXdzaWdubmV3c2lnbg==",
    "next-token-of-the-endpoint",
    "next-password-of-the-store",
    "next-token-of-the-poller",
    "next-secret-of-the-signature",
    "Bearer of-the-next-header",
];
/// What an answer sets as the password in the place of the first.
const LEARNED: &str = "password-of-an-answer";
const DATA: &str = "password-of-the-job";
const ANSWER: &str = "code-of-the-owner";

const JOBS: &str = "/place_card_on_single_site_jobs";

/// Puts a definition of each kind with its secrets.
async fn define(
    app: &TestApp,
    url: &str,
    [queue, signing, token, password, poller, own, header]: Secrets,
    status: u16,
) {
    for (path, document) in [
        ("/queues/signed", json!({ "handler": { "kind": "http", "url": url, "secret": queue } })),
        (
            "/stores/s1/endpoints/e",
            json!({ "url": url, "token": token, "signing_secrets": [signing],
                "sign": [{ "kind": "hmac", "header": "X-Own", "secrets": [own] }],
                "headers": { "Authorization": { "secret": header } } }),
        ),
        ("/stores/s1/parameters/p", json!({ "value": password, "data_type": "password" })),
        ("/stores/s1/pollers/shop", json!({ "api": url, "every": "1d", "token": poller, "enabled": false })),
        (
            "/stores/s1/mappings/m",
            json!({ "endpoint": "e", "service": "take", "messages": ["order:new"], "parameters": ["p"],
                "options": { "retry": { "base": "5ms", "cap": "20ms" } } }),
        ),
    ] {
        json(app.put(path, &document).await, status).await;
    }
}

/// Puts a secret wherever one can be put, and replaces those that can be replaced: of seven rows something is sealed.
pub(crate) async fn put_secrets(app: &TestApp) {
    let url = "http://127.0.0.1:9";
    define(app, url, FIRST, 201).await;
    define(app, url, SECOND, 200).await;
    create_jobs(app).await;
}

/// Creates two jobs; the first is taken, and what it asks is answered.
async fn create_jobs(app: &TestApp) {
    let job = json!({ "cardholder_id": 1, "data": { "password": DATA } });
    for key in ["first", "second"] {
        let request = app.request(Method::POST, JOBS).header("idempotency-key", key).json(&job);
        json(request.send().await.unwrap(), 201).await;
    }
    let claimed = json(app.post(&format!("{JOBS}/claim?wait=20s"), &json!({})).await, 200).await;
    assert_eq!(claimed[0]["data"]["password"], DATA);
    let channel = format!("/messages{JOBS}/{}", claimed[0]["id"]);
    let question = json!({ "type": "tfa_request", "lease": claimed[0]["lease"] });
    let asked = app.post(&format!("{channel}/credential_requests"), &question).await;
    let envelope = json(asked, 201).await["envelope_id"].clone();
    let answer = json!({ "type": "tfa_response", "envelope_id": envelope, "message": ANSWER });
    let answered = app.post(&format!("{channel}/credential_responses"), &answer).await;
    assert!(answered.status().is_success(), "{}", answered.text().await.unwrap());
}

/// What a service of the hub knows: neither the queue's secret nor the poller's token.
fn known_to_it(all: Secrets) -> Vec<&'static str> {
    [&all[1..4], &all[5..]].concat()
}

/// How a service may write a secret into its answer, and a dump may hold it.
fn spellings(secret: &str) -> Vec<String> {
    let hex = secret.bytes().fold(String::new(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    });
    let base64 = STANDARD.encode(secret).trim_end_matches('=').to_owned();
    let percent = secret.replace('_', "%5F").replace('-', "%2D");
    vec![secret.to_owned(), hex.to_uppercase(), hex, base64, percent]
}

/// A service that knows these secrets, says them all in every spelling, and fails at first. In the end it sets another.
fn telling(known: &[&str], learned: Option<&'static str>) -> impl Fn(&Asked) -> Reply + Send + Sync + use<> {
    let echo: Vec<String> = known.iter().flat_map(|secret| spellings(secret)).collect();
    let echo = echo.join(" ");
    move |asked| {
        if asked.header("postrider-queue").is_some() {
            return Reply::Says(200, Vec::new(), json!(format!("{:?}", asked.headers)).to_string());
        }
        let said = format!("{echo} {:?} {}", asked.headers, asked.body);
        let notes = json!([{ "level": "warn", "subject": said, "description": echo, "reference_id": echo }]);
        match asked.before {
            0 => Reply::Says(500, Vec::new(), said),
            1 => Reply::Says(500, Vec::new(), json!({ "error": said, "notifications": notes }).to_string()),
            _ => {
                let set = learned.map(|value| json!({ "name": "p", "value": value }));
                asked.acknowledge(json!({ "notifications": notes, "parameters": set.as_slice() }))
            }
        }
    }
}

/// Every row of every table as text, as a dump has it.
async fn everything(db: &mut PgConnection) -> String {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'postrider'::regnamespace AND relkind = 'r'",
    )
    .fetch_all(&mut *db)
    .await
    .unwrap();
    assert!(tables.len() > 30);
    let mut all = String::new();
    for table in tables {
        let rows = format!(r#"SELECT coalesce(string_agg(t::text, E'\n'), '') FROM "{table}" AS t"#);
        all += &sqlx::query_scalar::<_, String>(AssertSqlSafe(rows)).fetch_one(&mut *db).await.unwrap();
        all.push('\n');
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_lies_in_clear_in_any_table() {
    let service = Scripted::start(telling(&known_to_it(FIRST), Some(LEARNED))).await;
    let app = TestApp::start().await;
    define(&app, &service.url, FIRST, 201).await;
    let first = app.tell("order:new", json!({ "n": "a payload" })).await;
    app.delivered(&first, "COMPLETE").await;
    create_jobs(&app).await;
    let id = app.push("signed", &json!(1)).await;
    assert_eq!(app.ended("signed", &id).await["status"], "COMPLETE");

    // Who knew the first ones still quotes them when others are in their place.
    define(&app, &service.url, SECOND, 200).await;
    let known = [&known_to_it(FIRST)[..], &known_to_it(SECOND), &[LEARNED]].concat();
    service.follow(telling(&known, None));
    let second = app.tell("order:new", json!({})).await;
    let message = app.delivered(&second, "COMPLETE").await;
    assert_eq!(app.attempts(&message).await.len(), 3);
    let id = app.push("signed", &json!(2)).await;
    assert_eq!(app.ended("signed", &id).await["status"], "COMPLETE");

    let dump = everything(&mut app.connect().await).await;
    for clear in [service.url.as_str(), "a payload", "[redacted]", "x-hub-token"] {
        assert!(dump.to_lowercase().contains(clear), "the dump has what is no secret, such as {clear}");
    }
    for secret in FIRST.into_iter().chain(SECOND).chain([LEARNED, DATA, ANSWER]) {
        for spelling in spellings(secret) {
            let found = dump.lines().find(|line| line.contains(&spelling));
            assert!(found.is_none(), "{secret} as {spelling}: {found:?}");
        }
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_definition_may_be_put_as_it_is_shown_and_keeps_its_secrets() {
    let service = Scripted::start(telling(&[], None)).await;
    let app = TestApp::start().await;
    define(&app, &service.url, FIRST, 201).await;
    let without_state = |mut shown: Value| {
        shown.as_object_mut().unwrap().remove("state");
        shown
    };
    for path in [
        "/queues/signed",
        "/stores/s1/endpoints/e",
        "/stores/s1/parameters/p",
        "/stores/s1/pollers/shop",
        "/stores/s1/mappings/m",
    ] {
        let shown = json(app.get(path).await, 200).await;
        assert_eq!(shown.to_string().contains("[redacted]"), !path.contains("mappings"), "{shown}");
        for _ in 0..2 {
            json(app.put(path, &shown).await, 200).await;
            let read = json(app.get(path).await, 200).await;
            assert_eq!(without_state(read), without_state(shown.clone()), "{path}");
        }
    }
    // And they are still what is sent and what signs.
    let id = app.tell("order:new", json!({})).await;
    app.delivered(&id, "COMPLETE").await;
    let asked = &service.asked()[0];
    assert_eq!(asked.header("x-hub-token"), Some(FIRST[2]));
    assert_eq!(asked.json()["payload"]["parameters"], json!([{ "name": "p", "value": FIRST[3] }]));
    assert!(asked.header("webhook-signature").is_some());
    assert_eq!(
        (asked.header("x-own").map(str::len), asked.header("authorization")),
        (Some(64), Some(FIRST[6]))
    );
    app.stop().await;
}
