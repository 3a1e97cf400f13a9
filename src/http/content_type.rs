//! Whether a request says that its body is JSON in UTF-8.

use crate::error::{Error, Result};
use axum::http::{HeaderMap, HeaderValue, header};

/// Refuses a body that does not call itself JSON (`application/json` or `*/*+json`), that is in another
/// character set than UTF-8, or that is compressed.
///
/// # Errors
/// [`Error::UnsupportedMediaType`].
pub(super) fn require_json(headers: &HeaderMap) -> Result<()> {
    require_identity(headers)?;
    let mut types = headers.get_all(header::CONTENT_TYPE).iter().map(HeaderValue::as_bytes);
    match (types.next(), types.next()) {
        (Some(b"application/json"), None) => Ok(()),
        (Some(other), None) if std::str::from_utf8(other).is_ok_and(is_json) => Ok(()),
        _ => Err(Error::UnsupportedMediaType(
            "the body must be JSON in UTF-8, with `Content-Type: application/json`".to_owned(),
        )),
    }
}

/// Refuses a compressed body: its size as sent says nothing about what it unpacks to.
///
/// # Errors
/// [`Error::UnsupportedMediaType`].
fn require_identity(headers: &HeaderMap) -> Result<()> {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    if encodings.all(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        Ok(())
    } else {
        Err(Error::UnsupportedMediaType("the body must be sent without a `Content-Encoding`".to_owned()))
    }
}

fn is_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
    let json = essence == "application/json"
        || essence.split_once('/').is_some_and(|(kind, subtype)| {
            is_token(kind) && subtype.strip_suffix("+json").is_some_and(is_token)
        });
    json && parts.all(|parameter| {
        let Some((name, value)) = parameter.split_once('=') else { return parameter.is_empty() };
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        !name.eq_ignore_ascii_case("charset") || value.eq_ignore_ascii_case("utf-8")
    })
}

/// A token of RFC 9110, 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(name: &header::HeaderName, values: &[&'static str]) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.remove(name);
        for value in values {
            headers.append(name, HeaderValue::from_static(value));
        }
        require_json(&headers).is_ok()
    }

    #[test]
    fn json_by_any_of_its_names_is_read() {
        for fine in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=\"UTF-8\"",
            "application/json; profile=\"x\"; charset=utf-8",
            "application/json;",
            "application/vnd.api+json",
            "image/svg+json",
        ] {
            assert!(accepts(&header::CONTENT_TYPE, &[fine]), "{fine}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        assert!(!accepts(&header::CONTENT_TYPE, &[]));
        assert!(!accepts(&header::CONTENT_TYPE, &["application/json", "text/plain"]));
        for other in [
            "",
            "text/plain",
            "text/json",
            "json",
            "application/jsonx",
            "application/+json",
            "/+json",
            "a b/c+json",
            "application/x-www-form-urlencoded",
            "application/json; charset=iso-8859-1",
            "application/json; charset=utf-16",
            "application/json; charset",
            "application/json, text/plain",
        ] {
            assert!(!accepts(&header::CONTENT_TYPE, &[other]), "{other}");
        }
    }

    #[test]
    fn a_compressed_body_is_refused() {
        assert!(accepts(&header::CONTENT_ENCODING, &[]));
        assert!(accepts(&header::CONTENT_ENCODING, &["identity"]));
        assert!(!accepts(&header::CONTENT_ENCODING, &["gzip"]));
        assert!(!accepts(&header::CONTENT_ENCODING, &["identity", "br"]));
    }
}
