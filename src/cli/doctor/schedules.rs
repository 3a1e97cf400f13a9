//! Schedules: those of queues, of mappings and of pollers that are late, and moments of queues that were missed.

use super::finding::{Finding, fail, ok, warn};
use sqlx::postgres::PgConnection;

/// So many are named.
const NAMED: i64 = 5;

pub(super) async fn check(db: &mut PgConnection) -> sqlx::Result<Vec<Finding>> {
    let row = sqlx::query!(
        r#"
        WITH overdue AS (
            SELECT s.kind, s.owner, s.next_at FROM schedules AS s WHERE s.next_at < now() - interval '1 minute'
        )
        SELECT
            EXISTS (SELECT FROM workers WHERE given_up_at IS NULL AND NOT is_silent(heartbeat, lease)) AS "alive!",
            (SELECT count(*) FROM overdue) AS "overdue!",
            (
                SELECT coalesce(string_agg(name, ', ' ORDER BY next_at), '')
                FROM (
                    SELECT q.name || '/' || s.name AS name, o.next_at
                    FROM overdue AS o
                    JOIN queue_schedules AS s ON s.id = o.owner
                    JOIN queues AS q ON q.id = s.queue_id
                    WHERE o.kind = 'queue'
                    ORDER BY o.next_at
                    LIMIT $1
                ) AS first
            ) AS "named!",
            (
                -- By when that was seen: after a long outage the moments themselves lie further back.
                SELECT count(*) FROM ticks WHERE fired_at > now() - interval '1 day' AND outcome = 'missed'
            ) AS "missed!"
        "#,
        NAMED,
    )
    .fetch_one(db)
    .await?;
    let named = if row.named.is_empty() { String::new() } else { format!(": {}", row.named) };
    let what = format!("{} schedules are overdue{named}", row.overdue);
    let mut findings = vec![match (row.overdue, row.alive) {
        (0, _) => ok(what),
        (_, false) => warn(what, "start `postrider serve` or `postrider worker`"),
        _ => fail(what, "look at the workers' logs: whoever lives fires what is due within seconds"),
    }];
    if row.missed > 0 {
        findings.push(warn(
            format!("schedules missed their moments {} times in the last day", row.missed),
            "nobody was there to fire them: see `postrider report schedule_runs`, and `missed` of the schedules",
        ));
    }
    Ok(findings)
}
