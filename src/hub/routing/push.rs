//! The way in from outside: a pushed message is stored and routed in one transaction.

use super::decide::{self, Accepted};
use super::message::{Draft, State};
use super::store::messages;
use crate::db::{self, Database};
use crate::error::{Error, Result, was_undone};
use crate::http::idempotency::{self, Key};
use crate::hub::definitions::catalog::Catalog;
use crate::hub::definitions::store::stores;
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

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

/// Stores and routes a message; once it is back, the message is durable.
///
/// # Errors
/// 409 when its key was used with another body; the database's.
pub async fn push(db: &Database, catalog: &Arc<Catalog>, push: Push) -> Result<Pushed> {
    let mut tries = 0;
    loop {
        match once(db, Arc::clone(catalog), push.clone()).await {
            Err(Error::Database(error)) if tries < 3 && was_undone(&error) => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(rand::random_range(1..20))).await;
            }
            other => return other,
        }
    }
}

async fn once(db: &Database, catalog: Arc<Catalog>, push: Push) -> Result<Pushed> {
    let ids = Arc::clone(&db.ids);
    db::transaction::<_, Error, _>(&db.api, move |tx| {
        Box::pin(async move {
            let Push { store, message, payload, key } = push;
            let store_id = stores::ensure(&mut *tx, &store).await?;
            let id = ids.next();
            if let Some(key) = &key
                && !messages::claim_key(&mut *tx, store_id, &key.key, &key.digest, id).await?
            {
                let (id, state) = again(&mut *tx, store_id, key).await?;
                return Ok(Pushed { id, state, accepted: None });
            }
            let (parent, parked) = (None, None);
            let (root, visits, held_back, hop, delay) = (None, Vec::new(), None, 0, Duration::ZERO);
            let key = message;
            let draft =
                Draft { id, store_id, key, payload, parent, hop, root, visits, held_back, delay, parked };
            let accepted = decide::accept(tx, &catalog, &ids, vec![draft]).await?;
            let state = accepted.states.get(&id).copied().unwrap_or(State::Unrouted);
            Ok(Pushed { id, state, accepted: Some(accepted) })
        })
    })
    .await
}

/// The message that a key made before.
async fn again(tx: &mut sqlx::postgres::PgConnection, store_id: i32, key: &Key) -> Result<(Uuid, State)> {
    // Gone between the two statements: its retention ended just now.
    let former = messages::former(&mut *tx, store_id, &key.key).await?;
    let (id, first) = former.ok_or_else(idempotency::ending)?;
    key.compare(&first)?;
    let row = messages::get(tx, store_id, id).await?.ok_or_else(|| idempotency::deleted("message"))?;
    Ok((id, row.state))
}
