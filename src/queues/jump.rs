//! Looks for a message by its id, its lease or its idempotency key, and for a queue by its name.

use super::access::Access;
use super::catalog::Queue;
use super::roles;
use super::store::jump as store;
use crate::auth::Caller;
use crate::error::Result;
use crate::http::place::{FoundBy, Place, PlaceKind, Wanted};
use sqlx::postgres::PgPool;
use std::collections::HashMap;

/// A queue in which somebody may look.
#[derive(Debug, Clone)]
pub struct Readable {
    /// The queue.
    pub id: i32,
    /// Its name.
    pub name: String,
    /// Whether its messages may be read as its users read them.
    pub messages: bool,
    /// Whether its definition may be read, and its messages as administrators read them.
    pub definition: bool,
}

impl Readable {
    /// What whoever owns the database may read: everything.
    pub fn whole(queue: &Queue) -> Self {
        Self { id: queue.id, name: queue.name.clone(), messages: true, definition: true }
    }
}

/// Where in the queues something is that a caller may read; `None` for one who may read nothing there.
///
/// # Errors
/// The database's.
pub async fn jump(access: &Access, caller: &Caller, wanted: &Wanted) -> Result<Option<Vec<Place>>> {
    access.refresh().await?;
    let definition = roles::require_admin(caller).is_ok();
    let mut readable = Vec::new();
    access.catalog.each(|queue| {
        let messages = roles::require_push(&queue.definition.roles, &queue.name, caller).is_ok();
        if messages || definition {
            readable.push(Readable { messages, definition, ..Readable::whole(queue) });
        }
    });
    if readable.is_empty() && !definition {
        return Ok(None);
    }
    Ok(Some(find(&access.db.api, &readable, wanted).await?))
}

/// Where in these queues it is.
///
/// # Errors
/// The database's.
pub async fn find(pool: &PgPool, readable: &[Readable], wanted: &Wanted) -> sqlx::Result<Vec<Place>> {
    let ids: Vec<i32> = readable.iter().map(|queue| queue.id).collect();
    let queues: HashMap<i32, &Readable> = readable.iter().map(|queue| (queue.id, queue)).collect();
    let mut found = Vec::new();
    if let Some(id) = wanted.id {
        found.extend(store::by_id(pool, &ids, id).await?);
    }
    found.extend(store::by_key(pool, &ids, &wanted.text).await?);
    let message = |(queue, id, by)| {
        let queue = queues.get(&queue)?;
        let view = if queue.messages { "" } else { "?view=full" };
        let see = format!("/queues/{}/messages/{id}{view}", queue.name);
        let (name, within) = (format!("{id}"), Some(queue.name.clone()));
        Some(Place { kind: PlaceKind::Message, name, within, by, see })
    };
    let mut places: Vec<Place> = found.into_iter().filter_map(message).collect();
    let named = readable.iter().filter(|queue| queue.definition && queue.name == wanted.text);
    places.extend(named.map(|queue| Place {
        kind: PlaceKind::Queue,
        name: queue.name.clone(),
        within: None,
        by: FoundBy::Name,
        see: format!("/queues/{}", queue.name),
    }));
    Ok(places)
}
