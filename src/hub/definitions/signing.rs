//! Signatures in the form that an application has published: a keyed hash in a header, or a JSON Web Token. Standard
//! Webhooks, which the hub speaks by itself, are in `http::signature`.

use super::template::{Template, Values, hex};
use crate::http::json_text::raw;
use axum::http::{HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, AlgorithmFamily, EncodingKey};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::time::Duration;

/// The most signatures of an endpoint.
pub const MOST: usize = 4;
/// The most secrets of one: two during a rotation.
pub const MOST_SECRETS: usize = 4;
/// How long a secret is, in bytes: what is shorter could not be blotted out, and the longest are keys in PEM.
pub const LENGTH: std::ops::RangeInclusive<usize> = 8..=8192;

/// What is said of a key that is none.
const WANTED_KEY: &str = "must be the private key of the algorithm, in PEM (PKCS #8)";

/// A signature of an endpoint's definition.
#[derive(Debug, Clone, PartialEq)]
pub struct Sign {
    /// The header it stands in.
    pub header: HeaderName,
    /// What stands before each signature.
    pub prefix: Template,
    /// How it is made.
    pub scheme: Scheme,
}

/// How a signature is made.
#[derive(Debug, Clone, PartialEq)]
pub enum Scheme {
    /// A keyed hash.
    Hmac(Hmac),
    /// A JSON Web Token.
    Jwt(Jwt),
}

/// A keyed hash.
#[derive(Debug, Clone, PartialEq)]
pub struct Hmac {
    /// Which hash.
    pub hash: Hash,
    /// What is signed.
    pub over: Template,
    /// How the signature is spelt.
    pub encoding: Encoding,
    /// How the secret spells the key.
    pub secret_encoding: Encoding,
    /// What stands before all signatures.
    pub start: Template,
    /// What stands between the signatures of several secrets.
    pub separator: String,
}

/// A hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// SHA-1, of contracts that are older.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// How bytes are spelt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As they are: only of a secret.
    Text,
    /// In hexadecimal digits.
    Hex,
    /// In base64.
    Base64,
    /// In base64 for URLs, without padding.
    Base64Url,
}

/// A JSON Web Token.
#[derive(Debug, Clone, PartialEq)]
pub struct Jwt {
    /// The algorithm.
    pub alg: Algorithm,
    /// Which key it is, for receivers that know several.
    pub kid: Option<String>,
    /// The claims beside `iat` and `exp`.
    pub claims: Vec<(String, Claim)>,
    /// For how long it holds; absent, it says nothing of that.
    pub lifetime: Option<Duration>,
}

/// A claim.
#[derive(Debug, Clone, PartialEq)]
pub enum Claim {
    /// A text with places.
    Text(Template),
    /// A number, `true` or `false`, as it was put.
    Literal(Box<str>),
}

/// A signature with its keys.
pub struct Signer {
    sign: Sign,
    keys: Vec<Key>,
}

enum Key {
    Hmac(Box<aws_lc_rs::hmac::Key>),
    Jwt(EncodingKey),
}

impl Sign {
    /// With these secrets.
    ///
    /// # Errors
    /// Which of them cannot be used, by its position, and what it must be.
    pub fn signer(&self, secrets: &[SecretString]) -> Result<Signer, (usize, &'static str)> {
        let key = |(index, secret): (usize, &SecretString)| {
            self.key(secret.expose_secret()).map_err(|wanted| (index, wanted))
        };
        let keys = secrets.iter().enumerate().map(key).collect::<Result<_, _>>()?;
        Ok(Signer { sign: self.clone(), keys })
    }

    fn key(&self, secret: &str) -> Result<Key, &'static str> {
        match &self.scheme {
            Scheme::Hmac(hmac) => {
                let key = hmac.secret_encoding.decode(secret).filter(|key| !key.is_empty());
                let key = key.ok_or("must be spelt as secret_encoding says")?;
                Ok(Key::Hmac(Box::new(aws_lc_rs::hmac::Key::new(hmac.hash.algorithm(), &key))))
            }
            Scheme::Jwt(jwt) => Ok(Key::Jwt(jwt.key(secret).ok_or(WANTED_KEY)?)),
        }
    }
}

impl Signer {
    /// The header that it is sent in.
    pub fn header(&self) -> &HeaderName {
        &self.sign.header
    }

    /// Whether it takes long whatever it signs: RSA takes a millisecond, and a hundred with the longest keys.
    pub fn is_slow(&self) -> bool {
        matches!(&self.sign.scheme, Scheme::Jwt(jwt) if jwt.alg.family() == AlgorithmFamily::Rsa)
    }

    /// Tries its keys: what is a key, but not of this algorithm, shows when it is used.
    ///
    /// # Errors
    /// As [`Sign::signer`].
    pub fn prove(&self) -> Result<(), (usize, &'static str)> {
        let Scheme::Jwt(jwt) = &self.sign.scheme else { return Ok(()) };
        for (index, key) in self.keys.iter().enumerate() {
            if let Key::Jwt(key) = key {
                jwt.encode(&BTreeMap::new(), key).map_err(|_| (index, WANTED_KEY))?;
            }
        }
        Ok(())
    }

    /// What that says: a signature for each secret.
    ///
    /// # Errors
    /// A text that no header can hold, or a key that signs nothing: said without showing it.
    pub fn sign(&self, values: &Values<'_>) -> Result<HeaderValue, String> {
        let mut text = String::new();
        if let Scheme::Hmac(hmac) = &self.sign.scheme {
            text = hmac.start.text(values);
        }
        for (index, key) in self.keys.iter().enumerate() {
            let signature = match (&self.sign.scheme, key) {
                (Scheme::Hmac(hmac), Key::Hmac(key)) => {
                    text.push_str(if index > 0 { &hmac.separator } else { "" });
                    hmac.signature(key, values)
                }
                (Scheme::Jwt(jwt), Key::Jwt(key)) => jwt.token(key, values)?,
                _ => return Err("the key of a signature is of another kind".to_owned()),
            };
            text.push_str(&self.sign.prefix.text(values));
            text.push_str(&signature);
        }
        HeaderValue::try_from(text).map_err(|_| "a signature cannot be sent in a header".to_owned())
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("sign", &self.sign).field("keys", &self.keys.len()).finish()
    }
}

impl Hmac {
    fn signature(&self, key: &aws_lc_rs::hmac::Key, values: &Values<'_>) -> String {
        let mut signed = aws_lc_rs::hmac::Context::with_key(key);
        self.over.each(values, |part| signed.update(part));
        self.encoding.encode(signed.sign().as_ref())
    }
}

impl Hash {
    fn algorithm(self) -> aws_lc_rs::hmac::Algorithm {
        match self {
            Self::Sha1 => aws_lc_rs::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => aws_lc_rs::hmac::HMAC_SHA256,
            Self::Sha384 => aws_lc_rs::hmac::HMAC_SHA384,
            Self::Sha512 => aws_lc_rs::hmac::HMAC_SHA512,
        }
    }
}

impl Encoding {
    fn encode(self, bytes: &[u8]) -> String {
        match self {
            Self::Text => String::from_utf8_lossy(bytes).into_owned(),
            Self::Hex => hex(bytes),
            Self::Base64 => BASE64.encode(bytes),
            Self::Base64Url => URL_SAFE_NO_PAD.encode(bytes),
        }
    }

    /// Secrets of Standard Webhooks are base64 behind `whsec_`.
    fn decode(self, text: &str) -> Option<Vec<u8>> {
        let plain = text.strip_prefix("whsec_").unwrap_or(text);
        match self {
            Self::Text => Some(text.as_bytes().to_vec()),
            Self::Hex if text.bytes().all(|digit| digit.is_ascii_hexdigit()) => (0..text.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
                .collect(),
            Self::Hex => None,
            Self::Base64 => BASE64.decode(plain).or_else(|_| STANDARD_NO_PAD.decode(plain)).ok(),
            Self::Base64Url => URL_SAFE_NO_PAD.decode(plain.trim_end_matches('=')).ok(),
        }
    }
}

impl Jwt {
    fn key(&self, secret: &str) -> Option<EncodingKey> {
        let pem = secret.as_bytes();
        let key = match self.alg.family() {
            AlgorithmFamily::Hmac => Ok(EncodingKey::from_secret(pem)),
            AlgorithmFamily::Rsa => EncodingKey::from_rsa_pem(pem),
            AlgorithmFamily::Ec => EncodingKey::from_ec_pem(pem),
            AlgorithmFamily::Ed => EncodingKey::from_ed_pem(pem),
        };
        key.ok()
    }

    fn token(&self, key: &EncodingKey, values: &Values<'_>) -> Result<String, String> {
        let mut claims = BTreeMap::new();
        let now = values.now.timestamp();
        claims.insert("iat", raw(&now));
        if let Some(lifetime) = self.lifetime {
            let seconds = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
            claims.insert("exp", raw(&now.saturating_add(seconds)));
        }
        for (name, claim) in &self.claims {
            let value = match claim {
                Claim::Text(template) => raw(&template.text(values)),
                Claim::Literal(literal) => RawValue::from_string(literal.to_string()).unwrap_or_default(),
            };
            claims.insert(name, value);
        }
        self.encode(&claims, key)
    }

    fn encode(&self, claims: &BTreeMap<&str, Box<RawValue>>, key: &EncodingKey) -> Result<String, String> {
        let mut header = jsonwebtoken::Header::new(self.alg);
        header.kid.clone_from(&self.kid);
        jsonwebtoken::encode(&header, claims, key).map_err(|_| "the key of a token signs nothing".to_owned())
    }
}

#[cfg(test)]
#[path = "signing_tests.rs"]
mod tests;
