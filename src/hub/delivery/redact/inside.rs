//! What lies within a secret and is as secret as all of it: the credential of a header without its scheme, a key without
//! its prefix, the values of a cookie, the lines of a PEM file. Endpoints quote these alone.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// From so many characters on a word among several is a secret of its own, and no word of a language.
const WORD: usize = 16;
/// The same of the value of a cookie.
const VALUE: usize = 8;
/// Before keys that Standard Webhooks and its kin share.
const PREFIXES: [&str; 3] = ["whsec_", "whsk_", "sk_"];

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The parts of a secret, and the bytes that they stand for.
pub(super) fn inside(secret: &str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let words: Vec<&str> = secret.split_whitespace().collect();
    match &*words {
        [scheme, credential] if !scheme.contains(['=', ';']) => {
            found.push(credential.as_bytes().to_vec());
            if scheme.eq_ignore_ascii_case("basic") {
                found.extend(basic(credential));
            }
        }
        [_, _, ..] => {
            let long = words.iter().filter(|word| word.len() >= WORD && !word.contains('='));
            found.extend(long.map(|word| word.as_bytes().to_vec()));
        }
        _ => {}
    }
    found.extend(cookies(secret));
    for prefix in PREFIXES {
        if let Some(key) = secret.strip_prefix(prefix) {
            found.push(key.as_bytes().to_vec());
            found.extend(BASE64.decode(key));
        }
    }
    found
}

/// `user:password`, and the password.
fn basic(credential: &str) -> Vec<Vec<u8>> {
    let Ok(both) = BASE64.decode(credential) else { return Vec::new() };
    let password = both.iter().position(|byte| *byte == b':').map(|at| both[at + 1..].to_vec());
    std::iter::once(both).chain(password).collect()
}

fn cookies(secret: &str) -> impl Iterator<Item = Vec<u8>> {
    let values = secret.split(';').filter_map(|pair| pair.split_once('=')).map(|(_, value)| value.trim());
    values.filter(|value| value.len() >= VALUE).map(|value| value.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(secret: &str) -> Vec<String> {
        inside(secret).iter().map(|part| String::from_utf8_lossy(part).into_owned()).collect()
    }

    #[test]
    fn what_an_endpoint_may_quote_alone_is_found() {
        assert_eq!(texts("Bearer tok-123456"), ["tok-123456"]);
        assert_eq!(texts("Basic YW5uOnMzY3JldA=="), ["YW5uOnMzY3JldA==", "ann:s3cret", "s3cret"]);
        assert_eq!(texts("whsec_a2V5IG9mIGFjbWU="), ["a2V5IG9mIGFjbWU=", "key of acme"]);
        assert_eq!(texts("session=abcdefgh1; theme=dark"), ["abcdefgh1"]);
        let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ\n-----END PRIVATE KEY-----\n";
        assert_eq!(texts(pem), ["MC4CAQAwBQYDK2VwBCIEIJ"]);
        assert!(texts("one-secret-of-many-characters").is_empty());
    }
}
