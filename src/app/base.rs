//! What every feature is made with, and the features that are made of it alone.

use crate::auth::Verifier;
use crate::config::Config;
use crate::db::Database;
use crate::flow::ticker::Ticker;
use crate::http::body::BodyLimits;
use crate::http::outbound::Outbound;
use crate::hub::definitions::mapping::Retry;
use crate::hub::{self, state::Hub};
use crate::jobs::remote::RemoteJobs;
use crate::jobs::routes::Jobs;
use crate::jobs::sdk::Sdk;
use crate::jobs::{self, Tails};
use crate::seal::Sealer;
use crate::traces::Tracer;
use crate::worker::Worker;
use crate::worker::remote::WaitingRoom;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What every feature is made with.
pub(super) struct Base {
    pub(super) db: Database,
    pub(super) sealer: Option<Arc<Sealer>>,
    pub(super) sdk: Option<Arc<Sdk>>,
    pub(super) verifier: Arc<Verifier>,
    pub(super) limits: BodyLimits,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
    pub(super) tracer: Tracer,
}

impl Base {
    /// The hub, with its consumers and its schedules.
    pub(super) async fn hub(
        &self,
        worker: &mut Worker,
        ticker: &mut Ticker,
        outbound: Outbound,
        config: &Config,
    ) -> sqlx::Result<Hub> {
        let retry = Retry { base: config.hub_retry.0, cap: config.hub_retry.1 };
        let (db, verifier) = (self.db.clone(), Arc::clone(&self.verifier));
        let hub = Hub::new(
            db,
            self.sealer.clone(),
            worker.wake(),
            verifier,
            self.limits,
            outbound,
            self.tracer.clone(),
        );
        hub::start(worker, ticker, &hub, retry, config.hub_descendants, &self.tasks, &self.stop).await?;
        Ok(hub)
    }

    /// Jobs, with their consumer.
    pub(super) async fn jobs(&self, worker: &mut Worker, config: &Config) -> anyhow::Result<Jobs> {
        let types = Arc::new(jobs::types::Types::default());
        types.load(&self.db.worker, config.queues_dir.as_deref()).await?;
        worker.add(Arc::new(jobs::consumer::Jobs::new(
            self.db.worker.clone(),
            Arc::clone(&types),
            self.tracer.clone(),
        )));
        let tails = Arc::new(Tails::new(self.db.api.clone(), config.broadcast_retention, worker.wake()));
        {
            let tails = Arc::clone(&tails);
            worker.hear_of_logs(move |job, seq| tails.heard(job, seq));
        }
        self.tasks.spawn(Arc::clone(&tails).look(self.stop.clone()));
        let remote = RemoteJobs::new(Arc::clone(&types), self.sealer.clone());
        let waiting = WaitingRoom::new(remote, self.db.worker.clone(), worker.wake(), self.tasks.clone());
        let jobs = Jobs {
            db: self.db.clone(),
            types,
            tails,
            sealer: self.sealer.clone(),
            sdk: self.sdk.clone(),
            wake: worker.wake(),
            waiting,
            verifier: Arc::clone(&self.verifier),
            limits: self.limits,
            job_timeout: config.job_timeout,
            credential_timeout: config.credential_timeout,
            retention: config.broadcast_retention,
            query_keys: config.query_access_keys,
            job_retention: config.job_retention,
            deadlines: Arc::default(),
            stopping: self.stop.clone(),
            tracer: self.tracer.clone(),
        };
        self.tasks.spawn(jobs::upkeep::run(jobs.clone(), self.stop.clone()));
        self.tasks.spawn(jobs::tidy::run(jobs.clone(), self.stop.clone()));
        Ok(jobs)
    }
}
