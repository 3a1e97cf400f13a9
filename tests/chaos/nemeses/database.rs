//! A database that dies, hangs up, has no room, and does not know what time it is; and others who lock its tables.

use crate::dice::Dice;
use crate::history::Phase;
use crate::world::World;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// Kills PostgreSQL, and starts it again.
pub(super) async fn kill(world: Arc<World>, mut dice: Dice) {
    world.nemesis(Phase::Invoke, "kill-postgres", "");
    world.postgres.kill();
    sleep(dice.millis(0, 1500)).await;
    world.postgres.revive().await;
    world.nemesis(Phase::Ok, "kill-postgres", "");
}

/// Ends some connections of the servers, or all.
pub(super) async fn terminate(world: Arc<World>, mut dice: Dice) {
    let share = if dice.percent(50) { 1.0 } else { 0.4 };
    let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                 WHERE application_name LIKE 'postrider%' AND random() <= $1";
    let Ok(mut db) = world.postgres.connect().await else { return };
    let count: sqlx::Result<i64> = sqlx::query_scalar(ended).bind(share).fetch_one(&mut db).await;
    world.nemesis(Phase::Ok, "terminate", &format!("{} connections", count.unwrap_or(0)));
}

/// Holds a lock for some seconds, as somebody's migration or a forgotten session does.
pub(super) async fn lock(world: Arc<World>, mut dice: Dice) {
    let table = ["leases", "leases", "leases", "messages", "outcomes", "jobs", "deliveries", "dispatch"]
        [dice.index(8)];
    let time = dice.millis(1000, 4500);
    let Ok(mut db) = world.postgres.connect().await else { return };
    world.nemesis(Phase::Invoke, "lock", table);
    let held = hold(&mut db, table, time).await;
    world.nemesis(if held.is_ok() { Phase::Ok } else { Phase::Fail }, "lock", table);
}

async fn hold(db: &mut PgConnection, table: &str, time: Duration) -> sqlx::Result<()> {
    let mut tx = db.begin().await?;
    tx.execute("SET LOCAL lock_timeout = '2s'").await?;
    tx.execute(AssertSqlSafe(format!("LOCK TABLE {table} IN EXCLUSIVE MODE"))).await?;
    sleep(time).await;
    tx.commit().await
}

/// Leaves no room on the disk for some seconds.
pub(super) async fn fill(world: Arc<World>, mut dice: Dice) {
    let path = world.place.disk().join("filler");
    world.nemesis(Phase::Invoke, "fill-disk", "");
    if let Ok(mut file) = File::create(&path) {
        let zeros = vec![0; 1 << 16];
        while file.write_all(&zeros).is_ok() {}
    }
    sleep(dice.millis(1500, 4000)).await;
    drop(std::fs::remove_file(&path));
    world.postgres.revive().await;
    world.nemesis(Phase::Ok, "fill-disk", "");
}

/// Steps the clock of the database, and some seconds later steps it back.
pub(super) async fn clock(world: Arc<World>, mut dice: Dice) {
    // Back by less than anything is kept for, so that nothing may go. Ahead by less than the last act has time for:
    // what is put off while the clock is ahead comes when it gets there again.
    let offset = [50, -3600, 30, -600, 10, -10][dice.index(6)];
    world.nemesis(Phase::Invoke, "clock", &format!("{offset:+} s"));
    world.postgres.set_clock(offset);
    sleep(dice.millis(3000, 8000)).await;
    world.postgres.set_clock(0);
    world.nemesis(Phase::Ok, "clock", "+0 s");
}
