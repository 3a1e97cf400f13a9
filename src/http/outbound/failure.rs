//! Why there is no answer: the cause is read from the chain of errors below the client's.

use super::cause::Cause;
use crate::http::address::RefusedAddress;
use axum::http::StatusCode;
use rustls::{AlertDescription as Alert, CertificateError as Certificate, Error as Tls};
use std::borrow::Cow;
use std::error::Error as StdError;
use std::io;

/// Why there is no answer. The words are coarse, since a tenant reads them: no address, nothing of what was said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cause}: {words}")]
pub struct Failure {
    /// What it was, in one word.
    pub cause: Cause,
    /// The status of the answer, if one began.
    pub status: Option<StatusCode>,
    words: Cow<'static, str>,
}

impl Failure {
    /// A failure of this cause, before an answer began.
    pub fn new(cause: Cause, words: impl Into<Cow<'static, str>>) -> Self {
        Self { cause, status: None, words: words.into() }
    }

    /// The URL or the address behind it is not one that may be asked.
    pub(super) fn not_allowed(why: String) -> Self {
        Self::new(Cause::AddressNotAllowed, why)
    }

    /// The answer points elsewhere, where nobody goes.
    pub(super) fn redirect(status: StatusCode, location: &[u8]) -> Self {
        let location = String::from_utf8_lossy(location);
        let words = format!("the server answered {status}, which is not followed, to {location}").into();
        Self { cause: Cause::Redirect, status: Some(status), words }
    }

    /// The time is over, when this much of an answer was there.
    pub(super) fn timeout(status: Option<StatusCode>) -> Self {
        let words = match status {
            Some(status) => format!("no answer in time: it began with {status} and did not end").into(),
            None => "no answer in time".into(),
        };
        Self { cause: Cause::Timeout, status, words }
    }

    /// The body of an answer is larger than this many bytes.
    pub(super) fn too_large(status: StatusCode, limit: usize) -> Self {
        let words = format!("the answer ({status}) is larger than {limit} bytes").into();
        Self { cause: Cause::BodyTooLarge, status: Some(status), words }
    }

    /// What came is no HTTP/1: an answer of this beginning.
    pub(super) fn not_http(beginning: &[u8]) -> Self {
        // RFC 9113, 4.1: three bytes of length, the type, the flags, and four bytes of zeros for the connection itself.
        // A server that speaks HTTP/2 alone begins with its settings, or says at once that it goes away.
        match beginning.first_chunk::<9>() {
            Some([_, _, _, 4 | 7, _, 0, 0, 0, 0]) => {
                Self::new(Cause::Http2Only, "the server speaks only HTTP/2")
            }
            _ => Self::new(Cause::NotHttp, "what the server says is not HTTP"),
        }
    }

    /// Whether nothing of the request was sent, and nothing says why.
    pub(super) fn is_unsent(error: &reqwest::Error) -> bool {
        let is_canceled = |error: &hyper::Error| error.is_canceled();
        chain(error).find_map(known).is_none()
            && chain(error).any(|error| error.downcast_ref().is_some_and(is_canceled))
    }

    /// What the client's error comes to. `status` is that of the answer, if its head was there.
    pub(super) fn of(error: &reqwest::Error, status: Option<StatusCode>) -> Self {
        let found = chain(error).find_map(known);
        let failure = match found {
            Some(failure) => failure,
            None if error.is_dns() => {
                Self::new(Cause::Dns, "the server's name is unknown, or no name server answers")
            }
            None if error.is_timeout() && error.is_connect() => {
                Self::new(Cause::ConnectTimeout, "no connection came about in time")
            }
            None if error.is_timeout() => return Self::timeout(status),
            None => broken(error),
        };
        match (status, failure.cause) {
            (Some(status), Cause::Reset) => Self {
                cause: Cause::Truncated,
                status: Some(status),
                words: format!("the answer ({status}) broke off").into(),
            },
            _ => Self { status, ..failure },
        }
    }
}

/// The error and everything below it. What an [`io::Error`] wraps is not its source, but the source of what it wraps is.
fn chain<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| {
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        }
    })
}

/// What an error says by its type alone.
fn known(error: &(dyn StdError + 'static)) -> Option<Failure> {
    if error.is::<RefusedAddress>() {
        return Some(Failure::not_allowed(RefusedAddress.to_string()));
    }
    if let Some(error) = error.downcast_ref::<Tls>() {
        return Some(tls(error));
    }
    let error = error.downcast_ref::<hyper::Error>()?;
    if error.is_parse_too_large() {
        return Some(Failure::new(Cause::HeadersTooLarge, "the head of the answer is too large"));
    }
    error.is_parse().then(|| Failure::not_http(&[]))
}

/// What no connection, or one that ended, comes to.
fn broken(error: &reqwest::Error) -> Failure {
    let kind = chain(error).find_map(|error| error.downcast_ref::<io::Error>().map(io::Error::kind));
    match kind {
        Some(io::ErrorKind::ConnectionRefused) => {
            Failure::new(Cause::Refused, "the server accepts no connection")
        }
        Some(
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::NotConnected,
        ) if error.is_connect() => Failure::new(Cause::Refused, "there is no way to the server"),
        // How hyper says that the chunks of a body are none.
        Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => Failure::not_http(&[]),
        _ => Failure::new(Cause::Reset, "the connection ended before an answer came"),
    }
}

fn tls(error: &Tls) -> Failure {
    match error {
        Tls::InvalidCertificate(why) => certificate(why),
        Tls::AlertReceived(Alert::UnrecognisedName) => {
            Failure::new(Cause::TlsName, "the server does not know itself by this name")
        }
        Tls::AlertReceived(Alert::NoApplicationProtocol) | Tls::NoApplicationProtocol => {
            Failure::new(Cause::Http2Only, "the server does not speak HTTP/1.1")
        }
        Tls::AlertReceived(
            Alert::CertificateRequired
            | Alert::NoCertificate
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied,
        ) => Failure::new(Cause::TlsClientCertificate, "the server wants a client certificate"),
        // Nothing of it is a message of TLS: as a rule a plain server.
        Tls::InvalidMessage(_) => Failure::new(Cause::NotHttp, "what the server says is not TLS"),
        _ => Failure::new(Cause::TlsVersion, "the server has no version or cipher of TLS in common with us"),
    }
}

fn certificate(why: &Certificate) -> Failure {
    match why {
        Certificate::Expired
        | Certificate::ExpiredContext { .. }
        | Certificate::NotValidYet
        | Certificate::NotValidYetContext { .. } => {
            Failure::new(Cause::TlsExpired, "the server's certificate has expired, or is not valid yet")
        }
        Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
            Failure::new(Cause::TlsName, "the server's certificate is for another name")
        }
        _ => Failure::new(Cause::TlsUnknownCa, "the server's certificate is from nobody who is trusted here"),
    }
}
