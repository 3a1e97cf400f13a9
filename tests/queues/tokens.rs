//! Tokens through a real route: which are taken, and every bad one refused with a 401.

use crate::support::answer::refusal;
use crate::support::app::{SECRET, TestApp, database};
use axum::http::{Method, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, crypto, encode};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn part(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// A token with exactly this header and payload, signed as HS256 by `secret` whatever the header says.
fn raw(header: &str, payload: &str, secret: &[u8]) -> String {
    let message = format!("{}.{}", part(header), part(payload));
    let key = EncodingKey::from_secret(secret);
    let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

/// A token for these claims, with an expiry unless they have one.
fn token(mut claims: Value) -> String {
    if claims.get("exp").is_none() {
        claims["exp"] = json!(now() + 3600);
    }
    raw(HS256, &claims.to_string(), SECRET.as_bytes())
}

fn pem(file: &str) -> Vec<u8> {
    std::fs::read(format!("tests/keys/{file}.pem")).unwrap()
}

/// Asks for a definition, which `system_admin` may read.
async fn ask(app: &TestApp, headers: &[(&str, &str)]) -> reqwest::Response {
    let mut request = app.anonymous(Method::GET, "/queues/q");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

async fn status(app: &TestApp, token: &str) -> StatusCode {
    ask(app, &[("authorization", &format!("Bearer {token}"))]).await.status()
}

async fn start() -> TestApp {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    app
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_token_is_a_401() {
    let app = start().await;
    let exp = now() + 3600;
    let good = json!({ "sub": "a", "exp": exp, "roles": ["system_admin"] }).to_string();
    let signed = |payload: &str| raw(HS256, payload, SECRET.as_bytes());
    let whole = signed(&good);
    assert_eq!(status(&app, &whole).await, 200);
    let (message, signature) = whole.rsplit_once('.').unwrap();
    let with = |member: &str| signed(&format!("{{{member},{}", &good[1..]));
    let header = |header: &str| raw(header, &good, SECRET.as_bytes());
    let rs256 = EncodingKey::from_rsa_pem(&pem("rs256.private")).unwrap();
    let admin: Value = serde_json::from_str(&good).unwrap();

    let table = [
        ("not a token", "token".to_owned()),
        ("two parts", "a.b".to_owned()),
        ("empty parts", "..".to_owned()),
        ("four parts", format!("{whole}.x")),
        ("unsigned", format!("{}.{}.", part(r#"{"alg":"none"}"#), part(&good))),
        ("alg none with a signature", header(r#"{"alg":"none"}"#)),
        ("alg None", header(r#"{"alg":"None"}"#)),
        ("no signature", format!("{message}.")),
        ("a cut signature", whole[..whole.len() - 4].to_owned()),
        ("another signature", format!("{message}.{}", signature.chars().rev().collect::<String>())),
        (
            "a padded signature",
            format!("{message}.{}", URL_SAFE.encode(URL_SAFE_NO_PAD.decode(signature).unwrap())),
        ),
        ("another payload", format!("{}.{}.{signature}", part(HS256), part(&good.replace("\"a\"", "\"b\"")))),
        ("another secret", raw(HS256, &good, &[b'x'; 32])),
        ("HS384", header(r#"{"alg":"HS384"}"#)),
        ("HS512", header(r#"{"alg":"HS512"}"#)),
        ("RS256 in name", header(r#"{"alg":"RS256"}"#)),
        ("RS256 in deed", encode(&Header::new(Algorithm::RS256), &admin, &rs256).unwrap()),
        ("an unknown alg", header(r#"{"alg":"HS1"}"#)),
        ("no alg", header("{}")),
        ("a header that is no JSON", header("{")),
        ("an unknown crit", header(r#"{"alg":"HS256","crit":["exp2"],"exp2":1}"#)),
        ("an empty crit", header(r#"{"alg":"HS256","crit":[]}"#)),
        ("a payload that is no JSON", signed("{")),
        ("a payload that is no object", signed("[]")),
        ("expired", signed(&good.replace(&exp.to_string(), &(now() - 31).to_string()))),
        ("no exp", signed(r#"{"roles":["system_admin"]}"#)),
        ("exp as text", signed(&good.replace(&exp.to_string(), &format!("\"{exp}\"")))),
        ("exp null", signed(&good.replace(&exp.to_string(), "null"))),
        ("not valid yet", with(&format!("\"nbf\":{}", now() + 120))),
        ("nbf as text", with("\"nbf\":\"0\"")),
        ("roles twice", with("\"roles\":[]")),
        ("roles twice, escaped", with(r#""ro\u006ces":[]"#)),
        ("exp twice", with("\"exp\":9999999999")),
        ("roles as a number", signed(&good.replace("[\"system_admin\"]", "1"))),
        ("roles with a number in them", signed(&good.replace("[\"system_admin\"]", "[\"system_admin\",1]"))),
        ("role null", with("\"role\":null")),
        ("a subject with a line break", signed(&good.replace("\"a\"", r#""a\nb""#))),
        ("longer than 8 KiB", with(&format!("\"x\":\"{}\"", "x".repeat(8192)))),
    ];
    for (what, token) in table {
        let response = ask(&app, &[("x-access-token", &token)]).await;
        assert_eq!(response.status(), 401, "{what}");
        let problem = refusal(response, 401).await;
        let told = problem.to_string();
        assert!(!told.contains(&good) && (token.len() < 20 || !told.contains(&token)), "{what}: {told}");
        let bearer = refusal(ask(&app, &[("authorization", &format!("Bearer {token}"))]).await, 401).await;
        assert_eq!(bearer, problem, "{what}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_comes_in_one_of_two_headers_and_x_access_token_wins() {
    let app = start().await;
    let good = token(json!({ "role": "system_admin" }));
    let weak = token(json!({ "role": "nobody" }));
    let bearer = |scheme: &str, token: &str| format!("{scheme} {token}");
    let table: Vec<(Vec<(&str, String)>, u16)> = vec![
        (vec![], 401),
        (vec![("authorization", String::new())], 401),
        (vec![("authorization", "Bearer".to_owned())], 401),
        (vec![("authorization", "Bearer ".to_owned())], 401),
        (vec![("authorization", bearer("Basic", &good))], 401),
        (vec![("authorization", good.clone())], 401),
        (vec![("x-access-token", String::new())], 401),
        (vec![("x-access-token", bearer("Bearer", &good))], 401),
        (vec![("authorization", bearer("Bearer", &good))], 200),
        (vec![("authorization", bearer("bEaReR", &good))], 200),
        (vec![("authorization", bearer("Bearer ", &good))], 200),
        (vec![("x-access-token", good.clone())], 200),
        (vec![("authorization", bearer("Bearer", "bad")), ("x-access-token", good.clone())], 200),
        (vec![("authorization", "Basic eDp4".to_owned()), ("x-access-token", good.clone())], 200),
        (vec![("authorization", bearer("Bearer", &good)), ("x-access-token", "bad".to_owned())], 401),
        (vec![("authorization", bearer("Bearer", &good)), ("x-access-token", weak.clone())], 403),
        (vec![("authorization", bearer("Bearer", &weak)), ("x-access-token", good.clone())], 200),
        (vec![("authorization", bearer("Bearer", &good)), ("authorization", bearer("Bearer", &good))], 401),
        (vec![("x-access-token", good.clone()), ("x-access-token", good.clone())], 401),
        (vec![("cookie", format!("token={good}"))], 401),
    ];
    for (headers, expected) in table {
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(ask(&app, &headers).await.status(), expected, "{headers:?}");
    }
    let in_the_query = app.anonymous(Method::GET, &format!("/queues/q?access_token={good}"));
    assert_eq!(in_the_query.send().await.unwrap().status(), 401);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_are_the_union_of_role_and_roles_and_nothing_else() {
    let app = start().await;
    let table = [
        (json!({ "role": "system_admin" }), 200),
        (json!({ "roles": "system_admin" }), 200),
        (json!({ "role": ["x", "system_admin"] }), 200),
        (json!({ "roles": ["x", "system_admin"] }), 200),
        (json!({ "role": "system_admin", "roles": [] }), 200),
        (json!({ "role": "x", "roles": ["system_admin"] }), 200),
        (json!({}), 403),
        (json!({ "roles": [] }), 403),
        (json!({ "role": "System_Admin" }), 403),
        (json!({ "role": " system_admin" }), 403),
        (json!({ "role": "system_admin,queue_admin" }), 403),
        (json!({ "role": "system_admin queue_admin" }), 403),
        (json!({ "Roles": ["system_admin"] }), 403),
        (json!({ "scope": "system_admin", "realm_access": { "roles": ["system_admin"] } }), 403),
    ];
    for (claims, expected) in table {
        assert_eq!(status(&app, &token(claims.clone())).await, expected, "{claims}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn time_has_a_leeway_of_thirty_seconds() {
    let app = start().await;
    let admin = |name: &str, at: u64| {
        let mut claims = json!({ "role": "system_admin", "exp": now() + 3600 });
        claims[name] = json!(at);
        token(claims)
    };
    // Far enough from the edge for a slow machine.
    assert_eq!(status(&app, &admin("exp", now() - 5)).await, 200);
    assert_eq!(status(&app, &admin("exp", now() - 31)).await, 401);
    assert_eq!(status(&app, &admin("nbf", now() + 25)).await, 200);
    assert_eq!(status(&app, &admin("nbf", now() + 600)).await, 401);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn issuer_and_audience_count_when_configured_and_only_then() {
    let database = database().await;
    let open = TestApp::on(database.clone(), &[], |app| app).await;
    open.define("q", json!({})).await;
    let settings = [("POSTRIDER_JWT_ISSUER", "https://id.example"), ("POSTRIDER_JWT_AUDIENCE", "postrider")];
    let strict = TestApp::on(database.clone(), &settings, |app| app).await;
    let lax = TestApp::on(database, &[("POSTRIDER_JWT_REQUIRE_EXP", "false")], |app| app).await;
    let table = [
        (json!({ "iss": "https://id.example", "aud": "postrider" }), 200),
        (json!({ "iss": "https://id.example", "aud": ["x", "postrider"] }), 200),
        (json!({ "iss": "https://id.example/", "aud": "postrider" }), 401),
        (json!({ "iss": ["https://id.example"], "aud": "postrider" }), 401),
        (json!({ "iss": "https://id.example", "aud": "Postrider" }), 401),
        (json!({ "iss": "https://id.example", "aud": [] }), 401),
        (json!({ "iss": "https://id.example" }), 401),
        (json!({ "aud": "postrider" }), 401),
        (json!({}), 401),
    ];
    for (mut claims, expected) in table {
        claims["role"] = json!("system_admin");
        assert_eq!(status(&strict, &token(claims.clone())).await, expected, "{claims}");
        assert_eq!(status(&open, &token(claims.clone())).await, 200, "{claims}");
    }
    let endless = raw(HS256, r#"{"role":"system_admin"}"#, SECRET.as_bytes());
    assert_eq!(status(&lax, &endless).await, 200);
    assert_eq!(status(&lax, &token(json!({ "role": "system_admin", "exp": 1 }))).await, 401);
    for app in [open, strict, lax] {
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_key_takes_its_own_algorithm_alone() {
    let database = database().await;
    let first = TestApp::on(database.clone(), &[], |app| app).await;
    first.define("q", json!({})).await;
    first.stop().await;
    let claims = json!({ "role": "system_admin", "exp": now() + 3600 });
    let keys = [
        ("rs256", Algorithm::RS256, EncodingKey::from_rsa_pem(&pem("rs256.private")).unwrap()),
        ("es256", Algorithm::ES256, EncodingKey::from_ec_pem(&pem("es256.private")).unwrap()),
        ("eddsa", Algorithm::EdDSA, EncodingKey::from_ed_pem(&pem("eddsa.private")).unwrap()),
    ];
    for (name, ..) in &keys {
        let file = format!("tests/keys/{name}.public.pem");
        let settings = [("POSTRIDER_JWT_SECRET", ""), ("POSTRIDER_JWT_PUBLIC_KEY_FILE", &*file)];
        let app = TestApp::on(database.clone(), &settings, |app| app).await;
        for (other, algorithm, key) in &keys {
            let token = encode(&Header::new(*algorithm), &claims, key).unwrap();
            assert_eq!(
                status(&app, &token).await,
                if other == name { 200 } else { 401 },
                "{other} for {name}"
            );
        }
        // The key that everybody has is no secret to sign with.
        let public = pem(&format!("{name}.public"));
        assert_eq!(status(&app, &raw(HS256, &claims.to_string(), &public)).await, 401);
        assert_eq!(status(&app, &token(claims.clone())).await, 401);
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_of_an_issuer_are_fetched_and_its_tokens_taken() {
    let public = pem("rs256.public");
    let key = jsonwebtoken::DecodingKey::from_rsa_pem(&public).unwrap();
    let mut jwk = jsonwebtoken::jwk::Jwk::from_decoding_key(&key, Some(Algorithm::RS256)).unwrap();
    jwk.common.key_id = Some("first".to_owned());
    let set = json!({ "keys": [jwk] });
    let router = axum::Router::new().route("/keys", axum::routing::get(async move || axum::Json(set)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let mut issuer = tokio::task::JoinSet::new();
    issuer.spawn(async move { axum::serve(listener, router).await });

    let settings = [("POSTRIDER_JWT_SECRET", ""), ("POSTRIDER_JWKS_URL", &*url)];
    let app = TestApp::with(&settings, |app| app).await;
    let claims = json!({ "role": "system_admin", "exp": now() + 3600 });
    let signing = EncodingKey::from_rsa_pem(&pem("rs256.private")).unwrap();
    let mut header = Header::new(Algorithm::RS256);
    for (kid, expected) in [(Some("first"), 404), (Some("second"), 401)] {
        header.kid = kid.map(str::to_owned);
        assert_eq!(status(&app, &encode(&header, &claims, &signing).unwrap()).await, expected, "{kid:?}");
    }
    assert_eq!(status(&app, &token(claims)).await, 401);
    app.stop().await;
}
