//! Which roles open a store of the hub, and for what.

use crate::auth::Caller;
use crate::auth::role::{self, HUB_ADMIN, HUB_READER, HUB_WRITER, SYSTEM_ADMIN};
use crate::error::{Error, Result};

/// What a caller wants to do in a store. Each right includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Look at everything but secrets.
    Read,
    /// Push messages.
    Write,
    /// Define endpoints, mappings and parameters; run deliveries again, and archive them.
    Admin,
}

/// Whether the caller has a right in the store `name`, which need not be there.
pub fn may(caller: &Caller, name: &str, right: Right) -> bool {
    let has = |general: &str, word| caller.has_any([general]) || caller.has_any([role::of_store(name, word)]);
    caller.has_any([SYSTEM_ADMIN])
        || has(HUB_ADMIN, role::STORE_ADMIN)
        || (right <= Right::Write && has(HUB_WRITER, role::STORE_WRITER))
        || (right <= Right::Read && has(HUB_READER, role::STORE_READER))
}

/// Refuses a caller who has not this right in the store `name`. Asked before anything is said of the store.
///
/// # Errors
/// 403.
pub fn require(caller: &Caller, name: &str, right: Right) -> Result<()> {
    if may(caller, name, right) {
        return Ok(());
    }
    Err(Error::Forbidden("no role of this token allows this in this store".to_owned()))
}

/// The names that the stores have which a caller may look at; none when it is any.
///
/// # Errors
/// 403 for a caller with no role in any store.
pub fn visible(caller: &Caller) -> Result<Option<Vec<String>>> {
    if caller.has_any([SYSTEM_ADMIN, HUB_ADMIN, HUB_WRITER, HUB_READER]) {
        return Ok(None);
    }
    let mut names: Vec<String> = caller.roles().filter_map(role::store_of).map(str::to_owned).collect();
    names.dedup();
    if names.is_empty() {
        return Err(Error::Forbidden("no role of this token allows to look at any store".to_owned()));
    }
    Ok(Some(names))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_sees_the_stores_of_its_roles() {
        let visible = |roles: &[&str]| visible(&Caller::new("ann", roles.iter().copied())).ok();
        for general in ["system_admin", "hub_admin", "hub_writer", "hub_reader"] {
            assert_eq!(visible(&[general, "s1_hub_reader"]), Some(None), "{general}");
        }
        let of = |names: &[&str]| Some(Some(names.iter().map(|name| (*name).to_owned()).collect()));
        assert_eq!(visible(&["s1_hub_reader", "s1_hub_admin", "a_b_hub_writer"]), of(&["a_b", "s1"]));
        for role in ["queue_admin", "_hub_admin", "s1_hub_worker", "s1_admin", ""] {
            assert_eq!(visible(&[role]), None, "{role}");
        }
    }

    #[test]
    fn each_role_opens_what_the_table_says() {
        for (role, [read, write, admin]) in [
            ("system_admin", [true, true, true]),
            ("hub_admin", [true, true, true]),
            ("s1_hub_admin", [true, true, true]),
            ("hub_writer", [true, true, false]),
            ("s1_hub_writer", [true, true, false]),
            ("hub_reader", [true, false, false]),
            ("s1_hub_reader", [true, false, false]),
            ("s2_hub_admin", [false; 3]),
            ("S1_hub_admin", [false; 3]),
            ("s1_admin", [false; 3]),
            ("queue_admin", [false; 3]),
            ("system_writer", [false; 3]),
            ("", [false; 3]),
        ] {
            let caller = Caller::new("ann", [role]);
            let found = [Right::Read, Right::Write, Right::Admin].map(|right| may(&caller, "s1", right));
            assert_eq!(found, [read, write, admin], "{role}");
        }
    }
}
