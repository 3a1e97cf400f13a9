//! Looks for a delivery or a message of the hub by its id, its lease or its idempotency key, and for stores, endpoints,
//! mappings and pollers by their names.

use crate::auth::Caller;
use crate::http::place::{Place, Wanted};
use crate::hub::delivery::store::jump as store;
use crate::hub::roles;
use sqlx::postgres::PgPool;

/// Where in the hub something is that a caller may read; `None` for one who may look at no store.
///
/// # Errors
/// The database's.
pub async fn jump(pool: &PgPool, caller: &Caller, wanted: &Wanted) -> sqlx::Result<Option<Vec<Place>>> {
    let Ok(visible) = roles::visible(caller) else { return Ok(None) };
    Ok(Some(find(pool, visible.as_deref(), wanted).await?))
}

/// Where in these stores it is, or in all.
///
/// # Errors
/// The database's.
pub async fn find(pool: &PgPool, stores: Option<&[String]>, wanted: &Wanted) -> sqlx::Result<Vec<Place>> {
    let mut places = Vec::new();
    if let Some(id) = wanted.id {
        places.extend(store::by_id(pool, stores, id).await?);
    }
    places.extend(store::by_key(pool, stores, &wanted.text).await?);
    places.extend(store::by_name(pool, stores, &wanted.text).await?);
    Ok(places)
}
