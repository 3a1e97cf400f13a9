//! Runs one attempt of a message, whichever of the four kinds its handler is.

use super::catalog::Queue;
use super::definition::Handler;
use super::javascript::services::{Directory, Messaging, QueueServices};
use super::javascript::{self, Job, Pool};
use super::native::{self, Message};
use super::outcome::{End, Outcome, error};
use super::store::ends::Loaded;
use super::webhook::Post;
use crate::db::Ids;
use crate::error::{Error, Result};
use crate::http::json_text::raw;
use crate::http::outbound::Outbound;
use crate::traces::{Context, Origin, Tracer};
use crate::worker::{Claim, Hold, panic_message};
use futures::future::{BoxFuture, FutureExt as _};
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use tokio_util::sync::CancellationToken;

/// Makes the messaging service of one queue: it acts under that queue's own rights, and what it pushes comes of what is
/// handled.
pub type MessagingFor = Arc<dyn Fn(&Queue, Origin) -> Arc<dyn Messaging> + Send + Sync>;

/// What handlers run with.
pub struct Runners {
    /// The child processes for JavaScript; absent in a process that runs no handlers.
    pub(super) javascript: Option<Pool>,
    pub(super) outbound: Outbound,
    pub(super) native: HashMap<String, Arc<dyn native::Handler>>,
    pub(super) directory: Arc<Directory>,
    pub(super) ids: Arc<Ids>,
    pub(super) tracer: Tracer,
    /// Set once the queues are there: handlers push to queues, and queues run handlers.
    messaging: OnceLock<MessagingFor>,
}

impl Runners {
    /// Runners; `javascript` may be absent in a process that only answers requests.
    pub fn new(
        javascript: Option<Pool>,
        outbound: Outbound,
        native: HashMap<String, Arc<dyn native::Handler>>,
        directory: Arc<Directory>,
        ids: Arc<Ids>,
        tracer: Tracer,
    ) -> Self {
        Self { javascript, outbound, native, directory, ids, tracer, messaging: OnceLock::new() }
    }

    /// Gives handlers their messaging service.
    pub fn connect(&self, messaging: MessagingFor) {
        drop(self.messaging.set(messaging));
    }

    /// What this process can run and another may not, in the words of the view `queue_runners`.
    pub fn runs(&self) -> Vec<String> {
        let native = self.native.keys().map(|name| format!("native {name}"));
        let javascript = self.javascript.iter();
        let javascript = javascript
            .flat_map(|pool| ["javascript".to_owned(), format!("javascript {}", children_of_one(pool))]);
        javascript.chain(native).collect()
    }

    /// How many of the queue's messages this process can run at a time; `None` if it runs none. Remote
    /// workers claim theirs themselves; a native handler may be registered in another process, and the key to a
    /// handler's secret be known there.
    pub fn room(&self, queue: &Queue) -> Option<usize> {
        let wanted = queue.definition.options.process_concurrency();
        match &queue.definition.handler {
            None | Some(Handler::Worker) => None,
            Some(Handler::JavaScript { .. }) => {
                self.javascript.as_ref().map(|pool| wanted.min(children_of_one(pool)))
            }
            Some(Handler::Http { .. }) => queue.secret.is_ok().then_some(wanted),
            Some(Handler::Native { name }) => self.native.contains_key(name).then_some(wanted),
        }
    }

    /// Refuses a handler that cannot work: one that does not compile or exports no function, or whose URL may
    /// not be asked.
    ///
    /// # Errors
    /// 422 with what is wrong, 503 when it cannot be checked now.
    pub async fn check(&self, name: &str, handler: &Handler) -> Result<()> {
        match handler {
            Handler::JavaScript { source } => {
                let Some(pool) = &self.javascript else { return Ok(()) };
                match pool.check(&format!("{name}.js"), &Arc::from(source.as_str())).await {
                    Ok(()) => Ok(()),
                    Err(javascript::CheckError::Refused { line, message }) => {
                        let at = line.map_or_else(String::new, |line| format!("line {line}: "));
                        Err(Error::invalid("/handler/source", "javascript", format!("{at}{message}")))
                    }
                    Err(unavailable @ javascript::CheckError::Unavailable(_)) => {
                        Err(Error::Unavailable(unavailable.to_string(), std::time::Duration::from_secs(1)))
                    }
                }
            }
            Handler::Http { url } => {
                let checked = self.outbound.check_url(url.as_str());
                checked.map(drop).map_err(|why| Error::invalid("/handler/url", "url", why))
            }
            Handler::Worker | Handler::Native { .. } => Ok(()),
        }
    }

    /// The attempt of a claimed message, which starts nothing that is not held any more. Dropping it stops it.
    pub(super) fn attempt(
        self: Arc<Self>,
        queue: Arc<Queue>,
        claim: &Claim,
        mut message: Loaded,
        hold: Hold,
    ) -> BoxFuture<'static, Outcome> {
        let attempt = claim.attempt.unsigned_abs();
        // What it causes comes of the attempt.
        message.origin.trace = self.tracer.attempt(message.origin.trace.as_ref(), claim.tried(claim.item));
        Box::pin(async move {
            // A panic is caught here, where it is known what ran.
            let ran = AssertUnwindSafe(self.run(&queue, attempt, message, &hold)).catch_unwind().await;
            let outcome =
                ran.unwrap_or_else(|panic| End::Reject(error("Panic", panic_message(&*panic))).into());
            Outcome { terms: Some(queue.definition.options.terms.clone()), ..outcome }
        })
    }

    async fn run(&self, queue: &Queue, attempt: u16, message: Loaded, hold: &Hold) -> Outcome {
        if let Some(end) = unfit(queue, &message).await {
            return end.into();
        }
        hold.holds().await;
        match &queue.definition.handler {
            Some(Handler::Native { name }) => self.native(queue, name, attempt, message).await.into(),
            // Boxed, since a native attempt, which may be as quick as a function call, should not have to
            // carry room for the others.
            Some(Handler::JavaScript { .. }) => {
                Box::pin(self.javascript(queue, attempt, message, hold)).await
            }
            Some(Handler::Http { url }) => {
                let Ok(secret) = &queue.secret else { return unrunnable().into() };
                let now = self.ids.now().unwrap_or_default();
                let (secret, tracer) = (secret.as_ref(), &self.tracer);
                let post = Post { queue, url, secret, attempt, message: &message, tracer };
                Box::pin(post.send(&self.outbound, now, hold)).await.into()
            }
            None | Some(Handler::Worker) => unrunnable().into(),
        }
    }

    async fn native(&self, queue: &Queue, name: &str, attempt: u16, message: Loaded) -> End {
        let Some(handler) = self.native.get(name).cloned() else { return unrunnable() };
        let max_attempts = queue.definition.options.terms.max_attempts();
        let Loaded { id, request, origin, .. } = message;
        let message = Message { id, attempt, max_attempts, request: request.0, origin };
        let timeout = queue.definition.options.attempt_timeout();
        tokio::time::timeout(timeout, native::attempt(&*handler, message)).await.unwrap_or_else(|_| {
            let after = humantime::format_duration(timeout);
            End::Reject(error("TimeoutError", &format!("the handler did not settle within {after}")))
        })
    }

    async fn javascript(&self, queue: &Queue, attempt: u16, message: Loaded, hold: &Hold) -> Outcome {
        let (Some(pool), Some(source), Some(messaging)) =
            (&self.javascript, &queue.script, self.messaging.get())
        else {
            return unrunnable().into();
        };
        let client = queue.definition.client_id.clone();
        let Loaded { request, origin, .. } = message;
        let traceparent = origin.trace.as_ref().map(Context::to_string);
        let (directory, trace) = (Arc::clone(&self.directory), origin.trace.clone());
        let services = QueueServices::new(directory, client, messaging(queue, origin), trace);
        let job = Job {
            source: Arc::clone(source),
            handler_name: format!("{}.js", queue.name),
            message: request.0,
            traceparent,
            timeout: queue.definition.options.attempt_timeout(),
            attempt,
            max_attempts: queue.definition.options.terms.max_attempts(),
        };
        let ended = pool.run_once(hold.holds(), job, Arc::new(services), CancellationToken::new()).await;
        let logs = (!ended.logs.is_empty()).then(|| raw(&serde_json::json!(ended.logs)));
        let end = match ended.outcome {
            // Nothing of the handler has run.
            javascript::Outcome::NotStarted(reason) => End::NotStarted(error("NotStarted", &reason)),
            javascript::Outcome::Interrupted => {
                End::Retry(error("Interrupted", "the handler's process was stopped from outside"), None)
            }
            javascript::Outcome::Final(error) => End::Fail(error),
            javascript::Outcome::Retry(error, after) => End::Retry(error, after),
            javascript::Outcome::Later(error, after) => End::Later(error, Some(after)),
            other => match other.into_stored() {
                Ok(result) => End::Complete(result),
                Err(error) => End::Reject(error),
            },
        };
        Outcome { logs, ..Outcome::from(end) }
    }
}

/// One queue leaves half of the children to the others, whatever its handlers do.
fn children_of_one(pool: &Pool) -> usize {
    pool.max() / 2
}

/// The end of a message that must not run: another replaces it, or it breaks its queue's schema.
pub(super) async fn unfit(queue: &Queue, message: &Loaded) -> Option<End> {
    if let Some(by) = message.replaced_by {
        return Some(End::Fail(error("Replaced", &format!("message {by} has its value, and replaces it"))));
    }
    let schema = queue.schema.as_ref().filter(|_| !message.validated)?;
    let broken = schema.validate_text(&message.request).await.err()?;
    let violations = if let Error::Invalid(_, violations) = &broken { violations.as_slice() } else { &[] };
    Some(End::Fail(raw(&serde_json::json!({
        "name": "ValidationError",
        "message": broken.to_string(),
        "errors": violations,
    }))))
}

/// The definition changed between the claim and now, to one that this process cannot run: another may.
pub(super) fn unrunnable() -> End {
    End::NotStarted(error("NotStarted", "this process cannot run the queue's handler"))
}
