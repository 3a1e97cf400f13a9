//! Bodies as the client sends and reads them: AES-256-CBC, with what is needed to open them behind a `$`.

use super::keys::Key;
use aws_lc_rs::cipher::{
    AES_256, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey,
    UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::borrow::Cow;

/// A body on its way.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Encrypted<'b> {
    #[serde(borrow)]
    encrypted_body: Cow<'b, str>,
}

/// Encrypts a body.
///
/// # Errors
/// The operating system has no random bytes.
pub fn encrypt(key: &Key, plain: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut iv = [0; 16];
    aws_lc_rs::rand::fill(&mut iv)?;
    encrypt_with(key, iv, plain)
}

fn encrypt_with(key: &Key, iv: [u8; 16], plain: &[u8]) -> anyhow::Result<Vec<u8>> {
    let cipher = PaddedBlockEncryptingKey::cbc_pkcs7(UnboundCipherKey::new(&AES_256, key.bytes())?)?;
    let mut bytes = plain.to_vec();
    cipher.less_safe_encrypt(&mut bytes, EncryptionContext::Iv128(FixedLength::from(iv)))?;
    let mut text = String::with_capacity(bytes.len() / 3 * 4 + 64);
    text.push_str(r#"{"encrypted_body":""#);
    STANDARD.encode_string(&bytes, &mut text);
    text.push('$');
    STANDARD.encode_string(iv, &mut text);
    text.push_str(r#""}"#);
    Ok(text.into_bytes())
}

/// What was encrypted; `None` if this is no such body, or not of this key. Whose signature holds is known before: nobody
/// learns by trying.
pub fn decrypt(key: &Key, body: &[u8]) -> Option<Vec<u8>> {
    let Encrypted { encrypted_body } = serde_json::from_slice(body).ok()?;
    let (text, iv) = encrypted_body.split_once('$')?;
    let iv: [u8; 16] = STANDARD.decode(iv).ok()?.try_into().ok()?;
    let mut bytes = STANDARD.decode(text).ok()?;
    let cipher = UnboundCipherKey::new(&AES_256, key.bytes()).and_then(PaddedBlockDecryptingKey::cbc_pkcs7);
    let plain = cipher.ok()?.decrypt(&mut bytes, DecryptionContext::Iv128(FixedLength::from(iv))).ok()?;
    Some(plain.to_vec())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const K0: &str = "QWNjZXB0YW5jZUtleTAxMjM0NTY3ODlhYmNkZWZnaGk=";
    const K1: &str = "zPwmH1gZPJjKStSlO7rG8O4pvE1IQ4CQRGkIYiynmvY=";
    const IV: &str = "$AQEBAQEBAQEBAQEBAQEBAQ==";

    #[test]
    fn what_is_encrypted_is_what_the_clients_own_classes_make_of_it() {
        let login = r#"{"username":"agent","client_public_key":"BAIX5hfwtkQ5KCePlpmeaaI6TywVK99tbN9m5bgCgtTtGUp968uXcS0t2jyoWqh2Wlb0X8dYWZZS8ol8ZTBuV5Q=","password_proof":"4xTJCI7hO/HdesINToadHjJJkuEGBJ+kP8tWS9AP++k="}"#;
        let answer = r#"{"server_public_key":"BNZak5d8qj0bCBhS/1ennkZfFmBXcwS66tUF3TpIWJzzUBheiVNy32Ih6joTdVfkc/3bZ1XwW9UHw8Uz/OnJEoU=","session_token":"tok","user_id":1}"#;
        let said = r#"[{"type":"job_status","job_id":101,"message":{"status":"AUTH","percent_complete":5,"job_timeout":300}}]"#;
        let response = r#"{"envelope_id":"e","type":"tfa_response","message":"1234"}"#;
        for (key, plain, encrypted) in [
            (
                K0,
                login,
                "W3jq5VquvfTc+NoLUqkOyuEwwTifWWI/PhRS+ZspxfB79C2wglceuGQG3pAGE6dKiv9bXqUZ0zJ3qTVcvVG806pHSPs1xl+ugXUiVtj+DfMYAwiuHGp5daTZHuR9/HRWEUGIjDJ2AjNWXwjfSWdVcPy2TTUOGKO74Eu+EGEi3j0sd0OZT3/uXDXiqhcn7H70yUfmHnJWGMzHOtg7NlDp66Wg4jQ6qAiUwAyta4hwgwQcKnMABbgO9mjQyEzKVUI7Pq5tApL5IIBxS8U2pOMsrQ==",
            ),
            (
                K0,
                answer,
                "wJPPEaasCK4h0r5UpyBjr/8LWmgrRtEi3xy5uxFHfVSAs7/ijxcDKgHntGcxaSbhcsO3ZUn3OX8VX9/tICE373AnsNIIx+0s/gvd4uiiMiSZcP46B4E+YBgsmMAwddQsm39ezd/q80qS2pCibXAOhrJ9TRc6BJJNBfLRTs/h2zzxgv9F2n7pbqjsjReaEOYIpGhtjJWev8KeKXuZofUXag==",
            ),
            (K1, "{}", "abDBI48kRU+sDBlgeJcAVw=="),
            (K1, r#"{"job_id":101}"#, "u4jIPGUIAzcOfL5fdSfTLQ=="),
            (
                K1,
                response,
                "1t5zoqL4UTMgu1F02Z5sIf6xIpUycgAdHE+VR1ubYMlxZhNOyCc5eH0przXWLJFQZh7JMqp5VLE3wUzyxDXFHw==",
            ),
            (
                K1,
                said,
                "qSsfF7/D46mKUojvi0In1PpwfTPIcag2IWn3P1D8trxXFWpK/3XS6zHlNzp9XfUr9pjGgR2Y2vS7Ncig8sYL5ceVPVhShkDvGVgH69Ww3roilVFl/SNt9+uWyxpKW1GaJT9p4HZnpJD7zfJpg4kFfg==",
            ),
        ] {
            let key = Key::exact(key).unwrap();
            let body = format!(r#"{{"encrypted_body":"{encrypted}{IV}"}}"#);
            assert_eq!(encrypt_with(&key, [1; 16], plain.as_bytes()).unwrap(), body.as_bytes(), "{plain}");
            assert_eq!(decrypt(&key, body.as_bytes()).unwrap(), plain.as_bytes());
        }
    }

    #[test]
    fn a_body_is_never_encrypted_the_same_way_twice() {
        let key = Key::exact(K0).unwrap();
        let (one, other) = (encrypt(&key, b"{}").unwrap(), encrypt(&key, b"{}").unwrap());
        assert_ne!(one, other);
        assert_eq!(decrypt(&key, &one).unwrap(), b"{}");
        let text = String::from_utf8(one).unwrap();
        assert_eq!(text.split(['$', '"']).nth(4).unwrap().len(), 24, "{text}");
    }

    #[test]
    fn what_is_no_such_body_or_of_another_key_is_not_opened() {
        let key = Key::exact(K0).unwrap();
        for wrong in [
            "",
            "{}",
            "[]",
            r#"{"encrypted_body":1}"#,
            r#"{"encrypted_body":""}"#,
            r#"{"encrypted_body":"$"}"#,
            r#"{"encrypted_body":"abDBI48kRU+sDBlgeJcAVw=="}"#,
            r#"{"encrypted_body":"abDBI48kRU+sDBlgeJcAVw==$AQEBAQEB"}"#,
            r#"{"encrypted_body":"abDBI48kRU+sDBlgeJcA$AQEBAQEBAQEBAQEBAQEBAQ=="}"#,
            r#"{"encrypted_body":"$AQEBAQEBAQEBAQEBAQEBAQ=="}"#,
            r#"{"encrypted_body":"abDBI48kRU+sDBlgeJcAVw==$AQEBAQEBAQEBAQEBAQEBAQ==","more":1}"#,
            // Of the session's key, not of this.
            r#"{"encrypted_body":"abDBI48kRU+sDBlgeJcAVw==$AQEBAQEBAQEBAQEBAQEBAQ=="}"#,
        ] {
            assert!(decrypt(&key, wrong.as_bytes()).is_none(), "{wrong}");
        }
    }
}
