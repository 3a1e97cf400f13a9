//! The queues as remote workers claim them: those whose handler is `worker`.

use super::catalog::Catalog;
use super::definition::Handler;
use super::store::ends::{self, Loaded};
use crate::worker::Claim;
use crate::worker::remote::{Remote, Standing, Terms, Took};
use sqlx::postgres::PgConnection;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// What remote workers claim of the queues.
pub struct RemoteMessages {
    catalog: Arc<Catalog>,
    lease: Duration,
}

impl RemoteMessages {
    /// The queues of this catalog; a lease lives for `lease` after each heartbeat.
    pub fn new(catalog: Arc<Catalog>, lease: Duration) -> Self {
        Self { catalog, lease }
    }
}

impl Remote for RemoteMessages {
    type Item = Loaded;

    fn standing(&self, lane: i32) -> Standing {
        let Some(queue) = self.catalog.by_id(lane) else { return Standing::Closed };
        match queue.definition.handler {
            Some(Handler::Worker) if queue.paused => Standing::Paused,
            Some(Handler::Worker) => Standing::Open(Terms {
                lease: self.lease,
                timeout: queue.definition.options.timeout,
                concurrency: queue.definition.options.concurrency.map(i32::from),
                kept: serde_json::to_string(&queue.definition.options.terms).ok().map(Arc::from),
            }),
            _ => Standing::Closed,
        }
    }

    async fn take(&self, tx: &mut PgConnection, claims: &[Claim]) -> sqlx::Result<Took<Loaded>> {
        let (_, loaded) = ends::load(tx, claims).await?;
        let mut leases: HashMap<Uuid, Uuid> = claims.iter().map(|claim| (claim.item, claim.lease)).collect();
        // A message that was deleted before it could run is left out.
        let items = loaded.into_iter().filter_map(|loaded| Some((leases.remove(&loaded.id)?, loaded)));
        Ok(Took { items: items.collect(), busy: Vec::new() })
    }

    async fn untake(&self, _tx: &mut PgConnection, _claims: &[Claim]) -> sqlx::Result<()> {
        Ok(())
    }
}
