//! What can go wrong with a request, and how it looks to the client: an RFC 9457 problem document.
//!
//! Work that did not succeed is not an error but data: see [`crate::worker`].

mod explain;

pub use explain::explain;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// The result of a request.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A refusal or a failure, as the client learns of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// 400: the request cannot be read.
    #[error("{0}")]
    BadRequest(String),
    /// 401: no token, or one that does not hold.
    #[error("{0}")]
    Unauthorized(String),
    /// 403: a good token without the right.
    #[error("{0}")]
    Forbidden(String),
    /// 404: not there, or not for this caller to see.
    #[error("{0}")]
    NotFound(String),
    /// 405: there, but not by this method.
    #[error("this resource does not answer to that method")]
    MethodNotAllowed,
    /// 408: the body stopped coming.
    #[error("the body did not arrive in time")]
    RequestTimeout,
    /// 409: it contradicts what is stored.
    #[error("{0}")]
    Conflict(String),
    /// 409: something else holds what must be held by one alone, which is named.
    #[error("{0}")]
    Taken(String, Uuid),
    /// 410: it was there, and its time is over.
    #[error("{0}")]
    Gone(String),
    /// 413: the body is larger than the limit, in bytes.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// 415: the body is not of a type that is read here.
    #[error("{0}")]
    UnsupportedMediaType(String),
    /// 406: what would be answered is not among what the caller takes, or may be given.
    #[error("{0}")]
    NotAcceptable(String),
    /// 422: it can be read, but breaks a rule; every violation is listed.
    #[error("{0}")]
    Invalid(String, Vec<Violation>),
    /// 429: this caller asks for too much at a time; it may try again after this time.
    #[error("{0}")]
    TooManyRequests(String, Duration),
    /// 503: not now; the client may try again after this time.
    #[error("{0}")]
    Unavailable(String, Duration),
    /// The database refused or could not be reached: 503 when it is a passing thing, else 500.
    #[error("the database")]
    Database(#[from] sqlx::Error),
    /// 500: ours to mend. The chain goes to the log; the client sees a fixed title.
    #[error("internal error")]
    Internal(#[source] anyhow::Error),
}

/// Most violations that are listed of one document.
pub const MAX_VIOLATIONS: usize = 50;

/// One broken rule of a schema or a definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Violation {
    /// Where: a JSON pointer (RFC 6901) into the submitted document; empty for the whole.
    #[schema(example = "/options/timeout")]
    pub pointer: String,
    /// Which rule: the keyword of JSON Schema, or the name of ours.
    #[schema(example = "duration")]
    pub keyword: String,
    /// What is wrong, in words that do not repeat the submitted value.
    #[schema(example = "must be a duration as text, such as \"30s\" or \"1h30m\"")]
    pub message: String,
}

impl Violation {
    /// A violation of `keyword` at `pointer`.
    pub fn new(pointer: impl Into<String>, keyword: &str, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), keyword: keyword.to_owned(), message: message.into() }
    }
}

/// An RFC 9457 problem document, `application/problem+json`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Problem {
    /// The kind of problem; `about:blank`, so the status says it.
    #[serde(rename = "type")]
    #[schema(example = "about:blank")]
    pub kind: &'static str,
    /// The status in words.
    #[schema(example = "Conflict")]
    pub title: String,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599, example = 409)]
    pub status: u16,
    /// What is wrong with this request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "only a message in ERROR can be run again")]
    pub detail: Option<String>,
    /// For a 422, every violation (the first 50).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Violation>,
    /// For a 409 of a value that is unique, the message that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_by: Option<Uuid>,
}

impl Problem {
    /// What there is to say about `status`.
    pub fn new(status: StatusCode, detail: Option<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("error").to_owned();
        Self {
            kind: "about:blank",
            title,
            status: status.as_u16(),
            detail,
            errors: Vec::new(),
            held_by: None,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
    }
}

impl Error {
    /// A 422 with one violation.
    pub fn invalid(pointer: impl Into<String>, keyword: &str, message: impl Into<String>) -> Self {
        Self::Invalid(
            "the document breaks a rule".to_owned(),
            vec![Violation::new(pointer, keyword, message)],
        )
    }

    /// The refusal in one sentence for people, with the place and the words of every violation.
    pub fn whole(&self) -> String {
        let mut text = self.to_string();
        if let Self::Invalid(_, violations) = self {
            for Violation { pointer, message, .. } in violations {
                let place = if pointer.is_empty() { String::new() } else { format!("at `{pointer}`: ") };
                text = format!("{text}; {place}{message}");
            }
        }
        text
    }

    /// A 500 from any failure of ours.
    pub fn internal(error: impl Into<anyhow::Error>) -> Self {
        Self::Internal(error.into())
    }

    /// The HTTP status it becomes.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict(_) | Self::Taken(..) => StatusCode::CONFLICT,
            Self::Gone(_) => StatusCode::GONE,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::NotAcceptable(_) => StatusCode::NOT_ACCEPTABLE,
            Self::Invalid(..) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooManyRequests(..) => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable(..) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Database(error) if is_transient(error) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Database(_) | Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyRequests(_, after) | Self::Unavailable(_, after) => Some(*after),
            Self::Database(error) if is_transient(error) => Some(Duration::from_secs(1)),
            _ => None,
        }
    }
}

/// A failure that many share, since one statement asked for all of them.
impl From<Arc<sqlx::Error>> for Error {
    fn from(error: Arc<sqlx::Error>) -> Self {
        if is_transient(&error) {
            return Self::Unavailable(
                "the database cannot be reached now".to_owned(),
                Duration::from_secs(1),
            );
        }
        Self::internal(error)
    }
}

/// Whether trying again later may help: the connection is gone, the server is starting, stopping, full or
/// out of disk, or the statement lost against another (classes and codes of PostgreSQL's appendix A).
pub fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        // sqlx reports a server that hangs up in mid-message as a protocol error.
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            code.starts_with("08")      // connection exception
                || code.starts_with("25")   // transaction state: ended by a limit of the session, or read-only
                || code.starts_with("28")   // authorization: a password that is being changed
                || code.starts_with("53")   // insufficient resources: disk full, too many connections
                || code.starts_with("57")   // operator intervention: shutdown, starting up, statement timeout
                || code.starts_with("58")   // system error
                || matches!(code.as_ref(), "40001" | "40P01" | "55P03")
        }),
        _ => false,
    }
}

/// Whether the fault is the database's state and not what is to be written, which the same statement may store once that
/// has passed: what [`is_transient`] says, or that something is amiss there.
pub fn is_passing(error: &sqlx::Error) -> bool {
    is_transient(error) || is_amiss(error)
}

/// Whether the database cannot do what it is asked for whatever there is to be written: a table is not there, a right is
/// gone, a page is broken. That passes when somebody mends it.
fn is_amiss(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else { return false };
    // Access rules and names, the catalog and the schema, the server's own errors.
    error
        .code()
        .is_some_and(|code| ["3D", "3F", "42", "F0", "XX"].iter().any(|class| code.starts_with(class)))
}

/// Whether the database stopped a statement that took longer than it may (57014): nothing of it was done.
pub fn was_cut_off(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().as_deref() == Some("57014"))
}

/// Whether it took longer than a statement may, or than anybody waits for the database.
pub fn is_time_out(error: &sqlx::Error) -> bool {
    let is_silent = matches!(error, sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::TimedOut);
    is_silent || was_cut_off(error)
}

/// Whether the database undid the transaction for the sake of another: at once, the same may succeed.
pub fn was_undone(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if matches!(error.code().as_deref(), Some("40001" | "40P01")))
}

/// Whether the statement gave up waiting for what another transaction holds (55P03).
pub fn is_held(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().as_deref() == Some("55P03"))
}

/// Whether `error` is the violation of the constraint `name`, so that a race has one loser and no
/// statement needs to look first.
pub fn is_constraint(error: &sqlx::Error, name: &str) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.constraint() == Some(name))
}

/// Why a request cannot be read, to be told once its caller is known: 400.
///
/// It rides in the request's extensions from [`crate::http`], which finds it, to [`crate::auth`], which knows
/// when.
#[derive(Debug, Clone)]
pub struct Unreadable(pub String);

impl From<Unreadable> for Error {
    fn from(Unreadable(why): Unreadable) -> Self {
        Self::BadRequest(why)
    }
}

/// Why a response is a 5xx: the chain of errors behind it, for the log alone.
///
/// It rides in the response's extensions to [`crate::http`], which knows the request and logs it once.
#[derive(Debug, Clone)]
pub struct Cause(pub String);

impl Cause {
    fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        Self(explain::explain(error))
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = self.status();
        let cause = matches!(self, Self::Database(_) | Self::Internal(_)).then(|| Cause::of(&self));
        let detail = match &self {
            _ if status == StatusCode::INTERNAL_SERVER_ERROR => None,
            Self::Database(_) => Some("the database cannot serve this now".to_owned()),
            other => Some(other.to_string()),
        };
        let retry_after = self.retry_after();
        let held_by = if let Self::Taken(_, holder) = &self { Some(*holder) } else { None };
        let errors = if let Self::Invalid(_, errors) = self { errors } else { Vec::new() };
        let mut response = Problem { errors, held_by, ..Problem::new(status, detail) }.into_response();
        let headers = response.headers_mut();
        if let Some(after) = retry_after {
            // Rounded up: a client that comes back too early is refused again.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if status == StatusCode::REQUEST_TIMEOUT {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(cause) = cause {
            response.extensions_mut().insert(cause);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_learns_nothing_of_an_internal_error() {
        let error = anyhow::anyhow!("password=secret").context("while connecting");
        let response = Error::internal(error).into_response();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let cause = response.extensions().get::<Cause>().map(|cause| cause.0.as_str());
        assert_eq!(cause, Some("internal error: while connecting: password=secret"));
        let detail = format!("{:?}", response.body());
        assert!(!detail.contains("secret"));
    }

    #[test]
    fn a_lost_database_asks_to_come_back() {
        let response = Error::Database(sqlx::Error::PoolTimedOut).into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        let response = Error::Unavailable("full".to_owned(), Duration::from_millis(1200)).into_response();
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        let response = Error::Database(sqlx::Error::RowNotFound).into_response();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
