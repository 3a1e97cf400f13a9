//! The wire of senders of webhooks that everybody knows, made again by definitions alone: body, headers, event name and
//! signature, to the byte. Each request is verified as its sender's documentation tells receivers to, by code of the
//! tests that shares nothing with what signs.

use super::stage::STORE;
use crate::support::answer::json;
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::scripted::{Asked, Reply, Scripted};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// HMAC by RFC 2104, with the hash of another library than the one that signs.
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    assert!(key.len() <= 64, "the keys of the tests are short");
    let block =
        |with: u8| -> Vec<u8> { (0..64).map(|at| key.get(at).copied().unwrap_or_default() ^ with).collect() };
    let inner = Sha256::digest([&block(0x36)[..], text].concat());
    Sha256::digest([&block(0x5c)[..], &inner[..]].concat()).to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}

/// Whether a receiver would believe that this moment, in Unix seconds, is now: all documentations say five minutes.
fn is_now(seconds: &str) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    seconds.parse::<u64>().unwrap().abs_diff(now) < 300
}

/// What verifies a request: its header by name, and its body.
type Receiver<'a> = &'a dyn Fn(&Asked, &str) -> bool;

/// Puts a sender's endpoint and mapping, pushes an event, and returns its requests: one that is refused, and one that is
/// taken. Each is believed by the receiver, and by none with another body.
async fn send(
    endpoint: Value,
    mapping: Value,
    key: &str,
    payload: &str,
    receiver: Receiver<'_>,
) -> Vec<Asked> {
    let customer = Scripted::start(|_| Reply::status(500)).await;
    let app = TestApp::start().await;
    app.endpoint("customer", &format!("{}/webhooks?from=us", customer.url), endpoint).await;
    let mut definition =
        json!({ "endpoint": "customer", "service": "", "messages": [key], "options": mapping });
    definition["options"]["retry"] = json!({ "base": "5ms", "cap": "20ms" });
    json(app.put(&format!("{STORE}/mappings/webhook"), &definition).await, 201).await;
    let body = format!(r#"{{"message":"{key}","payload":{payload}}}"#);
    let push = app.request(Method::POST, &format!("{STORE}/messages"));
    let push = push.header("content-type", "application/json").body(body).send().await.unwrap();
    let id = json(push, 201).await["message_id"].as_str().unwrap().to_owned();
    eventually("it is refused", async || !customer.asked().is_empty()).await;
    customer.follow(|_| Reply::Says(204, Vec::new(), String::new()));
    app.delivered(&id, "COMPLETE").await;
    app.stop().await;

    let asked = customer.asked();
    let (first, last) = (asked[0].clone(), asked[asked.len() - 1].clone());
    for asked in [&first, &last] {
        assert_eq!(asked.body, payload, "the body is the payload to the byte");
        assert_eq!(asked.path, "/webhooks?from=us");
        assert!(receiver(asked, &asked.body), "{asked:?}");
        assert!(!receiver(asked, &asked.body.replacen('1', "2", 1)), "a receiver that believes everything");
    }
    vec![first, last]
}

/// The request has these headers, and no other but those of every request.
fn assert_headers(asked: &Asked, expected: &[(&str, &str)]) {
    let of_every_request = ["host", "accept", "content-length"];
    let mut found: Vec<(String, &str)> = asked
        .headers
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()))
        .filter(|(name, _)| !of_every_request.contains(&name.as_str()))
        .collect();
    found.sort_unstable();
    let mut expected: Vec<(String, &str)> =
        expected.iter().map(|(name, value)| (name.to_ascii_lowercase(), *value)).collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(asked.header("accept"), Some("*/*"));
}

#[tokio::test(flavor = "multi_thread")]
async fn github() {
    const SECRET: &str = "It's a Secret to Everybody";
    let payload = r#"{"action":"opened","issue":{"url":"https:\/\/api.github.com\/repos\/octocat\/Hello-World\/issues\/1347","number":1347},"repository":{"id":1296269,"full_name":"octocat/Hello-World"},"sender":{"login":"octocat","id":1}}"#;
    let endpoint = json!({
        "wire": "raw",
        "headers": {
            "User-Agent": "GitHub-Hookshot/044aadd", "X-GitHub-Event": "{message}", "X-GitHub-Delivery": "{id}",
            "X-GitHub-Hook-ID": "292430182", "X-GitHub-Hook-Installation-Target-ID": "79929171",
            "X-GitHub-Hook-Installation-Target-Type": "repository",
        },
        "sign": [
            { "kind": "hmac", "header": "X-Hub-Signature-256", "prefix": "sha256=", "secrets": [SECRET] },
            { "kind": "hmac", "hash": "sha1", "header": "X-Hub-Signature", "prefix": "sha1=", "secrets": [SECRET] },
        ],
    });
    let asked = send(endpoint, json!({}), "issues", payload, &|asked, body| {
        // "Validating webhook deliveries": sha256= and the hex digest, keyed with the secret, of the body.
        asked.header("X-Hub-Signature-256")
            == Some(&format!("sha256={}", hex(&hmac(SECRET.as_bytes(), body.as_bytes()))))
    })
    .await;
    let delivery = asked[0].header("X-GitHub-Delivery").unwrap().to_owned();
    assert_eq!(uuid::Uuid::parse_str(&delivery).unwrap().to_string(), delivery);
    for asked in &asked {
        let [new, old] = ["X-Hub-Signature-256", "X-Hub-Signature"].map(|name| asked.header(name).unwrap());
        assert!(old.starts_with("sha1=") && old.len() == 45, "{old}");
        assert_headers(
            asked,
            &[
                ("User-Agent", "GitHub-Hookshot/044aadd"),
                ("Content-Type", "application/json"),
                ("X-GitHub-Event", "issues"),
                ("X-GitHub-Delivery", &delivery),
                ("X-GitHub-Hook-ID", "292430182"),
                ("X-GitHub-Hook-Installation-Target-ID", "79929171"),
                ("X-GitHub-Hook-Installation-Target-Type", "repository"),
                ("X-Hub-Signature-256", new),
                ("X-Hub-Signature", old),
            ],
        );
        assert_eq!(asked.method, "POST");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stripe_while_its_secret_is_rolled() {
    const OLD: &str = "whsec_0ld5ecret0fTheTests";
    const NEW: &str = "whsec_n3w5ecret0fTheTests";
    // Stripe's bodies are indented by two spaces.
    let payload = "{\n  \"id\": \"evt_1NG8Du2eZvKYlo2CUI79vXWy\",\n  \"object\": \"event\",\n  \"api_version\": \"2019-02-19\",\n  \"created\": 1686089970,\n  \"data\": {\n    \"object\": {\n      \"amount\": 2000.00\n    }\n  },\n  \"type\": \"setup_intent.created\"\n}";
    let endpoint = json!({
        "wire": "raw", "headers": { "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)" },
        "sign": [{
            "kind": "hmac", "header": "Stripe-Signature", "over": "{timestamp}.{body}", "start": "t={timestamp},",
            "prefix": "v1=", "separator": ",", "secrets": [NEW, OLD],
        }],
    });
    let options = json!({ "content_type": "application/json; charset=utf-8" });
    // "Verify manually": split at commas; t is the time, each v1 a signature of `t.body`; one must match.
    let verified = |asked: &Asked, body: &str, secret: &str| {
        let parts: Vec<(&str, &str)> = asked
            .header("Stripe-Signature")
            .unwrap()
            .split(',')
            .map(|part| part.split_once('=').unwrap())
            .collect();
        let (_, time) = parts.iter().find(|(name, _)| *name == "t").unwrap();
        let expected = hex(&hmac(secret.as_bytes(), format!("{time}.{body}").as_bytes()));
        is_now(time) && parts.contains(&("v1", expected.as_str()))
    };
    let both = |asked: &Asked, body: &str| verified(asked, body, OLD) && verified(asked, body, NEW);
    let asked = send(endpoint, options, "setup_intent.created", payload, &both).await;
    let signature = asked[1].header("Stripe-Signature").unwrap();
    assert_eq!(signature.matches("v1=").count(), 2, "{signature}");
    assert!(!verified(&asked[1], &asked[1].body, "whsec_another"));
    assert_headers(
        &asked[1],
        &[
            ("User-Agent", "Stripe/1.0 (+https://stripe.com/docs/webhooks)"),
            ("Content-Type", "application/json; charset=utf-8"),
            ("Stripe-Signature", signature),
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn shopify_whose_topics_are_no_message_keys() {
    const SECRET: &str = "hush-of-the-shopify-app";
    let payload = r#"{"id":820982911946154508,"admin_graphql_api_id":"gid:\/\/shopify\/Order\/820982911946154508","email":"jon@example.com","total_price":"403.00","line_items":[{"id":487817672276298554,"title":"Aviator sunglasses"}]}"#;
    let endpoint = json!({
        "wire": "raw",
        "headers": {
            "X-Shopify-Shop-Domain": "shop.myshopify.com", "X-Shopify-API-Version": "2023-04",
            "X-Shopify-Webhook-Id": "{id}", "X-Shopify-Triggered-At": "{timestamp_iso}",
        },
        "sign": [{
            "kind": "hmac", "header": "X-Shopify-Hmac-Sha256", "encoding": "base64", "secrets": [SECRET],
        }],
    });
    let options =
        json!({ "headers": { "X-Shopify-Topic": "orders/create", "User-Agent": "Shopify-Captain-Hook" } });
    let asked = send(endpoint, options, "orders.create", payload, &|asked, body| {
        // "Verify the webhook": base64 of the digest, keyed with the app's secret, of the raw body.
        let said = STANDARD.decode(asked.header("X-Shopify-Hmac-SHA256").unwrap()).unwrap();
        said == hmac(SECRET.as_bytes(), body.as_bytes())
    })
    .await;
    let named = |name| asked[1].header(name).unwrap();
    let at = named("X-Shopify-Triggered-At");
    assert!(at.len() == 20 && at.ends_with('Z'), "{at}");
    assert_headers(
        &asked[1],
        &[
            ("Content-Type", "application/json"),
            ("User-Agent", "Shopify-Captain-Hook"),
            ("X-Shopify-Topic", "orders/create"),
            ("X-Shopify-Shop-Domain", "shop.myshopify.com"),
            ("X-Shopify-API-Version", "2023-04"),
            ("X-Shopify-Webhook-Id", named("X-Shopify-Webhook-Id")),
            ("X-Shopify-Triggered-At", at),
            ("X-Shopify-Hmac-Sha256", named("X-Shopify-Hmac-Sha256")),
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn slack() {
    const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";
    let payload = r#"{"token":"Jhj5dZrVaK7ZwHHjRyZWjbDl","team_id":"T123ABC456","api_app_id":"A123ABC456","event":{"type":"app_mention","user":"U061F7AUR","text":"What is the hour of the pearl, <@U0LAN0Z89>?","ts":"1515449522.000016"},"type":"event_callback","event_time":1515449522}"#;
    let endpoint = json!({
        "wire": "raw",
        "headers": {
            "X-Slack-Request-Timestamp": "{timestamp}", "User-Agent": "Slackbot 1.0 (+https://api.slack.com/robots)",
        },
        "sign": [{
            "kind": "hmac", "header": "X-Slack-Signature", "over": "v0:{timestamp}:{body}", "prefix": "v0=",
            "secrets": [SECRET],
        }],
    });
    let asked = send(endpoint, json!({}), "app_mention", payload, &|asked, body| {
        // "Verifying requests from Slack": v0, the header's time and the body, with colons between.
        let time = asked.header("X-Slack-Request-Timestamp").unwrap();
        let signed = hmac(SECRET.as_bytes(), format!("v0:{time}:{body}").as_bytes());
        is_now(time) && asked.header("X-Slack-Signature") == Some(&format!("v0={}", hex(&signed)))
    })
    .await;
    let named = |name| asked[1].header(name).unwrap();
    assert_headers(
        &asked[1],
        &[
            ("Content-Type", "application/json"),
            ("User-Agent", "Slackbot 1.0 (+https://api.slack.com/robots)"),
            ("X-Slack-Request-Timestamp", named("X-Slack-Request-Timestamp")),
            ("X-Slack-Signature", named("X-Slack-Signature")),
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn clerk_by_the_headers_of_svix() {
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let payload = r#"{"data":{"birthday":"","created_at":1654012591514,"id":"user_29w83sxmDNGwOuEthce5gg56FcC"},"object":"event","type":"user.created"}"#;
    let endpoint = json!({
        "wire": "raw",
        "headers": { "svix-id": "msg_{id}", "svix-timestamp": "{timestamp}", "User-Agent": "Svix-Webhooks/1.24.0" },
        "sign": [{
            "kind": "hmac", "header": "svix-signature", "over": "msg_{id}.{timestamp}.{body}", "encoding": "base64",
            "secret_encoding": "base64", "prefix": "v1,", "separator": " ", "secrets": [SECRET],
        }],
    });
    let asked = send(endpoint, json!({}), "user.created", payload, &|asked, body| {
        // "Verifying webhooks manually": id, time and body with dots between; the key is base64 behind whsec_; each
        // signature has its version before a comma.
        let key = STANDARD.decode(SECRET.strip_prefix("whsec_").unwrap()).unwrap();
        let [id, time, said] =
            ["svix-id", "svix-timestamp", "svix-signature"].map(|name| asked.header(name).unwrap());
        let expected = STANDARD.encode(hmac(&key, format!("{id}.{time}.{body}").as_bytes()));
        is_now(time) && said.split(' ').any(|one| one.split_once(',') == Some(("v1", &expected)))
    })
    .await;
    let named = |name| asked[1].header(name).unwrap();
    assert_eq!(asked[0].header("svix-id"), asked[1].header("svix-id"), "a receiver that drops repetitions");
    assert_headers(
        &asked[1],
        &[
            ("Content-Type", "application/json"),
            ("User-Agent", "Svix-Webhooks/1.24.0"),
            ("svix-id", named("svix-id")),
            ("svix-timestamp", named("svix-timestamp")),
            ("svix-signature", named("svix-signature")),
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn lemon_squeezy_whose_event_names_have_no_dots() {
    const SECRET: &str = "hush-of-the-lemon-squeezy-store";
    let payload = r#"{"meta":{"event_name":"order_created","custom_data":{"customer_id":25}},"data":{"type":"orders","id":"1","attributes":{"total":999}}}"#;
    let endpoint = json!({
        "wire": "raw", "headers": { "X-Event-Name": "{message}" },
        "sign": [{ "kind": "hmac", "header": "X-Signature", "secrets": [SECRET] }],
    });
    let asked = send(endpoint, json!({}), "order_created", payload, &|asked, body| {
        // "Signing requests": the hex digest of the raw body.
        asked.header("X-Signature") == Some(&hex(&hmac(SECRET.as_bytes(), body.as_bytes())))
    })
    .await;
    assert_eq!(asked[1].header("X-Event-Name"), Some("order_created"));
}

#[tokio::test(flavor = "multi_thread")]
async fn plaid_by_a_token_that_carries_the_digest_of_the_body() {
    let private = include_str!("../keys/es256.private.pem");
    let payload = r#"{"webhook_type":"TRANSACTIONS","webhook_code":"SYNC_UPDATES_AVAILABLE","item_id":"wz666MBjYWTp2PDzzggYhM6oWWmBb","environment":"production","n":1}"#;
    let endpoint = json!({
        "wire": "raw",
        "sign": [{
            "kind": "jwt", "alg": "ES256", "kid": "6c5516e1-92dc-479e-a8ff-5a51992e0001", "header": "Plaid-Verification",
            "claims": { "request_body_sha256": "{body_sha256}" }, "secrets": [private],
        }],
    });
    let asked = send(endpoint, json!({}), "TRANSACTIONS.SYNC_UPDATES_AVAILABLE", payload, &|asked, body| {
        // "Webhook verification": ES256 alone, the key that kid names, not older than five minutes, and the digest.
        let token = asked.header("Plaid-Verification").unwrap();
        let header = decode_header(token).unwrap();
        assert_eq!(header.alg, Algorithm::ES256);
        assert_eq!(header.kid.as_deref(), Some("6c5516e1-92dc-479e-a8ff-5a51992e0001"));
        let mut validation = Validation::new(Algorithm::ES256);
        validation.required_spec_claims.clear();
        let key = DecodingKey::from_ec_pem(include_bytes!("../keys/es256.public.pem")).unwrap();
        let claims = decode::<Value>(token, &key, &validation).unwrap().claims;
        is_now(&claims["iat"].to_string())
            && claims["request_body_sha256"] == hex(&Sha256::digest(body.as_bytes()))
    })
    .await;
    let token = asked[1].header("Plaid-Verification").unwrap();
    assert_headers(
        &asked[1],
        &[
            ("Content-Type", "application/json"),
            ("User-Agent", asked[1].header("User-Agent").unwrap()),
            ("Plaid-Verification", token),
        ],
    );
}
