//! `backlog`: a drain while many more messages wait behind it in the same queue; beside the same without.

use super::handled::Counter;
use super::lab::{Instance, Lab};
use super::measure::{Measure, Unit};
use super::sustained::CONCURRENCY;
use serde_json::json;
use std::time::Instant;

pub(super) async fn measure(lab: &Lab) -> anyhow::Result<Vec<Measure>> {
    let (count, waiting) = lab.sizes.backlog;
    let clean = run(lab, count, 0).await?;
    let rate = run(lab, count, waiting).await?;
    let what = format!("{count} handled, {waiting} behind them");
    Ok(vec![Measure::new(what, Unit::PerSecond, rate).beside("with none behind", clean)])
}

/// How many messages are handled in a second, counted over the first `count`.
async fn run(lab: &Lab, count: usize, waiting: usize) -> anyhow::Result<f64> {
    let handled = Counter::default();
    let instance = Instance::start(lab, |app| app.handler("noop", handled.handler())).await?;
    let queue =
        instance.define_paused("backlog", json!({ "kind": "native", "name": "noop" }), CONCURRENCY).await?;
    instance.fill(queue, count + waiting).await?;
    let start = Instant::now();
    instance.resume("backlog").await?;
    let reached = handled.reaches(count).await?;
    instance.stop().await?;
    Ok(count as f64 / (reached - start).as_secs_f64())
}
