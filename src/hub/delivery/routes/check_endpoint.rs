//! Sees whether an endpoint can be reached.

use crate::auth::Authenticated;
use crate::error::Result;
use crate::http::extract::Path;
use crate::http::openapi::Problems;
use crate::hub::definitions::ask::ask;
use crate::hub::definitions::documents::names::{DefinitionName, StoreName};
use crate::hub::delivery::advice::advice;
use crate::hub::delivery::judge::WHY;
use crate::hub::delivery::redact::Redactor;
use crate::hub::roles::Right;
use crate::hub::state::Hub;
use axum::Json;
use axum::extract::State;
use serde::Serialize;

/// The largest answer that is read.
const LARGEST: usize = 64 << 10;

/// Whether an endpoint can be reached.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Reached {
    /// Whether it answered, whatever it said.
    reachable: bool,
    /// The HTTP status of its answer.
    status: Option<u16>,
    /// Why there was no whole answer, or that it points elsewhere, in one word: the words of an attempt.
    #[schema(example = "tls_name")]
    cause: Option<&'static str>,
    /// The same in a sentence that begins with the word.
    #[schema(example = "tls_name: the certificate is for another host")]
    error: Option<String>,
    /// What to change.
    #[schema(example = "use a host name that the certificate has")]
    advice: Option<&'static str>,
}

/// Sees whether an endpoint can be reached.
///
/// One GET of its URL, with its token. It waits 10 seconds at most.
#[utoipa::path(
    post, path = "/stores/{store}/endpoints/{name}/check", tag = "hub definitions", operation_id = "check_endpoint",
    params(("store" = inline(StoreName), Path, description = "The store"), ("name" = inline(DefinitionName), Path, description = "The endpoint\'s name")),
    responses((status = 200, description = "What came of it", body = Reached), Problems),
)]
pub(super) async fn check(
    Authenticated(caller): Authenticated,
    State(hub): State<Hub>,
    Path((store, name)): Path<(String, String)>,
) -> Result<Json<Reached>> {
    let store = hub.store(&store, &caller, Right::Admin).await?;
    let endpoint = hub.endpoint(store, &name).await?;
    let request = ask(&endpoint, endpoint.definition.url.clone(), LARGEST);
    let (status, failure) = match hub.outbound.send(request).await {
        Ok(answer) => (Some(answer.status), answer.redirect()),
        Err(failure) => (failure.status, Some(failure)),
    };
    let said = |text: String| Redactor::of(&endpoint).beginning(text.as_bytes(), WHY);
    Ok(Json(Reached {
        reachable: status.is_some(),
        status: status.map(|status| status.as_u16()),
        cause: failure.as_ref().map(|failure| failure.cause.word()),
        advice: failure.as_ref().map(|failure| advice(failure.cause, false)),
        error: failure.map(|failure| said(failure.to_string())),
    }))
}
