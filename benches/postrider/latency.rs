//! `latency`: from a push's commit to the start of its handler, at a steady pace; beside a raw claim that
//! begins at the commit.

use super::client::Client;
use super::handled::Starts;
use super::lab::{Instance, Lab};
use super::measure::{Measure, Unit};
use super::raw::Raw;
use super::times::{PERCENTILES, Times};
use serde::Deserialize;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::time::{Interval, MissedTickBehavior, interval};
use uuid::Uuid;

/// The pause between two pushes: 200 in a second.
const PAUSE: Duration = Duration::from_millis(5);

pub(super) async fn measure(lab: &Lab) -> anyhow::Result<Vec<Measure>> {
    let count = usize::try_from(lab.sizes.latency.as_millis() / PAUSE.as_millis())?;
    let starts = Starts::default();
    let instance = Instance::start(lab, |app| app.handler("note", starts.handler())).await?;
    instance
        .define("latency", json!({ "kind": "native", "name": "note" }), json!({ "concurrency": 16 }))
        .await?;
    let pushes = push(&instance, count).await?;
    instance.server.run_until_idle().await?;
    instance.stop().await?;

    let (mut from_answer, mut from_request) = (Times::new(), Times::new());
    for Pushed { id, sent, answered } in pushes {
        let start = starts.of(id)?;
        // The handler may well be quicker than the answer.
        from_answer.note(start.saturating_duration_since(answered));
        from_request.note(start - sent);
    }
    let raw = Raw::new(lab).await?;
    let claims = raw.claim_times(pace(), count).await?;
    raw.drop().await?;

    let mut measures = Vec::new();
    for (name, percent) in PERCENTILES {
        measures.push(
            Measure::new(format!("answer to handler, {name}"), Unit::Milliseconds, from_answer.at(percent))
                .beside("raw claim after the commit", claims.at(percent))
                .with("request to handler", Unit::Milliseconds, from_request.at(percent)),
        );
    }
    Ok(measures)
}

struct Pushed {
    id: Uuid,
    sent: Instant,
    answered: Instant,
}

async fn push(instance: &Instance<'_>, count: usize) -> anyhow::Result<Vec<Pushed>> {
    #[derive(Deserialize)]
    struct Identified {
        id: Uuid,
    }
    let request = instance.push_request("latency");
    let mut client = Client::connect(instance.address).await?;
    let (mut ticks, mut pushes) = (pace(), Vec::with_capacity(count));
    for _ in 0..count {
        ticks.tick().await;
        let sent = Instant::now();
        let answer = client.exchange(&request).await?;
        let answered = Instant::now();
        let Identified { id } = serde_json::from_slice(answer.success()?)?;
        pushes.push(Pushed { id, sent, answered });
    }
    Ok(pushes)
}

fn pace() -> Interval {
    let mut ticks = interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
