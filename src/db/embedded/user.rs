//! Whom the server runs as: PostgreSQL refuses to run as root, so root hands it to an unprivileged user.

use anyhow::Context;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// An account that is neither root nor a person's: the server has no rights beyond its own cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl User {
    /// The user to run the server as; none when this process is not root, so that it runs as itself.
    pub(super) fn for_server() -> anyhow::Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let accounts = std::fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
        Self::choose(&accounts).map(Some).context(
            "PostgreSQL does not run as root, and there is neither a user `postgres` nor `nobody`: \
             run Postrider as another user, or set DATABASE_URL",
        )
    }

    /// `postgres` where it exists, else `nobody`; `accounts` is a file as passwd(5) describes it.
    fn choose(accounts: &str) -> Option<Self> {
        let user = |wanted: &str| {
            accounts.lines().find_map(|line| {
                let mut fields = line.split(':');
                let name = fields.next().filter(|name| *name == wanted)?;
                let uid = fields.nth(1)?.parse().ok().filter(|uid| *uid != 0)?;
                let gid = fields.next()?.parse().ok().filter(|gid| *gid != 0)?;
                Some(Self { name: name.to_owned(), uid, gid })
            })
        };
        user("postgres").or_else(|| user("nobody"))
    }

    /// Whether this user can make `directory` its working directory: every directory above must let it pass.
    ///
    /// Asked of the kernel, by trying: access lists and mount options count too.
    pub(super) fn can_enter(&self, directory: &Path) -> anyhow::Result<bool> {
        let mut attempt = Command::new("true");
        become_user(&mut attempt, Some(self));
        match attempt.current_dir(directory).status() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(false),
            Err(error) => Err(error).context("cannot run `true`"),
        }
    }
}

/// Lets `command` run as `user`, without root's supplementary groups (std drops them together with the uid).
pub(super) fn become_user(command: &mut Command, user: Option<&User>) {
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const ROOT: &str = "root:x:0:0:root:/root:/bin/bash\n";
    const NOBODY: &str = "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
    const POSTGRES: &str = "postgres:x:101:104:PostgreSQL:/var/lib/postgresql:/bin/bash\n";

    #[test]
    fn postgres_is_preferred_to_nobody() {
        let user = User::choose(&format!("{ROOT}{NOBODY}{POSTGRES}")).unwrap();
        assert_eq!(user, User { name: "postgres".to_owned(), uid: 101, gid: 104 });
    }

    #[test]
    fn nobody_does_where_postgres_is_missing_or_root_in_disguise() {
        let disguised = "postgres:x:0:0::/:/bin/sh\n";
        assert_eq!(User::choose(&format!("{disguised}{NOBODY}")).unwrap().uid, 65534);
        assert_eq!(User::choose(ROOT), None);
    }
}
