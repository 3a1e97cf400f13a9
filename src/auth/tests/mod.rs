//! Real tokens against a whole [`Verifier`], at a time that the test chooses.
#![expect(clippy::unwrap_used, reason = "tests")]

mod good_tokens;
mod published_keys;
mod refused_tokens;

use super::verifier::Now;
use super::{Caller, Fetch, Verifier};
use crate::config::Jwt;
use crate::error::Error;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use secrecy::SecretString;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const START: i64 = 1_800_000_000;

/// The files `tests/keys/<name>.{private,public}.pem`, made with openssl.
fn pem(name: &str, half: &str) -> Vec<u8> {
    std::fs::read(format!("tests/keys/{name}.{half}.pem")).unwrap()
}

fn signing_key(name: &str) -> (Algorithm, EncodingKey) {
    let pem = || pem(name, "private");
    match name {
        "hs256" => (Algorithm::HS256, EncodingKey::from_secret(SECRET.as_bytes())),
        "rs256" => (Algorithm::RS256, EncodingKey::from_rsa_pem(&pem()).unwrap()),
        "es256" => (Algorithm::ES256, EncodingKey::from_ec_pem(&pem()).unwrap()),
        "es384" => (Algorithm::ES384, EncodingKey::from_ec_pem(&pem()).unwrap()),
        _ => (Algorithm::EdDSA, EncodingKey::from_ed_pem(&pem()).unwrap()),
    }
}

/// A token that the key `name` signed, with the key id `kid`.
fn token(name: &str, kid: Option<&str>, claims: &Value) -> String {
    let (algorithm, key) = signing_key(name);
    let mut header = Header::new(algorithm);
    header.kid = kid.map(str::to_owned);
    encode(&header, claims, &key).unwrap()
}

/// Claims that hold for an hour.
fn claims() -> Value {
    json!({"sub": "ann", "exp": START + 3600, "roles": ["queue_writer"], "role": "one"})
}

fn no_fetch() -> Fetch {
    Arc::new(|url| panic!("nothing is fetched, least of all {url}"))
}

/// A verifier of the key `name`.
fn verifier(name: &str) -> Verifier {
    let jwt = match name {
        "hs256" => Jwt { secret: Some(SecretString::from(SECRET)), ..strict() },
        _ => Jwt { public_key_file: Some(format!("tests/keys/{name}.public.pem").into()), ..strict() },
    };
    Verifier::from_config(&jwt, None, no_fetch()).unwrap()
}

/// Settings without a key.
fn strict() -> Jwt {
    Jwt { require_exp: true, ..Jwt::default() }
}

/// Two clocks that only move when told.
struct Clock(Instant);

impl Clock {
    fn new() -> Self {
        Self(Instant::now())
    }

    fn at(&self, seconds: u64) -> Now {
        Now {
            unix: START + i64::try_from(seconds).unwrap(),
            monotonic: self.0 + Duration::from_secs(seconds),
        }
    }
}

async fn verify(verifier: &Verifier, token: &str) -> Result<Arc<Caller>, Error> {
    verifier.verify_at(token, Clock::new().at(0)).await
}
