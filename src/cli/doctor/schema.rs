//! The schema: whether it is of this program's version, and whether its partitions are in place.

use super::finding::{Finding, fail, ok, warn};
use crate::db::migrate::MIGRATIONS;
use sqlx::postgres::{PgConnection, PgPool};
use std::collections::BTreeMap;

/// Whether every migration of this program is applied, and no other.
pub(super) async fn version(pool: &PgPool) -> sqlx::Result<Finding> {
    let there = sqlx::query_scalar!(r#"SELECT to_regclass('_sqlx_migrations') IS NOT NULL AS "there!""#)
        .fetch_one(pool)
        .await?;
    if !there {
        return Ok(fail("the schema is not there", "run `postrider migrate`; `postrider serve` does it too"));
    }
    let applied =
        sqlx::query!("SELECT version, success, checksum FROM _sqlx_migrations").fetch_all(pool).await?;
    let mut applied: BTreeMap<i64, _> = applied.into_iter().map(|row| (row.version, row)).collect();
    for migration in MIGRATIONS.iter().filter(|migration| migration.migration_type.is_up_migration()) {
        match applied.remove(&migration.version) {
            None => {
                return Ok(fail(
                    "the schema is of an older version",
                    "run `postrider migrate`; `postrider serve` does it too",
                ));
            }
            Some(row) if !row.success => {
                return Ok(fail(
                    "a migration broke off",
                    "look at _sqlx_migrations, mend it, run `postrider migrate`",
                ));
            }
            Some(row) if row.checksum != migration.checksum.as_ref() => {
                let what = format!("the migration {} is not the one that was applied", migration.version);
                return Ok(fail(what, "use the program that made this schema, or a new schema"));
            }
            Some(_) => {}
        }
    }
    if applied.is_empty() {
        Ok(ok("the schema is of this version"))
    } else {
        Ok(fail("the schema is of a newer version than this program", "update the program"))
    }
}

/// The weekly partitions, and the tables that a claim goes through.
pub(super) async fn check(db: &mut PgConnection) -> sqlx::Result<Vec<Finding>> {
    let weeks = sqlx::query!(
        r#"
        SELECT
            (
                SELECT count(*)
                FROM unnest(ARRAY['queues', 'hub']) AS feature (name)
                WHERE NOT EXISTS (
                    SELECT
                    FROM weeks AS w
                    WHERE w.feature = feature.name
                        AND w.starts <= now() + interval '7 days' AND w.ends > now() + interval '7 days'
                )
            ) AS "missing!",
            (
                SELECT coalesce(string_agg(feature || ' ' || suffix || ' (' || note || ')', ', ' ORDER BY feature, starts), '')
                FROM weeks
                WHERE state = 'leaving'
            ) AS "leaving!",
            (
                SELECT uuid_v7_floor(coalesce(min(starts), 'infinity')) FROM weeks WHERE feature = 'queues'
            ) AS "messages_since!",
            (
                SELECT uuid_v7_floor(coalesce(min(starts), 'infinity')) FROM weeks WHERE feature = 'hub'
            ) AS "hub_since!"
        "#
    )
    .fetch_one(&mut *db)
    .await?;
    // What is older than every week had to stay when its week went.
    let strays = sqlx::query_scalar!(
        r#"
        SELECT
            EXISTS (SELECT FROM messages_default WHERE id >= $1)
            OR EXISTS (SELECT FROM outcomes_default WHERE id >= $1)
            OR EXISTS (SELECT FROM attempts_default WHERE id >= $1)
            OR EXISTS (SELECT FROM hub_messages_default WHERE id >= $2)
            OR EXISTS (SELECT FROM deliveries_default WHERE id >= $2)
            OR EXISTS (SELECT FROM delivery_attempts_default WHERE id >= $2) AS "strays!"
        "#,
        weeks.messages_since,
        weeks.hub_since,
    )
    .fetch_one(&mut *db)
    .await?;
    let dead = sqlx::query!(
        r#"
        SELECT
            coalesce(sum(n_dead_tup), 0)::bigint AS "dead!",
            coalesce(sum(n_live_tup), 0)::bigint AS "live!"
        FROM pg_stat_user_tables
        WHERE schemaname = current_schema() AND relname IN ('dispatch', 'scheduled', 'leases')
        "#
    )
    .fetch_one(&mut *db)
    .await?;
    let mut findings = Vec::new();
    findings.push(if weeks.missing == 0 {
        ok("the partitions of the next week are there")
    } else {
        warn(
            "partitions of the next week are not there",
            "a running `postrider serve` makes them within minutes",
        )
    });
    findings.push(if strays {
        warn(
            "a default partition holds rows whose week is not over",
            "they work; a running `postrider serve` moves them into their week within minutes, or, when the clock \
             jumped ahead, once their time comes",
        )
    } else {
        ok("no row lies outside its week")
    });
    if !weeks.leaving.is_empty() {
        findings.push(warn(
            format!("weeks whose time is over: {}", weeks.leaving),
            "a running `postrider serve` tries again every ten minutes",
        ));
    }
    findings.push(if dead.dead <= 100_000 + dead.live {
        ok(format!("{} dead rows in the tables of the claim", dead.dead))
    } else {
        warn(
            format!("{} dead rows in the tables of the claim", dead.dead),
            "vacuum does not keep up: look for old transactions, raise autovacuum_max_workers",
        )
    });
    Ok(findings)
}
