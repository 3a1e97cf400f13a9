//! Mappings: define, read, delete.

use super::events::of_endpoint;
use crate::auth::Authenticated;
use crate::db;
use crate::error::{Error, Problem, Result, Violation};
use crate::http::body;
use crate::http::extract::Path;
use crate::http::json_text::to_value;
use crate::http::openapi::{BodyProblems, Problems};
use crate::http::state_member::{status_of_put, with_state, without_state};
use crate::hub::definitions::documents::documented::{MappingDefinition, MappingState};
use crate::hub::definitions::documents::names::{DefinitionName, StoreName};
use crate::hub::definitions::documents::{PutEndpoint, check_name, check_store, is_name};
use crate::hub::definitions::fit::{Misfit, fits};
use crate::hub::definitions::mapping::Definition;
use crate::hub::definitions::store::held;
use crate::hub::definitions::store::mappings::{self, Described, Put};
use crate::hub::definitions::store::of_endpoints::{self, Owner};
use crate::hub::roles::{self, Right};
use crate::hub::state::{Hub, Place, no_mapping};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::RawValue;

/// A mapping, in a listing.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ListedMapping {
    /// Its name.
    #[schema(example = "ship")]
    name: String,
    /// The definition as it was put.
    #[schema(value_type = MappingDefinition)]
    definition: Box<RawValue>,
    #[serde(flatten)]
    state: MappingState,
}

impl ListedMapping {
    fn of(row: Described) -> Self {
        let state = state_of(&row);
        Self { name: row.name, definition: row.definition.0, state }
    }
}

fn state_of(row: &Described) -> MappingState {
    MappingState {
        next_tick: row.next_tick,
        held: row.held,
        of_endpoint: row.of_endpoint,
        created_at: row.created_at,
        updated_at: row.updated_at,
    }
}

/// Lists the mappings of a store.
#[utoipa::path(
    get, path = "/stores/{store}/mappings", tag = "hub definitions", operation_id = "list_mappings",
    params(("store" = inline(StoreName), Path, description = "The store")),
    responses((status = 200, description = "By name", body = Vec<ListedMapping>), Problems),
)]
pub(super) async fn list(
    Authenticated(caller): Authenticated,
    State(hub): State<Hub>,
    Path(store): Path<String>,
) -> Result<Json<Vec<ListedMapping>>> {
    let store = hub.store(&store, &caller, Right::Read).await?;
    let rows = mappings::describe(&hub.db.api, store, None).await?;
    Ok(Json(rows.into_iter().map(ListedMapping::of).collect()))
}

/// Defines a mapping, or redefines it.
///
/// Messages that come from now on are routed by it; deliveries run as it says when they are attempted. Switched on,
/// it sends what it held.
#[utoipa::path(
    put, path = "/stores/{store}/mappings/{name}", tag = "hub definitions", operation_id = "put_mapping",
    params(("store" = inline(StoreName), Path, description = "The store"), ("name" = inline(DefinitionName), Path, description = "The mapping\'s name")),
    request_body(content = MappingDefinition, content_type = "application/json", description = "The definition. `endpoint` and `service` are required, and `messages` or a `schedule`.\n\n\
            * `endpoint`, `service`: where to, the service as a path below the endpoint's URL, or empty for that itself\n\
            * `messages`: keys such as `order:new`, or `order:*` and `invoice.*` for all that begin so; `hub:*` is what \
            the hub says of itself: `hub:endpoint_failing`, `hub:endpoint_recovered`, `hub:endpoint_gone`, \
            `hub:endpoint_disabled`, `hub:delivery_parked`, `hub:poller_failing`\n\
            * `parameters`: names of those that are sent along\n\
            * `filters`: `path`, `operator` (eq, neq, gt, lt, begin, contains, end, present, empty, match), `value` and, \
            where a path has `*`, `match_rule` (all, any); all must hold\n\
            * `identifiers`: names and paths; messages of the same values are sent once\n\
            * `options`: `ack` (`strict`: 200 with our message_id; `lenient`: any 2xx, and what an endpoint has whose \
            `wire` is `raw`), `method` (POST, PUT, PATCH) and `content_type` for the wire `raw`, `headers` (texts with \
            places such as `{message}`), `retries_allowed` (true), \
            `max_attempts`, `max_age` (no limit), `retry` with `base` and `cap`, `serial` (false, true, or a path: one \
            after the other of each value), `allow_responses` (keys that answers may bring), `revisit` (1: how often one \
            chain of answers may bring it the same key; a further time is parked as a loop), `timeout`, `parameters` \
            (which parameters an answer may set beside new ones: `sent`, those that the service is sent; `any`, also \
            those of other integrations)\n\
            * `schedule`: `every`, or `cron` with `timezone`, and the `message` that is sent then\n\
            * `enabled`: one that is not holds its deliveries (true)",
        example = json!({"endpoint": "warehouse", "service": "drop_ship", "messages": ["order:new"], "parameters": ["api_key"],
            "filters": [{"path": "payload.order.total", "operator": "gt", "value": 10}], "identifiers": {"order_number": "payload.order.number"},
            "options": {"ack": "strict", "retries_allowed": true, "retry": {"base": "5s", "cap": "1h"}, "serial": false}, "enabled": true})),
    responses(
        (status = 200, description = "Redefined: the definition", body = MappingDefinition, example = json!({"endpoint": "warehouse", "service": "drop_ship", "messages": ["order:new"], "parameters": ["api_key"]})),
        (status = 201, description = "Defined: the definition", body = MappingDefinition, example = json!({"endpoint": "warehouse", "service": "drop_ship", "messages": ["order:new"], "parameters": ["api_key"]})),
        (status = 409, description = "An endpoint\'s definition makes the mapping of this name (`events`)", body = Problem, content_type = "application/problem+json"),
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
    check_name("a mapping", &name)?;
    let (definition, enabled) = Definition::read(&document.value())?;
    let first_tick = hub.first_tick(&definition, enabled)?;
    let raw = document.raw.clone();
    let put = hub.define(store, move |tx, Place { store, version }| {
        Box::pin(async move {
            if let Some(Owner::Endpoint { .. }) = of_endpoints::owner(&mut *tx, store, &name).await? {
                return Err(of_endpoint());
            }
            let endpoint = of_endpoints::endpoint(&mut *tx, store, &definition.endpoint).await?;
            let (lane, endpoint) = endpoint.ok_or_else(|| {
                Error::invalid("/endpoint", "endpoint", "there is no endpoint of this name in this store")
            })?;
            check_fit(&definition, &endpoint)?;
            let put = Put {
                name: &name,
                endpoint_id: lane,
                definition: &raw,
                enabled,
                of_endpoint: false,
                first_tick,
                version,
            };
            let (id, made) = mappings::put(&mut *tx, store, &put).await?;
            let released = enabled && !made && held::release(tx, id, lane).await?;
            Ok((made, released.then_some(lane)))
        })
    });
    let (made, woken) = put.await?;
    if let Some(lane) = woken {
        hub.wake.ready(lane, 0);
    }
    Ok((status_of_put(made), Json(document.raw)))
}

/// Refuses a mapping that does not go with its endpoint.
fn check_fit(mapping: &Definition, endpoint: &RawValue) -> Result<()> {
    let document = to_value(endpoint.get()).unwrap_or_default();
    // One that cannot be read, of another version, is not this one's to judge.
    let Ok(endpoint) = PutEndpoint::read(&document) else { return Ok(()) };
    let misfits = fits(&mapping.options, &mapping.parameters, &endpoint.definition);
    if misfits.is_empty() {
        return Ok(());
    }
    let violation = |misfit: Misfit| Violation::new(misfit.pointer, misfit.keyword, misfit.words);
    let violations = misfits.into_iter().map(violation).collect();
    Err(Error::Invalid("the mapping does not go with its endpoint".to_owned(), violations))
}

impl Hub {
    /// When the schedule of a mapping fires first: never while it is switched off.
    pub(super) fn first_tick(&self, definition: &Definition, enabled: bool) -> Result<Option<DateTime<Utc>>> {
        let Some(schedule) = definition.schedule.as_ref().filter(|_| enabled) else { return Ok(None) };
        Ok(schedule.timing.next_after(self.now()?))
    }
}

/// Reads a mapping: its definition, and beside it `state`, what a listing says of how it does. A PUT ignores that.
#[utoipa::path(
    get, path = "/stores/{store}/mappings/{name}", tag = "hub definitions", operation_id = "get_mapping",
    params(("store" = inline(StoreName), Path, description = "The store"), ("name" = inline(DefinitionName), Path, description = "The mapping\'s name")),
    responses((status = 200, description = "The definition as it was put", body = MappingDefinition, example = json!({"endpoint": "warehouse", "service": "drop_ship", "messages": ["order:new"], "parameters": ["api_key"]})), Problems),
)]
pub(super) async fn get(
    Authenticated(caller): Authenticated,
    State(hub): State<Hub>,
    Path((store, name)): Path<(String, String)>,
) -> Result<Json<Box<RawValue>>> {
    let store = hub.store(&store, &caller, Right::Read).await?;
    let rows =
        if is_name(&name) { mappings::describe(&hub.db.api, store, Some(&name)).await? } else { Vec::new() };
    let row = rows.into_iter().next().ok_or_else(no_mapping)?;
    Ok(Json(with_state(&row.definition.0, &state_of(&row))))
}

/// Deletes a mapping.
///
/// Its deliveries that wait are parked; what was delivered stays to be read.
#[utoipa::path(
    delete, path = "/stores/{store}/mappings/{name}", tag = "hub definitions", operation_id = "delete_mapping",
    params(("store" = inline(StoreName), Path, description = "The store"), ("name" = inline(DefinitionName), Path, description = "The mapping\'s name")),
    responses(
        (status = 204, description = "Deleted"),
        (status = 409, description = "An endpoint\'s definition makes it (`events`)", body = Problem, content_type = "application/problem+json"),
        Problems,
    ),
)]
pub(super) async fn delete(
    Authenticated(caller): Authenticated,
    State(hub): State<Hub>,
    Path((store, name)): Path<(String, String)>,
) -> Result<StatusCode> {
    let store = hub.store(&store, &caller, Right::Admin).await?;
    if !is_name(&name) {
        return Err(no_mapping());
    }
    let gone = db::transaction::<_, Error, _>(&hub.db.api, move |tx| {
        Box::pin(async move {
            if let Some(Owner::Endpoint { .. }) = of_endpoints::owner(&mut *tx, store, &name).await? {
                return Err(of_endpoint());
            }
            Ok(mappings::delete(tx, store, &name).await?)
        })
    })
    .await?;
    if !gone {
        return Err(no_mapping());
    }
    hub.changed().await?;
    Ok(StatusCode::NO_CONTENT)
}
