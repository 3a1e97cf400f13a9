//! Switches endpoints off that have failed for too long, in a transaction of their own: a definition changes, and that
//! comes before everything a settlement has locked.
//!
//! The settlement that finds it sends word once it is committed. Where that gets lost with its process, the next failed
//! attempt finds the same.

use super::streaks::Doomed;
use crate::db::{self, Database};
use crate::http::json_text::{raw, to_value};
use crate::hub::definitions::catalog::Catalog;
use crate::hub::definitions::documents::PutEndpoint;
use crate::hub::definitions::documents::shown::with_member;
use crate::hub::definitions::store::failures::{self, Failing};
use crate::hub::notices::{self, Notice, Place};
use crate::hub::routing::decide::Accepted;
use crate::worker::{Wake, store as engine};
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

/// Switches endpoints off.
pub struct Disabling {
    /// The database.
    pub db: Database,
    /// What is known of endpoints.
    pub catalog: Arc<Catalog>,
    /// The bell of the engine.
    pub wake: Arc<Wake>,
    /// Those that are to be switched off.
    pub doomed: UnboundedReceiver<Doomed>,
}

impl Disabling {
    /// Switches off whatever comes, until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        while let Some(Some(doomed)) = stop.run_until_cancelled(self.doomed.recv()).await {
            if let Err(error) = self.switch_off(doomed).await {
                tracing::warn!(%error, lane = doomed.lane, "cannot switch off an endpoint that fails; its next failure tries again");
            }
        }
    }

    async fn switch_off(&self, doomed: Doomed) -> sqlx::Result<()> {
        let lane = doomed.lane;
        // Several failures find the same.
        let Some(endpoint) = self.catalog.endpoint(lane).filter(|endpoint| endpoint.definition.enabled)
        else {
            return Ok(());
        };
        let (catalog, ids, known) =
            (Arc::clone(&self.catalog), Arc::clone(&self.db.ids), Arc::clone(&endpoint));
        let done = db::transaction::<_, sqlx::Error, _>(&self.db.worker, move |tx| {
            Box::pin(async move {
                let version = engine::bump(&mut *tx).await?;
                let Some((failing, definition)) = failures::lock(&mut *tx, lane).await? else {
                    return Ok(None);
                };
                let document = to_value(definition.get()).unwrap_or_default();
                let Ok(put) = PutEndpoint::read(&document) else { return Ok(None) };
                let is_due =
                    put.definition.disable.is_some_and(|d| d.is_due(failing.failures, failing.lasting));
                if !put.definition.enabled || !is_due {
                    return Ok(None);
                }
                let definition = with_member(&definition, "enabled", &raw(&false));
                failures::switch_off(&mut *tx, lane, &definition, version).await?;
                let place = Place { store_id: known.store_id, endpoint: &known.name, service: None };
                let notices =
                    [Notice::endpoint_disabled(place, failing.failures, failing.since, &failing.last_error)];
                let notices = if doomed.quiet { &[][..] } else { &notices[..] };
                let accepted = notices::raise(tx, &catalog, &ids, notices).await?;
                Ok(Some((version, failing, accepted)))
            })
        });
        if let Some((version, failing, accepted)) = done.await? {
            self.tell(&endpoint.store, &endpoint.name, &failing, &accepted);
            self.catalog.refresh(&self.db.worker, version).await?;
            self.wake.look_everywhere();
        }
        Ok(())
    }

    fn tell(&self, store: &str, endpoint: &str, failing: &Failing, accepted: &Accepted) {
        let Failing { failures, since, last_error, .. } = failing;
        tracing::warn!(store, endpoint, failures, %since, last_error, "an endpoint is switched off: its attempts failed for too long");
        accepted.ring(&self.wake);
    }
}
