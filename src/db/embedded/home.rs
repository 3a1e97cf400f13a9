//! Where the cluster lives on disk, who may enter it, and that only one of us uses it.
//!
//! ```text
//! <data dir>/lock                 held by the process that serves: a second one is refused at once
//! <data dir>/postgres/            the home, or a link to it; ours
//!                     lock        held by the guard as long as its server runs
//!                     cluster/    PGDATA; the server's user's
//!                     run/        the unix socket; the server's user's
//!                     server.conf settings, written anew at every start
//!                     server.log  what initdb and the server say
//! ```
//! Root writes only into directories of its own: what the server's user could replace by a link, it leaves
//! alone.

use super::process::POLL;
use super::user::User;
use anyhow::{Context, bail, ensure};
use sha2::{Digest, Sha256};
use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Where root keeps the cluster of a data directory that the server's user cannot reach.
const ELSEWHERE: &str = "/var/lib/postrider";
/// The longest path of a socket, in bytes: 107 on Linux, 103 on macOS, for want of space in `sockaddr_un`.
const LONGEST_SOCKET: usize = 103;
/// The name that PostgreSQL gives its socket, after our port.
const SOCKET: &str = ".s.PGSQL.5432";
/// How long the guard of a killed process may take to stop its server.
const HANDOVER: Duration = Duration::from_secs(45);

/// The directory of one private server.
pub(super) struct Home {
    /// A canonical path.
    pub(super) directory: PathBuf,
    /// Whether it lies elsewhere than in the data directory.
    pub(super) elsewhere: bool,
    /// The directory of the unix socket.
    pub(super) socket: PathBuf,
    _lock: File,
}

impl Home {
    /// Finds the home of `data_dir` or makes it, so that `user` can enter it, and waits until the guard of
    /// an earlier server has left it.
    pub(super) async fn open(data_dir: &Path, user: Option<&User>) -> anyhow::Result<Self> {
        let (directory, elsewhere) = find_or_make(data_dir, user)?;
        let lock = open_lock(&directory.join("lock"))?;
        let unlocked = async {
            loop {
                match lock.try_lock() {
                    Ok(()) => return Ok(()),
                    Err(TryLockError::WouldBlock) => sleep(POLL).await,
                    Err(TryLockError::Error(error)) => return Err(error),
                }
            }
        };
        timeout(HANDOVER, unlocked)
            .await
            .with_context(|| format!("another PostgreSQL server uses {}", directory.display()))?
            .with_context(|| format!("cannot lock {}", directory.display()))?;
        let socket = socket_directory(&directory, user)?;
        Ok(Self { directory, elsewhere, socket, _lock: lock })
    }

    /// PGDATA.
    pub(super) fn cluster(&self) -> PathBuf {
        self.directory.join("cluster")
    }

    /// The major version of PostgreSQL that made the cluster; none when there is no cluster yet.
    pub(super) fn made_by(&self) -> Option<u32> {
        fs::read_to_string(self.cluster().join("PG_VERSION")).ok()?.trim().parse().ok()
    }

    /// Makes a directory in the home, private to the server's user.
    pub(super) fn private(&self, name: &str, user: Option<&User>) -> anyhow::Result<PathBuf> {
        let path = self.directory.join(name);
        make_private(&path, user)?;
        Ok(path)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // In /tmp, nothing of it is to be left.
        if !self.socket.starts_with(&self.directory) {
            let _ = fs::remove_dir_all(&self.socket);
        }
    }
}

/// Locks `data_dir` for this process, or says in one line who has it.
pub(super) fn lock_data_dir(data_dir: &Path) -> anyhow::Result<File> {
    fs::create_dir_all(data_dir).with_context(|| format!("cannot make {}", data_dir.display()))?;
    let mut lock = open_lock(&data_dir.join("lock"))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            lock.read_to_string(&mut holder)?;
            bail!(
                "{} is in use by another Postrider (process {}): stop it, or set POSTRIDER_DATA_DIR",
                data_dir.display(),
                holder.trim()
            );
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", data_dir.display()));
        }
    }
    lock.set_len(0)?;
    writeln!(lock, "{}", std::process::id())?;
    Ok(lock)
}

/// Removes an ephemeral data directory with all that belongs to it.
pub(super) async fn remove(data_dir: &Path) {
    if let Ok(elsewhere) = fs::read_link(data_dir.join("postgres")) {
        let _ = fs::remove_dir_all(elsewhere);
    }
    // A killed initdb's children may still write for a moment.
    let removed = async {
        while fs::remove_dir_all(data_dir).is_err_and(|error| error.kind() != ErrorKind::NotFound) {
            sleep(POLL).await;
        }
    };
    let _ = timeout(Duration::from_secs(5), removed).await;
}

fn open_lock(path: &Path) -> anyhow::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The canonical home of `data_dir`, and whether it lies elsewhere.
fn find_or_make(data_dir: &Path, user: Option<&User>) -> anyhow::Result<(PathBuf, bool)> {
    fs::create_dir_all(data_dir).with_context(|| format!("cannot make {}", data_dir.display()))?;
    let data_dir = data_dir.canonicalize()?;
    let entry = data_dir.join("postgres");
    match make(&entry) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("cannot make {}", entry.display()));
        }
        _ => {}
    }
    let home = entry.canonicalize().with_context(|| {
        format!("{} leads nowhere: its data has gone; remove it to begin anew", entry.display())
    })?;
    let owner = home.metadata()?.uid();
    ensure!(
        owner == rustix::process::geteuid().as_raw(),
        "{} belongs to the user with the id {owner}: run as that user, or set POSTRIDER_DATA_DIR",
        home.display()
    );
    let Some(user) = user else { return Ok((home.clone(), home != entry)) };
    if user.can_enter(&home)? {
        return Ok((home.clone(), home != entry));
    }
    // Only an empty home can be given up for another one.
    fs::remove_dir(&entry).with_context(|| {
        format!(
            "PostgreSQL runs as `{}`, who cannot reach {}: let every directory above it pass (chmod o+x), \
             or set POSTRIDER_DATA_DIR",
            user.name,
            home.display()
        )
    })?;
    let home = make_elsewhere(&data_dir)?;
    std::os::unix::fs::symlink(&home, &entry)?;
    Ok((home, true))
}

/// Makes a directory that the server's user may pass through, whatever our umask is.
fn make(directory: &Path) -> std::io::Result<()> {
    fs::create_dir(directory)?;
    fs::set_permissions(directory, Permissions::from_mode(0o711))
}

/// Makes a home that every user can reach. One that is there already belonged to a data directory of the
/// same path that was deleted: its data must not come back by surprise, so it is left alone.
fn make_elsewhere(data_dir: &Path) -> anyhow::Result<PathBuf> {
    let parent = Path::new(ELSEWHERE);
    fs::create_dir_all(parent)
        .and_then(|()| fs::set_permissions(parent, Permissions::from_mode(0o711)))
        .with_context(|| format!("cannot make {ELSEWHERE}, where PostgreSQL could reach its data"))?;
    let name = short_hash(data_dir);
    let mut number = 1;
    loop {
        let home = parent.join(if number == 1 { name.clone() } else { format!("{name}-{number}") });
        match make(&home) {
            Ok(()) => return Ok(home),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error).with_context(|| format!("cannot make {}", home.display())),
        }
    }
}

/// The directory of the socket: in the home, or, where that makes too long a path, in /tmp (not `TMPDIR`,
/// which is long itself on macOS).
fn socket_directory(home: &Path, user: Option<&User>) -> anyhow::Result<PathBuf> {
    let inside = home.join("run");
    let length = inside.join(SOCKET).as_os_str().len();
    let directory = if length <= LONGEST_SOCKET {
        inside
    } else {
        PathBuf::from(format!("/tmp/postrider-{}", short_hash(home)))
    };
    make_private(&directory, user)?;
    Ok(directory)
}

/// Makes a directory for the server's user alone. One that is there already must be just that: in /tmp,
/// anybody may have been first.
fn make_private(directory: &Path, user: Option<&User>) -> anyhow::Result<()> {
    let owner = user.map_or_else(|| rustix::process::geteuid().as_raw(), |user| user.uid);
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => {
            if let Some(user) = user {
                std::os::unix::fs::lchown(directory, Some(user.uid), Some(user.gid))?;
            }
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let found = fs::symlink_metadata(directory)?;
            let private = found.is_dir() && found.uid() == owner && found.mode() & 0o777 == 0o700;
            ensure!(
                private,
                "{} is not a private directory of PostgreSQL's user: remove it",
                directory.display()
            );
            Ok(())
        }
        Err(error) => Err(error).with_context(|| format!("cannot make {}", directory.display())),
    }
}

/// Sixteen hexadecimal digits that stand for `path`.
fn short_hash(path: &Path) -> String {
    let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
    digest[..8].iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_deep_home_has_its_socket_where_the_path_is_short_enough() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(socket_directory(directory.path(), None).unwrap(), directory.path().join("run"));
        let deep = directory.path().join("d".repeat(90));
        fs::create_dir(&deep).unwrap();
        let socket = socket_directory(&deep, None).unwrap();
        assert!(socket.join(SOCKET).as_os_str().len() <= LONGEST_SOCKET);
        assert_eq!(fs::metadata(&socket).unwrap().mode() & 0o777, 0o700);
        assert_eq!(socket_directory(&deep, None).unwrap(), socket, "the same one at the next start");
        fs::remove_dir(socket).unwrap();
    }

    #[test]
    fn a_directory_that_others_can_write_is_not_private() {
        let directory = tempfile::tempdir().unwrap();
        let open = directory.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
        assert!(make_private(&open, None).is_err());
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(directory.path(), &link).unwrap();
        assert!(make_private(&link, None).is_err());
    }

    #[test]
    fn one_process_at_a_time_has_a_data_directory() {
        let directory = tempfile::tempdir().unwrap();
        let held = lock_data_dir(directory.path()).unwrap();
        let refusal = lock_data_dir(directory.path()).unwrap_err().to_string();
        assert!(refusal.contains(&format!("(process {})", std::process::id())), "{refusal}");
        assert!(!refusal.contains('\n'));
        drop(held);
        lock_data_dir(directory.path()).unwrap();
    }
}
