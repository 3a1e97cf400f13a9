//! `drain`: messages that wait already, through a native handler that does nothing; beside the raw life cycle.

use super::handled::Counter;
use super::lab::{Instance, Lab};
use super::measure::{Measure, Unit};
use super::raw::Raw;
use serde_json::json;
use std::time::Instant;

/// How many messages may run at once.
const CONCURRENCY: u16 = 2000;

pub(super) async fn measure(lab: &Lab) -> anyhow::Result<Vec<Measure>> {
    let count = lab.sizes.drain;
    let handled = Counter::default();
    let instance = Instance::start(lab, |app| app.handler("noop", handled.handler())).await?;
    let queue =
        instance.define_paused("drain", json!({ "kind": "native", "name": "noop" }), CONCURRENCY).await?;
    let empty = instance.wal().await?;
    instance.fill(queue, count).await?;
    let (filled, cpu) = (instance.wal().await?, lab.cpu());
    let start = Instant::now();
    instance.resume("drain").await?;
    handled.reaches(count).await?;
    instance.server.run_until_idle().await?;
    let rate = count as f64 / start.elapsed().as_secs_f64();
    let (drained, used) = (instance.wal().await?, lab.cpu());
    instance.stop().await?;

    let mut best = 0.0;
    for connections in [1, 2] {
        let raw = Raw::new(lab).await?;
        best = raw.drain(count, connections).await?.max(best);
        raw.drop().await?;
    }
    let each = |bytes: f64| bytes / count as f64;
    let mut measure = Measure::new("native handler, result kept", Unit::PerSecond, rate)
        .beside("raw claim and end", best)
        .with("WAL of a message", Unit::Bytes, each(drained - empty))
        .with("of it the insert", Unit::Bytes, each(filled - empty));
    if let (Some(before), Some(used)) = (cpu, used) {
        for (part, micros) in used.each(&before, count) {
            measure = measure.with(part, Unit::Microseconds, micros);
        }
    }
    Ok(vec![measure])
}
