//! Whether a request says twice how long its body is: by `Transfer-Encoding` and by `Content-Length`.
//!
//! A proxy before us that goes by the other one takes for the next request what we take for a body, or the other way
//! round, and so serves one client what another asked for: such a request is refused, and its connection closed
//! (RFC 9112, 6.1). hyper takes the `Content-Length` out of such a head, so the head is looked at as it came.

use axum::http::{HeaderMap, Method, header};

/// How the length of a request's body is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// Once, or there is no body.
    Plain,
    /// Twice.
    Twice,
    /// Nobody knows: what came is not the head alone, since it came with the request before it.
    Unknown,
}

/// How the length of this request's body is said. `raw` are the bytes that came after the last request, from which
/// hyper has made the method and the headers.
pub(super) fn of(method: &Method, headers: &HeaderMap, raw: &[u8]) -> Framing {
    if !headers.contains_key(header::TRANSFER_ENCODING) {
        return Framing::Plain;
    }
    let mut lines = raw
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .skip_while(|line| line.is_empty());
    let begins = lines.next().and_then(|line| line.strip_prefix(method.as_str().as_bytes()));
    if begins.is_none_or(|rest| rest.first() != Some(&b' ')) {
        return Framing::Unknown;
    }
    let mut others = 0;
    for line in lines.take_while(|line| !line.is_empty()) {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        if name.eq_ignore_ascii_case(header::CONTENT_LENGTH.as_str().as_bytes()) {
            return Framing::Twice;
        }
        others += 1;
    }
    // As many as hyper has: so it was the whole of this head, and nothing of another.
    if others == headers.len() { Framing::Plain } else { Framing::Unknown }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn a_length_beside_a_transfer_encoding_is_found_and_what_is_no_whole_head_is_not_believed() {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("x"));
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        for (raw, framing) in [
            ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n", Framing::Plain),
            ("\r\nPOST / HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\nContent-Length: 5", Framing::Plain),
            (
                "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\ncontent-LENGTH: 5\r\n\r\n",
                Framing::Twice,
            ),
            (
                "POST / HTTP/1.1\r\nContent-Length:5\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
                Framing::Twice,
            ),
            // The rest of a head, or another's.
            ("", Framing::Unknown),
            ("Host: x\r\nTransfer-Encoding: chunked\r\n\r\n", Framing::Unknown),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", Framing::Unknown),
            ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", Framing::Unknown),
        ] {
            assert_eq!(of(&Method::POST, &headers, raw.as_bytes()), framing, "{raw}");
        }
        headers.remove(header::TRANSFER_ENCODING);
        assert_eq!(of(&Method::POST, &headers, b""), Framing::Plain);
    }
}
