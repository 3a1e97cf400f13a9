//! What a failure was, in one word.

use std::fmt;

/// What went wrong with a request to somebody else's server. The word is the same wherever a failure is shown: in an
/// attempt, in an error, in the log, as a label of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// Its name leads to no address.
    Dns,
    /// It accepts no connection.
    Refused,
    /// No connection came about in time.
    ConnectTimeout,
    /// The connection ended before an answer came.
    Reset,
    /// Its certificate is from nobody who is trusted here, or is no good otherwise.
    TlsUnknownCa,
    /// Its certificate is for another name.
    TlsName,
    /// Its certificate is over, or has not begun.
    TlsExpired,
    /// It wants a client certificate.
    TlsClientCertificate,
    /// The two have no version of TLS, or no cipher, in common.
    TlsVersion,
    /// What it says is no HTTP (or no TLS, where it should be).
    NotHttp,
    /// It speaks HTTP/2 and nothing before.
    Http2Only,
    /// The answer began and broke off.
    Truncated,
    /// The head of the answer is too large.
    HeadersTooLarge,
    /// The body of the answer is too large.
    BodyTooLarge,
    /// No whole answer came in time.
    Timeout,
    /// Its URL or address is not one that may be asked.
    AddressNotAllowed,
    /// It points elsewhere.
    Redirect,
    /// The status of its answer is no success.
    Status,
    /// Its answer is not JSON.
    NotJson,
    /// Its answer is packed, which nobody asked for.
    Encoded,
    /// Its answer names no message.
    NoMessageId,
    /// Its answer names another message.
    OtherMessageId,
}

impl Cause {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Refused => "refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::Reset => "reset",
            Self::TlsUnknownCa => "tls_unknown_ca",
            Self::TlsName => "tls_name",
            Self::TlsExpired => "tls_expired",
            Self::TlsClientCertificate => "tls_client_certificate",
            Self::TlsVersion => "tls_version",
            Self::NotHttp => "not_http",
            Self::Http2Only => "http2_only",
            Self::Truncated => "truncated",
            Self::HeadersTooLarge => "headers_too_large",
            Self::BodyTooLarge => "body_too_large",
            Self::Timeout => "timeout",
            Self::AddressNotAllowed => "address_not_allowed",
            Self::Redirect => "redirect",
            Self::Status => "status",
            Self::NotJson => "not_json",
            Self::Encoded => "encoded",
            Self::NoMessageId => "no_message_id",
            Self::OtherMessageId => "other_message_id",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
