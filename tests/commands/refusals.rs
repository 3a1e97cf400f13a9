//! What a command refuses: early, in one sentence, and with nothing left behind.

use super::{Done, command, finish, run};
use crate::support::app::SECRET;
use crate::support::server::{BINARY, server};
use sqlx::{ConnectOptions as _, Executor as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use tempfile::TempDir;
use tokio::process::Command;

fn empty() -> TempDir {
    tempfile::Builder::new()
        .prefix("postrider-")
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir()
        .unwrap()
}

/// The command in a directory, with no setting but these.
async fn run_in(directory: &Path, args: &[&str], settings: &[(&str, &str)]) -> Done {
    let mut command = Command::new(BINARY);
    command
        .args(args)
        .current_dir(directory)
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .envs(settings.iter().copied())
        .kill_on_drop(true);
    finish(command, "").await
}

fn entries(directory: &Path) -> Vec<String> {
    let names = std::fs::read_dir(directory).unwrap();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_a_database_makes_none_where_there_is_none_and_says_what_to_do() {
    let directory = empty();
    for args in [
        &["token", "--role", "x"][..],
        &["push", "q", "1"],
        &["tail", "q"],
        &["report", "queue_depth"],
        &["doctor"],
        &["migrate", "--revert"],
    ] {
        let done = run_in(directory.path(), args, &[]).await;
        assert!(!done.ok, "{args:?}: {done:?}");
        let said = format!("{}{}", done.out, done.err);
        assert!(said.contains("postrider serve") && said.contains("POSTRIDER_DATA_DIR"), "{args:?}: {said}");
        assert_eq!(entries(directory.path()), [""; 0], "{args:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_that_cannot_work_and_an_address_in_use_stop_it_before_anything_is_made() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let free = ("POSTRIDER_LISTEN", "127.0.0.1:0");
    server().await.create_database("untouched", "template1").await;
    let database = server().await.connect_options("untouched");
    let mut db = database.connect().await.unwrap();
    let directory = empty();
    for (setting, says) in [
        (("POSTRIDER_JWT_SECRET", "abcde"), "POSTRIDER_JWT_SECRET"),
        (("POSTRIDER_SECRET_KEY", "short"), "POSTRIDER_SECRET_KEY"),
        (("POSTRIDER_JWT_PUBLIC_KEY_FILE", "/nowhere.pem"), "POSTRIDER_JWT_PUBLIC_KEY_FILE"),
        (("POSTRIDER_LOG", "postrider=loud"), "POSTRIDER_LOG"),
        (("POSTRIDER_LISTEN", taken.as_str()), "cannot listen on"),
    ] {
        let done = run_in(directory.path(), &["serve"], &[free, setting]).await;
        assert!(!done.ok && done.err.contains(says), "{done:?}");
        assert_eq!(done.err.lines().count(), 1, "one line says it: {done:?}");
        assert!(!directory.path().join("data/postgres").exists(), "a cluster was made: {done:?}");

        let mut shared = command(&database, &["serve"]).await;
        if setting.0.starts_with("POSTRIDER_JWT_PUBLIC") {
            shared.env_remove("POSTRIDER_JWT_SECRET");
        }
        let done = finish(
            {
                shared.env(free.0, free.1).env(setting.0, setting.1);
                shared
            },
            "",
        )
        .await;
        assert!(!done.ok && done.err.contains(says), "{done:?}");
        let there = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'postrider')";
        assert!(
            !sqlx::query_scalar::<_, bool>(there).fetch_one(&mut db).await.unwrap(),
            "{setting:?} migrated"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_once_and_in_the_databases_words() {
    let directory = empty();
    for (url, says) in [
        ("mysql://root:hunter2@db/x", "mysql:// names no PostgreSQL server"),
        ("db.example.com/hunter2", "a URL has a scheme"),
    ] {
        let done = run_in(directory.path(), &["migrate"], &[("DATABASE_URL", url)]).await;
        assert!(!done.ok && done.err.contains(says) && !done.err.contains("hunter2"), "{done:?}");
    }
    let nowhere = [("DATABASE_URL", "postgres://nobody@127.0.0.1:1/nothing")];
    let done = run_in(directory.path(), &["migrate"], &nowhere).await;
    assert_eq!(done.err.matches("refused").count(), 1, "{done:?}");
    let missing = server().await.connect_options("there_is_no_such_database");
    let done = run(&missing, &["migrate"]).await;
    assert!(done.err.contains("does not exist") && !done.err.contains("at line"), "{done:?}");
    assert_eq!(done.err.matches("does not exist").count(), 1, "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_settings_is_read_and_the_environment_comes_first() {
    let directory = empty();
    std::fs::write(directory.path().join(".env"), format!("POSTRIDER_JWT_SECRET='{SECRET}'\n")).unwrap();
    let token = run_in(directory.path(), &["token", "--role", "x"], &[]).await;
    assert!(token.ok && token.out.matches('.').count() == 2, "{token:?}");
    let weak = [("POSTRIDER_JWT_SECRET", "weak")];
    assert!(!run_in(directory.path(), &["token", "--role", "x"], &weak).await.ok);
    std::fs::write(directory.path().join(".env"), "A=1\nhunter2\n").unwrap();
    let wrong = run_in(directory.path(), &["token", "--role", "x"], &[]).await;
    assert!(wrong.err.contains(".env: line 2") && !wrong.err.contains("hunter2"), "{wrong:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_waits_for_an_answer_as_long_as_its_setting_says() {
    server().await.create_database("patient", "template1").await;
    let database = server().await.connect_options("patient");
    assert!(run(&database, &["migrate"]).await.ok);
    let mut holder = database.connect().await.unwrap();
    holder.execute("BEGIN; LOCK TABLE postrider.queues IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut report = command(&database, &["report", "queue_depth"]).await;
    report.env("POSTRIDER_COMMAND_TIMEOUT", "2s");
    let done = finish(report, "").await;
    assert!(!done.ok && done.err.contains("POSTRIDER_COMMAND_TIMEOUT"), "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_help_of_serve_names_every_setting() {
    let directory = empty();
    let help = run_in(directory.path(), &["serve", "--help"], &[]).await;
    for setting in postrider::config::SETTINGS {
        assert!(help.out.contains(&format!("{setting}=")), "{setting}\n{}", help.out);
    }
}
