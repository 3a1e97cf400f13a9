//! Looks for a job by its number, its lease or its idempotency key, and for a kind of jobs by its name.

use super::roles;
use super::store::jump::{self as store, Found};
use super::types::Types;
use crate::auth::Caller;
use crate::http::place::{FoundBy, Place, PlaceKind, Wanted};
use sqlx::postgres::PgPool;

/// Where among the jobs something is that a caller may read; `None` for one who may read none. Keys are the caller's own.
///
/// # Errors
/// The database's.
pub async fn jump(
    pool: &PgPool,
    types: &Types,
    caller: &Caller,
    wanted: &Wanted,
) -> sqlx::Result<Option<Vec<Place>>> {
    if roles::require_any(caller).is_err() {
        return Ok(None);
    }
    let mut found = find(pool, wanted).await?;
    if !caller.subject.is_empty() {
        found.extend(store::by_key(pool, &types.ids(), &caller.subject, &wanted.text).await?);
    }
    found.retain(|job| roles::sees_any(caller) || roles::owns(caller, &job.owner));
    let mut places = places(types, found);
    places.extend(types.by_name(&wanted.text).map(|named| Place {
        kind: PlaceKind::JobType,
        name: named.name.clone(),
        within: None,
        by: FoundBy::Name,
        see: format!("/{}", named.name),
    }));
    Ok(Some(places))
}

/// The jobs of this number, id or lease.
///
/// # Errors
/// The database's.
pub async fn find(pool: &PgPool, wanted: &Wanted) -> sqlx::Result<Vec<Found>> {
    let mut found = Vec::new();
    if let Some(number) = wanted.number {
        found.extend(store::by_number(pool, number).await?);
    }
    if let Some(id) = wanted.id {
        found.extend(store::by_id(pool, id).await?);
    }
    Ok(found)
}

fn places(types: &Types, found: Vec<Found>) -> Vec<Place> {
    let place = |job: Found| {
        let job_type = types.by_id(job.type_id)?.name.clone();
        let (name, see) = (job.id.to_string(), format!("/{job_type}/{}", job.id));
        Some(Place { kind: PlaceKind::Job, name, within: Some(job_type), by: job.by, see })
    };
    found.into_iter().filter_map(place).collect()
}
