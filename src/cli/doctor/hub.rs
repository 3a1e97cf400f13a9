//! The hub: what it cannot deliver, and what waits although it need not.

use super::finding::{Finding, fail, ok, warn};
use sqlx::postgres::PgConnection;

/// Parked deliveries are counted up to here: more of them need nothing else.
const MOST: i64 = 10_000;

pub(super) async fn check(db: &mut PgConnection) -> sqlx::Result<Vec<Finding>> {
    let mut findings = endpoints(&mut *db).await?;
    findings.extend(parked(&mut *db).await?);
    findings.extend(late(&mut *db).await?);
    findings.push(lost(&mut *db).await?);
    Ok(findings)
}

async fn endpoints(db: &mut PgConnection) -> sqlx::Result<Vec<Finding>> {
    let row = sqlx::query!(
        r#"
        SELECT
            count(*) AS "all!",
            (
                SELECT coalesce(string_agg(name, ', ' ORDER BY name), '')
                FROM (
                    SELECT stores.name || '/' || o.name AS name
                    FROM endpoints AS o
                    JOIN stores ON stores.id = o.store_id
                    JOIN circuits AS c ON c.lane = o.id
                    WHERE c.open_until IS NOT NULL
                    UNION ALL
                    SELECT stores.name || '/' || o.name || '/' || p.part
                    FROM circuit_parts AS p
                    JOIN endpoints AS o ON o.id = p.lane
                    JOIN stores ON stores.id = o.store_id
                ) AS open
            ) AS "open!",
            coalesce(
                string_agg(stores.name || '/' || e.name, ', ' ORDER BY stores.name, e.name)
                    FILTER (WHERE c.gone_at IS NOT NULL),
                ''
            ) AS "gone!",
            coalesce(
                string_agg(stores.name || '/' || e.name, ', ' ORDER BY stores.name, e.name)
                    FILTER (WHERE e.disabled_at IS NOT NULL),
                ''
            ) AS "disabled!",
            (
                SELECT coalesce(string_agg(stores.name || '/' || p.name, ', ' ORDER BY stores.name, p.name), '')
                FROM pollers AS p
                JOIN stores ON stores.id = p.store_id
                WHERE p.failures > 0
            ) AS "failing!"
        FROM endpoints AS e
        JOIN stores ON stores.id = e.store_id
        LEFT JOIN circuits AS c ON c.lane = e.id
        "#
    )
    .fetch_one(db)
    .await?;
    let mut findings = vec![ok(format!("{} endpoints are defined", row.all))];
    if !row.open.is_empty() {
        findings.push(warn(
            format!("their circuits are open: {}", row.open),
            "they failed again and again and are tried now and then: see `postrider report failing_endpoints`",
        ));
    }
    if !row.gone.is_empty() {
        findings.push(warn(
            format!("they answered 410, gone: {}", row.gone),
            "correct their URL, or delete their mappings",
        ));
    }
    if !row.disabled.is_empty() {
        findings.push(warn(
            format!("their failures switched them off: {}", row.disabled),
            "mend them, and put each again with \"enabled\": true: it sends what it held",
        ));
    }
    if !row.failing.is_empty() {
        findings.push(warn(
            format!("pollers that fail: {}", row.failing),
            "GET /stores/{store}/pollers says why, in last_error",
        ));
    }
    Ok(findings)
}

async fn parked(db: &mut PgConnection) -> sqlx::Result<Vec<Finding>> {
    let row = sqlx::query!(
        r#"
        SELECT
            (
                SELECT count(*)
                FROM (
                    SELECT
                    FROM deliveries
                    WHERE parked AND archived_at IS NULL
                    LIMIT $1
                ) AS parked
            ) AS "deliveries!",
            (
                SELECT count(*)
                FROM (
                    SELECT
                    FROM hub_messages
                    WHERE state = 'parked' AND id > uuid_v7_floor(now() - interval '1 day')
                    LIMIT $1
                ) AS parked
            ) AS "messages!"
        "#,
        MOST,
    )
    .fetch_one(db)
    .await?;
    let counted = |count: i64| if count < MOST { count.to_string() } else { format!("{MOST} or more") };
    let mut findings = vec![if row.deliveries == 0 {
        ok("0 deliveries are parked")
    } else {
        warn(
            format!("{} deliveries are parked", counted(row.deliveries)),
            "GET /stores/{store}/deliveries?status=ERROR says why; run them again, or archive them",
        )
    }];
    if row.messages > 0 {
        findings.push(warn(
            format!("{} messages of the last day are parked", counted(row.messages)),
            "GET /stores/{store}/messages?state=parked says why",
        ));
    }
    Ok(findings)
}

/// Deliveries of the last day that have not ended and wait nowhere, so that nobody will ever send them.
async fn lost(db: &mut PgConnection) -> sqlx::Result<Finding> {
    let lost = sqlx::query_scalar!(
        r#"
        SELECT count(*) AS "lost!"
        FROM deliveries AS d
        WHERE d.status = 'PENDING'
            AND d.id >= uuid_v7_floor(now() - interval '1 day')
            AND NOT EXISTS (SELECT FROM unfinished_deliveries AS u WHERE u.id = d.id)
        "#
    )
    .fetch_one(db)
    .await?;
    Ok(if lost == 0 {
        ok("0 deliveries wait nowhere")
    } else {
        fail(
            format!("{lost} deliveries have not ended and wait nowhere"),
            "`postrider report stuck_work` names them; POST /stores/{store}/deliveries/{id}/retry sends one. Report this",
        )
    })
}

/// What whoever lives does within minutes: if it stays undone, something is wrong with it.
async fn late(db: &mut PgConnection) -> sqlx::Result<Vec<Finding>> {
    let row = sqlx::query!(
        r#"
        SELECT
            EXISTS (SELECT FROM workers WHERE given_up_at IS NULL AND NOT is_silent(heartbeat, lease)) AS "alive!",
            (
                SELECT count(*)
                FROM hub_messages AS m
                WHERE m.state = 'pending'
                    AND m.id < uuid_v7_floor(now() - interval '1 minute')
                    AND NOT EXISTS (
                        SELECT
                        FROM scheduled AS s
                        JOIN lanes ON lanes.id = s.lane
                        WHERE lanes.kind = 'router' AND s.item = m.id AND s.run_at > now() - interval '1 minute'
                    )
            ) AS "pending!",
            (
                SELECT count(*)
                FROM (
                    SELECT lane FROM dispatch
                    UNION ALL
                    SELECT lane FROM scheduled
                ) AS waiting
                WHERE lane IN (
                    SELECT id FROM lanes WHERE kind = 'endpoint' AND removed_at < now() - interval '15 minutes'
                )
            ) AS "astray!"
        "#
    )
    .fetch_one(db)
    .await?;
    let finding = |count: i64, what: &str| {
        let what = format!("{count} {what}");
        match (count, row.alive) {
            (0, _) => ok(what),
            (_, false) => warn(what, "start `postrider serve` or `postrider worker`"),
            _ => fail(what, "look at the workers' logs: whoever lives does this within minutes"),
        }
    };
    Ok(vec![
        finding(row.astray, "deliveries wait at endpoints that were deleted"),
        finding(row.pending, "messages of the hub have waited to be routed for over a minute"),
    ])
}
