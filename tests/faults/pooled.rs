//! Behind PgBouncer in transaction mode: nothing is left in a session that others get, and what cannot work there is
//! refused. Each test says so where PgBouncer is not installed.

use super::{Load, connect, new_database, outcomes, posts_to, unfinished, url_of};
use crate::support::app::SECRET;
use crate::support::endpoint::Endpoint;
use crate::support::eventually;
use crate::support::pgbouncer::PgBouncer;
use crate::support::serve::Serve;
use crate::support::server::{BINARY, server};
use postrider::internals::db::migrate::{MIGRATIONS, migrate, set_role_defaults};
use postrider::internals::db::session::is_shared;
use reqwest::Method;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};
use std::collections::HashSet;
use std::process::Output;
use std::time::Duration;
use tokio::process::Command;

/// A database with nothing in it.
async fn empty_database() -> PgConnectOptions {
    let name = format!("pooled_{}", uuid::Uuid::now_v7().simple());
    server().await.create_database(&name, "template1").await;
    server().await.connect_options(&name)
}

/// A database with every migration in it, whose role has the defaults that a pooler drops.
async fn prepared_database() -> PgConnectOptions {
    let database = new_database().await;
    set_role_defaults(&database, "postrider").await.unwrap();
    database
}

/// Runs a command on `database` with nothing else of the environment.
fn run(database: &PgConnectOptions, args: &[&str]) -> impl Future<Output = Output> + use<> {
    run_in("postrider", database, args)
}

fn run_in(schema: &str, database: &PgConnectOptions, args: &[&str]) -> impl Future<Output = Output> + use<> {
    let mut command = Command::new(BINARY);
    command.env_clear().env("POSTRIDER_DATABASE_SCHEMA", schema);
    command.args(args).env("DATABASE_URL", url_of(database)).env("POSTRIDER_JWT_SECRET", SECRET);
    command.env("POSTRIDER_LISTEN", "127.0.0.1:0").kill_on_drop(true);
    let output = async move { command.output().await.unwrap() };
    // None of these goes on for long; one that waits for what nobody ends is a failure.
    async { tokio::time::timeout(Duration::from_mins(2), output).await.expect("the command ends") }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn count(database: &PgConnectOptions, statement: &str) -> i64 {
    let mut db = database.connect().await.unwrap();
    sqlx::query_scalar(AssertSqlSafe(statement.to_owned())).fetch_one(&mut db).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_session_is_told_from_one_of_our_own_also_when_nobody_else_is_there() {
    let database = new_database().await;
    let shared = async |options: PgConnectOptions| {
        let pool =
            PgPoolOptions::new().max_connections(2).connect_lazy_with(options.extra_float_digits(None));
        let shared = is_shared(&pool).await.unwrap();
        pool.close().await;
        shared
    };
    assert!(!shared(database.clone()).await, "without a pooler");
    for settings in [
        &[("pool_mode", "transaction")] as &[_],
        &[("pool_mode", "transaction"), ("server_round_robin", "1")],
        &[("pool_mode", "transaction"), ("server_round_robin", "1"), ("min_pool_size", "3")],
        &[("pool_mode", "transaction"), ("default_pool_size", "1")],
    ] {
        let Some(pooler) = PgBouncer::start(&database, settings).await else { return };
        for _ in 0..3 {
            assert!(shared(pooler.connect_options()).await, "{settings:?}");
        }
    }
    let Some(pooler) = PgBouncer::start(&database, &[("pool_mode", "session")]).await else { return };
    assert!(!shared(pooler.connect_options()).await, "in session mode");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_behind_a_pooler_store_what_they_acknowledge_and_nothing_else() {
    let database = prepared_database().await;
    let Some(pooler) = PgBouncer::carrying(&database, &[]).await else { return };
    let url = url_of(&pooler.connect_options());
    let endpoint = Endpoint::start(str::to_owned).await;
    let serves = [Serve::on(&url, &[]).await, Serve::on(&url, &[]).await];
    serves[0].define("q", &posts_to(&endpoint.url)).await;
    let path = "/queues/q/messages";
    let push =
        async |serve: &Serve| serve.request(Method::POST, path).json(&1).send().await.unwrap().status();
    eventually("both know the queue", async || push(&serves[1]).await == 201).await;
    let loads = serves.each_ref().map(|serve| Load::start(&serve.request(Method::POST, path)));
    eventually("pushes go on", async || loads.iter().all(|load| load.acknowledged() > 700)).await;
    let unavailable: usize = loads.iter().map(Load::unavailable).sum();
    let mut acknowledged = HashSet::new();
    for load in loads {
        acknowledged.extend(load.stop().await.0);
    }
    let mut db = connect(&database).await;
    // What was refused was not stored; beside these there is the one that asked for the queue.
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM messages").fetch_one(&mut db).await.unwrap();
    assert_eq!(usize::try_from(rows).unwrap(), acknowledged.len() + 1, "{unavailable} were refused");
    eventually("everything ends", async || unfinished(&mut db).await == 0).await;
    let ends = outcomes(&mut db).await;
    assert!(acknowledged.iter().all(|id| ends.contains_key(id)));
    let again: Vec<_> = ends.iter().filter(|(_, end)| **end != ("COMPLETE".to_owned(), 1)).collect();
    assert!(again.is_empty(), "a lease was lost: {again:?}");
    for serve in &serves {
        let log = serve.log();
        let said = log.iter().filter(|line| line.contains("other processes are not heard")).count();
        assert_eq!(said, 1, "{log:#?}");
        assert!(!log.iter().any(|line| line.contains("\"ERROR\"")), "{log:#?}");
    }
    let doctor = run(&pooler.connect_options(), &["doctor"]).await;
    let told = text(&doctor.stdout);
    assert!(doctor.status.success(), "{told}");
    for line in [
        "warn  a pooler in transaction mode stands in between",
        "ok    names mean the schema postrider",
        "ok    what connections start with arrives at the server",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_connection_of_its_own_hears_the_others_past_the_pooler() {
    let database = prepared_database().await;
    let Some(pooler) = PgBouncer::carrying(&database, &[]).await else { return };
    let direct = url_of(&database);
    let settings = [("POSTRIDER_LISTEN_URL", direct.as_str())];
    let serve = Serve::on(&url_of(&pooler.connect_options()), &settings).await;
    let listening = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'postrider listen' AND query LIKE 'LISTEN%'";
    eventually("it listens", async || count(&database, listening).await == 1).await;
    assert!(!serve.log().iter().any(|line| line.contains("are not heard")));
    let elsewhere = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name <> 'postrider listen' AND query LIKE 'LISTEN%'";
    assert_eq!(count(&database, elsewhere).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_carries_no_prepared_statements_is_refused_by_all_but_migrate() {
    let database = empty_database().await;
    let without = if PgBouncer::carries() { &[("max_prepared_statements", "0")] as &[_] } else { &[] };
    let Some(pooler) = PgBouncer::start(&database, without).await else { return };
    let migrated = run(&pooler.connect_options(), &["migrate", "--role-default"]).await;
    assert!(migrated.status.success(), "{}", text(&migrated.stderr));
    let ours = "SELECT count(*) FROM pg_db_role_setting AS s JOIN pg_database AS d ON d.oid = s.setdatabase
        WHERE d.datname = current_database() AND 'search_path=postrider' = ANY (s.setconfig)";
    assert_eq!(count(&database, ours).await, 1);
    assert_eq!(count(&database, "SELECT count(*) FROM pg_class WHERE relname = 'dispatch' AND relnamespace = 'postrider'::regnamespace").await, 1);
    // Its sessions are to have the defaults.
    drop(pooler);
    let Some(pooler) = PgBouncer::start(&database, without).await else { return };
    for command in [&["serve"] as &[_], &["report", "queue_depth"], &["doctor"]] {
        let refused = run(&pooler.connect_options(), command).await;
        let said = text(&refused.stdout) + &text(&refused.stderr);
        assert!(!refused.status.success() && said.contains("max_prepared_statements"), "{command:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_mean_another_schema_are_refused_and_nothing_is_made_there() {
    let database = empty_database().await;
    let Some(pooler) = PgBouncer::start(&database, &[]).await else { return };
    let through = pooler.connect_options();
    // Not the role's own, which names mean wherever it is.
    let run = |database: &PgConnectOptions, args: &[&str]| run_in("elsewhere", database, args);
    let migrated = run(&through, &["migrate"]).await;
    assert!(migrated.status.success(), "{}", text(&migrated.stderr));
    for command in [&["serve"] as &[_], &["report", "queue_depth"], &["push", "q", "1"], &["doctor"]] {
        let refused = run(&through, command).await;
        let said = text(&refused.stdout) + &text(&refused.stderr);
        assert!(!refused.status.success(), "{command:?}: {said}");
        for part in ["names mean the schema public, not elsewhere", "migrate --role-default"] {
            assert!(said.contains(part), "{command:?}: {part}\n{said}");
        }
    }
    let tables = |schema: &str| {
        format!(
            "SELECT count(*) FROM pg_class WHERE relnamespace = '{schema}'::regnamespace AND relkind IN ('r', 'p')"
        )
    };
    assert_eq!(count(&database, &tables("public")).await, 0);
    assert!(count(&database, &tables("elsewhere")).await > 20);
    assert!(run(&database, &["migrate", "--role-default"]).await.status.success());
    drop(pooler);
    let Some(pooler) = PgBouncer::carrying(&database, &[]).await else { return };
    let report = run(&pooler.connect_options(), &["report", "queue_depth"]).await;
    assert!(report.status.success(), "{}", text(&report.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_that_migrate_at_once_agree_and_leave_no_lock_behind() {
    let database = empty_database().await;
    let pooler = PgBouncer::start(&database, &[]).await;
    let mut ways = vec![database.clone()];
    ways.extend(pooler.as_ref().map(PgBouncer::connect_options));
    for round in ["on nothing", "on what is there"] {
        for way in &ways {
            let runs = (0..6).map(|_| run(way, &["migrate"]));
            for run in futures::future::join_all(runs).await {
                assert!(run.status.success(), "{round}: {}", text(&run.stderr));
            }
            let locks = "SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
                WHERE d.datname = current_database() AND l.locktype = 'advisory'";
            assert_eq!(count(&database, locks).await, 0, "{round}");
        }
    }
    // Whoever finds nothing to do waits for nobody.
    let mut other = database.connect().await.unwrap();
    other
        .execute("SELECT pg_advisory_lock(hashtextextended('postrider migrates postrider', 0))")
        .await
        .unwrap();
    migrate(&database, "postrider").await.unwrap();
    // And on a database where nothing is, through the pooler first.
    let fresh = empty_database().await;
    let Some(pooler) = PgBouncer::start(&fresh, &[]).await else { return };
    let runs = (0..6).map(|_| run(&pooler.connect_options(), &["migrate"]));
    for run in futures::future::join_all(runs).await {
        assert!(run.status.success(), "{}", text(&run.stderr));
    }
    let ups = MIGRATIONS.iter().filter(|migration| migration.migration_type.is_up_migration()).count();
    let applied = count(&fresh, "SELECT count(*) FROM postrider._sqlx_migrations").await;
    assert_eq!(applied, i64::try_from(ups).unwrap());
}
