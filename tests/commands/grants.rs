//! `postrider grant` and `revoke`: a role of PostgreSQL gets what it was granted through SQL, and nothing else.

use super::{Done, run};
use crate::support::answer::json;
use crate::support::app::{TestApp, database};
use postrider::internals::reports::REPORTS;
use serde_json::{Value, json};
use sqlx::postgres::{PgConnection, PgDatabaseError};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _};

/// Makes a role that has nothing; roles are the server's, so each has a name of its own.
async fn role(app: &TestApp, attributes: &str) -> String {
    let name = format!("app_{}", uuid::Uuid::now_v7().simple());
    let mut db = app.connect().await;
    db.execute(AssertSqlSafe(format!("CREATE ROLE {name} {attributes}"))).await.unwrap();
    name
}

/// A session of this role, as an application has it.
async fn session(app: &TestApp, role: &str) -> PgConnection {
    let mut db = PgConnection::connect_with(&app.database).await.unwrap();
    db.execute(AssertSqlSafe(format!("SET SESSION AUTHORIZATION {role}"))).await.unwrap();
    db
}

/// The SQLSTATE that a statement is refused with; empty when it is not.
async fn refusal(db: &mut PgConnection, statement: &str) -> String {
    match db.execute(AssertSqlSafe(statement.to_owned())).await {
        Ok(_) => String::new(),
        Err(error) => error.as_database_error().unwrap().downcast_ref::<PgDatabaseError>().code().to_owned(),
    }
}

/// Grants or revokes, which must work.
async fn change(app: &TestApp, args: &[&str]) -> Done {
    let done = run(&app.database, args).await;
    assert!(done.ok, "{done:?}");
    done
}

async fn requests(app: &TestApp, queue: &str) -> Vec<Value> {
    let page = json(app.get(&format!("/queues/{queue}/messages")).await, 200).await;
    page["messages"].as_array().unwrap().iter().map(|message| message["request"].clone()).collect()
}

/// An instance with the queues `mail`, `mail.urgent` and `other`, and job 1.
async fn stage() -> TestApp {
    let app = TestApp::start().await;
    for queue in ["mail", "mail.urgent", "other"] {
        app.define(queue, json!({ "handler": { "kind": "worker" } })).await;
    }
    let jobs = "/place_card_on_single_site_jobs";
    json(app.post(jobs, &json!({ "cardholder_id": 1, "data": { "password": "hunter2" } })).await, 201).await;
    app
}

const DENIED: &str = "42501";

#[tokio::test(flavor = "multi_thread")]
async fn a_role_gets_what_it_was_granted_and_nothing_else() {
    let app = stage().await;
    let name = role(&app, "LOGIN").await;
    let mut db = session(&app, &name).await;
    assert_eq!(refusal(&mut db, "SELECT postrider.enqueue('mail', '1')").await, DENIED);

    let done = change(&app, &["grant", &name, "--queue", "mail"]).await;
    assert_eq!(done.out, format!("{name} may\n  enqueue into mail\n"));
    for call in [
        "enqueue('mail', '1')",
        "enqueue('mail', '2'::json, delay => '1s')",
        "enqueue('mail', '3'::jsonb, idempotency_key => 'k')",
        "enqueue('mail', '3'::jsonb, idempotency_key => 'k')",
        "enqueue_many('mail', ARRAY['4'])",
        "enqueue_many('mail', ARRAY['5']::json[])",
        "enqueue_many('mail', ARRAY['6']::jsonb[])",
    ] {
        assert_eq!(refusal(&mut db, &format!("SELECT postrider.{call}")).await, "", "{call}");
    }
    assert_eq!(requests(&app, "mail").await.len(), 6);
    for statement in [
        "SELECT postrider.enqueue('other', '1')",
        "SELECT postrider.enqueue('mail.urgent', '1')",
        "SELECT postrider.enqueue('nowhere', '1')",
        "SELECT postrider.enqueue(NULL, '1')",
        "SELECT postrider.enqueue_many('other', ARRAY['1'])",
        "SELECT postrider.enqueue_many('other', '{}'::json[])",
        "SELECT postrider.publish('s1', 'order:new')",
        "SELECT postrider.broadcast(1, '\"WORKING\"')",
        "SELECT postrider.ring()",
        "SELECT postrider.require_grant('queue', 'mail')",
        "SELECT postrider.claim_idempotency_keys('{}', '{}', '{}', '{}', '{}', '1s')",
        "SELECT postrider.drop_week('queues', '{}', '{}', now(), '{}', '{}')",
        "SELECT definition FROM postrider.queues",
        "SELECT * FROM postrider.queue_messages",
        "SELECT * FROM postrider.queue_handlers",
        "SELECT last_value FROM postrider.last_bell",
        "INSERT INTO postrider.messages (queue_id, id, request) SELECT 1, gen_random_uuid(), '1'",
        "INSERT INTO postrider.grants (role, kind, name) VALUES (session_user, 'queue', '*')",
        "CREATE TABLE postrider.mine (n int)",
        "CREATE FUNCTION postrider.mine() RETURNS int LANGUAGE sql RETURN 1",
    ] {
        assert_eq!(refusal(&mut db, statement).await, DENIED, "{statement}");
    }
    let owner = format!("SET ROLE {}", app.database.get_username());
    assert_eq!(refusal(&mut db, &owner).await, DENIED);
    assert_eq!(requests(&app, "other").await.len(), 0);

    change(&app, &["grant", &name, "--store", "s1", "--job-type", "place_card_on_single_site_jobs"]).await;
    for (call, expected) in [
        ("publish('s1', 'order:new', '{}')", ""),
        ("publish('s1', 'order:new', '{}'::jsonb)", ""),
        ("publish('s2', 'order:new')", DENIED),
        ("broadcast(1, '\"WORKING\"')", ""),
        ("broadcast(1, '\"WORKING\"'::json)", ""),
        ("broadcast(2, '\"WORKING\"')", DENIED),
    ] {
        assert_eq!(refusal(&mut db, &format!("SELECT postrider.{call}")).await, expected, "{call}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_what_to_run() {
    let app = stage().await;
    let name = role(&app, "LOGIN").await;
    change(&app, &["grant", &name, "--queue", "mail", "--job-type", "other"]).await;
    let mut db = session(&app, &name).await;
    for (call, message, hint) in [
        ("enqueue('other', '1')", "for queue 'other'", "--queue other"),
        ("enqueue('x; rm -rf /', '1')", "for queue 'x; rm -rf /'", "--queue NAME"),
        (
            "broadcast(1, '\"A\"')",
            "for job type 'place_card_on_single_site_jobs'",
            "--job-type place_card_on_single_site_jobs",
        ),
        ("broadcast(9, '\"A\"')", "for this job type", "--job-type NAME"),
    ] {
        let refused = db.execute(AssertSqlSafe(format!("SELECT postrider.{call}"))).await.unwrap_err();
        let refused = refused.as_database_error().unwrap().downcast_ref::<PgDatabaseError>();
        assert_eq!(refused.message(), format!("role {name} has no grant {message}"));
        let run = format!("The owner of the schema may run: postrider grant {name} {hint}");
        assert_eq!(refused.hint(), Some(run.as_str()));
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_search_path_nor_temporary_nor_own_objects_lend_more() {
    let app = stage().await;
    let name = role(&app, "LOGIN").await;
    change(&app, &["grant", &name, "--queue", "mail", "--job-type", "place_card_on_single_site_jobs"]).await;
    let own = format!("evil_{name}");
    app.connect()
        .await
        .execute(AssertSqlSafe(format!("CREATE SCHEMA {own} AUTHORIZATION {name}")))
        .await
        .unwrap();
    for place in ["pg_temp", own.as_str()] {
        let mut db = session(&app, &name).await;
        let objects = format!(
            "CREATE TABLE {place}.grants (role text, kind text, name text);
            CREATE TABLE {place}.callers_grants AS SELECT 'queue' AS kind, '*' AS name;
            CREATE TABLE {place}.queues AS SELECT 1 AS id, 'other' AS name, '{{}}'::json AS definition;
            CREATE TABLE {place}.messages (queue_id int, rank int, id uuid, request json);
            CREATE TABLE {place}.dispatch (lane int, rank int, item uuid);
            CREATE TABLE {place}.leases (id uuid);
            CREATE TABLE {place}.broadcasts (job_id bigint, seq bigint, is_final boolean, message json);
            CREATE FUNCTION {place}.pg_has_role(name, name, text) RETURNS boolean LANGUAGE sql RETURN true;
            CREATE FUNCTION {place}.require_grant(text, text) RETURNS boolean LANGUAGE sql RETURN true;
            CREATE FUNCTION {place}.uuid_v7() RETURNS uuid LANGUAGE plpgsql AS 'BEGIN RAISE ''run as %'', current_user; END';
            CREATE FUNCTION {place}.readable_json(json) RETURNS json LANGUAGE plpgsql AS 'BEGIN RAISE ''run as %'', current_user; END';
            CREATE FUNCTION {place}.same(text, text) RETURNS boolean LANGUAGE sql RETURN true;
            CREATE OPERATOR {place}.= (LEFTARG = text, RIGHTARG = text, FUNCTION = {place}.same);
            SET search_path = {place}, pg_catalog, postrider"
        );
        db.execute(AssertSqlSafe(objects)).await.unwrap();
        for (call, expected) in [
            ("enqueue('mail', '1'::json)", ""),
            ("enqueue_many('mail', ARRAY['1']::json[])", ""),
            ("broadcast(1, '\"WORKING\"'::jsonb)", ""),
            ("enqueue('other', '1'::json)", DENIED),
            ("enqueue_many('other', ARRAY['1']::json[])", DENIED),
            ("publish('s1', 'order:new', '{}'::json)", DENIED),
        ] {
            assert_eq!(
                refusal(&mut db, &format!("SELECT postrider.{call}")).await,
                expected,
                "{place}: {call}"
            );
        }
        let strayed: i64 = sqlx::query_scalar(AssertSqlSafe(format!(
            "SELECT (SELECT count(*) FROM {place}.messages) + (SELECT count(*) FROM {place}.dispatch)
                + (SELECT count(*) FROM {place}.broadcasts)"
        )))
        .fetch_one(&mut db)
        .await
        .unwrap();
        assert_eq!(strayed, 0, "{place}");
    }
    assert_eq!(requests(&app, "mail").await.len(), 4);
    assert_eq!(requests(&app, "other").await.len(), 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_have_what_they_inherit_and_a_set_role_what_it_has_itself() {
    let app = stage().await;
    let (senders, others) = (role(&app, "").await, role(&app, "").await);
    let member = role(&app, &format!("LOGIN IN ROLE {senders}, {others}")).await;
    let asks = role(&app, &format!("LOGIN NOINHERIT IN ROLE {senders}")).await;
    change(&app, &["grant", &senders, "--queue", "mail*"]).await;
    change(&app, &["grant", &others, "--queue", "other"]).await;
    let into = |queue: &str| format!("SELECT postrider.enqueue('{queue}', '1')");

    let mut db = session(&app, &member).await;
    for queue in ["mail", "mail.urgent", "other"] {
        assert_eq!(refusal(&mut db, &into(queue)).await, "", "{queue}");
    }
    db.execute(AssertSqlSafe(format!("SET ROLE {others}"))).await.unwrap();
    assert_eq!(refusal(&mut db, &into("mail")).await, DENIED);
    assert_eq!(refusal(&mut db, &into("other")).await, "");

    let mut db = session(&app, &asks).await;
    assert_eq!(refusal(&mut db, &into("mail")).await, DENIED);
    db.execute(AssertSqlSafe(format!("SET ROLE {senders}"))).await.unwrap();
    assert_eq!(refusal(&mut db, &into("mail")).await, "");

    // Whoever owns the schema needs no grant, until it puts on another's role.
    let mut db = app.connect().await;
    assert_eq!(refusal(&mut db, &into("other")).await, "");
    db.execute(AssertSqlSafe(format!("SET ROLE {senders}"))).await.unwrap();
    assert_eq!(refusal(&mut db, &into("other")).await, DENIED);

    change(&app, &["revoke", &senders, "--queue", "mail*"]).await;
    let mut db = session(&app, &member).await;
    assert_eq!(refusal(&mut db, &into("mail")).await, DENIED);
    assert_eq!(refusal(&mut db, &into("other")).await, "");
    let done = change(&app, &["revoke", &others, "--all"]).await;
    assert_eq!(done.out, format!("{others} has no grant\n"));
    assert_eq!(refusal(&mut db, &into("other")).await, DENIED);
    // Nothing of PostgreSQL's is left that would keep the role.
    let drop = format!("DROP ROLE {member}, {asks}, {senders}, {others}");
    assert_eq!(refusal(&mut app.connect().await, &drop).await, "");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_the_reports_reads_no_definition_and_no_payload() {
    let app = stage().await;
    let name = role(&app, "LOGIN").await;
    change(&app, &["grant", &name, "--reports"]).await;
    let mut db = session(&app, &name).await;
    db.execute("SET search_path = postrider").await.unwrap();
    for report in REPORTS {
        let file = std::fs::read_to_string(format!("sql/reports/{}.sql", report.name)).unwrap();
        let done = sqlx::raw_sql(AssertSqlSafe(file)).execute(&mut db).await;
        assert!(done.is_ok(), "{}: {done:?}", report.name);
    }
    for statement in [
        "SELECT definition FROM queues",
        "SELECT request FROM messages",
        "SELECT request FROM queue_messages",
        "SELECT result FROM outcomes",
        "SELECT error FROM outcomes",
        "SELECT data FROM jobs",
        "SELECT message FROM broadcasts",
        "SELECT answer FROM envelopes",
        "SELECT token FROM endpoints",
        "SELECT sealed FROM parameters",
        "SELECT body FROM delivery_attempts",
        "SELECT * FROM grants",
        "SELECT key_hash FROM registrations",
        "DELETE FROM messages",
        "SELECT enqueue('mail', '1')",
    ] {
        assert_eq!(refusal(&mut db, statement).await, DENIED, "{statement}");
    }
    change(&app, &["revoke", &name, "--reports"]).await;
    assert_ne!(refusal(&mut db, "SELECT name FROM postrider.queues").await, "");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_granted_is_refused_and_doctor_tells_what_is_stale() {
    let app = stage().await;
    let name = role(&app, "LOGIN").await;
    let owner = app.database.get_username().to_owned();
    for (args, said) in [
        (vec!["grant", "nobody_of_this_name", "--queue", "mail"], "there is no role nobody_of_this_name"),
        (vec!["grant", &owner, "--queue", "mail"], "owns the schema"),
        (vec!["grant", &name], "for what?"),
        (vec!["grant", &name, "--queue", "ma*il"], "cannot be the name of a queue"),
        (vec!["grant", &name, "--store", ""], "cannot be the name of a store"),
        (vec!["revoke", &name, "--queue", "mail"], "has no such grant"),
    ] {
        let done = run(&app.database, &args).await;
        assert!(!done.ok && done.err.contains(said), "{args:?}: {done:?}");
    }
    change(&app, &["grant", &name, "--queue", "misspelt"]).await;
    let done = run(&app.database, &["doctor"]).await;
    assert!(
        done.out.contains(&format!("grants for what is not there: {name} for the queue misspelt")),
        "{done:?}"
    );
    let mut db = app.connect().await;
    db.execute(AssertSqlSafe(format!("DROP OWNED BY {name}; DROP ROLE {name}"))).await.unwrap();
    let done = run(&app.database, &["doctor"]).await;
    assert!(done.out.contains(&format!("grants of roles that are not there: {name}")), "{done:?}");
    change(&app, &["revoke", &name, "--all"]).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_function_is_for_everybody_and_what_runs_as_its_owner_pins_its_path() {
    let mut db = database().await.connect().await.unwrap();
    let open: Vec<String> = sqlx::query_scalar(
        "SELECT oid::regprocedure::text FROM pg_proc
        WHERE pronamespace = 'postrider'::regnamespace
            AND (proacl IS NULL OR EXISTS (SELECT FROM aclexplode(proacl) WHERE grantee = 0))",
    )
    .fetch_all(&mut db)
    .await
    .unwrap();
    assert!(open.is_empty(), "a migration must end with REVOKE ALL ON ALL FUNCTIONS: {open:?}");
    let definers: Vec<(String, Option<Vec<String>>)> = sqlx::query_as(
        "SELECT DISTINCT proname::text, proconfig FROM pg_proc
        WHERE pronamespace = 'postrider'::regnamespace AND prosecdef ORDER BY 1",
    )
    .fetch_all(&mut db)
    .await
    .unwrap();
    let names: Vec<&str> = definers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["broadcast", "enqueue", "enqueue_many", "publish"]);
    for (name, settings) in definers {
        assert_eq!(settings.unwrap_or_default(), ["search_path=postrider, pg_temp"], "{name}");
    }
}
