//! The token of a request, and the caller as an argument of a route.

use super::{Caller, Verifier, unauthorized};
use crate::error::{Error, Result, Unreadable};
use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use std::sync::Arc;
use std::time::Instant;

/// The header that carries a bare token; it wins over `Authorization`.
const X_ACCESS_TOKEN: &str = "x-access-token";

/// The caller of a request. As an argument before the body it refuses a request without a good token with
/// a 401, the body unread; and then one whose query is found wanting with a 400.
#[derive(Debug, Clone)]
pub struct Authenticated(pub Arc<Caller>);

impl<S> FromRequestParts<S> for Authenticated
where
    Arc<Verifier>: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        AuthenticatedUntil::from_request_parts(parts, state).await.map(|known| Self(known.caller))
    }
}

/// A caller who is known otherwise than by a token: whoever has seen to that puts this into the extensions of the request,
/// where nothing comes from outside. It counts before any token.
#[derive(Debug, Clone)]
pub struct Admitted(pub Arc<Caller>);

/// As [`Authenticated`], with when the token ends: for an answer that may go on for longer.
#[derive(Debug, Clone)]
pub struct AuthenticatedUntil {
    /// The caller.
    pub caller: Arc<Caller>,
    /// When the token ends, by this process's own clock; none when it never does.
    pub until: Option<Instant>,
}

impl<S> FromRequestParts<S> for AuthenticatedUntil
where
    Arc<Verifier>: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let (caller, until) = match parts.extensions.get() {
            Some(Admitted(caller)) => (Arc::clone(caller), None),
            None => Arc::<Verifier>::from_ref(state).verify_until(token_from(&parts.headers)?).await?,
        };
        match parts.extensions.remove::<Unreadable>() {
            Some(why) => Err(why.into()),
            None => Ok(Self { caller, until }),
        }
    }
}

/// The token of `x-access-token`, or else of `Authorization: Bearer`.
///
/// # Errors
/// [`Error::Unauthorized`] when there is none, when the header that counts comes twice, or when it cannot
/// hold a token.
pub fn token_from(headers: &HeaderMap) -> Result<&str> {
    if let Some(token) = only(headers, X_ACCESS_TOKEN)? {
        return Ok(token);
    }
    let Some(credentials) = only(headers, header::AUTHORIZATION.as_str())? else {
        return Err(unauthorized(
            "this needs an access token, in `Authorization: Bearer <token>` or in `x-access-token: <token>`",
        ));
    };
    match credentials.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim_matches(' ')),
        _ => Err(unauthorized("the `Authorization` header is not `Bearer <token>`")),
    }
}

/// The value of a header that may come once.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(unauthorized(format!("the request has more than one `{name}` header")));
    }
    let text = value.to_str().map_err(|_| unauthorized(format!("the `{name}` header is not ASCII")))?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    fn token(headers: &[(&str, &[u8])]) -> Result<String, String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
            map.append(name, HeaderValue::from_bytes(value).map_err(|error| error.to_string())?);
        }
        token_from(&map).map(str::to_owned).map_err(|error| error.to_string())
    }

    #[test]
    fn a_token_comes_in_either_header_and_x_access_token_wins() {
        assert_eq!(token(&[("authorization", b"Bearer abc")]), Ok("abc".to_owned()));
        assert_eq!(token(&[("Authorization", b"bEARER   abc ")]), Ok("abc".to_owned()));
        assert_eq!(token(&[("X-Access-Token", b"abc")]), Ok("abc".to_owned()));
        let both: &[(&str, &[u8])] = &[("authorization", b"Bearer abc"), ("x-access-token", b"def")];
        assert_eq!(token(both), Ok("def".to_owned()));
        let basic: &[(&str, &[u8])] = &[("authorization", b"Basic YTpi"), ("x-access-token", b"def")];
        assert_eq!(token(basic), Ok("def".to_owned()));
    }

    #[test]
    fn a_header_that_cannot_hold_one_token_is_refused() {
        let cases: &[&[(&str, &[u8])]] = &[
            &[],
            &[("authorization", b"")],
            &[("authorization", b"Bearer")],
            &[("authorization", b"Basic YTpi")],
            &[("authorization", b"BearerX abc")],
            &[("authorization", b"abc")],
            &[("authorization", b"Bearer\tabc")],
            &[("authorization", b"Bearer abc"), ("authorization", b"Bearer abc")],
            &[("x-access-token", b"abc"), ("x-access-token", b"abc")],
            &[("x-access-token", b"ab\xc3\xa9")],
            &[("authorization", b"Bearer \xff")],
        ];
        for case in cases {
            assert!(token(case).is_err(), "{case:?}");
        }
    }
}
