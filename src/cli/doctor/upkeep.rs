//! The upkeep: whether anybody does it, and what it has not come to the end of.

use super::finding::{Finding, fail, ok, warn};
use sqlx::postgres::PgConnection;

/// What each duty is to people.
const NAMES: &[(&str, &str)] = &[
    ("retention", "the upkeep of the queues"),
    ("hub", "the upkeep of the hub"),
    ("job_retention", "the upkeep of the jobs"),
];

pub(super) async fn check(db: &mut PgConnection) -> sqlx::Result<Vec<Finding>> {
    let (names, shown): (Vec<&str>, Vec<&str>) = NAMES.iter().copied().unzip();
    let rows = sqlx::query!(
        r#"
        SELECT
            u.shown AS "shown!", d.note, date_trunc('second', now() - d.noted_at)::text AS since,
            coalesce(d.noted_at > now() - interval '1 minute', false) AS "is_young!",
            coalesce(d.last_at < now() - interval '10 minutes', true) AS "is_late!",
            (
                SELECT max(now() - w.started_at) > interval '10 minutes'
                FROM workers AS w
                WHERE w.given_up_at IS NULL AND NOT is_silent(w.heartbeat, w.lease)
            ) AS "alive_for_long"
        FROM unnest($1::text[], $2::text[]) AS u (name, shown)
        LEFT JOIN duties AS d ON d.name = u.name
        ORDER BY u.name
        "#,
        &names as &[&str],
        &shown as &[&str],
    )
    .fetch_all(db)
    .await?;
    let mut findings = Vec::new();
    for row in rows {
        if row.is_late && row.alive_for_long == Some(true) {
            findings.push(fail(
                format!("nobody has done {} for ten minutes", row.shown),
                "look at the workers' logs: whoever lives does this every minute",
            ));
        } else if let Some(note) = row.note {
            if row.is_young {
                findings.push(ok(format!("{} is under way: {note}", row.shown)));
                continue;
            }
            findings.push(warn(
                format!("{} is not done ({} so far): {note}", row.shown, row.since.unwrap_or_default()),
                "a running process goes on with it; what it cannot do now it tries again every ten minutes",
            ));
        }
    }
    if findings.is_empty() {
        findings.push(ok("the upkeep is done"));
    }
    Ok(findings)
}
