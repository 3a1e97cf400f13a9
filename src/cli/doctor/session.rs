//! Whether what our connections start with arrives: a pooler in between may drop it.

use super::{Finding, ok, warn};
use sqlx::postgres::PgPool;

/// What the pool of the workers asks for and has no other source. `worker` is that pool.
pub(super) async fn check(worker: &PgPool) -> sqlx::Result<Finding> {
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
        "a pooler drops it: connect directly, or set on the role what README.md lists under Operating",
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
