//! The work: whether anybody does it, and what waits although it need not.

use super::finding::{Finding, fail, ok, warn};
use sqlx::postgres::PgConnection;

pub(super) async fn check(db: &mut PgConnection) -> sqlx::Result<Vec<Finding>> {
    let mut findings = workers(&mut *db).await?;
    findings.extend(queues(&mut *db).await?);
    Ok(findings)
}

async fn workers(db: &mut PgConnection) -> sqlx::Result<Vec<Finding>> {
    let row = sqlx::query!(
        r#"
        SELECT
            (SELECT count(*) FROM workers WHERE given_up_at IS NULL AND NOT is_silent(heartbeat, lease)) AS "alive!",
            (SELECT count(*) FROM workers WHERE given_up_at IS NOT NULL OR is_silent(heartbeat, lease)) AS "dead!",
            (
                SELECT count(*) FROM lease_terms WHERE is_silent(renewed_at, lease + interval '10 seconds')
            ) AS "over!",
            (SELECT count(*) FROM scheduled WHERE run_at < now() - interval '10 seconds') AS "overdue!",
            (SELECT count(*) FROM dispatch) AS "ready!"
        "#
    )
    .fetch_one(db)
    .await?;
    let mut findings = Vec::new();
    let start = "start `postrider serve` or `postrider worker`";
    findings.push(match (row.alive, row.ready + row.overdue) {
        (0, 0) => warn("no worker lives", start),
        (0, waiting) => warn(format!("no worker lives, and {waiting} messages wait"), start),
        (alive, _) => ok(format!("{alive} workers live")),
    });
    // Whoever lives takes such things back within seconds: if they stay, something is wrong with it.
    let late = |count: i64, what: &str, advice: &'static str| {
        let what = format!("{count} {what}");
        match (count, row.alive) {
            (0, _) => ok(what),
            (_, 0) => warn(what, start),
            _ => fail(what, advice),
        }
    };
    findings.push(if row.dead == 0 {
        ok("0 workers died")
    } else {
        warn(
            format!("{} workers died and are not cleared away yet", row.dead),
            "look at their logs and at the machine's memory",
        )
    });
    findings.push(late(
        row.over,
        "leases are over and not taken back",
        "see `postrider report stuck_work` and the workers' logs",
    ));
    findings.push(late(
        row.overdue,
        "messages are overdue",
        "see `postrider report stuck_work` and the workers' logs",
    ));
    Ok(findings)
}

async fn queues(db: &mut PgConnection) -> sqlx::Result<Vec<Finding>> {
    let row = sqlx::query!(
        r#"
        SELECT
            count(*) AS "all!",
            coalesce(string_agg(name, ', ' ORDER BY name) FILTER (WHERE readable_json(definition) -> 'handler' IS NULL), '') AS "idle!",
            coalesce(string_agg(name, ', ' ORDER BY name) FILTER (WHERE paused_at IS NOT NULL), '') AS "paused!"
        FROM queues
        "#
    )
    .fetch_one(db)
    .await?;
    let mut findings = vec![ok(format!("{} queues are defined", row.all))];
    if !row.idle.is_empty() {
        findings.push(warn(
            format!("without a handler: {}", row.idle),
            "their messages wait: PUT /queues/{queue}/handler",
        ));
    }
    if !row.paused.is_empty() {
        findings.push(warn(
            format!("paused: {}", row.paused),
            "their messages wait: POST /queues/{queue}/resume",
        ));
    }
    Ok(findings)
}
