//! `held`: `sustained` while another session holds a snapshot, so that no vacuum can remove anything; beside
//! the same without.

use super::flow::flow;
use super::handled::Counter;
use super::lab::{Instance, Lab};
use super::measure::{Measure, Unit};
use super::sustained::CONCURRENCY;
use serde_json::json;
use sqlx::Executor as _;

pub(super) async fn measure(lab: &Lab) -> anyhow::Result<Vec<Measure>> {
    let (clean, _) = run(lab, false).await?;
    let (held, dead) = run(lab, true).await?;
    let seconds = lab.sizes.held.as_secs();
    let what = format!("in the last third of {seconds} s");
    Ok(vec![Measure::new(what, Unit::PerSecond, held).beside("without a snapshot", clean).with(
        "dead dispatch rows at the end",
        Unit::Count,
        dead,
    )])
}

/// The rate in the last third, and how many dispatch rows had been deleted under the snapshot.
async fn run(lab: &Lab, hold: bool) -> anyhow::Result<(f64, f64)> {
    let handled = Counter::default();
    let instance = Instance::start(lab, |app| app.handler("noop", handled.handler())).await?;
    let noop = json!({ "kind": "native", "name": "noop" });
    instance.define("held", noop, json!({ "concurrency": CONCURRENCY })).await?;
    let mut other = lab.connect(&instance.schema).await?;
    if hold {
        // The snapshot is taken by the first statement after BEGIN.
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
        other.execute("SELECT count(*) FROM dispatch").await?;
    }
    let flow = flow(&instance, "held", &handled, lab.sizes.held).await?;
    if hold {
        // Fails if something has ended the transaction, and with it the snapshot.
        other.execute("SELECT count(*) FROM dispatch").await?;
        other.execute("ROLLBACK").await?;
    }
    instance.stop().await?;
    Ok((flow.late, handled.count() as f64))
}
