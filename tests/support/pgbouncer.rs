//! PgBouncer in front of the tests' server, where it is installed.

use super::{eventually, not_checked};
use sqlx::postgres::PgConnectOptions;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A PgBouncer that ends when it is dropped.
pub(crate) struct PgBouncer {
    child: Child,
    directory: tempfile::TempDir,
    server: PgConnectOptions,
}

/// The program and its version: what `POSTRIDER_TEST_PGBOUNCER` names, or the one that is installed.
fn program() -> Option<(PathBuf, (u32, u32))> {
    let named = std::env::var_os("POSTRIDER_TEST_PGBOUNCER").map(PathBuf::from);
    let programs = named.into_iter().chain(["/usr/sbin/pgbouncer".into(), "pgbouncer".into()]);
    for program in programs {
        let Ok(told) = Command::new(&program).arg("--version").output() else { continue };
        let told = String::from_utf8(told.stdout).unwrap();
        let version = told.lines().next().unwrap().trim_start_matches("PgBouncer ");
        let mut parts = version.split('.').map(|part| part.parse().unwrap());
        return Some((program, (parts.next().unwrap(), parts.next().unwrap())));
    }
    None
}

impl PgBouncer {
    /// In front of the server of `database`, with these settings beside what makes it work for Postrider. `None`,
    /// said on standard error, where there is none.
    pub(crate) async fn start(database: &PgConnectOptions, settings: &[(&str, &str)]) -> Option<Self> {
        let Some((program, version)) = program() else {
            not_checked("behind a pooler: pgbouncer is not installed");
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        // It refuses to be root: its own user must be able to enter, and to make its socket there.
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).unwrap();
        let mut ini = format!(
            "[databases]\n* = host={} port={} user={}\n[pgbouncer]\nlisten_addr =\nlisten_port = 6432\n\
             unix_socket_dir = {}\nauth_type = any\nignore_startup_parameters = options\n",
            database.get_socket().unwrap().display(),
            database.get_port(),
            database.get_username(),
            directory.path().display(),
        );
        if version >= (1, 21) {
            ini += "max_prepared_statements = 200\n";
        }
        let settings = [("pool_mode", "transaction")].iter().chain(settings);
        settings.for_each(|(name, value)| writeln!(ini, "{name} = {value}").unwrap());
        let file = directory.path().join("pgbouncer.ini");
        std::fs::write(&file, ini).unwrap();
        let mut command = Command::new(program);
        command.arg("-q").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if rustix::process::geteuid().is_root() {
            command.args(["-u", "postgres"]);
        }
        let child = command.spawn().unwrap();
        let socket = directory.path().join(".s.PGSQL.6432");
        let pooler = Self { child, directory, server: database.clone() };
        eventually("pgbouncer listens", async || socket.exists()).await;
        Some(pooler)
    }

    /// As [`PgBouncer::start`], where it carries prepared statements, which it learned in 1.21.
    pub(crate) async fn carrying(database: &PgConnectOptions, settings: &[(&str, &str)]) -> Option<Self> {
        match program() {
            Some((_, version)) if version < (1, 21) => {
                let (major, minor) = version;
                not_checked(&format!(
                    "behind a pooler: pgbouncer {major}.{minor} carries no prepared statements"
                ));
                None
            }
            _ => Self::start(database, settings).await,
        }
    }

    /// Whether it can carry prepared statements.
    pub(crate) fn carries() -> bool {
        program().is_some_and(|(_, version)| version >= (1, 21))
    }

    /// How to connect through it.
    pub(crate) fn connect_options(&self) -> PgConnectOptions {
        self.server.clone().socket(self.directory.path()).port(6432)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
