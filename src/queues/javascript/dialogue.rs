//! One message with one child: order it, serve its calls, stop it when it is late.

use super::limits;
use super::outcome::{Ended, Outcome};
use super::process::{Process, Silence};
use super::protocol::{End, Event, LogLine, Order, ServiceError};
use super::services::{Answer, Services};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

/// What a child is to do.
pub(super) struct Task<'a> {
    pub(super) source: &'a Arc<str>,
    pub(super) name: &'a str,
    pub(super) timeout: Duration,
    /// Which attempt this is, counted from 1, and how many there are.
    pub(super) attempt: (u16, u16),
    /// Without a message, the handler is only loaded.
    pub(super) message: Option<&'a RawValue>,
    pub(super) traceparent: Option<&'a str>,
}

/// Gives the child its order.
///
/// # Errors
/// When it is dead or does not read, and so cannot have begun.
pub(super) async fn begin(process: &mut Process, task: &Task<'_>) -> io::Result<()> {
    let order = Order::Run {
        source: process.missing(task.source).map(Cow::Borrowed),
        name: Cow::Borrowed(task.name),
        timeout_ms: u64::try_from(task.timeout.as_millis()).unwrap_or(u64::MAX),
        attempt: task.attempt.0,
        max_attempts: task.attempt.1,
        message: task.message.map(Cow::Borrowed),
        traceparent: task.traceparent.map(Cow::Borrowed),
    };
    timeout(task.timeout + limits::KILL_AFTER, process.tell(&order)).await??;
    process.has(task.source);
    Ok(())
}

/// Sees the run through, at most until 100 ms after its deadline. Returns the child if it is fit for more.
pub(super) async fn finish(
    mut process: Process,
    task: &Task<'_>,
    services: &dyn Services,
) -> (Ended, Option<Process>) {
    let deadline = Instant::now() + task.timeout;
    let mut stopped = false;
    let said = timeout_at(
        deadline + limits::KILL_AFTER,
        listen(&mut process, services, deadline + limits::STOP_AFTER, &mut stopped),
    );
    match said.await {
        Ok(Ok((end, logs))) => {
            let outcome = match end {
                End::Resolved(result) => Outcome::Resolved(result),
                End::Rejected(error) => Outcome::Rejected(error),
                End::Final(error) => Outcome::Final(error),
                End::Retry(error, after) => Outcome::Retry(error, after.map(Duration::from_millis)),
                End::Later(error, after) => Outcome::Later(error, Duration::from_millis(after)),
                End::TimedOut => Outcome::TimedOut(task.timeout),
            };
            (Ended { outcome, logs }, (!stopped).then_some(process))
        }
        // It was told to die.
        Ok(Err(_)) if stopped => (Outcome::TimedOut(task.timeout).into(), None),
        Ok(Err(silence)) => (process.autopsy(silence).await.into(), None),
        Err(_) => (Outcome::TimedOut(task.timeout).into(), None),
    }
}

/// Serves the child's calls until it says how the run ended.
async fn listen(
    process: &mut Process,
    services: &dyn Services,
    stop_at: Instant,
    stopped: &mut bool,
) -> Result<(End, Vec<LogLine>), Silence> {
    let mut calls = FuturesUnordered::new();
    let mut made = 0;
    let stop = sleep_until(stop_at);
    tokio::pin!(stop);
    loop {
        let order = tokio::select! {
            biased;
            event = process.hear() => match event? {
                Event::End { end, logs } => return Ok((end, logs)),
                Event::Call { id, service, method, args } => {
                    made += 1;
                    if made > limits::CALLS {
                        return Err(Silence::Babbling);
                    }
                    calls.push(async move { answer(id, services.call(&service, &method, args).await) });
                    continue;
                }
            },
            Some(order) = calls.next() => order,
            () = &mut stop, if !*stopped => {
                *stopped = true;
                Order::Stop
            }
        };
        process.tell(&order).await.map_err(|_| Silence::Dead)?;
    }
}

/// What goes back to the handler.
fn answer(id: u64, answer: Answer) -> Order<'static> {
    match answer {
        Ok(value) if value.get().len() <= limits::ANSWER => Order::Return { id, value },
        Ok(_) => {
            let message = format!("the answer is larger than {} bytes", limits::ANSWER);
            Order::Refuse { id, error: ServiceError::new(message) }
        }
        Err(error) => Order::Refuse { id, error },
    }
}
