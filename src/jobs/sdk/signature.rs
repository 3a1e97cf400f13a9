//! The signature of a request: HMAC-SHA256 over its target, two of its headers and its body as it came.

use super::keys::Key;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;

/// The header that says who signs; a request that has it is signed.
pub const AUTHORIZATION: &str = "x-cardsavr-authorization";
/// The header with the milliseconds since 1970.
pub const NONCE: &str = "x-cardsavr-nonce";
/// The header with the signature.
pub const SIGNATURE: &str = "x-cardsavr-signature";
/// What stands before the integrator's name.
const SCHEME: &str = "SWCH-HMAC-SHA256 Credentials=";

/// What a request says of its signature.
#[derive(Debug)]
pub struct Signed {
    authorization: String,
    nonce: String,
    signature: Vec<u8>,
}

impl Signed {
    /// What these headers say; `None` if one is missing, comes twice, or is none.
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        let only = |name: &str| {
            let mut values = headers.get_all(name).iter();
            let value = values.next()?.to_str().ok()?;
            values.next().is_none().then(|| value.to_owned())
        };
        let authorization = only(AUTHORIZATION)?;
        authorization.strip_prefix(SCHEME).filter(|name| !name.is_empty())?;
        let signature = STANDARD.decode(only(SIGNATURE)?).ok()?;
        // Nothing stands between it and the body under the signature: what is no number could be the body's beginning.
        let nonce = only(NONCE)?;
        let is_number = !nonce.is_empty() && nonce.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then_some(Self { authorization, nonce, signature })
    }

    /// The integrator who signs.
    pub fn integrator(&self) -> &str {
        self.authorization.strip_prefix(SCHEME).unwrap_or_default()
    }

    /// Whether the signature is of this key, for this target (path and query as they came) and this body.
    pub fn is_of(&self, key: &Key, target: &str, body: &[u8]) -> bool {
        let decoded: Vec<u8> = percent_decode_str(target).collect();
        // Some ways to send a request leave out the empty query that the client has signed.
        let with_query = [decoded.as_slice(), b"?"].concat();
        [&decoded, &with_query, target.as_bytes()].into_iter().any(|target| {
            let mut signing = key.signing();
            for part in [target, self.authorization.as_bytes(), self.nonce.as_bytes(), body] {
                signing.update(part);
            }
            verify_slices_are_equal(signing.sign().as_ref(), &self.signature).is_ok()
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    const K0: &str = "QWNjZXB0YW5jZUtleTAxMjM0NTY3ODlhYmNkZWZnaGk=";
    const K1: &str = "zPwmH1gZPJjKStSlO7rG8O4pvE1IQ4CQRGkIYiynmvY=";
    const IV: &str = "$AQEBAQEBAQEBAQEBAQEBAQ==";
    const JOB: &str = "/messages/place_card_on_single_site_jobs/101";

    fn headers(signature: &str) -> HeaderMap {
        HeaderMap::from_iter([
            (
                AUTHORIZATION.parse().unwrap(),
                HeaderValue::from_static("SWCH-HMAC-SHA256 Credentials=acceptance"),
            ),
            (NONCE.parse().unwrap(), HeaderValue::from_static("1700000000000")),
            (SIGNATURE.parse().unwrap(), signature.parse().unwrap()),
        ])
    }

    #[test]
    fn a_nonce_is_a_number_so_that_no_body_hides_in_it() {
        for (nonce, is_read) in [("1700000000000", true), ("", false), ("-1", false), ("17{\"a\":1}", false)]
        {
            let mut headers = headers("AAAA");
            headers.insert(NONCE, nonce.parse().unwrap());
            assert_eq!(Signed::read(&headers).is_some(), is_read, "{nonce}");
        }
    }

    fn body(encrypted: &str) -> String {
        format!(r#"{{"encrypted_body":"{encrypted}{IV}"}}"#)
    }

    #[test]
    fn the_signatures_of_the_clients_own_classes_hold_and_no_other() {
        let login = body(
            "W3jq5VquvfTc+NoLUqkOyuEwwTifWWI/PhRS+ZspxfB79C2wglceuGQG3pAGE6dKiv9bXqUZ0zJ3qTVcvVG806pHSPs1xl+ugXUiVtj+DfMYAwiuHGp5daTZHuR9/HRWEUGIjDJ2AjNWXwjfSWdVcPy2TTUOGKO74Eu+EGEi3j0sd0OZT3/uXDXiqhcn7H70yUfmHnJWGMzHOtg7NlDp66Wg4jQ6qAiUwAyta4hwgwQcKnMABbgO9mjQyEzKVUI7Pq5tApL5IIBxS8U2pOMsrQ==",
        );
        let answer = body(
            "wJPPEaasCK4h0r5UpyBjr/8LWmgrRtEi3xy5uxFHfVSAs7/ijxcDKgHntGcxaSbhcsO3ZUn3OX8VX9/tICE373AnsNIIx+0s/gvd4uiiMiSZcP46B4E+YBgsmMAwddQsm39ezd/q80qS2pCibXAOhrJ9TRc6BJJNBfLRTs/h2zzxgv9F2n7pbqjsjReaEOYIpGhtjJWev8KeKXuZofUXag==",
        );
        let response =
            body("1t5zoqL4UTMgu1F02Z5sIf6xIpUycgAdHE+VR1ubYMlxZhNOyCc5eH0przXWLJFQZh7JMqp5VLE3wUzyxDXFHw==");
        for (key, target, body, signature) in [
            (K0, "/session/login".to_owned(), login, "36Y76R7CiCxCn84pDQKBrAE6jZvvv+piFfTZmSgPsLk="),
            (K0, "/session/login".to_owned(), answer, "gZvaYtTvO2xykKeNrALD7WVb7hG2KLXpJaXXO4WXBhM="),
            (K1, format!("{JOB}/broadcasts"), String::new(), "L2ITD+N3NYvx1xgFGrARMquahi3aSrczpbRmAt1u3Pk="),
            (
                K1,
                "/messages/cardholders/123".to_owned(),
                String::new(),
                "mA7ZrlY5/YXjUZ/ogXIKFvctGlrhrXL1gxbCG7nsxi4=",
            ),
            (
                K1,
                "/place_card_on_single_site_jobs?ids=1&status=A%20B".to_owned(),
                String::new(),
                "JJkVggsyNAxi3CPzKE+gbLNInyJrThBTIHa97mcFoTk=",
            ),
            (
                K1,
                "/merchant_sites?".to_owned(),
                String::new(),
                "n6QNbQKlAg5ORxTYql9eqHdMxRYTcrkdqkkHUhFKa24=",
            ),
            // An empty query that was left out on the way.
            (K1, "/merchant_sites".to_owned(), String::new(), "n6QNbQKlAg5ORxTYql9eqHdMxRYTcrkdqkkHUhFKa24="),
            (
                K1,
                format!("{JOB}/broadcasts/registrations"),
                body("u4jIPGUIAzcOfL5fdSfTLQ=="),
                "RaMAinI+IESkRPG2BqnQuebM1tRlC6p3L+5cSTg/nEM=",
            ),
            (
                K1,
                format!("{JOB}/credential_responses"),
                response,
                "E4SBRsFgxNjmJAiSCoBlfK1zf87nrLPAYfXMu8b8eUU=",
            ),
        ] {
            let (key, other) = (Key::exact(key).unwrap(), Key::of(b"another"));
            let signed = Signed::read(&headers(signature)).unwrap();
            assert_eq!(signed.integrator(), "acceptance");
            assert!(signed.is_of(&key, &target, body.as_bytes()), "{target}");
            assert!(!signed.is_of(&other, &target, body.as_bytes()), "{target}: of another key");
            assert!(!signed.is_of(&key, &format!("{target}/"), body.as_bytes()), "{target}: another target");
            assert!(!signed.is_of(&key, &target, format!("{body} ").as_bytes()), "{target}: another body");
        }
    }

    #[test]
    fn a_target_that_was_signed_as_it_came_holds_too() {
        let (key, target) = (Key::exact(K1).unwrap(), "/jobs?status=A%20B");
        let mut signing = key.signing();
        signing.update(format!("{target}SWCH-HMAC-SHA256 Credentials=acceptance1700000000000").as_bytes());
        let signed = Signed::read(&headers(&STANDARD.encode(signing.sign()))).unwrap();
        assert!(signed.is_of(&key, target, b""));
    }

    #[test]
    fn headers_that_are_missing_doubled_or_of_another_scheme_are_no_signature() {
        let whole = || headers("AQ==");
        assert!(Signed::read(&whole()).is_some());
        for name in [AUTHORIZATION, NONCE, SIGNATURE] {
            let mut without = whole();
            without.remove(name);
            assert!(Signed::read(&without).is_none(), "without {name}");
            let mut twice = whole();
            twice.append(name, whole()[name].clone());
            assert!(Signed::read(&twice).is_none(), "{name} twice");
        }
        for wrong in
            ["SWCH-HMAC-SHA256 Credentials=", "Bearer abc", "swch-hmac-sha256 Credentials=acceptance"]
        {
            let mut other = whole();
            other.insert(AUTHORIZATION, wrong.parse().unwrap());
            assert!(Signed::read(&other).is_none(), "{wrong}");
        }
        assert!(Signed::read(&headers("no base64")).is_none());
    }
}
