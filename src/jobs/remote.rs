//! Jobs as their workers take them.

use super::store::work::{self, Taken};
use super::types::Types;
use crate::worker::Claim;
use crate::worker::remote::{Remote, Standing, Terms, Took};
use sqlx::postgres::PgConnection;
use std::sync::Arc;

/// What workers take of the jobs.
pub struct RemoteJobs {
    types: Arc<Types>,
}

impl RemoteJobs {
    /// The jobs of these types.
    pub fn new(types: Arc<Types>) -> Self {
        Self { types }
    }
}

impl Remote for RemoteJobs {
    type Item = Taken;

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

    async fn take(&self, tx: &mut PgConnection, claims: &[Claim]) -> sqlx::Result<Took<Taken>> {
        // One that was cancelled before it could run, or that was started without a claim, is left out.
        let taken = work::take(&mut *tx, claims).await?;
        let busy = if taken.len() < claims.len() { work::waiting(tx, claims).await? } else { Vec::new() };
        Ok(Took { items: taken.into_iter().map(|taken| (taken.lease, taken)).collect(), busy })
    }

    async fn untake(&self, tx: &mut PgConnection, claims: &[Claim]) -> sqlx::Result<()> {
        work::untake(tx, claims).await
    }
}
