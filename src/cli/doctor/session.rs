//! What stands between us and the server: a pooler may share sessions, and drop what our connections start with.

use super::finding::{Finding, fail, ok, warn};
use crate::db::{Database, session};
use crate::error::explain;
use sqlx::postgres::PgPool;

/// Whether sessions are ours alone, and if not, whether that works; and whether names mean our schema.
pub(super) async fn check(db: &Database) -> sqlx::Result<Vec<Finding>> {
    let mut findings = vec![mode(db).await?];
    if let Some(listen) = &db.listen
        && session::is_shared(listen).await?
    {
        findings.push(warn(
            "POSTRIDER_LISTEN_URL leads to a pooler in transaction mode: nothing is heard there",
            "name a direct connection",
        ));
    }
    findings.push(match session::check_schema(&db.api, &db.schema).await {
        Ok(()) => ok(format!("names mean the schema {}", db.schema)),
        Err(error) => fail(explain(error.as_ref()), "nothing else is looked at: it would be somebody else's"),
    });
    Ok(findings)
}

async fn mode(db: &Database) -> sqlx::Result<Finding> {
    if !session::is_shared(&db.worker).await? {
        return Ok(ok("sessions are ours alone: no pooler in transaction mode stands in between"));
    }
    Ok(if !session::carries_statements(&db.worker).await? {
        fail(
            "a pooler in transaction mode stands in between, and does not carry prepared statements",
            "PgBouncer 1.21 or newer with max_prepared_statements above 0, session mode, or a direct connection",
        )
    } else if db.listen.is_some() {
        ok(
            "a pooler in transaction mode stands in between; processes hear each other by POSTRIDER_LISTEN_URL",
        )
    } else {
        warn(
            "a pooler in transaction mode stands in between: processes find each other's news by polling",
            "set POSTRIDER_LISTEN_URL to a direct connection to have them hear each other at once",
        )
    })
}

/// What the pool of the workers asks for and has no other source. `worker` is that pool.
pub(super) async fn settings(worker: &PgPool) -> sqlx::Result<Finding> {
    let row = sqlx::query!(
        r#"
        SELECT
            current_setting('jit') AS "jit!",
            current_setting('plan_cache_mode') AS "plan_cache_mode!",
            current_setting('statement_timeout') AS "statement_timeout!"
        "#
    )
    .fetch_one(worker)
    .await?;
    Ok(judge(&row.jit, &row.plan_cache_mode, &row.statement_timeout))
}

fn judge(jit: &str, plan_cache_mode: &str, statement_timeout: &str) -> Finding {
    let mut lost = Vec::new();
    if jit != "off" {
        lost.push(format!("jit = {jit}"));
    }
    if plan_cache_mode != "force_generic_plan" {
        lost.push(format!("plan_cache_mode = {plan_cache_mode}"));
    }
    if statement_timeout == "0" {
        lost.push("statement_timeout = 0".to_owned());
    }
    if lost.is_empty() {
        return ok("what connections start with arrives at the server");
    }
    warn(
        format!("what connections start with does not arrive at the server: {}", lost.join(", ")),
        "a pooler drops it: connect directly, or run `postrider migrate --role-default` and have it reconnect",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Level;

    #[test]
    fn what_is_lost_is_named() {
        assert_eq!(judge("off", "force_generic_plan", "30s").level, Level::Ok);
        // Another limit is somebody's decision.
        assert_eq!(judge("off", "force_generic_plan", "10s").level, Level::Ok);
        let lost = judge("on", "auto", "0");
        assert_eq!(lost.level, Level::Warn);
        assert!(
            lost.what.ends_with("jit = on, plan_cache_mode = auto, statement_timeout = 0"),
            "{}",
            lost.what
        );
        assert!(judge("off", "auto", "30s").what.ends_with(": plan_cache_mode = auto"));
    }
}
