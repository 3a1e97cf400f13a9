//! The work: whether anybody does it, and what waits although it need not.

use super::finding::{Finding, fail, ok, warn};
use sqlx::postgres::{PgConnection, PgPool};
use std::time::{Duration, Instant};

/// A process renews within a third of its lease, and soon after a failover; longer than this nobody waits for it.
const LONGEST: Duration = Duration::from_secs(10);

/// Where no worker seems to live and one did minutes ago, waits for its next heartbeat: right after a failover, or when
/// the database was away, all of them are silent who live.
pub(super) async fn await_heartbeats(pool: &PgPool) -> sqlx::Result<()> {
    let began = Instant::now();
    loop {
        let patience = sqlx::query_scalar!(
            r#"
            SELECT extract(epoch FROM max(lease) / 3)::float8 AS patience
            FROM workers
            WHERE given_up_at IS NULL AND heartbeat BETWEEN now() - interval '5 minutes' AND now()
            HAVING bool_and(is_silent(heartbeat, lease))
            "#
        );
        let patience = patience.fetch_optional(pool).await?.flatten();
        let patience = patience.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST));
        match patience.map(|patience| (patience + Duration::from_secs(1)).min(LONGEST)) {
            Some(patience) if began.elapsed() < patience => {
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            _ => return Ok(()),
        }
    }
}

pub(super) async fn check(db: &mut PgConnection) -> sqlx::Result<Vec<Finding>> {
    let mut findings = workers(&mut *db).await?;
    findings.extend(queues(&mut *db).await?);
    findings.extend(runners(&mut *db).await?);
    Ok(findings)
}

async fn workers(db: &mut PgConnection) -> sqlx::Result<Vec<Finding>> {
    let row = sqlx::query!(
        r#"
        SELECT
            (SELECT count(*) FROM workers WHERE given_up_at IS NULL AND NOT is_silent(heartbeat, lease)) AS "alive!",
            (
                SELECT count(*)
                FROM workers AS w
                WHERE (w.given_up_at IS NOT NULL OR is_silent(w.heartbeat, w.lease))
                    -- Who lives under another id has not died: it registers anew after a failover.
                    AND NOT EXISTS (
                        SELECT
                        FROM workers AS anew
                        WHERE anew.process = w.process AND anew.given_up_at IS NULL
                            AND NOT is_silent(anew.heartbeat, anew.lease)
                    )
            ) AS "dead!",
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

/// Queues whose messages no process runs, since none lives that can.
async fn runners(db: &mut PgConnection) -> sqlx::Result<Vec<Finding>> {
    let row = sqlx::query!(
        r#"
        SELECT
            EXISTS (SELECT FROM workers WHERE given_up_at IS NULL AND NOT is_silent(heartbeat, lease)) AS "alive!",
            coalesce(
                string_agg(format('%s (%s)', q.name, r.native), ', ' ORDER BY q.name) FILTER (WHERE r.kind = 'native'), ''
            ) AS "native!",
            coalesce(string_agg(q.name, ', ' ORDER BY q.name) FILTER (WHERE r.kind = 'javascript'), '') AS "javascript!",
            coalesce(bool_or(r.kind = 'native' AND waits.due), false) AS "native_wait!",
            coalesce(bool_or(r.kind = 'javascript' AND waits.due), false) AS "javascript_wait!"
        FROM queue_runners AS r
        JOIN queues AS q ON q.id = r.queue_id
        CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM dispatch AS d WHERE d.lane = q.id) AS due) AS waits
        WHERE NOT r.is_there AND q.paused_at IS NULL
        "#
    )
    .fetch_one(db)
    .await?;
    let finding = |waits: bool, what: String, advice: &'static str| {
        if waits && row.alive { fail(what + ", and messages wait", advice) } else { warn(what, advice) }
    };
    let mut findings = Vec::new();
    if !row.native.is_empty() {
        findings.push(finding(
            row.native_wait,
            format!("no process lives that has the native handlers of: {}", row.native),
            "start the program that registers them, or correct handler.name",
        ));
    }
    // Where nobody lives at all, that was said.
    if !row.javascript.is_empty() && row.alive {
        findings.push(finding(
            row.javascript_wait,
            format!("no process lives that runs JavaScript, for: {}", row.javascript),
            "start `postrider serve` or `postrider worker`; a program that embeds Postrider runs it by App::javascript",
        ));
    }
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
