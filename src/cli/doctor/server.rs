//! The PostgreSQL server: its version, what it promises about durability, what holds it up.

use super::finding::{Finding, fail, ok, warn};
use crate::db::holdups::{self, Holdups};
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
    findings.push(clock(row.clock));
    findings.extend(holdups(&holdups::look(pool).await?));
    Ok(findings)
}

/// What others keep from going, and what to do about it. One that works may come to its end; what nobody works on does
/// not.
fn holdups(found: &Holdups) -> Vec<Finding> {
    let mut findings = Vec::new();
    let pid = found.pid.unwrap_or_default();
    findings.push(match found.transaction_seconds {
        seconds if seconds <= OLD => ok("no transaction is old"),
        seconds if found.is_idle => fail(
            format!("a transaction has been open for {seconds:.0} s and does nothing (process {pid})"),
            "end it, SELECT pg_terminate_backend(process), and mend its client: until then dead rows stay",
        ),
        seconds => warn(
            format!("a transaction has been at work for {seconds:.0} s (process {pid})"),
            "a dump may take long; end another, SELECT pg_cancel_backend(process): until then dead rows stay",
        ),
    });
    findings.push(match (found.prepared_seconds, &found.prepared) {
        (seconds, Some(name)) if seconds > OLD => fail(
            format!("the prepared transaction {name} has waited for its end for {seconds:.0} s"),
            "COMMIT PREPARED or ROLLBACK PREPARED it, as its coordinator decided: it keeps dead rows and locks for ever",
        ),
        _ => ok("no prepared transaction is old"),
    });
    findings.push(if found.stale_slots == 0 {
        ok("no replication slot is stale")
    } else {
        let kept = found.slot_bytes / (1 << 20);
        fail(
            format!("nobody reads these replication slots: {} ({kept} MiB of log are kept)", found.slots),
            "connect their standby or subscriber, or SELECT pg_drop_replication_slot(name): until then the disk \
             fills with log, and dead rows may stay",
        )
    });
    findings
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::Level;

    #[test]
    fn who_works_may_take_long_and_who_waits_may_not() {
        let none = || Holdups {
            pid: None,
            transaction_seconds: 0.0,
            is_idle: false,
            prepared_seconds: 0.0,
            prepared: None,
            stale_slots: 0,
            slots: String::new(),
            slot_bytes: 0,
        };
        let levels = |found: &Holdups| holdups(found).iter().map(|finding| finding.level).collect::<Vec<_>>();
        assert_eq!(levels(&none()), [Level::Ok; 3]);
        let young = Holdups {
            transaction_seconds: 59.0,
            is_idle: true,
            prepared_seconds: 59.0,
            prepared: Some("a".into()),
            ..none()
        };
        assert_eq!(levels(&young), [Level::Ok; 3]);
        let dump = Holdups { transaction_seconds: 3600.0, ..none() };
        assert_eq!(levels(&dump), [Level::Warn, Level::Ok, Level::Ok]);
        let idle = Holdups { is_idle: true, ..dump };
        assert_eq!(levels(&idle), [Level::Fail, Level::Ok, Level::Ok]);
        let others = Holdups { prepared_seconds: 61.0, stale_slots: 1, ..young };
        assert_eq!(levels(&others), [Level::Ok, Level::Fail, Level::Fail]);
    }
}
