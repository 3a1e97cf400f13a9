//! Tokens of every kind are accepted, and remembered no longer than they hold.

use super::*;
use crate::auth::{Authenticated, sign};
use axum::extract::FromRequestParts;
use axum::http::Request;

#[tokio::test]
async fn a_token_of_each_kind_of_key_is_accepted() {
    for name in ["hs256", "rs256", "es256", "es384", "eddsa"] {
        let verifier = verifier(name);
        let token = token(name, Some("ignored"), &claims());
        for time in ["first", "again"] {
            let caller = verify(&verifier, &token).await.unwrap();
            assert_eq!(*caller, Caller::new("ann", ["queue_writer", "one"]), "{name} {time}");
        }
    }
}

#[tokio::test]
async fn a_known_token_is_not_verified_again_but_its_time_is() {
    let (verifier, clock) = (verifier("rs256"), Clock::new());
    let token = token("rs256", None, &json!({"exp": START + 10, "nbf": START}));
    let first = verifier.verify_at(&token, clock.at(0)).await.unwrap();
    let second = verifier.verify_at(&token, clock.at(39)).await.unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    let expired = verifier.verify_at(&token, clock.at(40)).await.unwrap_err();
    assert_eq!(expired.to_string(), "the token has expired");
    let mut early = clock.at(0);
    early.unix -= 31;
    let early = verifier.verify_at(&token, early).await.unwrap_err();
    assert_eq!(early.to_string(), "the token is not valid yet (nbf)");
}

#[tokio::test]
async fn what_is_signed_here_is_accepted_here() {
    let secret = SecretString::from(SECRET);
    let roles = ["system_admin".to_owned()];
    let jwt = Jwt { issuer: Some("me".to_owned()), audience: Some("you".to_owned()), ..strict() };
    let verifier = Verifier::from_config(&jwt, Some(&secret), no_fetch()).unwrap();
    let signed = |ttl| sign(&secret, &jwt, "ann", &roles, Duration::from_secs(ttl));
    let caller = verifier.verify(&signed(60).unwrap()).await.unwrap();
    assert_eq!(*caller, Caller::new("ann", roles.clone()));
    assert!(signed(u64::MAX).is_err());
    assert!(sign(&SecretString::from("short"), &jwt, "ann", &roles, Duration::from_mins(1)).is_err());
}

#[tokio::test]
async fn a_configured_key_wins_over_the_development_secret() {
    let development = SecretString::from("d".repeat(32));
    let jwt = Jwt { secret: Some(SecretString::from(SECRET)), ..strict() };
    let verifier = Verifier::from_config(&jwt, Some(&development), no_fetch()).unwrap();
    let forged = sign(&development, &jwt, "ann", &[], Duration::from_mins(1)).unwrap();
    assert!(verifier.verify(&forged).await.is_err());
}

#[test]
fn a_key_that_cannot_work_is_refused_by_the_name_of_its_setting() {
    let refusal = |jwt: Jwt| format!("{:#}", Verifier::from_config(&jwt, None, no_fetch()).err().unwrap());
    let short = Jwt { secret: Some(SecretString::from("short")), ..strict() };
    assert_eq!(refusal(short), "POSTRIDER_JWT_SECRET: 5 bytes, an HS256 secret needs 32");
    let file = |name: &str| Jwt { public_key_file: Some(name.into()), ..strict() };
    assert!(
        refusal(file("tests/keys/none.pem")).starts_with("POSTRIDER_JWT_PUBLIC_KEY_FILE: tests/keys/none")
    );
    assert!(refusal(file("tests/keys/rs256.private.pem")).contains("a private key"));
    let url = |url: &str| Jwt { jwks_url: Some(url.to_owned()), ..strict() };
    assert!(refusal(url("file:///etc/keys.json")).starts_with("POSTRIDER_JWKS_URL"));
    assert!(refusal(url("id.example")).starts_with("POSTRIDER_JWKS_URL"));
    assert!(refusal(strict()).contains("set POSTRIDER_JWT_SECRET"));
}

#[tokio::test]
async fn a_route_gets_its_caller_from_the_headers() {
    let state = Arc::new(verifier("hs256"));
    let exp = Now::read().unix + 60;
    let token = token("hs256", None, &json!({"sub": "ann", "exp": exp}));
    let caller = async |name: &str, value: &str| {
        let (mut parts, ()) = Request::builder().header(name, value).body(()).unwrap().into_parts();
        Authenticated::from_request_parts(&mut parts, &state).await
    };
    assert_eq!(caller("authorization", &format!("Bearer {token}")).await.unwrap().0.subject, "ann");
    assert_eq!(caller("x-access-token", &token).await.unwrap().0.subject, "ann");
    let refusal = caller("cookie", &token).await.unwrap_err();
    assert_eq!(refusal.status(), axum::http::StatusCode::UNAUTHORIZED);
}
