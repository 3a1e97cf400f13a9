//! What administrators decide about deliveries: run one again, archive one, run many again, recover an endpoint.

use super::deliveries::{Delivery, no_delivery, read};
use crate::auth::Authenticated;
use crate::db::{self, ids::within_ids};
use crate::error::{Error, Problem, Result};
use crate::http::body;
use crate::http::extract::Path;
use crate::http::openapi::{BodyProblems, Problems};
use crate::hub::definitions::documents::is_name;
use crate::hub::definitions::documents::names::{DefinitionName, StoreName};
use crate::hub::definitions::store::endpoints;
use crate::hub::delivery::store::archive::{self, Archived};
use crate::hub::delivery::store::listing;
use crate::hub::delivery::store::rerun::{self, Which};
use crate::hub::delivery::store::revive::{self, Retried};
use crate::hub::roles::Right;
use crate::hub::state::{Hub, id_of, no_endpoint};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Deliveries in one transaction.
const BATCH: i64 = 1000;

/// Runs a delivery at once that is parked, or waits for its next attempt.
///
/// Its attempts and its age count from the start. One that waits for something else, its turn in a line or its
/// mapping to be switched on, goes on waiting.
#[utoipa::path(
    post, path = "/stores/{store}/deliveries/{id}/retry", tag = "hub deliveries", operation_id = "retry_delivery",
    params(("store" = inline(StoreName), Path, description = "The store"), ("id" = uuid::Uuid, Path, description = "The delivery's id")),
    responses(
        (status = 200, description = "It is PENDING again", body = Delivery),
        (status = 409, description = "It has ended otherwise or is under way, or its mapping was deleted", body = Problem, content_type = "application/problem+json"),
        Problems,
    ),
)]
pub(super) async fn retry(
    Authenticated(caller): Authenticated,
    State(hub): State<Hub>,
    Path((store, id)): Path<(String, String)>,
) -> Result<Json<Delivery>> {
    let store = hub.store(&store, &caller, Right::Admin).await?;
    let id = id_of(&id, no_delivery)?;
    let retried = db::transaction::<_, Error, _>(&hub.db.api, move |tx| {
        Box::pin(async move {
            let standing = listing::lock(&mut *tx, store, id).await?.ok_or_else(no_delivery)?;
            if standing.is_orphan {
                return Err(Error::Conflict("the mapping of this delivery was deleted".to_owned()));
            }
            match standing.status.as_str() {
                "ERROR" => {}
                "PENDING" if !listing::is_under_way(&mut *tx, store, id).await? => {}
                "PENDING" => return Err(Error::Conflict("this delivery is under way".to_owned())),
                _ => {
                    return Err(Error::Conflict(
                        "only a parked or waiting delivery can be run again".to_owned(),
                    ));
                }
            }
            Ok(revive::retry(tx, store, &[id]).await?)
        })
    })
    .await?;
    ring(&hub, &retried);
    read(&hub, store, id).await
}

/// Notes that a delivery is not wanted any more.
///
/// One that is parked, or waits: for its next attempt, in a line, or for its mapping to be switched on. It stays to be
/// read, and may run again later. In a line the next one goes.
#[utoipa::path(
    post, path = "/stores/{store}/deliveries/{id}/archive", tag = "hub deliveries", operation_id = "archive_delivery",
    params(("store" = inline(StoreName), Path, description = "The store"), ("id" = uuid::Uuid, Path, description = "The delivery's id")),
    responses(
        (status = 200, description = "It is archived", body = Delivery),
        (status = 409, description = "It is under way, or has ended and is not parked", body = Problem, content_type = "application/problem+json"),
        Problems,
    ),
)]
pub(super) async fn archive(
    Authenticated(caller): Authenticated,
    State(hub): State<Hub>,
    Path((store, id)): Path<(String, String)>,
) -> Result<Json<Delivery>> {
    let store = hub.store(&store, &caller, Right::Admin).await?;
    let id = id_of(&id, no_delivery)?;
    let ready = db::transaction::<_, Error, _>(&hub.db.api, move |tx| {
        Box::pin(async move {
            let standing = listing::lock(&mut *tx, store, id).await?.ok_or_else(no_delivery)?;
            match archive::archive(tx, id, &standing).await? {
                Archived::Done(ready) => Ok(ready),
                Archived::UnderWay => Err(Error::Conflict("this delivery is under way".to_owned())),
                Archived::Ended => Err(Error::Conflict("this delivery has ended".to_owned())),
            }
        })
    })
    .await?;
    for lane in ready {
        hub.wake.ready(lane, 0);
    }
    read(&hub, store, id).await
}

/// Which deliveries to run again; all that are parked, if nothing is said.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RetryDeliveries {
    /// Of the mapping of this name.
    #[schema(example = "ship")]
    mapping: Option<String>,
    /// Of the endpoint of this name.
    #[schema(example = "warehouse")]
    endpoint: Option<String>,
    /// Those that stand so: `ERROR`, which are the parked ones and the default, or `COMPLETE`.
    status: Option<Again>,
    /// Made at or after this moment (RFC 3339).
    #[schema(example = "2026-11-20T00:00:00Z")]
    since: Option<DateTime<Utc>>,
    /// At most this many, 1 to 10,000; 1,000 if absent.
    #[schema(example = 1000, minimum = 1, maximum = 10000, default = 1000)]
    limit: Option<i64>,
}

/// A name that PostgreSQL can compare with.
fn name(member: &str, name: Option<String>) -> Result<Option<String>> {
    match name {
        Some(name) if name.contains('\0') => {
            Err(Error::BadRequest(format!("`{member}` must not hold the character U+0000")))
        }
        name => Ok(name),
    }
}

/// How deliveries stand that can be run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
enum Again {
    /// Parked ones.
    #[serde(rename = "ERROR")]
    Parked,
    /// Those that were delivered.
    #[serde(rename = "COMPLETE")]
    Delivered,
}

/// How many deliveries run again.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct RetriedDeliveries {
    /// How many are PENDING again.
    retried: usize,
    /// Whether the limit was reached, so that there may be more.
    more: bool,
}

/// Runs deliveries again, oldest first.
///
/// Archived ones, and those of deleted mappings, are left alone.
#[utoipa::path(
    post, path = "/stores/{store}/deliveries/retry", tag = "hub deliveries", operation_id = "retry_deliveries",
    params(("store" = inline(StoreName), Path, description = "The store")),
    request_body = RetryDeliveries,
    responses((status = 200, description = "How many", body = RetriedDeliveries), Problems, BodyProblems),
)]
pub(super) async fn retry_many(
    Authenticated(caller): Authenticated,
    State(hub): State<Hub>,
    Path(store): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<RetriedDeliveries>> {
    let store = hub.store(&store, &caller, Right::Admin).await?;
    let RetryDeliveries { mapping, endpoint, status, since, limit } =
        body::read_json_as(&headers, body, &hub.limits).await?;
    let limit = limit.unwrap_or(1000);
    if !(1..=10_000).contains(&limit) {
        return Err(Error::invalid("/limit", "range", "must lie between 1 and 10000"));
    }
    let mut which = Which {
        mapping: name("mapping", mapping)?,
        endpoint: name("endpoint", endpoint)?,
        since: since.map(within_ids),
        before: Some(hub.db.ids.next()),
        after: None,
    };
    let kind = match status {
        None | Some(Again::Parked) => Kind::Parked,
        Some(Again::Delivered) => Kind::Delivered,
    };
    let most = usize::try_from(limit).unwrap_or_default();
    let mut retried = 0;
    while retried < most {
        let part = BATCH.min(limit - i64::try_from(retried).unwrap_or(limit));
        let (count, last) = run(&hub, store, kind, which.clone(), part).await?;
        retried += count;
        which.after = last;
        if last.is_none() {
            return Ok(Json(RetriedDeliveries { retried, more: false }));
        }
    }
    Ok(Json(RetriedDeliveries { retried, more: true }))
}

/// From when on an endpoint is to get everything again.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Recover {
    /// Deliveries that were made at or after this moment (RFC 3339).
    #[schema(example = "2026-11-20T00:00:00Z")]
    since: DateTime<Utc>,
    /// Whether those that were delivered run again too, and not only the parked ones.
    #[serde(default)]
    all: bool,
}

/// Runs all deliveries of an endpoint since a moment again.
///
/// The parked ones, and those that were delivered when `all` is true. For an endpoint that was down for long, or
/// lost what it had.
#[utoipa::path(
    post, path = "/stores/{store}/endpoints/{name}/recover", tag = "hub deliveries", operation_id = "recover_endpoint",
    params(("store" = inline(StoreName), Path, description = "The store"), ("name" = inline(DefinitionName), Path, description = "The endpoint\'s name")),
    request_body = Recover,
    responses((status = 200, description = "How many", body = RetriedDeliveries), Problems, BodyProblems),
)]
pub(super) async fn recover(
    Authenticated(caller): Authenticated,
    State(hub): State<Hub>,
    Path((store, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<RetriedDeliveries>> {
    let store = hub.store(&store, &caller, Right::Admin).await?;
    if !is_name(&name) || endpoints::id(&hub.db.api, store, &name).await?.is_none() {
        return Err(no_endpoint());
    }
    let Recover { since, all } = body::read_json_as(&headers, body, &hub.limits).await?;
    let kind = if all { Kind::Both } else { Kind::Parked };
    let mut which = Which {
        endpoint: Some(name),
        since: Some(within_ids(since)),
        // What runs again ends once more, and what is made from now on is not of the past: each comes once.
        before: Some(hub.db.ids.next()),
        ..Which::default()
    };
    let mut retried = 0;
    loop {
        let (count, last) = run(&hub, store, kind, which.clone(), BATCH).await?;
        retried += count;
        which.after = last;
        if last.is_none() {
            return Ok(Json(RetriedDeliveries { retried, more: false }));
        }
    }
}

/// Which deliveries can be run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Parked,
    Delivered,
    Both,
}

/// Runs at most `limit` deliveries again; returns how many, and the last that was looked at.
async fn run(hub: &Hub, store: i32, kind: Kind, which: Which, limit: i64) -> Result<(usize, Option<Uuid>)> {
    let (retried, last) = db::transaction::<_, Error, _>(&hub.db.api, move |tx| {
        Box::pin(async move {
            let ids = if kind == Kind::Parked {
                rerun::parked(&mut *tx, store, &which, limit).await?
            } else {
                let both = kind == Kind::Both;
                let ids = rerun::delivered(&mut *tx, store, &which, both, limit).await?;
                rerun::park_delivered(&mut *tx, &ids).await?;
                ids
            };
            Ok((revive::retry(tx, store, &ids).await?, ids.last().copied()))
        })
    })
    .await?;
    ring(hub, &retried);
    Ok((retried.count, last))
}

fn ring(hub: &Hub, retried: &Retried) {
    for lane in &retried.ready {
        hub.wake.ready(*lane, 0);
    }
}
