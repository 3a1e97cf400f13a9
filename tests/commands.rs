//! The command line, as processes of the real binary.

mod advice;
mod doctor;
mod grants;
mod holdups;
pub(crate) mod keys;
mod refusals;
mod revert;
mod sdk;
mod why;

use crate::support::app::{SECRET, TestApp};
use crate::support::eventually;
use crate::support::server::{BINARY, server};
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

/// What a command did.
#[derive(Debug)]
pub(crate) struct Done {
    ok: bool,
    pub(crate) out: String,
    err: String,
}

/// The command on a database, with the tests' secret and nothing else of the environment.
async fn command(database: &PgConnectOptions, args: &[&str]) -> Command {
    let name = database.get_database().unwrap();
    let url = server().await.admin_url().replace("/postrider?", &format!("/{name}?"));
    let mut command = Command::new(BINARY);
    command
        .args(args)
        .env_clear()
        .env("DATABASE_URL", url)
        .env("POSTRIDER_JWT_SECRET", SECRET)
        .kill_on_drop(true);
    command
}

async fn finish(mut command: Command, input: &str) -> Done {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that reads no input may have ended by now.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()).await);
    let output = child.wait_with_output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Done { ok: output.status.success(), out: text(output.stdout), err: text(output.stderr) }
}

pub(crate) async fn run(database: &PgConnectOptions, args: &[&str]) -> Done {
    finish(command(database, args).await, "").await
}

#[tokio::test(flavor = "multi_thread")]
async fn token_signs_what_the_server_accepts() {
    let app = TestApp::start().await;
    let done = run(&app.database, &["token", "--role", "queue_admin,other", "--sub", "ann"]).await;
    assert!(done.ok, "{done:?}");
    let answer = app.anonymous(Method::GET, "/queues").bearer_auth(done.out.trim()).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn push_keeps_the_rules_of_the_api() {
    let app = TestApp::start().await;
    app.define("strict", json!({
        "incoming": { "schema": { "type": "object", "required": ["hello"], "properties": { "n": { "type": "integer" } } } },
        "handler": { "kind": "javascript", "source": "module.exports = async (m) => m.hello;" },
        "options": { "priority": 7 }
    }))
    .await;
    let push = async |args: &[&str], input: &str| {
        let args: Vec<&str> = ["push", "strict"].into_iter().chain(args.iter().copied()).collect();
        finish(command(&app.database, &args).await, input).await
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), r#"{"hello": "file"}"#).unwrap();
    let at_file = format!("@{}", file.path().display());
    for (argument, input, result) in [
        (r#"{"hello":"there"}"#, "", "there"),
        ("-", r#"{ "hello" : "standard input" }"#, "standard input"),
        (&at_file, "", "file"),
    ] {
        let done = push(&[argument], input).await;
        assert!(done.ok, "{done:?}");
        let id = done.out.trim();
        eventually("it is handled", async || app.message("strict", id).await["status"] == "COMPLETE").await;
        let message = app.whole_message("strict", id).await;
        assert_eq!(message["result"], result);
        assert_eq!(message["priority"], 7, "the definition's");
    }

    let refused = push(&[r#"{"n":"hush"}"#], "").await;
    assert!(!refused.ok && refused.out.is_empty(), "{refused:?}");
    assert!(
        refused.err.contains("/n: ") && refused.err.contains("the message: "),
        "every violation: {}",
        refused.err
    );
    assert!(!push(&["nonsense"], "").await.ok);
    assert!(push(&[r#"{"hello":"\u0000\ud800"}"#], "").await.ok, "all that JSON allows");

    let first = push(&[r#"{"hello":"once"}"#, "--idempotency-key", "k"], "").await;
    let again = push(&[r#"{"hello":"once"}"#, "--idempotency-key", "k"], "").await;
    assert!(first.ok && first.out == again.out, "{first:?} {again:?}");
    assert!(!push(&[r#"{"hello":"twice"}"#, "--idempotency-key", "k"], "").await.ok);

    let later = push(&[r#"{"hello":"later"}"#, "--delay", "1h", "--priority", "-3"], "").await;
    let later = app.whole_message("strict", later.out.trim()).await;
    assert_eq!(json!([later["status"], later["priority"]]), json!(["PENDING", -3]));
    assert!(later["run_at"].is_string());

    let unknown = run(&app.database, &["push", "nowhere", "{}"]).await;
    assert!(!unknown.ok && unknown.err.contains("strict"), "it names those there are: {unknown:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_shows_each_message_as_it_is_pushed_and_as_it_ends() {
    let app = TestApp::start().await;
    app.define_javascript(
        "tailed",
        "module.exports = async (m) => { if (m.no) throw m.no; return 'fine'; };",
    )
    .await;
    let before = app.push("tailed", &json!({ "n": "before" })).await;
    let mut child = command(&app.database, &["tail", "tailed"]).await.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut line = async || lines.next_line().await.unwrap().unwrap();
    let told = line().await;
    assert!(
        told.contains(&before) && told.contains("pushed") && told.contains(r#"{"n":"before"}"#),
        "{told}"
    );
    let told = line().await;
    assert!(told.contains(&before) && told.contains("COMPLETE") && told.contains("\"fine\""), "{told}");
    let after = app.push("tailed", &json!({ "no": "reason" })).await;
    let told = line().await;
    assert!(told.contains(&after) && told.contains("pushed"), "{told}");
    let told = line().await;
    assert!(told.contains(&after) && told.contains("ERROR") && told.contains("\"reason\""), "{told}");
    let pid = rustix::process::Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert!(child.wait().await.unwrap().success());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_shows_what_is_said_about_a_job_until_it_ends() {
    let app = TestApp::start().await;
    let jobs = "/place_card_on_single_site_jobs";
    let job: Value = app.post(jobs, &json!({ "cardholder_id": 1 })).await.json().await.unwrap();
    let (id, number) = (job["id"].as_i64().unwrap(), job["id"].to_string());
    let say = async |status: Value| {
        assert_eq!(app.put(&format!("{jobs}/{id}"), &status).await.status(), StatusCode::OK, "{status}");
    };
    for status in ["A", "B", "C"] {
        say(json!({ "status": status })).await;
    }
    let mut child =
        command(&app.database, &["tail", &number, "-n", "2"]).await.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = async || -> Value {
        let line = lines.next_line().await.unwrap().expect("one more line");
        serde_json::from_str(&line).unwrap()
    };
    for (seq, status) in [(2, "B"), (3, "C")] {
        let told = next().await;
        assert_eq!(json!([told["type"], told["job_id"]]), json!(["job_status", id]));
        assert_eq!(json!([told["seq"], told["message"]["status"]]), json!([seq, status]));
    }
    say(json!({ "status": "D\u{9b}" })).await;
    assert_eq!(next().await["message"]["status"], "D\u{9b}");
    say(json!({ "status": "DONE", "termination_type": "BILLABLE" })).await;
    assert_eq!(next().await["message"]["termination_type"], "BILLABLE");
    assert!(lines.next_line().await.unwrap().is_none());
    assert!(child.wait().await.unwrap().success(), "it ends with the job");

    let ended = run(&app.database, &["tail", "--job", &number, "-n", "1"]).await;
    assert!(ended.ok && ended.out.lines().count() == 1 && ended.out.contains("DONE"), "{ended:?}");
    let none = run(&app.database, &["tail", "999"]).await;
    assert!(!none.ok && none.err.contains("there is no job 999"), "{none:?}");
    assert!(!run(&app.database, &["tail", "--queue", "999"]).await.ok, "a queue may be called so");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn report_answers_as_the_api_does() {
    let app = TestApp::start().await;
    app.define("remote", json!({ "handler": { "kind": "worker" } })).await;
    app.push("remote", &json!({})).await;
    let json = run(&app.database, &["report", "queue_depth", "--format", "json"]).await;
    assert!(json.ok, "{json:?}");
    let rows: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(rows, app.get("/reports/queue_depth").await.json::<Value>().await.unwrap());
    let csv = run(&app.database, &["report", "queue_depth", "--format", "csv"]).await;
    assert_eq!(csv.out, "queue,paused,ready,scheduled,running\r\nremote,false,1,0,0\n");
    let table = run(&app.database, &["report", "queue_depth"]).await;
    assert_eq!(table.out.lines().nth(1), Some("remote  false       1          0        0"));
    let list = run(&app.database, &["report"]).await;
    assert!(list.out.contains("queue_depth") && list.out.contains('?'), "{list:?}");
    assert!(!run(&app.database, &["report", "salaries"]).await.ok);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stuck_work_is_found_when_nobody_works() {
    let app = TestApp::start().await;
    app.define("remote", json!({ "handler": { "kind": "worker" } })).await;
    let claimed = app.push("remote", &json!(1)).await;
    app.post("/queues/remote/claim", &json!(null)).await;
    let later: Value = app.post("/queues/remote/messages?delay=1h", &json!(2)).await.json().await.unwrap();
    let database = app.database.clone();
    let mut db = app.connect().await;
    app.stop().await;
    db.execute("UPDATE leases SET expires_at = now() - interval '1 minute'").await.unwrap();
    db.execute("UPDATE scheduled SET run_at = now() - interval '2 minutes'").await.unwrap();
    let report = run(&database, &["report", "stuck_work", "--format", "json"]).await;
    let rows: Vec<Value> = serde_json::from_str(&report.out).unwrap();
    let found: Vec<Value> = rows.iter().map(|row| json!([row["problem"], row["message"]])).collect();
    assert_eq!(found, [json!(["overdue", later["id"]]), json!(["lease is over", claimed])]);

    let doctor = run(&database, &["doctor"]).await;
    assert!(doctor.ok, "nothing is wrong but that nobody works: {doctor:?}");
    for line in [
        "warn  no worker lives, and 1 messages wait",
        "warn  1 leases are over",
        "warn  1 messages are overdue",
    ] {
        assert!(doctor.out.contains(line), "{line}\n{}", doctor.out);
    }
    // Somebody who lives would have done it.
    db.execute(
        "INSERT INTO workers (id, name, lease, capacity) VALUES (gen_random_uuid(), 'idle', '1 hour', 1)",
    )
    .await
    .unwrap();
    let doctor = run(&database, &["doctor"]).await;
    assert!(!doctor.ok && doctor.out.contains("FAIL  1 messages are overdue"), "{doctor:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_brings_the_schema_up_and_takes_the_newest_step_back() {
    server().await.create_database("moved", "template1").await;
    let database = server().await.connect_options("moved");
    let refused = run(&database, &["push", "q", "1"]).await;
    assert!(!refused.ok && refused.err.contains("postrider migrate"), "{refused:?}");
    assert!(run(&database, &["migrate"]).await.ok);
    assert!(run(&database, &["migrate"]).await.ok, "a second time changes nothing");
    let report = run(&database, &["report", "queue_depth"]).await;
    assert!(report.ok && report.out.starts_with("queue"), "{report:?}");
    assert!(run(&database, &["migrate", "--revert"]).await.ok);
    let doctor = run(&database, &["doctor"]).await;
    assert!(!doctor.ok && doctor.out.contains("FAIL  the schema is of an older version"), "{doctor:?}");
    assert!(run(&database, &["migrate"]).await.ok);
    let mut db = database.connect().await.unwrap();
    db.execute(AssertSqlSafe("UPDATE postrider._sqlx_migrations SET checksum = '\\x00'".to_owned()))
        .await
        .unwrap();
    let doctor = run(&database, &["doctor"]).await;
    assert!(!doctor.ok && doctor.out.contains("is not the one that was applied"), "{doctor:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn demo_tells_its_story_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    // PostgreSQL refuses root: its own user must be able to enter.
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(directory.path(), everybody).unwrap();
    let mut demo = Command::new(BINARY);
    demo.arg("demo")
        .env("TMPDIR", directory.path())
        .env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/nothing");
    let done = finish(demo, "").await;
    assert!(done.ok, "{done:?}");
    for part in [
        "422 ",
        "403 ",
        "\"COMPLETE\"",
        "handling there",
        "the world said no",
        "409 ",
        "/claim?wait=20s",
        "{\"width\":640}",
        // The second journey: asked, answered, seen by both.
        "\"type\":\"tfa_request\"",
        "\"message\":\"submitted\"",
        "  stream: id: 3",
        "\"status\":\"COMPLETED\",",
        "\"termination_type\":\"BILLABLE\"",
    ] {
        assert!(done.out.contains(part), "{part}\n{}", done.out);
    }
    assert!(!done.out.contains('\u{1b}'), "colour is for terminals");
    let left: Vec<_> =
        std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
}
