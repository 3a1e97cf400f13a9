//! Storefront pollers: put them, look how they do, have one run now.

use super::document::PutPoller;
use super::preview;
use super::store::pollers::{self, Former, Put, View};
use crate::auth::Authenticated;
use crate::db;
use crate::error::{Error, Problem, Result};
use crate::flow::store::schedules;
use crate::http::body;
use crate::http::extract::Path;
use crate::http::json_text::to_value;
use crate::http::openapi::{BodyProblems, Problems};
use crate::http::state_member::{status_of_put, with_state, without_state};
use crate::hub::definitions::documents::names::{DefinitionName, StoreName};
use crate::hub::definitions::documents::shown::shown;
use crate::hub::definitions::documents::{PutSecret, check_name, check_store, is_name};
use crate::hub::polling::documented::{PollerDefinition, PollerState};
use crate::hub::purpose::Purpose;
use crate::hub::roles::{self, Right};
use crate::hub::state::{Hub, Place};
use crate::seal::{Sealed, Sealer};
use crate::worker::store as engine;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use chrono::{DateTime, Utc};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use serde_json::value::RawValue;
use std::sync::Arc;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// A storefront poller, and how it does.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ListedPoller {
    /// Its name.
    #[schema(example = "shop")]
    name: String,
    /// The definition as it was put, with a stand-in for its token.
    #[schema(value_type = PollerDefinition)]
    definition: Box<RawValue>,
    #[serde(flatten)]
    state: PollerState,
}

impl From<View> for ListedPoller {
    fn from(view: View) -> Self {
        let View { name, definition, next_run, queued, failures, last_run, last_error } = view;
        let state = PollerState { next_run, queued, failures, last_run, last_error };
        Self { name, definition: definition.0, state }
    }
}

/// 404: the store has no such poller.
fn no_poller() -> Error {
    Error::NotFound("there is no such poller in this store".to_owned())
}

async fn view(hub: &Hub, store_id: i32, name: &str) -> Result<View> {
    let views =
        if is_name(name) { pollers::views(&hub.db.api, store_id, Some(name)).await? } else { Vec::new() };
    views.into_iter().next().ok_or_else(no_poller)
}

/// Lists the pollers of a store.
#[utoipa::path(
    get, path = "/stores/{store}/pollers", tag = "hub definitions", operation_id = "list_pollers",
    params(("store" = inline(StoreName), Path, description = "The store")),
    responses((status = 200, description = "By name", body = Vec<ListedPoller>), Problems),
)]
pub(super) async fn list(
    Authenticated(caller): Authenticated,
    State(hub): State<Hub>,
    Path(store): Path<String>,
) -> Result<Json<Vec<ListedPoller>>> {
    let store = hub.store(&store, &caller, Right::Read).await?;
    let views = pollers::views(&hub.db.api, store, None).await?;
    Ok(Json(views.into_iter().map(ListedPoller::from).collect()))
}

/// Defines a poller, or redefines it.
///
/// What it has seen stays: delete it to begin anew.
#[utoipa::path(
    put, path = "/stores/{store}/pollers/{name}", tag = "hub definitions", operation_id = "put_poller",
    params(("store" = inline(StoreName), Path, description = "The store; the first thing that is put makes it"),
        ("name" = inline(DefinitionName), Path, description = "The poller\'s name")),
    request_body(content = PollerDefinition, content_type = "application/json", description = "The definition: `api`, and `every` or `cron`, are required.\n\n\
            * `api`: the base URL of the storefront; it is asked `GET {api}/{path}?since=…&page=…&per_page=…`\n\
            * `token`, `token_header`: what it is shown, and where (`X-Spree-Token`); `[redacted]` as the token keeps \
            the one that is stored\n\
            * `every`, or `cron` with `timezone`: when it runs\n\
            * `page_size` (100), `timeout` of a page (30s), `since`: where the first run begins (with everything)\n\
            * `overlap` (5m): how far before the last change that it knows a run begins, for what was committed late; a \
            number where changes are numbered\n\
            * `paging`: of the `kind` `page` (by number, sent as `parameter`, `page`), `cursor` (what an answer names in \
            its member `next`, `next_cursor`, sent as `parameter`, `cursor`), `link` (the address in `Link: <…>; rel=\"next\"`, \
            or in the member `next`) or `none` (one answer holds everything); `size` is where `page_size` is sent (`per_page`)\n\
            * `history`: whether what is there at the first run without `since` is told (`messages`), or only known from \
            then on (`snapshot`)\n\
            * `collections`: what is read. Of each `name`, `path` (the name), `id` (`id`), `updated` (`updated_at`), \
            `key` (the first word of its messages), `payload` (the key), `state` (`state`) and `rules` of `from`, `to` \
            and `message`. Absent: orders, payments and shipments\n\
            * `enabled`: whether it runs by itself (true)",
        example = json!({"api": "https://shop.example.com/api", "token": "x123", "every": "5m", "collections": [
            {"name": "orders", "id": "number", "key": "order", "rules": [{"from": "complete", "to": "canceled", "message": "order:cancel"}]}]})),
    responses(
        (status = 200, description = "Redefined: the definition", body = PollerDefinition, example = json!({"api": "https://shop.example.com/api", "token": "[redacted]", "every": "5m"})),
        (status = 201, description = "Defined: the definition", body = PollerDefinition, example = json!({"api": "https://shop.example.com/api", "token": "[redacted]", "every": "5m"})),
        Problems, BodyProblems,
    ),
)]
pub(super) async fn put(
    Authenticated(caller): Authenticated,
    State(hub): State<Hub>,
    Path((store, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Box<RawValue>>)> {
    roles::require(&caller, &store, Right::Admin)?;
    let document = without_state(body::read_json(&headers, body, &hub.limits).await?);
    check_store(&store)?;
    check_name("a poller", &name)?;
    let put = PutPoller::read(&document.value())?;
    if let Err(why) = hub.outbound.check_url(put.definition.api.as_str()) {
        return Err(Error::invalid("/api", "url", why));
    }
    let sealer = matches!(put.token, Some(PutSecret::New(_))).then(|| hub.sealer()).transpose()?;
    let document = shown(&document.raw);
    let (raw, now) = (document.clone(), hub.now()?);
    let put = hub.define(store, move |tx, Place { store, version }| {
        Box::pin(async move {
            let former = pollers::lock(&mut *tx, store, &name).await?;
            let purpose = Purpose::PollerToken(&name).of_store(store);
            let token = token(&put, former.as_ref(), sealer.as_ref(), &purpose)?;
            let (first, goes_on) = first_run(&put, former.as_ref(), now);
            let put = Put { definition: &raw, token: token.as_ref() };
            let owner = match &former {
                Some(former) => {
                    pollers::update(&mut *tx, former.id, version, &put).await?;
                    former.id
                }
                None => pollers::insert(&mut *tx, store, &name, version, &put).await?,
            };
            schedules::put(tx, pollers::KIND, &[schedules::Put { owner, first, goes_on }]).await?;
            Ok(former.is_none())
        })
    });
    Ok((status_of_put(put.await?), Json(document)))
}

/// The token, sealed: a new one, or the one that is there.
fn token(
    put: &PutPoller,
    former: Option<&Former>,
    sealer: Option<&Arc<Sealer>>,
    purpose: &[u8],
) -> Result<Option<Sealed>> {
    match (&put.token, sealer) {
        (Some(PutSecret::New(token)), Some(sealer)) => {
            sealer.seal(token.expose_secret(), purpose).map(Some).map_err(Error::Internal)
        }
        (Some(PutSecret::Stored), _) => {
            let stored = former.and_then(|former| former.token.clone());
            let none = || Error::invalid("/token", "token", "there is no token yet that could stay");
            stored.map(Some).ok_or_else(none)
        }
        _ => Ok(None),
    }
}

/// When it first runs by itself, and whether its schedule is what it was, and goes on.
fn first_run(put: &PutPoller, former: Option<&Former>, now: DateTime<Utc>) -> (Option<DateTime<Utc>>, bool) {
    let definition = &put.definition;
    let former = former.and_then(|former| PutPoller::read(&to_value(former.definition.get())?).ok());
    let goes_on = former.is_some_and(|former| former.definition.timing == definition.timing);
    (definition.timing.next_after(now).filter(|_| definition.enabled), goes_on)
}

/// Reads a poller: its definition, and beside it `state`, what a listing says of how it does. A PUT ignores that.
#[utoipa::path(
    get, path = "/stores/{store}/pollers/{name}", tag = "hub definitions", operation_id = "get_poller",
    params(("store" = inline(StoreName), Path, description = "The store"), ("name" = inline(DefinitionName), Path, description = "The poller\'s name")),
    responses((status = 200, description = "The definition as it was put, with a stand-in for its token", body = PollerDefinition, example = json!({"api": "https://shop.example.com/api", "token": "[redacted]", "every": "5m"})), Problems),
)]
pub(super) async fn get(
    Authenticated(caller): Authenticated,
    State(hub): State<Hub>,
    Path((store, name)): Path<(String, String)>,
) -> Result<Json<Box<RawValue>>> {
    let store = hub.store(&store, &caller, Right::Read).await?;
    let ListedPoller { definition, state, .. } = view(&hub, store, &name).await?.into();
    Ok(Json(with_state(&definition, &state)))
}

/// Deletes a poller with all it has seen.
///
/// Its messages stay.
#[utoipa::path(
    delete, path = "/stores/{store}/pollers/{name}", tag = "hub definitions", operation_id = "delete_poller",
    params(("store" = inline(StoreName), Path, description = "The store"), ("name" = inline(DefinitionName), Path, description = "The poller\'s name")),
    responses((status = 204, description = "Deleted"), Problems),
)]
pub(super) async fn delete(
    Authenticated(caller): Authenticated,
    State(hub): State<Hub>,
    Path((store, name)): Path<(String, String)>,
) -> Result<StatusCode> {
    let store = hub.store(&store, &caller, Right::Admin).await?;
    let gone = db::transaction::<_, Error, _>(&hub.db.api, move |tx| {
        Box::pin(async move { Ok(is_name(&name) && pollers::delete(tx, store, &name).await?) })
    })
    .await?;
    if !gone {
        return Err(no_poller());
    }
    hub.changed().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Has a poller run now.
///
/// A run that waits for its next attempt begins at once; one that goes on is not repeated.
#[utoipa::path(
    post, path = "/stores/{store}/pollers/{name}/run", tag = "hub definitions", operation_id = "run_poller",
    params(("store" = inline(StoreName), Path, description = "The store"), ("name" = inline(DefinitionName), Path, description = "The poller\'s name")),
    responses(
        (status = 202, description = "It runs", body = ListedPoller),
        (status = 409, description = "It is switched off", body = Problem, content_type = "application/problem+json"),
        Problems,
    ),
)]
pub(super) async fn run(
    Authenticated(caller): Authenticated,
    State(hub): State<Hub>,
    Path((store, name)): Path<(String, String)>,
) -> Result<(StatusCode, Json<ListedPoller>)> {
    let store = hub.store(&store, &caller, Right::Admin).await?;
    if view(&hub, store, &name).await?.next_run.is_none() {
        return Err(Error::Conflict("this poller is switched off".to_owned()));
    }
    let lane = {
        let name = name.clone();
        db::transaction::<_, Error, _>(&hub.db.api, move |tx| {
            Box::pin(async move {
                let run = pollers::queue(&mut *tx, store, &name).await?.ok_or_else(no_poller)?;
                if run.was_queued {
                    engine::hurry(tx, &[run.item]).await?;
                }
                Ok(run.lane)
            })
        })
        .await?
    };
    hub.wake.ready(lane, 0);
    Ok((StatusCode::ACCEPTED, Json(view(&hub, store, &name).await?.into())))
}

/// The routes of pollers.
pub fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(put, get, delete))
        .routes(routes!(run))
        .routes(routes!(preview::preview))
}
