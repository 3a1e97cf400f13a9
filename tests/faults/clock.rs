//! The clock of the database's machine is set, forwards and backwards, beneath processes that live and that die.

use super::{connect, posts_to};
use crate::support::app::SECRET;
use crate::support::endpoint::Endpoint;
use crate::support::eventually;
use crate::support::serve::Serve;
use crate::support::server::server;
use serde_json::json;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _};
use std::io::{Write as _, stderr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use uuid::Uuid;

const LEASE: (&str, &str) = ("POSTRIDER_LEASE", "3s");

/// A server of Postrider whose private database runs with a clock that the test sets (libfaketime).
struct Set {
    first: Serve,
    /// How another process reaches the database.
    url: String,
    directory: tempfile::TempDir,
}

/// Where libfaketime is, if it is installed.
pub(super) fn library() -> Option<PathBuf> {
    let parents = ["/usr/lib", "/usr/local/lib", "/opt/homebrew/lib"].map(Path::new);
    let triples = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    let found = parents.into_iter().map(Path::to_path_buf).chain(triples);
    found.map(|parent| parent.join("faketime/libfaketimeMT.so.1")).find(|library| library.is_file())
}

/// Not captured as what a test prints is: nobody is to believe that it was checked.
fn not_checked(why: &str) -> Option<Set> {
    let mut terminal = stderr();
    writeln!(terminal, "not checked: a clock that is set: {why}").unwrap();
    None
}

impl Set {
    /// `None`, which is said, where there is no libfaketime.
    async fn start() -> Option<Self> {
        let Some(library) = library() else {
            return not_checked("libfaketime is not installed");
        };
        let mut db = server().await.connect_options("postgres").connect().await.unwrap();
        let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut db).await.unwrap();
        let Ok(postgres) = std::fs::read_link(format!("/proc/{pid}/exe")) else {
            return not_checked("the programs of PostgreSQL cannot be found without /proc");
        };
        let everybody = PermissionsExt::from_mode(0o755);
        let directory = tempfile::Builder::new().permissions(everybody).tempdir().unwrap();
        let clock = directory.path().join("clock");
        std::fs::write(&clock, "+0").unwrap();
        let programs = directory.path().join("programs");
        std::fs::create_dir(&programs).unwrap();
        let faked = format!(
            "export LD_PRELOAD={} FAKETIME_TIMESTAMP_FILE={} FAKETIME_NO_CACHE=1 DONT_FAKE_MONOTONIC=1",
            library.display(),
            clock.display()
        );
        for (name, before) in [("initdb", ":"), ("postgres", faked.as_str())] {
            let program = programs.join(name);
            let real = postgres.with_file_name(name);
            std::fs::write(&program, format!("#!/bin/sh\n{before}\nexec {} \"$@\"\n", real.display()))
                .unwrap();
            std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        }
        let usual = std::env::var_os("PATH").unwrap();
        let path = format!("{}:{}", programs.display(), usual.display());
        let settings = [
            ("PATH", path.as_str()),
            ("POSTRIDER_JWT_SECRET", SECRET),
            ("POSTRIDER_ALLOW_NETWORKS", "127.0.0.0/8"),
            ("POSTRIDER_EXAMPLES", "false"),
            LEASE,
        ];
        let first = Serve::start(directory.path(), &settings).await;
        let mut url = None;
        eventually("it says where its database is", async || {
            let said = first.said();
            let line = |line: &String| Some(line.split_once("psql '")?.1.trim_end_matches('\'').to_owned());
            url = said.iter().find_map(line);
            url.is_some()
        })
        .await;
        Some(Self { first, url: url.unwrap(), directory })
    }

    async fn connect(&self) -> PgConnection {
        connect(&self.url.parse::<PgConnectOptions>().unwrap()).await
    }

    /// Sets the database's clock so many seconds from the present.
    async fn set(&self, db: &mut PgConnection, seconds: i64) {
        let next = self.directory.path().join("next");
        std::fs::write(&next, format!("{seconds:+}")).unwrap();
        std::fs::rename(&next, self.directory.path().join("clock")).unwrap();
        let present = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let goal = present.as_secs_f64() + f64::from(i32::try_from(seconds).unwrap());
        let now = "SELECT extract(epoch FROM clock_timestamp())::float8";
        eventually("the clock is set", async || {
            let now: f64 = sqlx::query_scalar(now).fetch_one(&mut *db).await.unwrap();
            (now - goal).abs() < 60.0
        })
        .await;
    }
}

async fn ask(db: &mut PgConnection, question: &str) -> bool {
    sqlx::query_scalar(AssertSqlSafe(question.to_owned())).fetch_one(db).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_gives_up_nobody_who_lives() {
    let Some(set) = Set::start().await else { return };
    let mut db = set.connect().await;
    let endpoint = Endpoint::start(str::to_owned).await;
    let mut once = posts_to(&endpoint.url);
    once["options"]["max_attempts"] = json!(1);
    set.first.define("q", &once).await;
    endpoint.hold();
    let mut ids = Vec::new();
    for (held, seconds) in [(1, 3600), (2, -3600)] {
        ids.push(set.first.push("q", &json!(seconds)).await);
        eventually("it runs", async || endpoint.held() == held).await;
        set.set(&mut db, seconds).await;
        // One that is new learns of the step from the others, or their silence.
        let new = Serve::on(&set.url, &[LEASE]).await;
        let lived = format!(
            "SELECT count(*) = 2
                AND bool_and(given_up_at IS NULL AND clock_at BETWEEN now() - lease AND now() + interval '1 second')
                AND bool_or(name LIKE '%:{}' AND now() - started_at > 2 * lease)
            FROM workers",
            new.pid().as_raw_nonzero()
        );
        eventually("both go on for two leases of the new time", async || ask(&mut db, &lived).await).await;
        new.kill().await;
    }
    endpoint.release();
    for id in &ids {
        let message = set.first.complete("q", id).await;
        assert_eq!((&message["attempts"], endpoint.runs()[id]), (&json!(1), 1), "{message}");
    }
    assert!(!set.first.log().iter().any(|line| line.contains("was given up")), "{:#?}", set.first.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_dead_held_comes_back_whichever_way_the_clock_is_set_and_ids_return_to_the_present() {
    let Some(set) = Set::start().await else { return };
    let mut db = set.connect().await;
    let endpoint = Endpoint::start(str::to_owned).await;
    set.first.define("q", &posts_to(&endpoint.url)).await;
    for (round, seconds) in [(1, -3600), (2, 40 * 86_400), (3, 0)] {
        endpoint.hold();
        let mut other = Some(Serve::on(&set.url, &[LEASE]).await);
        // Until it is the other that runs one.
        let mut ids = Vec::new();
        let held = "SELECT EXISTS (SELECT FROM leases JOIN workers ON workers.id = worker \
             WHERE name LIKE '%:' || $1::text)";
        let pid = other.as_ref().unwrap().pid().as_raw_nonzero().to_string();
        eventually("the other runs one", async || {
            ids.push(set.first.push("q", &json!(round)).await);
            sqlx::query_scalar(held).bind(&pid).fetch_one(&mut db).await.unwrap()
        })
        .await;
        other.take().unwrap().kill().await;
        set.set(&mut db, seconds).await;
        endpoint.release();
        for id in &ids {
            set.first.complete("q", id).await;
        }
        eventually("the dead are buried", async || ask(&mut db, "SELECT count(*) = 1 FROM workers").await)
            .await;
        eventually("ids are of the present", async || {
            let id: Uuid = set.first.push("q", &json!("now")).await.parse().unwrap();
            let close =
                "SELECT uuid_v7_time($1) BETWEEN now() - interval '1 minute' AND now() + interval '1 minute'";
            sqlx::query_scalar(close).bind(id).fetch_one(&mut db).await.unwrap()
        })
        .await;
    }
}
