//! The published shape of signatures and headers.

use crate::http::duration::DurationText;
use crate::http::openapi::tag;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use utoipa::openapi::schema::Object;

/// A signature in the form that an application has published.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum EndpointSignature {
    /// A keyed hash.
    Hmac(HmacSignature),
    /// A JSON Web Token.
    Jwt(JwtSignature),
}

/// A keyed hash (HMAC) in a header.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HmacSignature {
    /// `hmac`.
    #[schema(schema_with = hmac_kind)]
    pub kind: String,
    /// The header, of its own: none that the hub or the request sends.
    #[schema(min_length = 1, pattern = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$", example = "Stripe-Signature")]
    pub header: String,
    /// Which hash.
    pub hash: Option<SignatureHash>,
    /// What is signed: a text with places such as `{timestamp}`, `{id}`, `{url}` and `{body}`. Absent, `{body}`.
    #[schema(min_length = 1, max_length = 1000, example = "{timestamp}.{body}")]
    pub over: Option<String>,
    /// How the signature is spelt. Absent, `hex`.
    pub encoding: Option<SignatureEncoding>,
    /// What stands before all signatures, a text with places.
    #[schema(min_length = 1, max_length = 1000, example = "t={timestamp},")]
    pub start: Option<String>,
    /// What stands before each signature, a text with places.
    #[schema(min_length = 1, max_length = 1000, example = "v1=")]
    pub prefix: Option<String>,
    /// What stands between the signatures of several secrets. Absent, there is one secret.
    #[schema(min_length = 1, max_length = 1000, example = ",")]
    pub separator: Option<String>,
    /// How the secrets spell their keys; `whsec_` before base64 is left out. Absent, `text`.
    pub secret_encoding: Option<SecretEncoding>,
    /// The secrets, one signature each: two during a rotation.
    #[schema(min_items = 1, max_items = 4)]
    pub secrets: Vec<WireSecret>,
}

/// A JSON Web Token in a header. Its claim `iat` is when the request was made.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JwtSignature {
    /// `jwt`.
    #[schema(schema_with = jwt_kind)]
    pub kind: String,
    /// The header, of its own: none that the hub or the request sends.
    #[schema(min_length = 1, pattern = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$", example = "Plaid-Verification")]
    pub header: String,
    /// The algorithm.
    pub alg: TokenAlgorithm,
    /// Which key it is, for receivers that know several.
    #[schema(min_length = 1, max_length = 100, pattern = r"^\S(.*\S)?$", example = "2026-11")]
    pub kid: Option<String>,
    /// The claims beside `iat` and `exp`, at most 20: texts with places, numbers, true or false.
    #[schema(example = json!({"request_body_sha256": "{body_sha256}"}))]
    pub claims: Option<HashMap<String, Value>>,
    /// For how long it holds: a duration from `1s` to `24h`, of which the claim `exp` is made. Absent, there is none.
    #[schema(value_type = Option<DurationText>)]
    pub lifetime: Option<String>,
    /// What stands before the token, a text with places.
    #[schema(min_length = 1, max_length = 1000, example = "Bearer ")]
    pub prefix: Option<String>,
    /// One: the private key in PEM (PKCS #8), or the secret of an HS algorithm.
    #[schema(min_items = 1, max_items = 1)]
    pub secrets: Vec<WireSecret>,
}

/// A secret of a signature; `[redacted]` for the one that is stored at this place of the same header.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(min_length = 8, max_length = 8192, example = "a secret of the customer")]
pub struct WireSecret(pub String);

/// Which hash.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SignatureHash {
    /// SHA-1, of contracts that are older.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// How a signature is spelt.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SignatureEncoding {
    /// In hexadecimal digits.
    Hex,
    /// In base64.
    Base64,
    /// In base64 for URLs, without padding.
    Base64Url,
}

/// How a secret spells its key.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SecretEncoding {
    /// It is the key.
    Text,
    /// In hexadecimal digits.
    Hex,
    /// In base64.
    Base64,
    /// In base64 for URLs.
    Base64Url,
}

/// The algorithm of a token.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub enum TokenAlgorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
    HS256,
    HS384,
    HS512,
}

/// What a header says.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum EndpointHeader {
    /// A text with places.
    Text(HeaderText),
    /// A secret, which is never shown again.
    Secret(SecretHeader),
}

/// A text with places: `{message}`, `{message_id}`, `{id}` (the delivery's), `{timestamp}`, `{timestamp_ms}`,
/// `{timestamp_iso}`, `{url}`, `{method}`, `{body_sha256}`, `{body_sha256_base64}`. A brace that is meant as such is
/// written twice.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(max_length = 1000, example = "{message}")]
pub struct HeaderText(pub String);

/// A header that is a secret.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretHeader {
    /// The whole value; `[redacted]` for the one that is stored.
    #[schema(min_length = 8, max_length = 8192, example = "Bearer 0123456789")]
    pub secret: String,
}

fn hmac_kind() -> Object {
    tag("hmac")
}

fn jwt_kind() -> Object {
    tag("jwt")
}
