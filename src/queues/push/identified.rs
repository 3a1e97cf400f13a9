//! Stores requests whose messages have keys of their own or values, in one transaction.

use super::answer::Batch;
use super::request::Request;
use crate::db;
use crate::http::json_text::raw;
use crate::queues::store::identified;
use crate::queues::store::pushes::{self, Claim, Push, Stored};
use crate::queues::uniqueness::{Told, Verdict};
use sqlx::postgres::{PgConnection, PgPool};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Why nothing was stored.
enum Undone {
    Failed(sqlx::Error),
    /// Of messages that are stored together or not at all, these are refused.
    Rejected(HashMap<Uuid, Told>),
}

impl From<sqlx::Error> for Undone {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error)
    }
}

/// One request.
struct Unit {
    pushes: Arc<Vec<Push>>,
    batch: Option<Arc<Batch>>,
}

/// Stores one message, or says which holds its value, waiting for what another transaction uses no longer than `patience`;
/// so do the statements behind it.
///
/// # Errors
/// The database's; 55P03 (`lock_not_available`) when another transaction uses its key or its value.
pub async fn one(tx: &mut PgConnection, push: Push, patience: Duration) -> sqlx::Result<Stored> {
    identified::be_patient(&mut *tx, patience).await?;
    store(tx, &[Unit { pushes: Arc::new(vec![push]), batch: None }], None).await
}

/// How requests are stored whose keys or values other transactions may use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waits {
    /// How long one waits for what another uses.
    pub(super) patience: Duration,
    /// Whether those are told apart for which that is too short, and the others stored: each has one message.
    pub(super) apart: bool,
}

/// Stores these. A batch of which all or none are stored comes alone.
///
/// # Errors
/// The database's; 55P03 (`lock_not_available`), unless they are told apart, when another transaction uses a key or a
/// value of theirs.
pub(super) async fn write(pool: &PgPool, requests: &[Request], waits: Waits) -> sqlx::Result<Stored> {
    let units: Vec<Unit> = requests
        .iter()
        .map(|request| Unit { pushes: Arc::clone(&request.pushes), batch: request.batch.clone() })
        .collect();
    let is_atomic = requests.iter().any(Request::is_atomic);
    let done = db::transaction::<_, Undone, _>(pool, move |tx| {
        Box::pin(async move {
            identified::be_patient(&mut *tx, waits.patience).await?;
            let stored = store(&mut *tx, &units, waits.apart.then_some(waits.patience)).await?;
            let refused = |(_, told): &(&Uuid, &Told)| told.what == Verdict::Rejected;
            if is_atomic && stored.told.iter().any(|told| refused(&told)) {
                let refused = stored.told.iter().filter(refused).map(|(id, told)| (*id, *told));
                return Err(Undone::Rejected(refused.collect()));
            }
            Ok(stored)
        })
    });
    match done.await {
        Ok(stored) => Ok(stored),
        Err(Undone::Rejected(told)) => Ok(Stored { told, ..Stored::default() }),
        Err(Undone::Failed(error)) => Err(error),
    }
}

async fn store(tx: &mut PgConnection, units: &[Unit], apart: Option<Duration>) -> sqlx::Result<Stored> {
    let pushes: Vec<&Push> = units.iter().flat_map(|unit| &*unit.pushes).collect();
    let (claimed, held) = match apart {
        None => (identified::claim(&mut *tx, &pushes).await?, Vec::new()),
        Some(patience) => {
            let pushes::Claimed { taken, held } = pushes::claim_apart(&mut *tx, &pushes, patience).await?;
            (taken, held)
        }
    };
    let claimed: HashSet<Uuid> = claimed.into_iter().collect();
    let is_fresh = |push: &&Push| push.key.is_none() || claimed.contains(&push.leader());
    let fresh: Vec<&Push> = pushes.iter().copied().filter(is_fresh).collect();
    let mut stored = identified::push(&mut *tx, &fresh, apart.is_some()).await?;
    stored.held.extend(held);
    if fresh.len() < pushes.len() {
        // The queues of what was not claimed may be gone too.
        stored.missing.extend(pushes::missing(&mut *tx, &pushes).await?);
    }
    for unit in units {
        let first = unit.pushes.first().filter(|first| claimed.contains(&first.id));
        if let Some((first, Claim::Leads { key, .. })) =
            first.and_then(|first| Some((first, first.key.as_ref()?)))
            && unit
                .pushes
                .iter()
                .any(|push| stored.told.contains_key(&push.id) || stored.held.contains(&push.id))
        {
            let message = unit.pushes.iter().find_map(|push| match stored.told.get(&push.id) {
                None if stored.held.contains(&push.id) => None,
                None => Some(push.id),
                Some(told) => (told.what != Verdict::Rejected).then_some(told.message),
            });
            let answer = unit.batch.as_ref().map(|batch| raw(&batch.answers(&stored.told)));
            identified::settle(&mut *tx, first.queue_id, &key.key, message, answer.as_deref()).await?;
        }
    }
    Ok(stored)
}
