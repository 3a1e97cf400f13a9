//! Every way a token can be bad, each refused with its own words and a 401.

use super::*;
use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use futures::FutureExt;
use jsonwebtoken::crypto;
use proptest::prelude::*;

fn part(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// A token with exactly this header and payload, signed with HS256 by `secret`.
fn raw(header: &str, payload: &str, secret: &[u8]) -> String {
    let message = format!("{}.{}", part(header), part(payload));
    let key = EncodingKey::from_secret(secret);
    let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fn hs256(payload: &str) -> String {
    raw(r#"{"alg":"HS256"}"#, payload, SECRET.as_bytes())
}

async fn refusal(name: &str, token: &str) -> String {
    match verify(&verifier(name), token).await {
        Err(Error::Unauthorized(detail)) => detail,
        other => panic!("{token}: {other:?}"),
    }
}

#[tokio::test]
async fn the_algorithm_is_the_keys_not_the_tokens() {
    let payload = claims().to_string();
    let unsigned = format!("{}.{}.", part(r#"{"alg":"none"}"#), part(&payload));
    let unknown = "the token's header is not JSON that names an algorithm known here";
    assert_eq!(refusal("hs256", &unsigned).await, unknown);
    assert_eq!(refusal("rs256", &unsigned.replace(&part("none"), &part("None"))).await, unknown);

    let another = "the token is signed with another algorithm than its key is for";
    for name in ["rs256", "es256", "eddsa"] {
        // The classic: the public key, which everybody has, as the HMAC secret.
        let confused = raw(r#"{"alg":"HS256"}"#, &payload, &pem(name, "public"));
        assert_eq!(refusal(name, &confused).await, another);
        assert_eq!(refusal("hs256", &token(name, None, &claims())).await, another);
    }
    for alg in ["HS384", "HS512", "RS512", "PS256"] {
        let header = format!(r#"{{"alg":"{alg}"}}"#);
        let relabelled = raw(&header, &payload, SECRET.as_bytes());
        assert_eq!(refusal("hs256", &relabelled).await, another);
        assert_eq!(refusal("rs256", &relabelled).await, another);
    }
}

#[tokio::test]
async fn a_signature_must_be_by_the_key_over_these_very_bytes() {
    let mismatch = "the signature of the token does not match";
    let foreign = raw(r#"{"alg":"HS256"}"#, &claims().to_string(), &[b'x'; 32]);
    assert_eq!(refusal("hs256", &foreign).await, mismatch);
    assert_eq!(refusal("eddsa", &token("other", None, &claims())).await, mismatch);
    for name in ["hs256", "rs256", "es256", "eddsa"] {
        let good = token(name, None, &claims());
        let parts: Vec<&str> = good.split('.').collect();
        let promoted = part(&claims().to_string().replace("queue_writer", "system_admin"));
        assert_eq!(refusal(name, &format!("{}.{promoted}.{}", parts[0], parts[2])).await, mismatch);
        assert_eq!(refusal(name, &format!("{}.{}.", parts[0], parts[1])).await, mismatch);
        let bytes = URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
        let cut = URL_SAFE_NO_PAD.encode(&bytes[..bytes.len() - 1]);
        assert_eq!(refusal(name, &format!("{}.{}.{cut}", parts[0], parts[1])).await, mismatch);
    }
    // Keys that a token brings along are nobody's.
    let own = format!(r#"{{"alg":"HS256","jwk":{{"kty":"oct","k":"{}"}}}}"#, part(&"x".repeat(32)));
    assert_eq!(refusal("hs256", &raw(&own, &claims().to_string(), &[b'x'; 32])).await, mismatch);
}

#[tokio::test]
async fn a_token_has_one_spelling() {
    let malformed = "the token is not a signed JWT: three parts in base64url, with a dot between them";
    let good = token("hs256", None, &claims());
    let parts: Vec<&str> = good.split('.').collect();
    let (header, payload, signature) = (parts[0], parts[1], parts[2]);
    let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    // 32 bytes are 43 characters, of which the last has two bits to spare.
    let last = signature.chars().last().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let spare = alphabet.chars().nth(alphabet.find(last).unwrap() + 1).unwrap();
    for odd in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "abc".to_owned(),
        format!("{header}.{payload}"),
        format!("{good}."),
        format!(".{good}"),
        format!("{good}.{signature}.{signature}"),
        format!(" {good}"),
        format!("{good} "),
        format!("{header}.{payload}.\n{signature}"),
        format!("{header}.{payload}.{}", URL_SAFE.encode(&bytes)),
        format!("{header}.{payload}.{}{spare}", &signature[..signature.len() - 1]),
        format!("{header}.{payload}.+/{}", &signature[2..]),
        format!("{header}.{payload}.{signature}é"),
        format!("Bearer {good}"),
    ] {
        let detail = refusal("hs256", &odd).await;
        assert!(detail == malformed || detail.contains("header"), "{odd}: {detail}");
    }
}

#[tokio::test]
async fn a_header_must_be_understood() {
    let payload = claims().to_string();
    let header = async |text: &str| refusal("hs256", &raw(text, &payload, SECRET.as_bytes())).await;
    let extension = "the token demands an extension (crit) that is not known here";
    assert_eq!(header(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#).await, extension);
    assert_eq!(header(r#"{"alg":"HS256","crit":["exp"],"exp":1}"#).await, extension);
    assert_eq!(header(r#"{"alg":"HS256","crit":[]}"#).await, extension);
    let odd = "the token's header is not JSON that names an algorithm known here";
    for text in [
        r#"{"alg":"HS256","crit":"b64"}"#,
        r#"{"alg":"HS256","alg":"HS256"}"#,
        r#"{"alg":"hs256"}"#,
        r#"{"alg":7}"#,
        r#"{"typ":"JWT"}"#,
        "[]",
        "HS256",
        "",
    ] {
        assert_eq!(header(text).await, odd, "{text}");
    }
}

#[tokio::test]
async fn claims_are_one_json_object_with_each_member_once() {
    let odd = "the token's claims are not a JSON object in which each member comes once";
    let exp = START + 60;
    for payload in [
        String::new(),
        "null".to_owned(),
        "[]".to_owned(),
        r#""text""#.to_owned(),
        "{".to_owned(),
        format!(r#"{{"exp":{exp}}} {{}}"#),
        format!(r#"{{"exp":{exp},"roles":["one"],"roles":["system_admin"]}}"#),
        format!(r#"{{"exp":{exp},"roles":["one"],"\u0072oles":["system_admin"]}}"#),
        format!(r#"{{"exp":1,"exp":{exp}}}"#),
        format!(r#"{{"exp":{exp},"x":{}}}"#, "[".repeat(5000)),
    ] {
        assert_eq!(refusal("hs256", &hs256(&payload)).await, odd, "{payload}");
    }
    let roles = "the claim `roles` must be a string or an array of strings";
    assert_eq!(refusal("hs256", &hs256(&format!(r#"{{"exp":{exp},"roles":{{"a":1}}}}"#))).await, roles);
}

#[tokio::test]
async fn time_issuer_and_audience_are_asked_for() {
    let payload = |claims: Value| hs256(&claims.to_string());
    assert_eq!(refusal("hs256", &payload(json!({}))).await, "the token has no expiry (exp)");
    assert_eq!(refusal("hs256", &payload(json!({"exp": START - 30}))).await, "the token has expired");
    let text = payload(json!({"exp": "1900000000"}));
    assert_eq!(refusal("hs256", &text).await, "the claim `exp` must be a number");
    let early = payload(json!({"exp": START + 60, "nbf": START + 31}));
    assert_eq!(refusal("hs256", &early).await, "the token is not valid yet (nbf)");

    let jwt = Jwt {
        secret: Some(SecretString::from(SECRET)),
        issuer: Some("https://id.example".to_owned()),
        audience: Some("postrider".to_owned()),
        require_exp: false,
        ..Jwt::default()
    };
    let verifier = Verifier::from_config(&jwt, None, no_fetch()).unwrap();
    let good = json!({"iss": "https://id.example", "aud": ["x", "postrider"]});
    assert!(verify(&verifier, &payload(good)).await.is_ok());
    for bad in [json!({"aud": "postrider"}), json!({"iss": "https://id.example"})] {
        assert!(matches!(verify(&verifier, &payload(bad)).await, Err(Error::Unauthorized(_))));
    }
}

#[tokio::test]
async fn a_token_is_at_most_8_kib() {
    let with = |filler: usize| hs256(&json!({"exp": START + 60, "x": "x".repeat(filler)}).to_string());
    assert!(verify(&verifier("hs256"), &with(6000)).await.is_ok());
    assert_eq!(refusal("hs256", &with(6200)).await, "the token is longer than 8192 bytes");
}

proptest! {
    #[test]
    fn no_changed_token_is_accepted(index: prop::sample::Index, to: char) {
        let good = token("hs256", None, &claims());
        let at = index.index(good.len());
        prop_assume!(good.as_bytes()[at] != to as u8 || to as u32 > 127);
        let changed = format!("{}{to}{}", &good[..at], &good[at + 1..]);
        let verified = verify(&verifier("hs256"), &changed).now_or_never();
        prop_assert!(matches!(verified, Some(Err(Error::Unauthorized(_)))), "{changed}");
    }
}
