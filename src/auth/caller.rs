//! Who calls: the subject and the roles of a verified token.

use crate::error::{Error, Result};

/// The holder of a verified token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The token's `sub`. A token without one is good for everything that only asks for roles; its subject
    /// is empty, and an empty subject is nobody: it owns nothing and equals no other.
    pub subject: String,
    /// Sorted, each once.
    roles: Vec<String>,
}

impl Caller {
    /// A caller with these roles, in any order.
    pub fn new(subject: impl Into<String>, roles: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut roles: Vec<String> = roles.into_iter().map(Into::into).collect();
        roles.sort_unstable();
        roles.dedup();
        Self { subject: subject.into(), roles }
    }

    /// The roles, sorted, each once.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.roles.iter().map(String::as_str)
    }

    /// Whether the caller has at least one of these roles; names are compared exactly, case included.
    pub fn has_any<R: AsRef<str>>(&self, allowed: impl IntoIterator<Item = R>) -> bool {
        let has = |role: R| self.roles.binary_search_by(|mine| mine.as_str().cmp(role.as_ref())).is_ok();
        allowed.into_iter().any(has)
    }

    /// Refuses a caller who has none of these roles.
    ///
    /// # Errors
    /// [`Error::Forbidden`], naming the roles that would do.
    pub fn require<R: AsRef<str>>(&self, allowed: &[R]) -> Result<()> {
        if self.has_any(allowed) {
            return Ok(());
        }
        let names: Vec<String> = allowed.iter().map(|role| format!("`{}`", role.as_ref())).collect();
        Err(Error::Forbidden(match names.as_slice() {
            [] => "no role allows this".to_owned(),
            [one] => format!("this needs the role {one}"),
            several => format!("this needs one of the roles {}", several.join(", ")),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_the_allowed_roles_is_enough() {
        let caller = Caller::new("ann", ["zeta", "myQueue_writer", "alpha", "zeta"]);
        assert!(caller.has_any(["system_admin", "myQueue_writer"]));
        assert!(caller.has_any(vec!["alpha".to_owned()]));
        assert_eq!(caller.roles().collect::<Vec<_>>(), ["alpha", "myQueue_writer", "zeta"]);
        assert!(caller.require(&["system_admin", "zeta"]).is_ok());
    }

    #[test]
    fn roles_are_compared_exactly() {
        let caller = Caller::new("ann", ["queue_writer"]);
        for other in ["Queue_Writer", "queue_writer ", "queue_write", "queue_writers", ""] {
            assert!(!caller.has_any([other]), "{other:?}");
        }
    }

    #[test]
    fn a_refusal_names_the_roles_that_would_do() {
        let caller = Caller::new("ann", ["one"]);
        let refusal = |allowed: &[&str]| caller.require(allowed).map_err(|error| error.to_string());
        let several = "this needs one of the roles `system_admin`, `two`".to_owned();
        assert_eq!(refusal(&["system_admin", "two"]), Err(several));
        assert_eq!(refusal(&["system_admin"]), Err("this needs the role `system_admin`".to_owned()));
        assert_eq!(refusal(&[]), Err("no role allows this".to_owned()));
    }
}
