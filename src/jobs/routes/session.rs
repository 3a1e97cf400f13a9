//! Sessions of the vendor's client: log in, stay, end. Who comes here has signed, as [`super::signed`] has seen.

use super::signed::By;
use super::state::{Jobs, sealer};
use crate::error::{Error, Result};
use crate::http::body;
use crate::http::openapi::{BodyProblems, Problems};
use crate::jobs::sdk::{keys, sessions};
use crate::jobs::store;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};

/// Who logs in.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    /// The user.
    #[schema(example = "agent")]
    username: String,
    /// HMAC-SHA256 of the integrator's key with the key of the password, in base64.
    #[schema(example = "4xTJCI7hO/HdesINToadHjJJkuEGBJ+kP8tWS9AP++k=")]
    password_proof: String,
    /// A point of P-256 that is not compressed, in base64.
    #[schema(
        example = "BAIX5hfwtkQ5KCePlpmeaaI6TywVK99tbN9m5bgCgtTtGUp968uXcS0t2jyoWqh2Wlb0X8dYWZZS8ol8ZTBuV5Q="
    )]
    client_public_key: String,
}

/// A session.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Session {
    /// A point of P-256 that is not compressed, in base64: with it the client comes to the session's key.
    #[schema(
        example = "BNZak5d8qj0bCBhS/1ennkZfFmBXcwS66tUF3TpIWJzzUBheiVNy32Ih6joTdVfkc/3bZ1XwW9UHw8Uz/OnJEoU="
    )]
    server_public_key: String,
    /// To be sent in `x-cardsavr-session-jwt`.
    #[schema(example = "a5t0k3n")]
    session_token: String,
    /// The user's number.
    #[schema(example = 1)]
    user_id: i64,
}

/// Nothing: an object without members.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// Begins a session, which ends when it is not used for 15 minutes, and after 12 hours. The request is signed with the
/// integrator's key, and both bodies are encrypted with it. Where nobody can log in, there is nothing here (404).
#[utoipa::path(
    post, path = "/session/login", tag = "sessions", operation_id = "log_in",
    security(("signature" = [])),
    params(("x-cardsavr-authorization" = String, Header, description = "`SWCH-HMAC-SHA256 Credentials=` and the integrator", example = "SWCH-HMAC-SHA256 Credentials=acme"),
        ("x-cardsavr-nonce" = String, Header, description = "Milliseconds since 1970", example = "1700000000000"),
        ("x-cardsavr-signature" = String, Header, description = "The signature, in base64", example = "36Y76R7CiCxCn84pDQKBrAE6jZvvv+piFfTZmSgPsLk=")),
    request_body(content = Login, content_type = "application/json", description = "Encrypted: `{\"encrypted_body\": …}`"),
    responses((status = 200, description = "The session, encrypted", body = Session), Problems, BodyProblems),
)]
pub(super) async fn log_in(
    State(jobs): State<Jobs>,
    by: Option<Extension<By>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Session>> {
    let sdk = jobs.sdk.as_deref().ok_or_else(nothing)?;
    let Some(Extension(By::Integrator(integrator, integrators_key))) = by else { return Err(unsigned()) };
    let Login { username, password_proof, client_public_key } =
        body::read_json_as(&headers, body, &jobs.limits).await?;
    let user = sdk.user(&username);
    // Whoever there is not takes as long as who does not know the password.
    let knows = keys::is_proof(&password_proof, sdk.password_key(user), &integrators_key);
    let user = user.filter(|_| knows).ok_or_else(wrong_user)?;
    let agreed = keys::agree(&client_public_key).map_err(Error::internal)?.ok_or_else(|| {
        Error::BadRequest("`client_public_key` must be an uncompressed point of P-256 in base64".to_owned())
    })?;
    let session_token =
        sessions::begin(&jobs.db.api, &*sealer(&jobs)?, &integrator, &username, &agreed.key).await?;
    tracing::info!(username = username.as_str(), integrator = integrator.as_str(), "a session begins");
    Ok(Json(Session { server_public_key: agreed.server_public_key, session_token, user_id: user.id }))
}

/// Says that a session is still used.
#[utoipa::path(
    put, path = "/session/refresh", tag = "sessions", operation_id = "refresh_session",
    security(("signature" = [])),
    request_body(content = std::collections::HashMap<String, serde_json::Value>, content_type = "application/json", description = "`{}`, encrypted: `{\"encrypted_body\": …}`"),
    responses((status = 200, description = "It goes on: `{}`, encrypted", body = std::collections::HashMap<String, serde_json::Value>), Problems, BodyProblems),
)]
pub(super) async fn refresh(
    State(jobs): State<Jobs>,
    by: Option<Extension<By>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Nothing>> {
    let Some(Extension(By::Session(_))) = by else { return Err(unsigned()) };
    body::read_json_as(&headers, body, &jobs.limits).await.map(Json)
}

/// Ends a session; others of its user go on.
#[utoipa::path(
    get, path = "/session/end", tag = "sessions", operation_id = "end_session",
    security(("signature" = [])),
    responses((status = 200, description = "It has ended"), Problems),
)]
pub(super) async fn end(State(jobs): State<Jobs>, by: Option<Extension<By>>) -> Result<StatusCode> {
    let Some(Extension(By::Session(session))) = by else { return Err(unsigned()) };
    store::sessions::end(&jobs.db.api, &session).await?;
    Ok(StatusCode::OK)
}

fn nothing() -> Error {
    Error::NotFound("there is nothing here".to_owned())
}

fn unsigned() -> Error {
    Error::Unauthorized("this needs a signature, in `x-cardsavr-signature`".to_owned())
}

/// 401: the same words whatever is wrong, so that nobody learns which users there are.
fn wrong_user() -> Error {
    Error::Unauthorized("there is no such user, or it has another password".to_owned())
}
