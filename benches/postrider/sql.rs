//! `sql`: what applications enqueue from SQL. From the commit to the start of the handler, beside a raw claim that begins
//! at the commit; and how much as many sessions enqueue in a second, beside the same without the bell that wakes workers.

use super::handled::Starts;
use super::inserts;
use super::lab::{Instance, Lab};
use super::measure::{Measure, Unit};
use super::raw::Raw;
use super::times::{PERCENTILES, Times};
use postrider::client::{Client, Options};
use serde_json::json;
use sqlx::Executor as _;
use std::time::{Duration, Instant};
use tokio::time::interval;

/// How many sessions enqueue at a time.
const SESSIONS: usize = 64;
const ENQUEUE: &str = "SELECT enqueue('waits', $1::text)";

pub(super) async fn measure(lab: &Lab) -> anyhow::Result<Vec<Measure>> {
    let mut measures = Vec::new();
    for (pace, pause) in [("1/s", Duration::from_secs(1)), ("200/s", Duration::from_millis(5))] {
        let time = lab.sizes.latency * if pause.as_secs() > 0 { 2 } else { 1 };
        let count = usize::try_from(time.as_millis() / pause.as_millis())?;
        let (times, claims) = (woken(lab, pause, count).await?, claimed(lab, pause, count).await?);
        for (name, percent) in PERCENTILES {
            measures.push(
                Measure::new(
                    format!("commit to handler at {pace}, {name}"),
                    Unit::Milliseconds,
                    times.at(percent),
                )
                .beside("raw claim after the commit", claims.at(percent)),
            );
        }
    }
    let (rung, silent) = rates(lab).await?;
    let what = format!("enqueue by {SESSIONS} sessions");
    measures.push(Measure::new(what, Unit::PerSecond, rung).beside("without the bell", silent));
    Ok(measures)
}

/// From each commit to the start of its handler.
async fn woken(lab: &Lab, pause: Duration, count: usize) -> anyhow::Result<Times> {
    let starts = Starts::default();
    let instance = Instance::start(lab, |app| app.handler("note", starts.handler())).await?;
    instance.define("sql", json!({ "kind": "native", "name": "note" }), json!({ "concurrency": 16 })).await?;
    let (client, mut db) = (Client::in_schema(&instance.schema), instance.connect().await?);
    let message = json!({ "hello": "there", "world": "yes" });
    let (mut ticks, mut committed) = (interval(pause), Vec::with_capacity(count));
    for _ in 0..count {
        ticks.tick().await;
        let id = client.enqueue(&mut db, "sql", &message, &Options::default()).await?;
        committed.push((id, Instant::now()));
    }
    instance.server.run_until_idle().await?;
    instance.stop().await?;
    let mut times = Times::new();
    for (id, at) in committed {
        times.note(starts.of(id)?.saturating_duration_since(at));
    }
    Ok(times)
}

async fn claimed(lab: &Lab, pause: Duration, count: usize) -> anyhow::Result<Times> {
    let raw = Raw::new(lab).await?;
    let times = raw.claim_times(interval(pause), count).await?;
    raw.drop().await?;
    Ok(times)
}

/// What the sessions enqueue in a second, with the bell and without it, while a worker listens.
async fn rates(lab: &Lab) -> anyhow::Result<(f64, f64)> {
    let instance = Instance::start(lab, |app| app).await?;
    // What is enqueued waits for a worker that does not come.
    instance.define("waits", json!({ "kind": "worker" }), json!({})).await?;
    let rate = async || inserts::rate(lab.url(), &instance.schema, ENQUEUE, SESSIONS, lab.sizes.push).await;
    let rung = rate().await?;
    let silence = "CREATE OR REPLACE FUNCTION ring(lane integer DEFAULT NULL, rank smallint DEFAULT 0) \
                   RETURNS void LANGUAGE plpgsql AS 'BEGIN END'";
    instance.connect().await?.execute(silence).await?;
    let silent = rate().await?;
    instance.stop().await?;
    Ok((rung, silent))
}
