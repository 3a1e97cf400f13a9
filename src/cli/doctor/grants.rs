//! What roles of PostgreSQL were granted: whether they, and what it is for, are there.

use super::finding::{Finding, ok, warn};
use sqlx::postgres::PgConnection;

pub(super) async fn check(db: &mut PgConnection) -> sqlx::Result<Vec<Finding>> {
    let row = sqlx::query!(
        r#"
        SELECT
            count(DISTINCT role) AS "roles!",
            coalesce(string_agg(DISTINCT role, ', ') FILTER (WHERE to_regrole(quote_ident(role)) IS NULL), '') AS "gone!",
            coalesce(string_agg(format('%s for the %s %s', role, kind, name), ', ' ORDER BY role, kind, name) FILTER (
                WHERE kind = 'queue' AND name NOT LIKE '%*' AND NOT EXISTS (SELECT FROM queues AS q WHERE q.name = grants.name)
                    OR kind = 'job type' AND name NOT LIKE '%*'
                        AND NOT EXISTS (SELECT FROM job_types AS t WHERE t.name = grants.name)
            ), '') AS "empty!"
        FROM grants
        "#
    )
    .fetch_one(db)
    .await?;
    let mut findings = vec![ok(format!("{} roles have grants for SQL", row.roles))];
    if !row.gone.is_empty() {
        findings.push(warn(
            format!("grants of roles that are not there: {}", row.gone),
            "run `postrider revoke ROLE --all`, or it is the grant of the next role of that name",
        ));
    }
    if !row.empty.is_empty() {
        findings.push(warn(
            format!("grants for what is not there: {}", row.empty),
            "define it, or run `postrider revoke`",
        ));
    }
    Ok(findings)
}
