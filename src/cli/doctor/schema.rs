//! The schema: whether it is of this program's version, and whether its partitions are in place.

use super::{Finding, fail, ok, warn};
use crate::db::migrate::MIGRATIONS;
use sqlx::postgres::PgPool;
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
pub(super) async fn check(pool: &PgPool) -> sqlx::Result<Vec<Finding>> {
    let partitions = sqlx::query!(
        r#"
        SELECT
            (
                SELECT count(*)
                FROM unnest(ARRAY['messages', 'outcomes', 'attempts']) AS parent (name)
                WHERE to_regclass(parent.name || '_' || to_char((now() + interval '7 days') AT TIME ZONE 'UTC', 'IYYY_IW')) IS NULL
            ) AS "missing!",
            EXISTS (SELECT FROM messages_default)
                OR EXISTS (SELECT FROM outcomes_default)
                OR EXISTS (SELECT FROM attempts_default) AS "strays!"
        "#
    )
    .fetch_one(pool)
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
    .fetch_one(pool)
    .await?;
    let mut findings = Vec::new();
    findings.push(if partitions.missing == 0 {
        ok("the partitions of the next week are there")
    } else {
        warn(
            "partitions of the next week are not there",
            "a running `postrider serve` makes them within minutes",
        )
    });
    findings.push(if partitions.strays {
        warn(
            "a default partition holds rows",
            "they work, but go with no week's retention; the clock may have jumped, or nobody made partitions",
        )
    } else {
        ok("the default partitions are empty")
    });
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
