//! The way in from outside: a pushed message is routed by what this process knows, and stored in one statement with all
//! that comes of it.
//!
//! The statement stores nothing when a mapping of the store is newer than that: the process learns of it, and decides
//! again. Nor does it wait for long when another transaction uses its idempotency key: it is tried again, together with
//! few others, so that those who wait for their keys do not keep all connections from everybody.

use super::decide::{self, Accepted};
use super::message::{Draft, State};
use super::store::{messages, push as store};
use crate::db::{Database, bounded};
use crate::error::{Error, Result, is_held, was_undone};
use crate::http::idempotency;
use crate::http::idempotency::Key;
use crate::hub::definitions::catalog::Catalog;
use crate::traces::Origin;
use serde_json::value::RawValue;
use std::time::Duration;
use store::{Incoming, Outcome};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

/// For how long it is tried again.
const LONGEST: Duration = Duration::from_secs(5);

/// A message on its way in.
#[derive(Debug, Clone)]
pub struct Push {
    /// The name of the store, which is made if it is not there.
    pub store: String,
    /// Its key.
    pub message: String,
    /// An object.
    pub payload: Box<RawValue>,
    /// Its idempotency key.
    pub key: Option<Key>,
    /// What it comes of.
    pub origin: Origin,
}

/// What became of it.
#[derive(Debug)]
pub struct Pushed {
    /// The message: the one that was stored, or that its key made before.
    pub id: Uuid,
    /// Where it stands.
    pub state: State,
    /// What is to be woken, where it was stored.
    pub accepted: Option<Accepted>,
}

/// Stores and routes a message; once it is back, the message is durable. In `held` wait those whose keys somebody else
/// uses.
///
/// # Errors
/// 409 when its key was used with another body, 410 when what it made is deleted, 503 when another transaction uses it
/// and does not end, or definitions change all the time; the database's.
pub async fn push(db: &Database, catalog: &Catalog, held: &Semaphore, push: Push) -> Result<Pushed> {
    let deadline = Instant::now() + LONGEST;
    let id = db.ids.next();
    let mut turn = None;
    loop {
        let tried = once(db, catalog, id, &push).await;
        drop(turn.take());
        let (why, is_held) = match tried {
            Ok(Some(pushed)) => return Ok(pushed),
            Ok(None) => (changing(), false),
            Err(Error::Database(error)) if was_undone(&error) => (Error::Database(error), false),
            Err(Error::Database(error)) if is_held(&error) && push.key.is_some() => {
                (idempotency::held(), true)
            }
            Err(error) => return Err(error),
        };
        if Instant::now() >= deadline {
            return Err(why);
        }
        tokio::time::sleep(Duration::from_millis(rand::random_range(1..20))).await;
        if is_held {
            turn = Some(timeout_at(deadline, held.acquire()).await.map_err(|_| why)?);
        }
    }
}

/// 503: whenever it was decided, a mapping had changed by then.
fn changing() -> Error {
    Error::Unavailable("the definitions of this store are changing".to_owned(), Duration::from_secs(1))
}

/// Tries it once; none when it is to be decided again.
async fn once(db: &Database, catalog: &Catalog, id: Uuid, push: &Push) -> Result<Option<Pushed>> {
    let Push { store, message, payload, key, origin } = push;
    let (known, mappings) = catalog.of_store_named(store);
    // What has no mappings has no deliveries, and they alone need it: the message finds its store by name.
    let store_id = mappings.first().map_or(0, |mapping| mapping.store_id);
    let draft = Draft::from_outside(id, store_id, message.clone(), payload.clone());
    let (draft, state, deliveries) = decide::decide(draft, &mappings, &db.ids);
    let key = key.as_ref();
    let deliveries = &deliveries[..];
    let incoming = Incoming { store, draft: &draft, state, deliveries, known, key, origin };
    let mut connection = db.api.acquire().await?;
    let Outcome { stored, ready, newer } = bounded(store::push(&mut *connection, &incoming)).await?;
    if stored {
        let accepted = Accepted { ready, ..Accepted::default() };
        return Ok(Some(Pushed { id, state, accepted: Some(accepted) }));
    }
    if let Some(key) = key
        && let Some(former) = bounded(messages::former(&mut *connection, store, &key.key)).await?
    {
        key.compare(&former.digest)?;
        let state = former.state.ok_or_else(|| idempotency::deleted("message"))?;
        return Ok(Some(Pushed { id: former.id, state, accepted: None }));
    }
    drop(connection);
    if let Some(newer) = newer {
        catalog.refresh(&db.api, newer).await?;
    }
    Ok(None)
}
