//! Signs outgoing requests by Standard Webhooks (standardwebhooks.com, specification 1.0.0).

use axum::http::{HeaderMap, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use secrecy::{ExposeSecret as _, SecretString};
use std::fmt::Write as _;

/// What a secret begins with.
const PREFIX: &str = "whsec_";

/// Whether requests can be signed with `text`: `whsec_` and 24 to 64 bytes in base64.
pub fn is_secret(text: &str) -> bool {
    let key = text.strip_prefix(PREFIX).and_then(|key| BASE64.decode(key).ok());
    key.is_some_and(|key| (24..=64).contains(&key.len()))
}

/// Adds `webhook-id`, `webhook-timestamp` (Unix seconds) and, when there are secrets, `webhook-signature`
/// with one signature a secret, so that a receiver accepts the old and the new one during a rotation.
///
/// # Errors
/// Says which secret is no `whsec_` secret, by its position.
pub fn sign(
    headers: &mut HeaderMap,
    id: &str,
    timestamp: i64,
    body: &[u8],
    secrets: &[&SecretString],
) -> Result<(), String> {
    let mut signatures = String::new();
    for (index, secret) in secrets.iter().enumerate() {
        let key = secret.expose_secret().strip_prefix(PREFIX).and_then(|key| BASE64.decode(key).ok());
        let key = key.ok_or_else(|| format!("signing secret {} is not whsec_ and base64", index + 1))?;
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &key);
        let mut signed = aws_lc_rs::hmac::Context::with_key(&key);
        signed.update(format!("{id}.{timestamp}.").as_bytes());
        signed.update(body);
        let space = if index > 0 { " " } else { "" };
        _ = write!(signatures, "{space}v1,{}", BASE64.encode(signed.sign()));
    }
    let value = |text: &str| HeaderValue::try_from(text).map_err(|_| "the id cannot be a header".to_owned());
    headers.insert("webhook-id", value(id)?);
    headers.insert("webhook-timestamp", HeaderValue::from(timestamp));
    if !signatures.is_empty() {
        headers.insert("webhook-signature", value(&signatures)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_gives_the_signature_of_the_specification() {
        // The example of the specification's reference libraries.
        let secret = SecretString::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let mut headers = HeaderMap::new();
        let signed = sign(
            &mut headers,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
            &[&secret],
        );
        assert_eq!(signed, Ok(()));
        assert_eq!(headers["webhook-signature"], "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_of_another_form_is_refused() {
        let secret = SecretString::from("not a secret");
        assert!(sign(&mut HeaderMap::new(), "id", 0, b"", &[&secret]).is_err());
    }
}
