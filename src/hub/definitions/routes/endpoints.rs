//! Endpoints: define, read, delete.

use super::events::{self, About};
use crate::auth::Authenticated;
use crate::db;
use crate::error::{Error, Problem, Result, is_constraint};
use crate::http::aside::aside;
use crate::http::body;
use crate::http::extract::{Path, Query};
use crate::http::openapi::{BodyProblems, Problems};
use crate::http::state_member::{status_of_put, with_state, without_state};
use crate::hub::definitions::documents::documented::{EndpointDefinition, EndpointState};
use crate::hub::definitions::documents::names::{DefinitionName, StoreName};
use crate::hub::definitions::documents::{PutEndpoint, check_name, check_store, is_name, shown};
use crate::hub::definitions::secrets;
use crate::hub::definitions::store::endpoints::{self, Deleted, Described, Put, Stored};
use crate::hub::roles::{self, Right};
use crate::hub::state::{Hub, Place, no_endpoint};
use crate::worker::store::{self as engine, Which};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use std::time::Duration;

/// So much of what waits for a service is made to go at once.
const HASTENED: i64 = 1000;

/// An endpoint, in a listing.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ListedEndpoint {
    /// Its name.
    #[schema(example = "warehouse")]
    name: String,
    /// The definition as it was put; secrets are replaced by `[redacted]`.
    #[schema(value_type = EndpointDefinition)]
    definition: Box<RawValue>,
    #[serde(flatten)]
    state: EndpointState,
}

impl ListedEndpoint {
    fn of(row: Described) -> Self {
        let (name, definition) = (row.name.clone(), row.definition.0.clone());
        Self { name, definition, state: state_of(row) }
    }
}

fn state_of(row: Described) -> EndpointState {
    EndpointState {
        catalogue: row.catalogue.map(|json| json.0),
        failures: row.failures,
        open_until: row.open_until,
        services: row.services.0,
        gone_at: row.gone_at,
        disabled_at: row.disabled_at,
        failing_since: row.failing_since,
        created_at: row.created_at,
        updated_at: row.updated_at,
    }
}

/// Lists the endpoints of a store.
#[utoipa::path(
    get, path = "/stores/{store}/endpoints", tag = "hub definitions", operation_id = "list_endpoints",
    params(("store" = inline(StoreName), Path, description = "The store")),
    responses((status = 200, description = "By name", body = Vec<ListedEndpoint>), Problems),
)]
pub(super) async fn list(
    Authenticated(caller): Authenticated,
    State(hub): State<Hub>,
    Path(store): Path<String>,
) -> Result<Json<Vec<ListedEndpoint>>> {
    let store = hub.store(&store, &caller, Right::Read).await?;
    let rows = endpoints::describe(&hub.db.api, store, None).await?;
    Ok(Json(rows.into_iter().map(ListedEndpoint::of).collect()))
}

/// Defines an endpoint, or redefines it.
///
/// Its circuit and those of its services are closed, and requests from now on go where it says. `[redacted]` in the place of a secret keeps
/// the one that is there. One that its failures had switched off sends what it held, once it is put with `enabled: true`.
/// Without its `events` it is refused while deliveries of them wait.
#[utoipa::path(
    put, path = "/stores/{store}/endpoints/{name}", tag = "hub definitions", operation_id = "put_endpoint",
    params(("store" = inline(StoreName), Path, description = "The store; the first thing put makes it"), ("name" = inline(DefinitionName), Path, description = "The endpoint\'s name"), About),
    request_body(content = EndpointDefinition, content_type = "application/json", description = "The definition. All but `url` may be absent.\n\n\
            * `url`: services are paths below it\n\
            * `wire`: `messages`, or `raw`: the payload as it was pushed, and no header but those named here\n\
            * `token`: sent as `X-Hub-Token` and `X-Augury-Token`\n\
            * `signing_secrets`: of Standard Webhooks, `whsec_` and base64; one signature each, at most 4; the \
            `webhook-id` that they sign is the delivery's id\n\
            * `sign`: signatures of other forms, at most 4: `kind` `hmac` or `jwt`, the `header`, the `secrets`\n\
            * `headers`: at most 20, texts with places such as `{message}` and `{id}`, or `{\"secret\": \"…\"}`\n\
            * `events`: keys such as `invoice.*`, of which a mapping to the URL itself is made; `options`: those of that \
            mapping\n\
            * `concurrency`: requests at a time of one server (8)\n\
            * `rate`: `per_second` and `burst`, over all servers; absent, no limit\n\
            * `timeout`: of a request (180s)\n\
            * `breaker`: after so many `failures` in a row (5) it is left alone for the `cooldown` (30s), then tried \
            one delivery at a time: the endpoint where it could not be reached, else only the service that failed\n\
            * `disable`: after so many `failures` in a row, the first of them so long ago (`after`), it is switched off\n\
            * `enabled`: whether anything is sent to it (true)",
        example = json!({"url": "https://warehouse.example.com/hub", "token": "x123", "concurrency": 8, "rate": {"per_second": 10, "burst": 20}, "timeout": "180s", "breaker": {"failures": 5, "cooldown": "30s"}, "enabled": true})),
    responses(
        (status = 200, description = "Redefined: the definition", body = EndpointDefinition, example = json!({"url": "https://warehouse.example.com/hub", "token": "[redacted]", "concurrency": 8})),
        (status = 201, description = "Defined: the definition", body = EndpointDefinition, example = json!({"url": "https://warehouse.example.com/hub", "token": "[redacted]", "concurrency": 8})),
        (status = 409, description = "A mapping does not go with it, another has the name of the one that `events` makes, or deliveries of `events` that it has no longer wait", body = Problem, content_type = "application/problem+json"),
        Problems, BodyProblems,
    ),
)]
pub(super) async fn put(
    Authenticated(caller): Authenticated,
    State(hub): State<Hub>,
    Path((store, name)): Path<(String, String)>,
    Query(about): Query<About>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Box<RawValue>>)> {
    roles::require(&caller, &store, Right::Admin)?;
    let document = without_state(body::read_json(&headers, body, &hub.limits).await?).raw;
    check_store(&store)?;
    check_name("an endpoint", &name)?;
    let put = PutEndpoint::of(&document)?;
    hub.outbound.check_url(put.definition.url.as_str()).map_err(|why| Error::invalid("/url", "url", why))?;
    // Whether secrets can be kept is said before anything is done.
    let sealer = if put.has_secrets() { Some(hub.sealer()?) } else { hub.sealer.clone() };
    let mapping = events::mapping(&name, &document)?;
    let shown = shown::shown(&document);
    let definition = shown.clone();
    let put = hub.define(store, move |tx, place| {
        Box::pin(async move {
            let Place { store, version } = place;
            if mapping.is_none() {
                events::remove(&mut *tx, store, &name, about.waiting).await?;
            }
            let former = endpoints::secrets(&mut *tx, store, &name).await?.unwrap_or_default();
            let (secrets, bears) = secrets::seal(sealer.as_deref(), store, &name, &put, &former)?;
            aside(true, move || bears.prove()).await.map_err(Error::internal)??;
            let (definition, enabled) = (&*definition, put.definition.enabled);
            let new = Put { name: &name, definition, enabled, secrets: &secrets, version };
            let stored = endpoints::put(&mut *tx, store, &new).await?;
            if let Some(mapping) = mapping {
                events::put(&mut *tx, place, &name, stored.id, &mapping).await?;
            }
            if !stored.made {
                events::check_senders(tx, stored.id, &put).await?;
            }
            Ok(stored)
        })
    });
    let Stored { id, made, waiting } = put.await?;
    if let Some(from) = waiting {
        hasten(&hub, id, from).await?;
    }
    Ok((status_of_put(made), Json(shown)))
}

/// Has what waits for services of an endpoint go at once. What is not reached comes by itself.
async fn hasten(hub: &Hub, lane: i32, from: DateTime<Utc>) -> Result<()> {
    loop {
        let hastened = db::bounded(engine::hasten(&hub.db.api, lane, Which::All, from, HASTENED)).await?;
        hub.wake.due_after(Duration::ZERO);
        if hastened < HASTENED.unsigned_abs() {
            return Ok(());
        }
    }
}

/// Reads an endpoint: its definition, and beside it `state`, what a listing says of how it does. A PUT ignores that.
#[utoipa::path(
    get, path = "/stores/{store}/endpoints/{name}", tag = "hub definitions", operation_id = "get_endpoint",
    params(("store" = inline(StoreName), Path, description = "The store"), ("name" = inline(DefinitionName), Path, description = "The endpoint\'s name")),
    responses((status = 200, description = "The definition; secrets are replaced by `[redacted]`", body = EndpointDefinition, example = json!({"url": "https://warehouse.example.com/hub", "token": "[redacted]", "concurrency": 8})), Problems),
)]
pub(super) async fn get(
    Authenticated(caller): Authenticated,
    State(hub): State<Hub>,
    Path((store, name)): Path<(String, String)>,
) -> Result<Json<Box<RawValue>>> {
    let store = hub.store(&store, &caller, Right::Read).await?;
    let rows =
        if is_name(&name) { endpoints::describe(&hub.db.api, store, Some(&name)).await? } else { Vec::new() };
    let row = rows.into_iter().next().ok_or_else(no_endpoint)?;
    let definition = row.definition.0.clone();
    Ok(Json(with_state(&definition, &state_of(row))))
}

/// Deletes an endpoint, and with it the mapping that its `events` made, unless deliveries of that wait.
#[utoipa::path(
    delete, path = "/stores/{store}/endpoints/{name}", tag = "hub definitions", operation_id = "delete_endpoint",
    params(("store" = inline(StoreName), Path, description = "The store"), ("name" = inline(DefinitionName), Path, description = "The endpoint\'s name"), About),
    responses(
        (status = 204, description = "Deleted"),
        (status = 409, description = "A mapping sends to it, deliveries to it are under way, or deliveries of its `events` wait", body = Problem, content_type = "application/problem+json"),
        Problems,
    ),
)]
pub(super) async fn delete(
    Authenticated(caller): Authenticated,
    State(hub): State<Hub>,
    Path((store, name)): Path<(String, String)>,
    Query(about): Query<About>,
) -> Result<StatusCode> {
    let store = hub.store(&store, &caller, Right::Admin).await?;
    if !is_name(&name) {
        return Err(no_endpoint());
    }
    let ready = db::transaction::<_, Error, _>(&hub.db.api, move |tx| {
        Box::pin(async move {
            events::remove(&mut *tx, store, &name, about.waiting).await?;
            match endpoints::delete(tx, store, &name).await {
                Ok(Deleted::Gone(ready)) => Ok(ready),
                Ok(Deleted::Absent) => Err(no_endpoint()),
                Ok(Deleted::Busy) => Err(Error::Conflict(
                    "deliveries to this endpoint are under way: try again later".to_owned(),
                )),
                Err(error) if is_constraint(&error, "mappings_endpoint_fkey") => Err(Error::Conflict(
                    "a mapping sends to this endpoint: delete the mapping first".to_owned(),
                )),
                Err(error) => Err(error.into()),
            }
        })
    })
    .await?;
    hub.changed().await?;
    for lane in ready {
        hub.wake.ready(lane, 0);
    }
    Ok(StatusCode::NO_CONTENT)
}
