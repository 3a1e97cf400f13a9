//! Producers over HTTP and workers at once.

use super::client::Client;
use super::handled::Counter;
use super::lab::Instance;
use super::raw::BATCH;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How many producers there are.
const PRODUCERS: usize = 2;
/// Producers wait while so many messages are not handled yet: the figure is what comes out at the end, not
/// what piles up.
const AHEAD: usize = 10_000;

/// How fast messages went through.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flow {
    /// Over the whole time, until the last one had its end written.
    pub(super) per_second: f64,
    /// In the last third of the time.
    pub(super) late: f64,
}

/// Pushes to a queue whose handler is `handled`'s for `time`, and waits until all is done.
pub(super) async fn flow(
    instance: &Instance<'_>,
    queue: &str,
    handled: &Counter,
    time: Duration,
) -> anyhow::Result<Flow> {
    let request = Arc::new(instance.batch_request(queue, BATCH));
    let pushed = Arc::new(AtomicUsize::new(0));
    let mut producers: JoinSet<anyhow::Result<()>> = JoinSet::new();
    let start = Instant::now();
    for _ in 0..PRODUCERS {
        let (mut client, request) = (Client::connect(instance.address).await?, Arc::clone(&request));
        let (pushed, handled) = (Arc::clone(&pushed), handled.clone());
        producers.spawn(async move {
            while start.elapsed() < time {
                if pushed.load(Ordering::Acquire).saturating_sub(handled.count()) > AHEAD {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    continue;
                }
                client.exchange(&request).await?.success()?;
                pushed.fetch_add(BATCH, Ordering::AcqRel);
            }
            Ok(())
        });
    }
    tokio::time::sleep(time * 2 / 3).await;
    let (third, two_thirds) = (Instant::now(), handled.count());
    while let Some(done) = producers.join_next().await {
        done??;
    }
    let late = (handled.count() - two_thirds) as f64 / third.elapsed().as_secs_f64();
    let pushed = pushed.load(Ordering::Acquire);
    handled.reaches(pushed).await?;
    instance.server.run_until_idle().await?;
    Ok(Flow { per_second: pushed as f64 / start.elapsed().as_secs_f64(), late })
}
