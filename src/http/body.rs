//! The body of a request, read by the handler when every check that needs no body has passed.
//!
//! Reading is a call and no extractor, because an extractor would run before the handler's checks of the
//! token, the queue and the role.

use super::content_type::require_json;
use super::json_text::{self, line_and_column};
use super::shape;
use crate::error::{Error, Result};
use axum::body::{Body, HttpBody};
use axum::http::HeaderMap;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// U+FEFF in UTF-8, with which some systems begin every text.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// How much of a body is read, and how long one waits for it.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// The largest body, in bytes (`POSTRIDER_MAX_BODY`).
    pub max_body: usize,
    /// How long a body may take; every `min_rate` bytes that arrive add a second.
    pub timeout: Duration,
    /// Bytes a second below which a sender counts as stalled, once `timeout` is used up.
    pub min_rate: u32,
}

impl BodyLimits {
    /// At most `max_body` bytes, after ten seconds at no less than 16 KiB/s on average.
    pub fn new(max_body: usize) -> Self {
        Self { max_body, timeout: Duration::from_secs(10), min_rate: 16 << 10 }
    }
}

/// A JSON document, as it was sent.
#[derive(Debug, Clone)]
pub struct Json {
    /// The text as sent, without the white space around it: numbers, key order, duplicate keys and escapes are kept.
    pub raw: Box<RawValue>,
}

fn refuse_declared_size(body: &Body, limits: &BodyLimits) -> Result<()> {
    match usize::try_from(body.size_hint().lower()) {
        Ok(length) if length <= limits.max_body => Ok(()),
        _ => Err(Error::TooLarge(limits.max_body)),
    }
}

async fn collect(mut body: Body, limits: &BodyLimits) -> Result<Bytes> {
    let started = Instant::now();
    let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
    loop {
        let received = first.len() + rest.len();
        let seconds = received / usize::try_from(limits.min_rate.max(1)).unwrap_or(1);
        let deadline = started + limits.timeout + Duration::from_secs(seconds as u64);
        let frame = timeout_at(deadline, body.frame()).await.map_err(|_| Error::RequestTimeout)?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(refused_or_broken)?;
        let Ok(data) = frame.into_data() else { continue };
        if received + data.len() > limits.max_body {
            return Err(Error::TooLarge(limits.max_body));
        }
        // A small body is one frame, and is not copied.
        if received == 0 {
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

/// Why there is no more of a body: it was refused on its way in, or its sender is gone.
fn refused_or_broken(error: axum::Error) -> Error {
    let refused = error.into_inner().downcast::<Error>();
    refused.map_or_else(|_| Error::BadRequest("the body broke off".to_owned()), |refused| *refused)
}

/// Reads the body as a JSON document.
///
/// # Errors
/// 413 over the limit (before reading when the length is declared), 415 when it is compressed or does not call itself
/// JSON, 408 when the sender stalls, 400 when it breaks off, is empty, not UTF-8, not JSON or nests deeper than 128; 429
/// or 503 when there is no room for it ([`super::limits`]).
pub async fn read_json(headers: &HeaderMap, body: Body, limits: &BodyLimits) -> Result<Json> {
    refuse_declared_size(&body, limits)?;
    require_json(headers)?;
    parse(&collect(body, limits).await?)
}

/// Reads the body as it comes, of whatever type it is.
///
/// # Errors
/// 413, 408, 400, 429 and 503 as [`read_json`].
pub async fn read_bytes(body: Body, limits: &BodyLimits) -> Result<Bytes> {
    refuse_declared_size(&body, limits)?;
    collect(body, limits).await
}

/// Reads the body as a document of type `T`, such as a queue definition.
///
/// # Errors
/// As [`read_json`]; 422 with the place and the rule when the document has another shape.
pub async fn read_json_as<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    limits: &BodyLimits,
) -> Result<T> {
    read_json(headers, body, limits).await?.to_typed()
}

impl Json {
    /// The document as a value to look into; see [`json_text::to_value`] for what it cannot hold.
    pub fn value(&self) -> Value {
        // It nests no deeper, or it would not be here.
        json_text::to_value(self.raw.get()).unwrap_or_default()
    }

    /// The document as a `T`.
    ///
    /// # Errors
    /// 422 with the place and the rule when the document has another shape.
    pub fn to_typed<T: DeserializeOwned>(&self) -> Result<T> {
        shape::read(self.raw.get())
    }
}

/// The JSON document in `bytes`; the checks of [`read_json`] that concern the text.
///
/// # Errors
/// 400 as [`read_json`].
pub fn parse(bytes: &[u8]) -> Result<Json> {
    // RFC 8259, 8.1: whoever reads JSON may pass over a byte order mark at its beginning.
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    if bytes.is_empty() {
        return Err(Error::BadRequest("the body is empty: a JSON document is expected".to_owned()));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        Error::BadRequest(format!("the body is not UTF-8: byte {} is wrong", error.valid_up_to() + 1))
    })?;
    json_text::depth(text).map_err(|flaw| {
        let (line, column) = line_and_column(text, flaw.0);
        Error::BadRequest(format!("{flaw}: line {line} column {column}"))
    })?;
    // All of RFC 8259 and nothing else: what its strings and numbers stand for is not asked.
    let raw: &RawValue = serde_json::from_str(text)
        .map_err(|error| Error::BadRequest(format!("the body is not JSON: {error}")))?;
    Ok(Json { raw: raw.to_owned() })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;
    use axum::http::{HeaderValue, StatusCode, header};
    use futures::{StreamExt, stream};

    const LIMITS: BodyLimits =
        BodyLimits { max_body: 1024, timeout: Duration::from_millis(20), min_rate: 16 << 10 };

    fn json_headers() -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))])
    }

    fn refusal(bytes: &[u8]) -> String {
        let error = parse(bytes).unwrap_err();
        assert_eq!(error.status(), StatusCode::BAD_REQUEST, "{error}");
        error.to_string()
    }

    #[test]
    fn a_document_is_kept_as_sent() {
        let text = r#"{ "b":1.0, "a":12345678901234567890123, "b":2 }"#;
        let json = parse(format!("\n {text} ").as_bytes()).unwrap();
        assert_eq!(json.raw.get(), text);
        assert_eq!(json.value()["b"], 2);
    }

    #[test]
    fn a_byte_order_mark_at_the_beginning_is_passed_over_and_nowhere_else() {
        assert_eq!(
            parse("\u{feff}{\"a\":\"\u{feff}\"}".as_bytes()).unwrap().raw.get(),
            "{\"a\":\"\u{feff}\"}"
        );
        assert!(refusal("\u{feff}".as_bytes()).contains("empty"));
        for text in ["\u{feff}\u{feff}1", " \u{feff}1", "1\u{feff}", "[\u{feff}1]"] {
            assert!(refusal(text.as_bytes()).contains("line "), "{text}");
        }
    }

    #[test]
    fn any_json_value_is_a_document() {
        for text in ["null", "true", "0", "-1e-400", "\"\"", "[]", "{}"] {
            assert_eq!(parse(text.as_bytes()).unwrap().raw.get(), text);
        }
    }

    #[test]
    fn depth_128_is_read_and_129_is_refused() {
        let wrap = |open: &str, close: &str, depth: usize| {
            [open.repeat(depth), "1".to_owned(), close.repeat(depth)].concat()
        };
        for (open, close, levels) in [("[", "]", 1), ("{\"k\":", "}", 1), ("[{\"k\":", "}]", 2)] {
            for depth in [126, 128] {
                let text = wrap(open, close, depth / levels);
                let json = parse(text.as_bytes()).unwrap();
                assert_eq!(serde_json::to_string(&json.value()).unwrap(), text);
            }
            let text = format!("[{}]", wrap(open, close, 128 / levels));
            assert!(refusal(text.as_bytes()).contains("nest deeper than 128"));
        }
        // Deep enough to end a process that recurses.
        assert!(refusal("[".repeat(1 << 20).as_bytes()).contains("nest deeper than 128"));
    }

    #[test]
    fn the_last_duplicate_wins_at_any_depth() {
        let deep = [r#"{"a":1,"a":"#, &"[".repeat(127), &"]".repeat(127), "}"].concat();
        assert!(parse(deep.as_bytes()).unwrap().value()["a"].is_array());
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_place() {
        assert!(refusal(b"").contains("empty"));
        assert!(refusal(b"{\"a\":\n nope}").contains("line 2 column 3"));
        assert!(refusal(b"\"\xff\"").contains("not UTF-8: byte 2"));
        for text in
            ["  ", "NaN", "[Infinity]", "-", "01", "1.", "[1,]", "{'a':1}", "1 2", "\"\t\"", "\"\\u12\""]
        {
            assert!(refusal(text.as_bytes()).contains("line "), "{text}");
        }
        assert!(refusal(b"\"\0\"").contains("control character"));
    }

    #[test]
    fn whatever_rfc_8259_allows_is_a_document() {
        let deep = ["[".repeat(128), "1e400".to_owned(), "]".repeat(128)].concat();
        for text in [r#"{"k\u0000":1}"#, r#"["\uD83D","\ude00"]"#, "[1e400,-1E+999]", "1e-400", &deep] {
            let json = parse(text.as_bytes()).unwrap();
            assert_eq!(json.raw.get(), text);
            assert!(!json.value().is_null());
        }
    }

    #[tokio::test]
    async fn a_declared_length_over_the_limit_is_refused_unread() {
        let error = read_json(&HeaderMap::new(), Body::from(vec![b' '; 1025]), &LIMITS).await.unwrap_err();
        assert!(matches!(error, Error::TooLarge(1024)));
        let whole = [vec![b' '; 1023], b"1".to_vec()].concat();
        assert!(read_json(&json_headers(), Body::from(whole), &LIMITS).await.is_ok());
    }

    #[tokio::test]
    async fn an_endless_body_is_refused_at_the_limit() {
        let endless = stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(b"          ")));
        let error = read_json(&json_headers(), Body::from_stream(endless), &LIMITS).await.unwrap_err();
        assert!(matches!(error, Error::TooLarge(1024)));
    }

    #[tokio::test]
    async fn frames_are_put_together() {
        let frames =
            ["{\"a\"", ":", "1}"].map(|part| Ok::<_, std::io::Error>(Bytes::from_static(part.as_bytes())));
        let body = Body::from_stream(stream::iter(frames));
        assert_eq!(read_json(&json_headers(), body, &LIMITS).await.unwrap().raw.get(), "{\"a\":1}");
    }

    #[tokio::test]
    async fn a_body_that_stalls_is_given_up() {
        let stalled =
            stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{"))]).chain(stream::pending());
        let error = read_json(&json_headers(), Body::from_stream(stalled), &LIMITS).await.unwrap_err();
        assert_eq!(error.status(), StatusCode::REQUEST_TIMEOUT);
    }

    #[tokio::test]
    async fn the_type_is_checked_before_the_text() {
        let error = read_json(&HeaderMap::new(), Body::from("nope"), &LIMITS).await.unwrap_err();
        assert_eq!(error.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
}
