//! Finds PostgreSQL's own programs on this machine, in the version that the cluster needs.

use super::user::{User, become_user};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest PostgreSQL that the migrations run on.
const OLDEST: u32 = 14;

/// Where packages put the programs, newest first: the directory, what a version's directory begins with,
/// and what follows it.
const PACKAGES: [(&str, &str, &str); 5] = [
    ("/usr/lib/postgresql", "", "bin"),          // Debian, Ubuntu
    ("/usr", "pgsql-", "bin"),                   // RPMs of postgresql.org
    ("/opt/homebrew/opt", "postgresql@", "bin"), // Homebrew on Apple silicon
    ("/usr/local/opt", "postgresql@", "bin"),    // Homebrew on Intel
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"), // Postgres.app
];

/// One installation of PostgreSQL, and the user its programs run as.
#[derive(Debug)]
pub(super) struct Programs {
    directory: PathBuf,
    /// The major version, such as 17.
    pub(super) version: u32,
    /// Root's stand-in; none when the programs run as ourselves.
    pub(super) user: Option<User>,
}

impl Programs {
    /// The first installation that is new enough and, for a cluster that exists, of the version
    /// `made_by` that made it.
    pub(super) fn find(
        path: Option<&OsStr>,
        user: Option<User>,
        made_by: Option<u32>,
    ) -> anyhow::Result<Self> {
        let mut unfit = Vec::new();
        for directory in candidates(path) {
            let Some(version) = version(&directory, user.as_ref()) else { continue };
            if made_by.map_or(version >= OLDEST, |needed| version == needed) {
                return Ok(Self { directory, version, user });
            }
            unfit.push(format!("{version} in {}", directory.display()));
        }
        anyhow::bail!(refusal(&unfit, made_by))
    }

    /// One of the programs (`initdb`, `postgres`), to run as the server's user.
    pub(super) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.directory.join(name));
        become_user(&mut command, self.user.as_ref());
        command
    }
}

/// Every directory that may hold the programs, the likeliest first.
fn candidates(path: Option<&OsStr>) -> impl Iterator<Item = PathBuf> {
    let on_path: Vec<PathBuf> = path.map(|path| std::env::split_paths(path).collect()).unwrap_or_default();
    let configured = || {
        let output = Command::new("pg_config").arg("--bindir").output().ok()?;
        Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
    };
    on_path
        .into_iter()
        .chain(std::iter::once_with(configured).flatten())
        .chain(
            PACKAGES.iter().flat_map(|(parent, prefix, suffix)| packaged(Path::new(parent), prefix, suffix)),
        )
        .filter(|directory| directory.is_absolute())
        .filter(|directory| ["initdb", "postgres"].iter().all(|name| directory.join(name).is_file()))
}

/// The version directories under `parent`, newest first: `9.6` is older than `15`.
fn packaged(parent: &Path, prefix: &str, suffix: &str) -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir(parent)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let name: OsString = entry.ok()?.file_name();
            let version = leading_number(name.to_str()?.strip_prefix(prefix)?)?;
            Some((version, parent.join(&name).join(suffix)))
        })
        .collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, directory)| directory).collect()
}

/// The major version of the server in `directory`; none where `user` cannot run it.
fn version(directory: &Path, user: Option<&User>) -> Option<u32> {
    let mut command = Command::new(directory.join("postgres"));
    become_user(&mut command, user);
    let output = command.arg("--version").current_dir("/").output().ok()?;
    parse_version(std::str::from_utf8(&output.stdout).ok()?)
}

/// `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` is 15, `18beta1` is 18.
fn parse_version(text: &str) -> Option<u32> {
    leading_number(text.split_once("(PostgreSQL)")?.1.trim_start())
}

fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

/// Why no installation will do, and what helps, in one line.
fn refusal(unfit: &[String], made_by: Option<u32>) -> String {
    let wanted = made_by.map_or_else(String::new, |version| format!("-{version}"));
    let formula = made_by.unwrap_or(17);
    let remedy = format!(
        "install it (`apt-get install postgresql{wanted}`, `brew install postgresql@{formula}`), \
         or set DATABASE_URL to a server that runs"
    );
    match made_by {
        _ if unfit.is_empty() => format!("PostgreSQL's programs initdb and postgres are not here: {remedy}"),
        Some(version) => {
            format!(
                "the data was made by PostgreSQL {version}, but here is only {}: {remedy}",
                unfit.join(", ")
            )
        }
        None => {
            format!("PostgreSQL {OLDEST} or newer is needed, but here is only {}: {remedy}", unfit.join(", "))
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_what_postgres_prints() {
        assert_eq!(parse_version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_version("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(parse_version("postgres: no such thing\n"), None);
    }

    #[test]
    fn the_newest_package_comes_first() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["9.6", "15", "17", "doc"] {
            std::fs::create_dir(parent.path().join(name)).unwrap();
        }
        let names = packaged(parent.path(), "", "bin");
        let expected: Vec<_> =
            ["17", "15", "9.6"].iter().map(|name| parent.path().join(name).join("bin")).collect();
        assert_eq!(names, expected);
    }

    #[test]
    fn a_refusal_is_one_line_that_says_what_to_install() {
        let nothing = refusal(&[], None);
        assert!(
            nothing.contains("apt-get install postgresql`") && nothing.contains("DATABASE_URL"),
            "{nothing}"
        );
        let old = refusal(&["13 in /a".to_owned()], None);
        assert!(old.contains("14 or newer") && old.contains("13 in /a"), "{old}");
        let other = refusal(&["16 in /a".to_owned()], Some(15));
        assert!(
            other.contains("apt-get install postgresql-15") && other.contains("made by PostgreSQL 15"),
            "{other}"
        );
        assert!([nothing, old, other].iter().all(|line| !line.contains('\n')));
    }

    /// A directory with an `initdb` and a `postgres` that prints `version`.
    fn installation(version: &str) -> tempfile::TempDir {
        use std::os::unix::fs::PermissionsExt;
        let directory =
            tempfile::Builder::new().permissions(PermissionsExt::from_mode(0o755)).tempdir().unwrap();
        for name in ["initdb", "postgres"] {
            let program = directory.path().join(name);
            std::fs::write(&program, format!("#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")).unwrap();
            std::fs::set_permissions(program, PermissionsExt::from_mode(0o755)).unwrap();
        }
        directory
    }

    #[test]
    fn what_is_too_old_or_of_another_version_than_the_cluster_is_passed_over() {
        let [old, new, newer] = ["13.9", "9014.1", "9015.2"].map(installation);
        let path = std::env::join_paths([old.path(), new.path(), newer.path()]).unwrap();
        let find = |made_by| Programs::find(Some(&path), None, made_by).unwrap();
        assert_eq!(find(None).version, 9014);
        assert_eq!(find(Some(9015)).version, 9015);
        let refusal = Programs::find(Some(&path), None, Some(9016)).unwrap_err().to_string();
        assert!(refusal.contains("made by PostgreSQL 9016"), "{refusal}");
    }
}
