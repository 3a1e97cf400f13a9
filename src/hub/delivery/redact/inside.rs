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

/// The bytes that a text spells, in hexadecimal digits or in base64: a key is quoted in the other of the two as well.
pub(super) fn spelt(text: &str) -> Vec<Vec<u8>> {
    let digits = text.as_bytes().chunks_exact(2).map(|pair| {
        let pair =
            std::str::from_utf8(pair).ok().filter(|pair| pair.bytes().all(|digit| digit.is_ascii_hexdigit()));
        u8::from_str_radix(pair?, 16).ok()
    });
    let hex: Option<Vec<u8>> = digits.collect();
    let hex = hex.filter(|_| text.len().is_multiple_of(2));
    let base64 = BASE64.decode(text.replace('-', "+").replace('_', "/")).ok();
    hex.into_iter().chain(base64).collect()
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

    #[test]
    fn bytes_are_found_that_a_text_spells() {
        assert_eq!(spelt("00fF10"), [vec![0, 255, 16], BASE64.decode("00fF10").unwrap_or_default()][..1]);
        assert_eq!(spelt("_-8A/+8="), [vec![0xff, 0xef, 0x00, 0xff, 0xef]]);
        assert!(spelt("é").is_empty() && spelt("a b").is_empty());
    }

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
