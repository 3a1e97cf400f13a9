//! Subscribers that poll, each at its own pace, over connections that are kept alive.

use super::{Job, POLL, Window};
use crate::client::{Client, request_with};
use crate::lab::Instance;
use crate::times::Times;
use postrider::internals::jobs::BUILT_IN;
use std::time::Instant;
use tokio::task::JoinSet;

/// How many connections the subscribers share. With the streams' they fit into the 1,024 files that many systems
/// let a process have open.
const CONNECTIONS: usize = 200;

/// What each message has once.
const STATUS: &[u8] = b"\"job_status\"";

/// What became of polls.
#[derive(Debug)]
pub(super) struct Polled {
    /// How long those took that were due in the window, whenever they were answered.
    pub(super) times: Times,
    /// How many were answered in the window.
    pub(super) answered: u64,
    /// How many messages came with those that were due in the window.
    pub(super) messages: u64,
}

impl Polled {
    fn new() -> Self {
        Self { times: Times::new(), answered: 0, messages: 0 }
    }
}

type Polls = JoinSet<anyhow::Result<Polled>>;

/// Begins to poll at `start`.
pub(super) async fn start(
    instance: &Instance<'_>,
    jobs: &[Job],
    start: Instant,
    window: Window,
) -> anyhow::Result<Polls> {
    let mut requests: Vec<Vec<Vec<u8>>> = vec![Vec::new(); CONNECTIONS];
    let keys = jobs.iter().flat_map(|job| job.keys.iter().map(move |key| (job.id, key)));
    for (place, (id, key)) in keys.enumerate() {
        let path = format!("/messages/{BUILT_IN}/{id}/broadcasts");
        let headers = format!("cardsavr-messaging-access-key: {key}\r\n");
        requests[place % CONNECTIONS].push(request_with("GET", &path, instance.admin(), &headers, ""));
    }
    let mut tasks = Polls::new();
    for (place, requests) in requests.into_iter().filter(|requests| !requests.is_empty()).enumerate() {
        let client = Client::connect(instance.address).await?;
        // Spread over the time between two polls of one subscriber, as those of one connection are.
        let pause = POLL / u32::try_from(requests.len())?;
        let first = start + pause * u32::try_from(place)? / u32::try_from(CONNECTIONS)?;
        tasks.spawn(async move {
            let (mut client, mut polled) = (client, Polled::new());
            for (turn, request) in (0..).zip(requests.iter().cycle()) {
                let due = first + pause * turn;
                if due >= window.until {
                    break;
                }
                let ahead = due > Instant::now();
                tokio::time::sleep_until(due.into()).await;
                // The timer's own delay is not the server's.
                let from = if ahead { Instant::now() } else { due };
                let answer = client.exchange(request).await?;
                let answered = Instant::now();
                let body = answer.success()?;
                polled.answered += u64::from(window.contains(answered));
                if window.contains(due) {
                    polled.times.note(answered - from);
                    polled.messages +=
                        body.windows(STATUS.len()).filter(|part| *part == STATUS).count() as u64;
                }
            }
            Ok(polled)
        });
    }
    Ok(tasks)
}

/// Waits for the last answers.
pub(super) async fn finish(mut polls: Polls) -> anyhow::Result<Polled> {
    let mut all = Polled::new();
    while let Some(polled) = polls.join_next().await {
        let polled = polled??;
        all.times.add(&polled.times);
        all.answered += polled.answered;
        all.messages += polled.messages;
    }
    Ok(all)
}
