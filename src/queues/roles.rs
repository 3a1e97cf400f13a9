//! Which roles open a queue, and for what.
//!
//! `has` asks whether the caller's token carries a role. There is no access without a valid token: whoever
//! calls these functions has one in hand.

use crate::auth::Caller;
use crate::auth::role::{self, QUEUE_ADMIN, QUEUE_WRITER, SYSTEM_ADMIN, SYSTEM_WRITER};
use crate::error::{Error, Result};

/// May push to, read and delete from every queue that keeps the general roles.
const WRITERS: [&str; 2] = [SYSTEM_WRITER, QUEUE_WRITER];

/// The `roles` of a definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles {
    /// `needsRole`: whether a role is needed at all; if not, any valid token opens the queue.
    pub needs_role: bool,
    /// `replace`: whether `roles` stand in the place of the general ones. `system_admin` always stays.
    pub replace: bool,
    /// `roles`: the queue's own.
    pub roles: Vec<String>,
}

impl Default for Roles {
    fn default() -> Self {
        Self { needs_role: true, replace: false, roles: Vec::new() }
    }
}

/// Whether the caller may push to the queue `name`, and read and delete its messages.
pub fn may_push(roles: &Roles, name: &str, has: impl Fn(&str) -> bool) -> bool {
    let general = || WRITERS.iter().any(|role| has(role)) || has(&role::queue_writer(name));
    !roles.needs_role
        || has(SYSTEM_ADMIN)
        || roles.roles.iter().any(|role| has(role))
        || (!roles.replace && general())
}

/// Whether the caller may claim messages of the queue `name` and settle them: as for a push, or as one of the
/// queue's workers.
pub fn may_work(roles: &Roles, name: &str, has: impl Fn(&str) -> bool) -> bool {
    has(&role::queue_worker(name)) || may_push(roles, name, has)
}

/// Refuses a caller who may not push to the queue `name`.
///
/// # Errors
/// 403.
pub fn require_push(roles: &Roles, name: &str, caller: &Caller) -> Result<()> {
    if may_push(roles, name, |role| caller.has_any([role])) {
        return Ok(());
    }
    Err(Error::Forbidden("no role of this token opens this queue".to_owned()))
}

/// Refuses a caller who may not claim from the queue `name`.
///
/// # Errors
/// 403.
pub fn require_work(roles: &Roles, name: &str, caller: &Caller) -> Result<()> {
    if may_work(roles, name, |role| caller.has_any([role])) {
        return Ok(());
    }
    Err(Error::Forbidden("no role of this token lets it work for this queue".to_owned()))
}

/// Refuses a caller who may not define queues and handlers, pause them, and list and retry messages. The right to
/// push is never the right to run code, so a definition's roles do not matter here.
///
/// # Errors
/// 403, naming the roles that would do.
pub fn require_admin(caller: &Caller) -> Result<()> {
    caller.require(&[QUEUE_ADMIN, SYSTEM_ADMIN])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every role that matters to a queue `q` with the role `own`, and what it opens:
    /// push (needsRole true: replace false, replace true), work (same).
    const TABLE: [(&str, [bool; 4]); 11] = [
        ("system_admin", [true, true, true, true]),
        ("queue_admin", [false, false, false, false]),
        ("system_writer", [true, false, true, false]),
        ("queue_writer", [true, false, true, false]),
        ("q_writer", [true, false, true, false]),
        ("q_worker", [false, false, true, true]),
        ("own", [true, true, true, true]),
        ("Own", [false, false, false, false]),
        ("other_writer", [false, false, false, false]),
        ("other_worker", [false, false, false, false]),
        ("", [false, false, false, false]),
    ];

    #[test]
    fn every_role_opens_what_the_table_says_and_a_second_role_only_adds() {
        for (first, one) in TABLE {
            for (second, other) in TABLE {
                let has = |role: &str| role == first || role == second;
                for (index, replace) in [false, true].into_iter().enumerate() {
                    let roles = Roles { needs_role: true, replace, roles: vec!["own".to_owned()] };
                    let case = format!("{first} and {second}, replace {replace}");
                    assert_eq!(may_push(&roles, "q", has), one[index] || other[index], "push: {case}");
                    assert_eq!(
                        may_work(&roles, "q", has),
                        one[index + 2] || other[index + 2],
                        "work: {case}"
                    );
                    let open = Roles { needs_role: false, ..roles };
                    assert!(may_push(&open, "q", has) && may_work(&open, "q", has), "no role needed: {case}");
                }
            }
        }
    }

    #[test]
    fn without_roles_of_its_own_a_queue_is_open_to_the_general_ones() {
        assert!(may_push(&Roles::default(), "q", |role| role == "q_writer"));
        assert!(!may_push(&Roles::default(), "q", |role| role == "own"));
        let closed = Roles { replace: true, ..Roles::default() };
        assert!(!may_push(&closed, "q", |role| role == "q_writer"));
        assert!(may_push(&closed, "q", |role| role == "system_admin"));
    }
}
