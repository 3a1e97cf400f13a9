//! `javascript`: messages through the document's handler, each in a world of its own; beside a native handler
//! of the same concurrency.

use super::handled::Counter;
use super::lab::{Instance, Lab};
use super::measure::{Measure, Unit};
use super::processes::{self, Cpu};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How many messages may run at once.
const CONCURRENCY: u16 = 8;
/// How often the number of ends is asked for.
const POLL: Duration = Duration::from_millis(20);

pub(super) async fn measure(lab: &Lab) -> anyhow::Result<Vec<Measure>> {
    let source = include_str!("../../examples/myQueue.queue.js");
    let scripted = run(lab, json!({ "kind": "javascript", "source": source })).await?;
    let native = run(lab, json!({ "kind": "native", "name": "noop" })).await?;
    let what = format!("the document's handler, {CONCURRENCY} at once");
    let mut measure =
        Measure::new(what, Unit::PerSecond, scripted.rate).beside("native handler", native.rate);
    if let Some((before, after)) = scripted.cpu {
        for (part, micros) in after.each(&before, lab.sizes.javascript) {
            measure = measure.with(part, Unit::Microseconds, micros);
        }
    }
    let (children, peak) = scripted.children;
    measure = measure.with("children", Unit::Count, children as f64);
    Ok(vec![measure.with("peak of one", Unit::Mebibytes, peak)])
}

struct Run {
    rate: f64,
    cpu: Option<(Cpu, Cpu)>,
    children: (usize, f64),
}

async fn run(lab: &Lab, handler: Value) -> anyhow::Result<Run> {
    let count = lab.sizes.javascript;
    let instance = Instance::start(lab, |app| app.handler("noop", Counter::default().handler())).await?;
    let queue = instance.define_paused("javascript", handler, CONCURRENCY).await?;
    instance.fill(queue, count).await?;
    let before = lab.cpu();
    let start = Instant::now();
    instance.resume("javascript").await?;
    loop {
        let ends = sqlx::query_scalar("SELECT count(*) FROM outcomes WHERE status = 'COMPLETE'");
        let ends: i64 = ends.fetch_one(&instance.server.db.heartbeat).await?;
        if usize::try_from(ends)? >= count {
            break;
        }
        anyhow::ensure!(
            start.elapsed() < Duration::from_mins(5),
            "stuck: {ends} of {count} messages are complete"
        );
        tokio::time::sleep(POLL).await;
    }
    let rate = count as f64 / start.elapsed().as_secs_f64();
    let cpu = before.zip(lab.cpu());
    let children = processes::javascript_children();
    instance.stop().await?;
    Ok(Run { rate, cpu, children })
}
