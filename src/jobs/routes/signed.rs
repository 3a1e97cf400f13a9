//! The layer between the vendor's client and the routes: it looks up who signs a request, verifies the signature, opens the
//! body, hands the plain request on with its caller, and encrypts what is answered. What nobody has signed passes
//! untouched.
//!
//! Until the signature holds, what is refused is plain, and so is a wrong user or password: who sends it may not have the
//! key. All else is encrypted, whatever its status.

use super::edge::{SESSION, with_errors};
use super::state::{Jobs, sealer};
use crate::auth::Admitted;
use crate::error::{Error, Result};
use crate::http::body;
use crate::jobs::sdk::keys::Key;
use crate::jobs::sdk::sessions::{self, Session};
use crate::jobs::sdk::signature::{AUTHORIZATION, Signed};
use crate::jobs::sdk::{self, Sdk};
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

const LOGIN: &str = "/session/login";
const STREAM: &[u8] = b"text/event-stream";

/// By whom a request is signed, for the routes of sessions.
#[derive(Clone)]
pub(super) enum By {
    /// By an integrator, with this key of its.
    Integrator(String, Key),
    /// In the session of this hash.
    Session(Vec<u8>),
}

/// The middleware around every route of the job channels, where somebody can log in.
pub(super) async fn around(State(jobs): State<Jobs>, request: Request, next: Next) -> Response {
    let Some(sdk) = jobs.sdk.as_deref().filter(|_| request.headers().contains_key(AUTHORIZATION)) else {
        return next.run(request).await;
    };
    let Opened { key, is_login, request } = match open(&jobs, sdk, request).await {
        Ok(opened) => opened,
        Err(refused) => return with_errors(refused.into_response(), true).await,
    };
    let mut answer = if asks_for_a_stream(request.headers()) {
        with_errors(no_stream().into_response(), true).await
    } else {
        next.run(request).await
    };
    if answer.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes() == STREAM) {
        answer = with_errors(no_stream().into_response(), true).await;
    }
    if is_login && answer.status() == StatusCode::UNAUTHORIZED {
        return answer;
    }
    match encrypted(&key, answer).await {
        Ok(answer) => answer,
        Err(error) => with_errors(Error::internal(error).into_response(), true).await,
    }
}

/// A request whose signature holds.
struct Opened {
    /// The key that signs it, and encrypts what it is answered.
    key: Key,
    /// Whether it begins a session.
    is_login: bool,
    /// The plain request, with its caller.
    request: Request,
}

/// Verifies and opens a request.
async fn open(jobs: &Jobs, sdk: &Sdk, request: Request) -> Result<Opened> {
    let (mut parts, body) = request.into_parts();
    let signed = Signed::read(&parts.headers).ok_or_else(wrong_signature)?;
    // First who it is: the body of whom nobody knows is not read.
    let is_login = parts.uri.path().trim_end_matches('/') == LOGIN;
    let session = if is_login { None } else { Some(session(jobs, sdk, &signed, &parts.headers).await?) };
    let keys = match &session {
        None => sdk.integrator(signed.integrator()),
        Some(session) => std::slice::from_ref(&session.key),
    };
    if keys.is_empty() {
        return Err(wrong_signature());
    }
    let raw = body::read_bytes(body, &jobs.limits).await?;
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let key = keys.iter().find(|key| signed.is_of(key, target, &raw)).ok_or_else(wrong_signature)?.clone();
    if let Some(session) = &session {
        session.is_used(&jobs.db.api).await?;
    }
    let plain = if raw.is_empty() {
        Bytes::new()
    } else {
        let plain = sdk::body::decrypt(&key, &raw).ok_or_else(|| {
            Error::BadRequest("the body must be `{\"encrypted_body\": …}` of the key that signs".to_owned())
        })?;
        body::parse(&plain)?;
        plain.into()
    };
    admit(&mut parts, sdk, session, signed.integrator(), &key);
    parts.headers.remove(header::TRANSFER_ENCODING);
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(plain.len()));
    Ok(Opened { key, is_login, request: Request::from_parts(parts, Body::from(plain)) })
}

/// The session that a request names: it lives, of a user and an integrator that there still are.
async fn session(jobs: &Jobs, sdk: &Sdk, signed: &Signed, headers: &HeaderMap) -> Result<Session> {
    let mut tokens = headers.get_all(SESSION).iter();
    let token = tokens.next().filter(|_| tokens.next().is_none()).and_then(|token| token.to_str().ok());
    let token = token.ok_or_else(no_session)?;
    let found = sessions::find(&jobs.db.api, &*sealer(jobs)?, token).await?.ok_or_else(no_session)?;
    let stands = found.integrator == signed.integrator()
        && !sdk.integrator(&found.integrator).is_empty()
        && sdk.user(&found.username).is_some();
    if stands { Ok(found) } else { Err(no_session()) }
}

/// Tells the routes who it is.
fn admit(parts: &mut Parts, sdk: &Sdk, session: Option<Session>, integrator: &str, key: &Key) {
    let Some(session) = session else {
        parts.extensions.insert(By::Integrator(integrator.to_owned(), key.clone()));
        return;
    };
    if let Some(user) = sdk.user(&session.username) {
        parts.extensions.insert(Admitted(user.caller.clone()));
    }
    parts.extensions.insert(By::Session(session.hash));
}

/// The answer as the client reads it; one without a body stays so, and calls itself nothing.
async fn encrypted(key: &Key, answer: Response) -> anyhow::Result<Response> {
    let (mut parts, body) = answer.into_parts();
    let plain = to_bytes(body, usize::MAX).await?;
    parts.headers.remove(header::CONTENT_LENGTH);
    if plain.is_empty() {
        parts.headers.remove(header::CONTENT_TYPE);
        return Ok(Response::from_parts(parts, Body::empty()));
    }
    let text = sdk::body::encrypt(key, &plain)?;
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(Response::from_parts(parts, Body::from(Bytes::from_owner(Sent { text, _plain: plain }))))
}

/// What is sent, and what it was made of: the memory of a read of a log is its reader's until it is sent.
struct Sent {
    text: Vec<u8>,
    _plain: Bytes,
}

impl AsRef<[u8]> for Sent {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

fn asks_for_a_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().map(HeaderValue::as_bytes);
    let names_it = |accept: &[u8]| accept.windows(STREAM.len()).any(|part| part.eq_ignore_ascii_case(STREAM));
    accepted.into_iter().any(names_it)
}

/// 406: what is streamed would not be encrypted.
fn no_stream() -> Error {
    Error::NotAcceptable("a signed request is not answered by a stream: poll, or wait with `wait`".to_owned())
}

/// 401: the same words whatever is wrong, so that nobody learns which integrators there are.
fn wrong_signature() -> Error {
    Error::Unauthorized("the signature does not hold, or there is no such integrator".to_owned())
}

/// 401: the same words for one that has ended and one that never was.
fn no_session() -> Error {
    Error::Unauthorized("there is no such session, or it has ended".to_owned())
}
