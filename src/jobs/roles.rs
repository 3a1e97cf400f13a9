//! Which roles open the job channels, and for what. Ownership is asked beside them.

use crate::auth::Caller;
use crate::auth::role::{ADMIN, CARDHOLDER_AGENT, CUSTOMER_AGENT, JOB_WORKER, SYSTEM_ADMIN};
use crate::error::{Error, Result};

const ADMINS: [&str; 2] = [ADMIN, SYSTEM_ADMIN];

fn has_any(caller: &Caller, roles: &[&str]) -> bool {
    caller.has_any(ADMINS) || caller.has_any(roles)
}

fn require(caller: &Caller, roles: &[&str]) -> Result<()> {
    if has_any(caller, roles) {
        return Ok(());
    }
    Err(Error::Forbidden("no role of this token allows this".to_owned()))
}

/// Refuses a caller who acts for nobody: creates no jobs, follows none, answers nothing.
///
/// # Errors
/// 403 without a role; 403 without a subject, which could own nothing.
pub fn require_agent(caller: &Caller) -> Result<()> {
    require(caller, &[CARDHOLDER_AGENT, CUSTOMER_AGENT])?;
    if caller.subject.is_empty() {
        return Err(Error::Forbidden("this needs a token with a subject".to_owned()));
    }
    Ok(())
}

/// Refuses a caller who is no worker.
///
/// # Errors
/// 403.
pub fn require_worker(caller: &Caller) -> Result<()> {
    require(caller, &[JOB_WORKER])
}

/// Refuses a caller with none of the roles of this feature.
///
/// # Errors
/// 403.
pub fn require_any(caller: &Caller) -> Result<()> {
    require(caller, &[CARDHOLDER_AGENT, CUSTOMER_AGENT, JOB_WORKER])
}

/// Whether the caller does the work of jobs.
pub fn is_worker(caller: &Caller) -> bool {
    has_any(caller, &[JOB_WORKER])
}

/// Whether the caller may follow any job, whoever created it.
pub fn follows_any(caller: &Caller) -> bool {
    has_any(caller, &[CUSTOMER_AGENT])
}

/// Whether the caller may look at any job.
pub fn sees_any(caller: &Caller) -> bool {
    has_any(caller, &[CUSTOMER_AGENT, JOB_WORKER])
}

/// Whether the caller created what `owner` created. An empty subject is nobody.
pub fn owns(caller: &Caller, owner: &str) -> bool {
    !caller.subject.is_empty() && caller.subject == owner
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_opens_what_the_table_says() {
        // role: agent, worker, any, follows any, sees any.
        for (role, opens) in [
            ("admin", [true, true, true, true, true]),
            ("system_admin", [true, true, true, true, true]),
            ("customer_agent", [true, false, true, true, true]),
            ("cardholder_agent", [true, false, true, false, false]),
            ("job_worker", [false, true, true, false, true]),
            ("Admin", [false; 5]),
            ("queue_writer", [false; 5]),
        ] {
            let caller = Caller::new("ann", [role]);
            let found = [
                require_agent(&caller).is_ok(),
                require_worker(&caller).is_ok(),
                require_any(&caller).is_ok(),
                follows_any(&caller),
                sees_any(&caller),
            ];
            assert_eq!(found, opens, "{role}");
        }
    }

    #[test]
    fn an_empty_subject_owns_nothing() {
        let nobody = Caller::new("", ["admin"]);
        assert!(require_agent(&nobody).is_err());
        assert!(!owns(&nobody, ""));
        assert!(owns(&Caller::new("ann", ["x"]), "ann"));
        assert!(!owns(&Caller::new("ann", ["x"]), "bob"));
    }
}
