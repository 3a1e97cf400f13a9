//! A client that speaks as the vendor's does: sessions, signed requests, encrypted bodies. It is written by the
//! specification, and shares no code with what it tests.

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::cipher::{
    AES_256, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey,
    UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The keys of the integrator `acme`: the one in use, and the one before.
pub(crate) const KEYS: [&str; 2] =
    ["QWNjZXB0YW5jZUtleTAxMjM0NTY3ODlhYmNkZWZnaGk=", "YW4gb2xkZXIga2V5IG9mIHRoZSBpbnRlZ3JhdG9yISE="];
/// The keys of the integrator `other`.
pub(crate) const OTHER: &str = "dGhlIGtleSBvZiBhbm90aGVyIGludGVncmF0b3IhISE=";
/// Everybody's password.
pub(crate) const PASSWORD: &str = "pä$$ wörd";

/// The users of the file, with their roles. Their ids count from 1.
const USERS: [(&str, &str); 4] = [
    ("agent", "cardholder_agent"),
    ("ärger@example.com", "cardholder_agent"),
    ("worker", "job_worker"),
    ("boss", "admin"),
];

/// A file for `POSTRIDER_SDK_FILE` in this directory.
pub(crate) fn file(directory: &Path) -> PathBuf {
    let users = USERS.iter().enumerate().map(|(n, (name, role))| {
        let key = STANDARD.encode(password_key(name, PASSWORD));
        ((*name).to_owned(), json!({ "id": n + 1, "role": role, "password_key": key }))
    });
    let file = json!({
        "integrators": { "acme": KEYS, "other": [OTHER] },
        "users": users.collect::<serde_json::Map<_, _>>(),
        "merchant_sites": [
            { "id": 3, "host": "shop.example", "name": "The shop", "tier": 1 },
            { "id": 4, "host": "bank.example", "name": "The bank" },
        ],
    });
    let path = directory.join("sdk.json");
    std::fs::write(&path, file.to_string()).unwrap();
    path
}

fn password_key(username: &str, password: &str) -> [u8; 32] {
    let salt = digest::digest(&digest::SHA256, username.as_bytes());
    let (mut key, rounds) = ([0; 32], NonZeroU32::new(5000).unwrap());
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt.as_ref(), password.as_bytes(), &mut key);
    key
}

fn mac(key: &[u8; 32], text: &[u8]) -> String {
    STANDARD.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text))
}

pub(crate) fn key(text: &str) -> [u8; 32] {
    STANDARD.decode(text).unwrap().try_into().unwrap()
}

pub(crate) fn encrypt(key: &[u8; 32], plain: &str) -> String {
    let iv: [u8; 16] = rand::random();
    let cipher = UnboundCipherKey::new(&AES_256, key).and_then(PaddedBlockEncryptingKey::cbc_pkcs7).unwrap();
    let mut bytes = plain.as_bytes().to_vec();
    cipher.less_safe_encrypt(&mut bytes, EncryptionContext::Iv128(FixedLength::from(iv))).unwrap();
    json!({ "encrypted_body": format!("{}${}", STANDARD.encode(bytes), STANDARD.encode(iv)) }).to_string()
}

fn decrypt(key: &[u8; 32], text: &str) -> Option<Value> {
    let body: Value = serde_json::from_str(text).unwrap();
    let (bytes, iv) = body["encrypted_body"].as_str()?.split_once('$')?;
    assert_eq!(iv.len(), 24, "the client takes no other length");
    let iv: [u8; 16] = STANDARD.decode(iv).unwrap().try_into().unwrap();
    let mut bytes = STANDARD.decode(bytes).unwrap();
    let cipher = UnboundCipherKey::new(&AES_256, key).and_then(PaddedBlockDecryptingKey::cbc_pkcs7).unwrap();
    let plain = cipher.decrypt(&mut bytes, DecryptionContext::Iv128(FixedLength::from(iv)));
    Some(serde_json::from_slice(plain.expect("it is encrypted with the key that signs")).unwrap())
}

/// A client, before and in a session.
#[derive(Clone)]
pub(crate) struct Sdk {
    pub(crate) url: String,
    pub(crate) integrator: String,
    /// What signs and encrypts: the integrator's key, then the session's.
    pub(crate) key: [u8; 32],
    pub(crate) token: String,
    /// How far its clock is off, in seconds.
    pub(crate) skew: i64,
    pub(crate) client: reqwest::Client,
}

/// What the client makes of an answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) kind: Option<String>,
    /// Whether the body was encrypted.
    pub(crate) encrypted: bool,
    /// Null where there is none, or none that the client reads.
    pub(crate) body: Value,
}

impl Answer {
    /// The body of an answer with this status that is encrypted, if there is one.
    #[track_caller]
    pub(crate) fn of(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.encrypted || self.kind.is_none(), "{self:?}");
        self.body
    }

    /// The plain refusal with this status, as the client reads it.
    #[track_caller]
    pub(crate) fn plain(self, status: u16) -> Value {
        assert_eq!((self.status, self.encrypted), (status, false), "{self:?}");
        assert_eq!(self.kind.as_deref(), Some("application/json"), "{self:?}");
        assert!(
            self.body["_errors"][0]["message"].is_string() && self.body["message"].is_string(),
            "{self:?}"
        );
        self.body
    }
}

impl Sdk {
    /// A client of `acme`.
    pub(crate) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            integrator: "acme".to_owned(),
            key: key(KEYS[0]),
            token: "null".to_owned(),
            skew: 0,
            client: reqwest::Client::new(),
        }
    }

    /// A client in a session of this user.
    pub(crate) async fn of(url: &str, username: &str) -> Self {
        let mut sdk = Self::new(url);
        sdk.log_in(username, PASSWORD).await.of(200);
        sdk
    }

    /// The body of a login, and what the session's key comes of.
    pub(crate) fn login(&self, username: &str, password: &str) -> (Value, PrivateKey) {
        let pair = PrivateKey::generate(&ECDH_P256).unwrap();
        let body = json!({
            "username": username,
            "password_proof": mac(&password_key(username, password), &self.key),
            "client_public_key": STANDARD.encode(pair.compute_public_key().unwrap()),
        });
        (body, pair)
    }

    /// Logs in; from then on it speaks in the session.
    pub(crate) async fn log_in(&mut self, username: &str, password: &str) -> Answer {
        let (body, pair) = self.login(username, password);
        let answer = self.send(Method::POST, "/session/login", Some(&body)).await;
        if answer.status == 200 {
            let theirs = STANDARD.decode(answer.body["server_public_key"].as_str().unwrap()).unwrap();
            assert_eq!(theirs.len(), 65);
            let theirs = UnparsedPublicKey::new(&ECDH_P256, theirs);
            self.key = agree(&pair, theirs, (), |shared| shared.try_into().map_err(drop)).unwrap();
            answer.body["session_token"].as_str().unwrap().clone_into(&mut self.token);
        }
        answer
    }

    /// A request as the client sends it, signed over `path` as it is written here.
    pub(crate) fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> reqwest::RequestBuilder {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let nonce = (i64::try_from(now).unwrap() + self.skew * 1000).to_string();
        let authorization = format!("SWCH-HMAC-SHA256 Credentials={}", self.integrator);
        let raw = body.as_deref().unwrap_or_default();
        let signature = mac(&self.key, format!("{path}{authorization}{nonce}{raw}").as_bytes());
        let request = self.client.request(method, format!("{}{path}", self.url));
        let request = request
            .header("x-cardsavr-session-jwt", &self.token)
            .header("x-cardsavr-trace", r#"{"key": "agent"}"#)
            .header("x-cardsavr-client-application", "acme - Strivve SDK v3.4.2")
            .header("x-cardsavr-authorization", authorization)
            .header("x-cardsavr-nonce", nonce)
            .header("x-cardsavr-signature", signature);
        match body {
            Some(body) => request.header("content-type", "application/json").body(body),
            None => request,
        }
    }

    /// What the client makes of the answer to a request.
    pub(crate) async fn read(&self, request: reqwest::RequestBuilder) -> Answer {
        let answer = request.send().await.unwrap();
        let kind = answer.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        if !kind.as_deref().is_some_and(|kind| kind.starts_with("application/json")) {
            assert!(text.is_empty(), "the client does not read this: {kind:?} {text}");
            return Answer { status, kind, encrypted: false, body: Value::Null };
        }
        match decrypt(&self.key, &text) {
            Some(body) => Answer { status, kind, encrypted: true, body },
            None => Answer { status, kind, encrypted: false, body: serde_json::from_str(&text).unwrap() },
        }
    }

    /// Sends a request with an encrypted body.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        self.send_with(method, path, body, &[]).await
    }

    /// The same, with more headers.
    pub(crate) async fn send_with(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let body = body.map(|body| encrypt(&self.key, &body.to_string()));
        let request = self.request(method, path, body);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        self.read(request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PUT, path, Some(body)).await
    }
}
