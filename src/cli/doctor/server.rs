//! The PostgreSQL server: its version, what it promises about durability, what holds it up.

use super::finding::{Finding, fail, ok, warn};
use sqlx::postgres::PgPool;
use std::time::SystemTime;

/// What `serve` and its pools need at once, with room for a few sessions of people.
const CONNECTIONS: i64 = 20;
/// A transaction older than this keeps dead rows where every claim has to step over them, in seconds.
const OLD: f64 = 60.0;

pub(super) async fn check(pool: &PgPool) -> sqlx::Result<Vec<Finding>> {
    let row = sqlx::query!(
        r#"
        SELECT
            current_setting('server_version') AS "version!",
            current_setting('server_version_num')::int AS "number!",
            current_setting('fsync') AS "fsync!",
            current_setting('synchronous_commit') AS "synchronous_commit!",
            current_setting('full_page_writes') AS "full_page_writes!",
            current_setting('autovacuum') AS "autovacuum!",
            pg_is_in_recovery() AS "is_standby!",
            current_setting('transaction_read_only') = 'on' AS "is_read_only!",
            current_setting('max_connections')::bigint AS "connections!",
            (SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()) AS "prepared!",
            (
                SELECT coalesce(extract(epoch FROM now() - min(xact_start)), 0)::float8
                FROM pg_stat_activity
                WHERE datname = current_database()
                    AND backend_type = 'client backend'
                    AND pid <> pg_backend_pid()
            ) AS "oldest!",
            extract(epoch FROM clock_timestamp())::float8 AS "clock!"
        "#
    )
    .fetch_one(pool)
    .await?;
    let mut findings = vec![if row.number >= 140_000 {
        ok(format!("PostgreSQL {}", row.version))
    } else {
        fail(format!("PostgreSQL {} is too old", row.version), "use 14 or newer")
    }];
    if row.is_standby {
        findings
            .push(fail("the database is a standby: it takes no writes", "name the primary in DATABASE_URL"));
    } else if row.is_read_only {
        findings.push(fail(
            "the database takes no writes: default_transaction_read_only = on",
            "ALTER DATABASE or ALTER ROLE … RESET default_transaction_read_only; a failover may have set it",
        ));
    }
    for (name, value) in [
        ("fsync", &row.fsync),
        ("synchronous_commit", &row.synchronous_commit),
        ("full_page_writes", &row.full_page_writes),
    ] {
        findings.push(if value == "off" {
            fail(format!("{name} = off: accepted messages could be lost"), "turn it on in postgresql.conf")
        } else {
            ok(format!("{name} = {value}"))
        });
    }
    findings.push(if row.autovacuum == "on" {
        ok("autovacuum = on")
    } else {
        fail("autovacuum = off: claims get slower without end", "turn it on in postgresql.conf")
    });
    findings.push(if row.connections >= CONNECTIONS {
        ok(format!("max_connections = {}", row.connections))
    } else {
        warn(format!("max_connections = {}", row.connections), "each process of Postrider uses up to 18")
    });
    findings.push(if row.oldest <= OLD {
        ok("no transaction is old")
    } else {
        warn(
            format!("a transaction has been open for {:.0} s", row.oldest),
            "end it (pg_stat_activity names it): until then no dead row can be removed",
        )
    });
    if row.prepared > 0 {
        let what = format!("{} prepared transactions wait for their end", row.prepared);
        findings
            .push(warn(what, "commit or roll them back (pg_prepared_xacts): they keep dead rows for ever"));
    }
    findings.push(clock(row.clock));
    Ok(findings)
}

/// Work goes by the database's clock, the validity of tokens by this machine's.
fn clock(database: f64) -> Finding {
    let here =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64());
    let apart = (here - database).abs();
    if apart <= 10.0 {
        return ok("this machine's clock agrees with the database's");
    }
    warn(
        format!("this machine's clock is {apart:.0} s apart from the database's"),
        "synchronize both: tokens may be taken for expired, or for not valid yet",
    )
}
