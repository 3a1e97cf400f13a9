//! `sustained`: producers over HTTP and workers at once, end to end; beside the raw life cycle with its inserts.

use super::flow::flow;
use super::handled::Counter;
use super::lab::{Instance, Lab};
use super::measure::{Measure, Unit};
use super::raw::Raw;
use serde_json::json;

/// How many messages may run at once.
pub(super) const CONCURRENCY: u16 = 2000;

pub(super) async fn measure(lab: &Lab) -> anyhow::Result<Vec<Measure>> {
    let handled = Counter::default();
    let instance = Instance::start(lab, |app| app.handler("noop", handled.handler())).await?;
    let noop = json!({ "kind": "native", "name": "noop" });
    instance.define("sustained", noop, json!({ "concurrency": CONCURRENCY })).await?;
    let cpu = lab.cpu();
    let flow = flow(&instance, "sustained", &handled, lab.sizes.sustained).await?;
    let used = lab.cpu();
    instance.stop().await?;

    let mut best = 0.0;
    for connections in [1, 2] {
        let raw = Raw::new(lab).await?;
        best = raw.cycle(lab.sizes.raw, connections).await?.max(best);
        raw.drop().await?;
    }
    let mut measure = Measure::new("batches of 500 over HTTP to end", Unit::PerSecond, flow.per_second)
        .beside("raw insert, claim and end", best);
    if let (Some(before), Some(used)) = (cpu, used) {
        for (part, micros) in used.each(&before, handled.count()) {
            measure = measure.with(part, Unit::Microseconds, micros);
        }
    }
    Ok(vec![measure])
}
