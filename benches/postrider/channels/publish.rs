//! The workers of the jobs, each of which says something once a second.

use super::{Job, Window};
use crate::client::{Client, request};
use crate::lab::Instance;
use crate::times::Times;
use postrider::internals::jobs::BUILT_IN;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// The pause between two messages of one job.
const PAUSE: Duration = Duration::from_secs(1);
/// How many connections the workers share.
const CONNECTIONS: usize = 25;

/// How long each message took until its answer.
type Published = JoinSet<anyhow::Result<Times>>;

/// Begins to publish at `start`. Each message carries when it was sent, in microseconds since then.
pub(super) async fn start(
    instance: &Instance<'_>,
    jobs: &[Job],
    start: Instant,
    window: Window,
) -> anyhow::Result<Published> {
    let mut tasks = Published::new();
    for place in 0..CONNECTIONS.min(jobs.len()) {
        let mine: Vec<(String, String)> = jobs
            .iter()
            .skip(place)
            .step_by(CONNECTIONS)
            .map(|job| (format!("/messages/{BUILT_IN}/{}/broadcasts", job.id), job.lease.clone()))
            .collect();
        let (mut client, token) = (Client::connect(instance.address).await?, instance.admin().clone());
        let pause = PAUSE / u32::try_from(mine.len())?;
        let first = start + pause * u32::try_from(place)? / u32::try_from(CONNECTIONS)?;
        tasks.spawn(async move {
            let mut times = Times::new();
            for (turn, (path, lease)) in (0..).zip(mine.iter().cycle()) {
                let due = first + pause * turn;
                if due >= window.until {
                    break;
                }
                tokio::time::sleep_until(due.into()).await;
                let sent = Instant::now();
                let at = (sent - start).as_micros();
                let body =
                    format!(r#"{{"status":"UPDATING","percent_complete":50,"at":{at},"lease":"{lease}"}}"#);
                client.exchange(&request("POST", path, &token, &body)).await?.success()?;
                if window.contains(sent) {
                    times.note(sent.elapsed());
                }
            }
            Ok(times)
        });
    }
    Ok(tasks)
}

/// Waits for the last answers.
pub(super) async fn finish(mut tasks: Published) -> anyhow::Result<Times> {
    let mut times = Times::new();
    while let Some(done) = tasks.join_next().await {
        times.add(&done??);
    }
    Ok(times)
}
