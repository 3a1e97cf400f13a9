//! Jobs as their workers take them.

use super::store::safes;
use super::store::work::{self, Taken};
use super::types::Types;
use super::{data, safe};
use crate::seal::{Sealed, Sealer, Unopened};
use crate::traces::Context;
use crate::worker::Claim;
use crate::worker::remote::{Remote, Standing, Terms, Took};
use serde_json::value::RawValue;
use sqlx::postgres::PgConnection;
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// What workers take of the jobs.
pub struct RemoteJobs {
    types: Arc<Types>,
    sealer: Option<Arc<Sealer>>,
}

/// A job as its worker gets it.
#[derive(Debug)]
pub struct Job {
    /// Its number.
    pub id: i64,
    /// The person it is for.
    pub cardholder_id: i64,
    /// What its creator sent, with what lies in its safe.
    pub data: Box<RawValue>,
    /// The claim.
    pub lease: Uuid,
    /// Its name in the engine.
    pub item: Uuid,
    /// The span that created it.
    pub trace: Option<Context>,
}

impl RemoteJobs {
    /// The jobs of these types, whose data `sealer` opens.
    pub fn new(types: Arc<Types>, sealer: Option<Arc<Sealer>>) -> Self {
        Self { types, sealer }
    }

    /// What the worker of a job reads.
    fn opened(
        &self,
        item: Uuid,
        data: Option<&Sealed>,
        content: Option<&Sealed>,
    ) -> Result<Box<RawValue>, Unopened> {
        let data = data::open(self.sealer.as_deref(), item, data)?;
        let Some(content) = content else { return Ok(data) };
        Ok(safe::put_back(&data, &safe::open(self.sealer.as_deref(), item, content)?))
    }
}

impl Remote for RemoteJobs {
    type Item = Job;

    fn standing(&self, lane: i32) -> Standing {
        self.types.by_id(lane).map_or(Standing::Closed, |job_type| {
            // How long a job may take is its own deadline.
            Standing::Open(Terms {
                lease: job_type.rules.lease,
                timeout: None,
                concurrency: None,
                kept: None,
            })
        })
    }

    async fn take(&self, tx: &mut PgConnection, claims: &[Claim]) -> sqlx::Result<Took<Job>> {
        // One that was cancelled before it could run, or that was started without a claim, is left out.
        let taken = work::take(&mut *tx, claims).await?;
        let mut items = Vec::with_capacity(taken.len());
        let mut closed = Vec::new();
        let all = taken.len() == claims.len();
        // Read once the jobs are locked: their owners may have replaced it just before.
        let with_safe: Vec<i64> = taken.iter().filter(|job| job.has_account).map(|job| job.id).collect();
        let safes =
            if with_safe.is_empty() { Vec::new() } else { safes::contents(&mut *tx, &with_safe).await? };
        let safes: HashMap<i64, Sealed> = safes.into_iter().collect();
        for Taken { id, item, cardholder_id, data: sealed, has_account: _, lease, trace } in taken {
            match self.opened(item, sealed.as_ref(), safes.get(&id)) {
                Ok(data) => items.push((lease, Job { id, cardholder_id, data, lease, item, trace })),
                Err(error) => {
                    // Its time has not begun, and others go on: it is tried again, here or by a process that has the key.
                    tracing::error!(job = id, %error, "a job waits: its data cannot be opened");
                    closed.extend(claims.iter().find(|claim| claim.lease == lease).cloned());
                }
            }
        }
        if !closed.is_empty() {
            work::untake(&mut *tx, &closed).await?;
        }
        let busy = if all && closed.is_empty() { Vec::new() } else { work::waiting(tx, claims).await? };
        Ok(Took { items, busy })
    }

    async fn untake(&self, tx: &mut PgConnection, claims: &[Claim]) -> sqlx::Result<()> {
        work::untake(tx, claims).await
    }
}
