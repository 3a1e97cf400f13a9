//! Keys from an issuer (JWKS): when they are fetched, and what holds while they cannot be.

use super::*;
use crate::auth::key::Key;
use bytes::Bytes;
use futures::FutureExt;
use jsonwebtoken::jwk::Jwk;
use parking_lot::Mutex;

/// An issuer whose answer the test sets, with a count of the fetches.
struct Issuer {
    answer: Mutex<Option<Value>>,
    fetches: Mutex<u32>,
}

fn issuer(keys: &[Value]) -> (Arc<Issuer>, Verifier) {
    let issuer =
        Arc::new(Issuer { answer: Mutex::new(Some(json!({"keys": keys}))), fetches: Mutex::default() });
    let asked = Arc::clone(&issuer);
    let fetch: Fetch = Arc::new(move |url| {
        assert_eq!(url, "https://id.example/keys");
        *asked.fetches.lock() += 1;
        let answer = asked.answer.lock().as_ref().map(|set| Bytes::from(set.to_string()));
        async { answer.ok_or_else(|| anyhow::anyhow!("connection refused")) }.boxed()
    });
    let jwt = Jwt { jwks_url: Some("https://id.example/keys".to_owned()), ..strict() };
    let verifier = Verifier::from_config(&jwt, None, fetch).unwrap();
    (issuer, verifier)
}

impl Issuer {
    fn publishes(&self, keys: &[Value]) {
        *self.answer.lock() = Some(json!({"keys": keys}));
    }

    fn is_down(&self) {
        *self.answer.lock() = None;
    }

    fn fetches(&self) -> u32 {
        *self.fetches.lock()
    }
}

fn published(name: &str, kid: &str) -> Value {
    let key = Key::from_pem(&pem(name, "public")).unwrap();
    let mut jwk = serde_json::to_value(Jwk::from_decoding_key(&key.decoding, None).unwrap()).unwrap();
    jwk["kid"] = json!(kid);
    jwk
}

fn without(mut jwk: Value, member: &str) -> Value {
    jwk.as_object_mut().unwrap().remove(member).unwrap();
    jwk
}

fn signed(name: &str, kid: &str) -> String {
    token(name, Some(kid), &claims())
}

fn detail(result: Result<Arc<Caller>, Error>) -> String {
    match result {
        Err(Error::Unauthorized(detail)) => detail,
        other => panic!("{other:?}"),
    }
}

const UNKNOWN_ID: &str = "the issuer has no key with the id (kid) that the token names";

#[tokio::test]
async fn a_token_is_verified_by_the_key_it_names() {
    let (issuer, verifier) = issuer(&[
        published("rs256", "r"),
        published("es256", "e"),
        published("eddsa", "d"),
        json!({"kty": "?"}),
    ]);
    for (name, kid) in [("rs256", "r"), ("es256", "e"), ("eddsa", "d")] {
        assert!(verify(&verifier, &signed(name, kid)).await.is_ok(), "{name}");
    }
    assert_eq!(issuer.fetches(), 1);
    let other = detail(verify(&verifier, &signed("rs256", "e")).await);
    assert_eq!(other, "the token is signed with another algorithm than its key is for");
    let forged = detail(verify(&verifier, &signed("other", "d")).await);
    assert_eq!(forged, "the signature of the token does not match");
}

#[tokio::test]
async fn a_published_secret_verifies_nothing() {
    let secret =
        json!({"kty": "oct", "alg": "HS256", "kid": "s", "k": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"});
    let (_, verifier) = issuer(&[secret, published("rs256", "r")]);
    assert_eq!(detail(verify(&verifier, &signed("hs256", "s")).await), UNKNOWN_ID);
    let confused = detail(verify(&verifier, &signed("hs256", "r")).await);
    assert_eq!(confused, "the token is signed with another algorithm than its key is for");
}

#[tokio::test]
async fn a_token_that_names_no_key_needs_exactly_one() {
    let nameless = token("eddsa", None, &claims());
    let encryption = json!({"use": "enc", "kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "x"});
    let (one, verifier) = issuer(&[without(published("eddsa", ""), "kid"), encryption]);
    assert!(verify(&verifier, &nameless).await.is_ok());
    assert_eq!(one.fetches(), 1);
    for keys in [vec![published("eddsa", "d"), published("rs256", "r")], vec![]] {
        let (_, verifier) = issuer(&keys);
        let ambiguous = detail(verify(&verifier, &nameless).await);
        assert_eq!(ambiguous, "the token names no key (kid), and its issuer does not have exactly one");
    }
}

#[tokio::test]
async fn two_keys_may_share_an_id() {
    let (_, verifier) = issuer(&[published("rs256", "same"), published("es256", "same")]);
    assert!(verify(&verifier, &signed("rs256", "same")).await.is_ok());
    assert!(verify(&verifier, &signed("es256", "same")).await.is_ok());
}

#[tokio::test]
async fn an_unknown_key_is_fetched_at_most_once_a_minute() {
    let clock = Clock::new();
    let (issuer, verifier) = issuer(&[published("eddsa", "old")]);
    assert!(verifier.verify_at(&signed("eddsa", "old"), clock.at(0)).await.is_ok());
    issuer.publishes(&[published("eddsa", "old"), published("other", "new")]);
    for seconds in [0, 1, 59] {
        let early = verifier.verify_at(&signed("other", "new"), clock.at(seconds)).await;
        assert_eq!(detail(early), UNKNOWN_ID, "after {seconds} s");
    }
    assert_eq!(issuer.fetches(), 1);
    assert!(verifier.verify_at(&signed("other", "new"), clock.at(60)).await.is_ok());
    assert_eq!(issuer.fetches(), 2);
    for (seconds, fetches) in [(61, 2), (119, 2), (120, 3), (121, 3)] {
        let invented = verifier.verify_at(&signed("other", "invented"), clock.at(seconds)).await;
        assert_eq!(detail(invented), UNKNOWN_ID);
        assert_eq!(issuer.fetches(), fetches, "after {seconds} s");
    }
}

#[tokio::test]
async fn a_withdrawn_key_takes_its_verified_tokens_with_it() {
    let clock = Clock::new();
    let (issuer, verifier) = issuer(&[published("eddsa", "old")]);
    let old = signed("eddsa", "old");
    assert!(verifier.verify_at(&old, clock.at(0)).await.is_ok());
    issuer.publishes(&[published("other", "new")]);
    assert!(verifier.verify_at(&signed("other", "new"), clock.at(60)).await.is_ok());
    assert_eq!(detail(verifier.verify_at(&old, clock.at(60)).await), UNKNOWN_ID);
}

#[tokio::test]
async fn keys_are_fetched_again_every_ten_minutes_beside_the_requests() {
    let clock = Clock::new();
    let (issuer, verifier) = issuer(&[published("eddsa", "old")]);
    let old = signed("eddsa", "old");
    let first = verifier.verify_at(&old, clock.at(0)).await.unwrap();
    assert!(verifier.verify_at(&old, clock.at(599)).await.is_ok());
    assert_eq!(issuer.fetches(), 1);

    assert!(verifier.verify_at(&old, clock.at(600)).await.is_ok());
    verifier.idle().await;
    assert_eq!(issuer.fetches(), 2);
    let again = verifier.verify_at(&old, clock.at(601)).await.unwrap();
    assert!(Arc::ptr_eq(&first, &again), "the same keys keep what they have verified");

    issuer.publishes(&[published("other", "new")]);
    assert!(verifier.verify_at(&old, clock.at(1200)).await.is_ok(), "the request does not wait");
    verifier.idle().await;
    assert_eq!(detail(verifier.verify_at(&old, clock.at(1201)).await), UNKNOWN_ID);
}

#[tokio::test]
async fn keys_stay_while_the_issuer_is_down() {
    let clock = Clock::new();
    let (issuer, verifier) = issuer(&[published("eddsa", "old")]);
    assert!(verifier.verify_at(&signed("eddsa", "old"), clock.at(0)).await.is_ok());
    issuer.is_down();
    for (seconds, fetches) in [(600, 2), (610, 2), (660, 3), (3000, 4)] {
        let fresh = token("eddsa", Some("old"), &json!({"exp": START + 9999, "jti": seconds}));
        assert!(verifier.verify_at(&fresh, clock.at(seconds)).await.is_ok(), "after {seconds} s");
        verifier.idle().await;
        assert_eq!(issuer.fetches(), fetches, "after {seconds} s");
    }
    *issuer.answer.lock() = Some(json!({"error": "not a key set"}));
    assert!(verifier.verify_at(&signed("eddsa", "old"), clock.at(3100)).await.is_ok());
    verifier.idle().await;
    assert!(verifier.verify_at(&signed("eddsa", "old"), clock.at(3101)).await.is_ok());
}

#[tokio::test]
async fn without_any_keys_yet_a_client_is_told_to_come_again() {
    let clock = Clock::new();
    let (issuer, verifier) = issuer(&[published("eddsa", "a")]);
    issuer.is_down();
    for (seconds, fetches) in [(0, 1), (4, 1), (5, 2)] {
        let result = verifier.verify_at(&signed("eddsa", "a"), clock.at(seconds)).await;
        assert!(matches!(result, Err(Error::Unavailable(..))), "after {seconds} s: {result:?}");
        assert_eq!(issuer.fetches(), fetches, "after {seconds} s");
    }
    issuer.publishes(&[published("eddsa", "a")]);
    assert!(verifier.verify_at(&signed("eddsa", "a"), clock.at(10)).await.is_ok());
}

#[tokio::test]
async fn one_fetch_serves_all_who_wait_and_outlives_them() {
    let clock = Clock::new();
    let (gate, opened) = tokio::sync::oneshot::channel::<()>();
    let fetches = Arc::new(Mutex::new(0));
    let (counted, opened) = (Arc::clone(&fetches), Mutex::new(Some(opened)));
    let document = Bytes::from(json!({"keys": [published("eddsa", "a")]}).to_string());
    let fetch: Fetch = Arc::new(move |_| {
        *counted.lock() += 1;
        let (opened, document) = (opened.lock().take().unwrap(), document.clone());
        async move { opened.await.map(|()| document).map_err(anyhow::Error::from) }.boxed()
    });
    let jwt = Jwt { jwks_url: Some("https://id.example/keys".to_owned()), ..strict() };
    let verifier = Verifier::from_config(&jwt, None, fetch).unwrap();
    let token = signed("eddsa", "a");

    let mut hangs_up = Box::pin(verifier.verify_at(&token, clock.at(0)));
    assert!(futures::poll!(&mut hangs_up).is_pending());
    drop(hangs_up);
    let waiters = futures::future::join_all((0..50).map(|_| verifier.verify_at(&token, clock.at(1))));
    let mut waiters = Box::pin(waiters);
    assert!(futures::poll!(&mut waiters).is_pending());
    gate.send(()).unwrap();
    assert!(waiters.await.iter().all(Result::is_ok));
    assert_eq!(*fetches.lock(), 1);
}
