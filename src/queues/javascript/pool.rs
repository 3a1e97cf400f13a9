//! The pool of child processes: who gets one, and how many there are.

use super::dialogue::{self, Task};
use super::limits;
use super::outcome::{Ended, Outcome};
use super::process::Process;
use super::services::Services;
use parking_lot::Mutex;
use serde_json::value::RawValue;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// A child beyond the warm ones that has been idle for this time is ended.
const IDLE: Duration = Duration::from_mins(1);

/// How children are started, and how many.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    /// The program whose `main` becomes [`super::child::main`]: this one.
    pub program: PathBuf,
    /// The arguments that make it do so.
    pub args: Vec<OsString>,
    /// Children that wait ready even when there is nothing to do.
    pub warm: usize,
    /// Children at most. A handler that awaits a service holds one, so there are more than cores; each may
    /// use [`limits::HEAP`].
    pub max: usize,
}

impl PoolOptions {
    /// `program javascript-child`, two warm children, at most sixteen a core.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            program: program.into(),
            args: vec!["javascript-child".into()],
            warm: 2,
            max: (16 * cores).max(16),
        }
    }
}

/// One message for one handler.
#[derive(Debug, Clone)]
pub struct Job {
    /// The handler, a CommonJS module that exports a function.
    pub source: Arc<str>,
    /// The handler's file name in stack traces.
    pub handler_name: String,
    /// The message, as it was sent.
    pub message: Box<RawValue>,
    /// The W3C trace context of the attempt, if there is one.
    pub traceparent: Option<String>,
    /// How long the handler may run, waiting for services included, waiting for a child not.
    pub timeout: Duration,
    /// Which attempt this is, counted from 1.
    pub attempt: u16,
    /// The attempts that the message has.
    pub max_attempts: u16,
}

/// Child processes that run handlers. Dropping it kills them.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    _keeper: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    options: PoolOptions,
    /// One permit a child that may be busy. Tokio hands them out in the order of asking.
    places: Semaphore,
    /// The last to come back is the first to go again, so that what is not needed stays idle.
    idle: Mutex<Vec<(Process, Instant)>>,
    /// A child is missing from the warm ones.
    lost: Notify,
}

impl Pool {
    /// A pool, with its first children on their way. Call it inside a Tokio runtime.
    pub fn new(options: PoolOptions) -> Self {
        let places = Semaphore::new(options.max);
        let shared = Arc::new(Shared { options, places, idle: Mutex::default(), lost: Notify::new() });
        let mut keeper = JoinSet::new();
        keeper.spawn(keep(Arc::clone(&shared)));
        Self { shared, _keeper: keeper }
    }

    /// Children at most.
    pub fn max(&self) -> usize {
        self.shared.options.max
    }

    /// Runs one message. Returns at the latest 100 ms after its timeout, counted from the moment a child is
    /// free for it, and at once when cancelled; in both cases nothing of it runs on.
    pub async fn run(&self, job: Job, services: Arc<dyn Services>, cancel: CancellationToken) -> Ended {
        self.run_once(std::future::ready(()), job, services, cancel).await
    }

    /// As [`Pool::run`], but when a child is free for it it waits once more, for `may_start`.
    pub async fn run_once(
        &self,
        may_start: impl Future<Output = ()>,
        job: Job,
        services: Arc<dyn Services>,
        cancel: CancellationToken,
    ) -> Ended {
        let task = Task {
            source: &job.source,
            name: &job.handler_name,
            timeout: job.timeout.min(limits::LONGEST),
            attempt: (job.attempt, job.max_attempts),
            message: Some(&job.message),
            traceparent: job.traceparent.as_deref(),
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => Outcome::Cancelled.into(),
            ended = self.perform_once(may_start, &task, &*services) => ended,
        }
    }

    /// One task in a child of its own. Abandoned halfway, the child is dropped, and so killed.
    pub(super) async fn perform(&self, task: &Task<'_>, services: &dyn Services) -> Ended {
        self.perform_once(std::future::ready(()), task, services).await
    }

    async fn perform_once(
        &self,
        may_start: impl Future<Output = ()>,
        task: &Task<'_>,
        services: &dyn Services,
    ) -> Ended {
        let Ok(_place) = self.shared.places.acquire().await else {
            return Outcome::NotStarted("the pool is closed".to_owned()).into();
        };
        may_start.await;
        loop {
            let (mut process, fresh) = match self.shared.take() {
                Ok(taken) => taken,
                Err(error) => return Outcome::NotStarted(error.to_string()).into(),
            };
            if let Err(error) = dialogue::begin(&mut process, task).await {
                // It died while it was idle; a fresh one that cannot even be written to is another matter.
                if fresh {
                    return Outcome::NotStarted(error.to_string()).into();
                }
                continue;
            }
            let (ended, survivor) = dialogue::finish(process, task, services).await;
            self.shared.put_back(survivor);
            return ended;
        }
    }
}

impl Shared {
    /// An idle child or a new one, and which of the two.
    fn take(&self) -> io::Result<(Process, bool)> {
        match self.idle.lock().pop() {
            Some((process, _)) => Ok((process, false)),
            None => Ok((self.spawn()?, true)),
        }
    }

    fn put_back(&self, survivor: Option<Process>) {
        match survivor {
            Some(process) => self.idle.lock().push((process, Instant::now())),
            None => self.lost.notify_one(),
        }
    }

    /// Ends children beyond the warm ones that have been idle for long; those are at the front.
    fn end_spare(&self, warm: usize) {
        let mut idle = self.idle.lock();
        let spare = idle.len().saturating_sub(warm);
        let old = idle.iter().take(spare).take_while(|(_, since)| since.elapsed() > IDLE).count();
        idle.drain(..old);
    }

    fn spawn(&self) -> io::Result<Process> {
        Process::spawn(&self.options.program, &self.options.args)
    }
}

/// Keeps the warm children warm, and ends those that nobody has needed for a while.
async fn keep(shared: Arc<Shared>) {
    let warm = shared.options.warm.min(shared.options.max);
    loop {
        while shared.idle.lock().len() < warm {
            match shared.spawn() {
                Ok(process) => shared.idle.lock().insert(0, (process, Instant::now())),
                Err(error) => {
                    tracing::error!(%error, "no process for JavaScript handlers");
                    break;
                }
            }
        }
        shared.end_spare(warm);
        // Woken by a loss, or else to look for the long idle.
        let _ = timeout(IDLE / 2, shared.lost.notified()).await;
    }
}
