//! `idle`: the statements a second of a server that has nothing to do.

use super::handled::Counter;
use super::lab::{Instance, Lab};
use super::measure::{Measure, Unit};
use serde_json::json;
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Executor as _};
use std::time::Instant;

/// The observer's own transactions between the two counts: that of the first count.
const OWN: f64 = 1.0;

pub(super) async fn measure(lab: &Lab) -> anyhow::Result<Vec<Measure>> {
    let mut administrator = lab.connect("public").await?;
    // Vacuum workers' transactions would count as the server's. On a shared server they do.
    if lab.is_private() {
        administrator.execute("ALTER SYSTEM SET autovacuum = off").await?;
        administrator.execute("SELECT pg_reload_conf()").await?;
    }
    let instance = Instance::start(lab, |app| app.handler("noop", Counter::default().handler())).await?;
    instance.define("idle", json!({ "kind": "native", "name": "noop" }), json!({})).await?;
    let (settle, watch) = lab.sizes.idle;
    // A backend reports what it did when it becomes idle, but at most once a second, and the rest with its
    // next statement or after ten seconds: what the start of the instance did has to be over that long.
    let mut observer = lab.connect("public").await?;
    transactions(&mut observer).await?;
    tokio::time::sleep(settle).await;
    let (before, start) = (transactions(&mut observer).await?, Instant::now());
    tokio::time::sleep(watch).await;
    let after = transactions(&mut observer).await?;
    let rate = (after - before - OWN).max(0.0) / start.elapsed().as_secs_f64();
    observer.close().await?;
    instance.stop().await?;
    if lab.is_private() {
        administrator.execute("ALTER SYSTEM RESET autovacuum").await?;
        administrator.execute("SELECT pg_reload_conf()").await?;
    }
    Ok(vec![Measure::new("transactions of an idle server", Unit::PerSecond, rate)])
}

/// The transactions of the database so far, as far as they are reported.
async fn transactions(observer: &mut PgConnection) -> anyhow::Result<f64> {
    let count = sqlx::query_scalar(
        "SELECT (xact_commit + xact_rollback)::float8 FROM pg_stat_database WHERE datname = current_database()",
    );
    Ok(count.fetch_one(observer).await?)
}
