//! Putting schedules of queues: what is refused and where, whole sets, and the ways in beside HTTP: definitions, files and
//! programs.

use super::schedules::{due, holding, hourly, pushed, put, stopped};
use crate::support::answer::{json, refusal, text, violations};
use crate::support::app::TestApp;
use crate::support::eventually;
use axum::http::Method;
use serde_json::{Value, json};
use std::fs;

const S: &str = "/queues/q/schedules/s";

/// The names of a queue's schedules, each with when it fires next.
async fn listed(app: &TestApp) -> Vec<(String, Value)> {
    let all = json(app.get("/queues/q/schedules").await, 200).await;
    let all = all.as_array().unwrap().iter();
    all.map(|one| (one["name"].as_str().unwrap().to_owned(), one["next_run"].clone())).collect()
}

async fn names(app: &TestApp) -> Vec<String> {
    listed(app).await.into_iter().map(|(name, _)| name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_breaks_a_rule_is_a_422_with_its_places() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    let every = |more: Value| {
        let mut schedule = json!({ "every": "1h", "message": 1 });
        schedule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        schedule
    };
    let cron = |cron: Value| json!({ "cron": cron, "message": 1 });
    let table: Vec<(Value, &[(&str, &str)])> = vec![
        (json!(null), &[("", "type")]),
        (json!([]), &[("", "type")]),
        (json!("0 3 * * *"), &[("", "type")]),
        (json!({}), &[("", "required"), ("", "required")]),
        (json!({ "message": 1 }), &[("", "required")]),
        (json!({ "every": "1h" }), &[("", "required")]),
        (every(json!({ "cron": "0 3 * * *" })), &[("", "oneOf")]),
        (every(json!({ "every": 3600 })), &[("/every", "duration")]),
        (every(json!({ "every": "soon" })), &[("/every", "duration")]),
        (every(json!({ "every": "500ms" })), &[("/every", "range")]),
        (every(json!({ "every": "400days" })), &[("/every", "range")]),
        (every(json!({ "time_zone": "UTC" })), &[("/time_zone", "dependentRequired")]),
        (every(json!({ "enabled": "true" })), &[("/enabled", "type")]),
        (every(json!({ "enabled": null })), &[("/enabled", "type")]),
        (every(json!({ "overlap": true })), &[("/overlap", "type")]),
        (every(json!({ "overlap": "Skip" })), &[("/overlap", "enum")]),
        (every(json!({ "missed": 1 })), &[("/missed", "type")]),
        (every(json!({ "missed": "run_all" })), &[("/missed", "enum")]),
        (every(json!({ "at_start": 1 })), &[("/at_start", "type")]),
        (every(json!({ "spread": 10 })), &[("/spread", "duration")]),
        (every(json!({ "spread": "0s" })), &[("/spread", "range")]),
        (every(json!({ "spread": "2days" })), &[("/spread", "range")]),
        (every(json!({ "meta": {} })), &[("/meta", "additionalProperties")]),
        (every(json!({ "expires": "period" })), &[("/expires", "additionalProperties")]),
        (every(json!({ "timezone": "UTC" })), &[("/timezone", "additionalProperties")]),
        (every(json!({ "message": "x".repeat(64 << 10) })), &[("/message", "maxLength")]),
        (cron(json!(5)), &[("/cron", "cron")]),
        (cron(json!("0 3 * *")), &[("/cron", "cron")]),
        (cron(json!("0 0 3 * * *")), &[("/cron", "cron")]),
        (cron(json!("61 * * * *")), &[("/cron", "cron")]),
        (cron(json!("0 6 30 2 *")), &[("/cron", "cron")]),
        (
            json!({ "cron": "0 3 * * *", "time_zone": "Mars/Olympus", "message": 1 }),
            &[("/time_zone", "timezone")],
        ),
        (json!({ "cron": "0 3 * * *", "time_zone": 2, "message": 1 }), &[("/time_zone", "timezone")]),
    ];
    for (schedule, expected) in &table {
        let problem = refusal(app.put(S, schedule).await, 422).await;
        assert_eq!(violations(&problem), *expected, "{schedule}");
        // And as one of a set, and in a definition.
        for (path, set) in [("/queues/q/schedules", "schedules"), ("/queues/q", "schedules")] {
            let problem = refusal(app.put(path, &json!({ set: { "s": schedule } })).await, 422).await;
            let below: Vec<String> = expected.iter().map(|(at, _)| format!("/schedules/s{at}")).collect();
            let found: Vec<&str> = violations(&problem).into_iter().map(|(at, _)| at).collect();
            assert_eq!(found, below, "{path}: {schedule}");
        }
    }
    assert_eq!(names(&app).await, Vec::<String>::new());
    let good = every(json!({}));
    for name in ["-s", ".s", "a%20b", "a%2Fb", "%C3%A4", &"s".repeat(101)] {
        let problem = refusal(app.put(&format!("/queues/q/schedules/{name}"), &good).await, 422).await;
        assert_eq!(violations(&problem), [("", "pattern")], "{name}");
        refusal(app.get(&format!("/queues/q/schedules/{name}")).await, 404).await;
    }
    for (set, expected) in [
        (json!({}), ("", "required")),
        (json!({ "schedules": [] }), ("/schedules", "type")),
        (json!({ "schedules": null }), ("/schedules", "type")),
        (json!({ "schedules": { "a/b": good } }), ("/schedules/a~1b", "pattern")),
        (json!({ "schedules": { "s": good }, "more": 1 }), ("/more", "additionalProperties")),
    ] {
        let problem = refusal(app.put("/queues/q/schedules", &set).await, 422).await;
        assert_eq!(violations(&problem), [expected], "{set}");
    }
    let twice = r#"{"schedules":{"s":{"every":"1h","message":1},"s":{"every":"2h","message":1}}}"#;
    let twice = app
        .request(Method::PUT, "/queues/q/schedules")
        .header("content-type", "application/json")
        .body(twice)
        .send();
    let problem = refusal(twice.await.unwrap(), 422).await;
    assert_eq!(violations(&problem), [("/schedules/s", "uniqueItems")]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_message_of_a_schedule_is_one_that_the_queue_takes() {
    let app = TestApp::start().await;
    let schema = json!({ "required": ["id"], "properties": { "n": { "type": "integer" } } });
    app.define("q", json!({ "incoming": { "schema": schema } })).await;
    let bad = json!({ "every": "1h", "message": { "n": "x" } });
    let problem = refusal(app.put(S, &bad).await, 422).await;
    assert_eq!(violations(&problem), [("/message", "required"), ("/message/n", "type")]);
    let set = json!({ "schedules": { "s": bad, "t": { "every": "1h", "message": { "id": 1 } } } });
    let problem = refusal(app.put("/queues/q/schedules", &set).await, 422).await;
    assert_eq!(
        violations(&problem),
        [("/schedules/s/message", "required"), ("/schedules/s/message/n", "type")]
    );
    // A definition's own schema judges what it brings.
    let definition = json!({ "incoming": { "schema": { "type": "string" } }, "schedules": set["schedules"] });
    let problem = refusal(app.put("/queues/q", &definition).await, 422).await;
    assert_eq!(violations(&problem), [("/schedules/s/message", "type"), ("/schedules/t/message", "type")]);
    assert_eq!(names(&app).await, Vec::<String>::new());
    json(app.put(S, &json!({ "every": "1h", "message": { "id": 1, "n": 2 } })).await, 201).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_whole_set_what_is_not_in_it_goes_and_what_stays_goes_on() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    let every = |every: &str| json!({ "every": every, "message": { "of": every } });
    let set = json!({ "schedules": { "a": every("1h"), "b": every("2h"), "c": every("3h") } });
    let put = json(app.put("/queues/q/schedules", &set).await, 200).await;
    assert_eq!(put, json(app.get("/queues/q/schedules").await, 200).await);
    let first = listed(&app).await;
    assert_eq!(names(&app).await, ["a", "b", "c"]);
    let set = json!({ "schedules": { "b": every("2h"), "c": every("4h"), "d": every("1h") } });
    json(app.put("/queues/q/schedules", &set).await, 200).await;
    let second = listed(&app).await;
    assert_eq!(names(&app).await, ["b", "c", "d"]);
    assert_eq!(second[0], first[1], "it goes on");
    assert_ne!(second[1], first[2], "another period begins anew");
    let mut db = app.connect().await;
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM schedules").fetch_one(&mut db).await.unwrap();
    assert_eq!(rows, 3);
    json(app.put("/queues/q/schedules", &json!({ "schedules": {} })).await, 200).await;
    assert_eq!(names(&app).await, Vec::<String>::new());
    refusal(app.get(S).await, 404).await;
    refusal(app.delete(S).await, 404).await;
    refusal(app.put("/queues/none/schedules", &set).await, 404).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_has_at_most_a_thousand_schedules() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    let set = |count: usize| {
        let one = |n| (format!("s{n}"), json!({ "every": "1h", "message": n }));
        json!({ "schedules": (0..count).map(one).collect::<serde_json::Map<_, _>>() })
    };
    let problem = refusal(app.put("/queues/q/schedules", &set(1001)).await, 422).await;
    assert_eq!(violations(&problem), [("/schedules", "maxProperties")]);
    json(app.put("/queues/q/schedules", &set(1000)).await, 200).await;
    let one = json!({ "every": "1h", "message": 1 });
    refusal(app.put("/queues/q/schedules/more", &one).await, 409).await;
    json(app.put("/queues/q/schedules/s7", &one).await, 200).await;
    assert_eq!(names(&app).await.len(), 1000);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_that_names_schedules_puts_the_whole_set_and_one_that_does_not_leaves_them() {
    let app = TestApp::start().await;
    let one = json!({ "every": "1h", "message": 1 });
    let definition = json!({ "client_id": "c", "schedules": { "a": one, "b": one } });
    json(app.put("/queues/q", &definition).await, 201).await;
    assert_eq!(names(&app).await, ["a", "b"]);
    let read = json(app.get("/queues/q").await, 200).await;
    assert_eq!(
        (&read["client_id"], read.get("schedules")),
        (&json!("c"), None),
        "they are read by themselves"
    );
    let first = listed(&app).await;
    json(app.put("/queues/q", &json!({ "client_id": "d" })).await, 200).await;
    assert_eq!(listed(&app).await, first);
    json(app.put("/queues/q", &json!({ "schedules": { "b": one } })).await, 200).await;
    assert_eq!(listed(&app).await, first[1..]);
    json(app.put("/queues/q", &json!({ "schedules": {} })).await, 200).await;
    assert_eq!(names(&app).await, Vec::<String>::new());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_programs_put_schedules_too() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("q.queue.json");
    let write = |schedules: &str| {
        let draft = directory.path().join(".draft");
        fs::write(&draft, format!(r#"{{ "client_id": "c", "schedules": {schedules} }}"#)).unwrap();
        fs::rename(draft, &file).unwrap();
    };
    write(r#"{ "a": { "every": "1h", "message": 1 } }"#);
    let settings = [("POSTRIDER_QUEUES_DIR", directory.path().to_str().unwrap())];
    let code = json!({ "schedules": { "nightly": { "cron": "0 3 * * *", "message": null } } });
    let app = TestApp::with(&settings, |app| app.queue("code", code.clone())).await;
    let first = listed(&app).await;
    assert_eq!(names(&app).await, ["a"]);
    let of_code = json(app.get("/queues/code/schedules").await, 200).await;
    assert_eq!((&of_code[0]["name"], of_code[0]["next_run"].is_string()), (&json!("nightly"), true));

    // Another process finds all in place: nothing changes.
    let mut db = app.connect().await;
    let revision = "SELECT revision FROM catalog";
    let before: i64 = sqlx::query_scalar(revision).fetch_one(&mut db).await.unwrap();
    let second = TestApp::on(app.database.clone(), &settings, |app| app.queue("code", code)).await;
    let after: i64 = sqlx::query_scalar(revision).fetch_one(&mut db).await.unwrap();
    assert_eq!((before, listed(&app).await), (after, first));
    second.stop().await;

    write(r#"{ "b": { "every": "1h", "message": 1 } }"#);
    eventually("the change is loaded", async || names(&app).await == ["b"]).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn administrators_put_schedules_read_them_and_run_them() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    let one = json!({ "every": "1h", "message": 1 });
    let ask = async |role: &str, method: Method, path: &str, body: &Value| {
        app.request_as(&[role], method, path).json(body).send().await.unwrap().status().as_u16()
    };
    for (role, statuses) in
        [("queue_admin", [201, 200, 200, 201, 204]), ("q_writer", [403; 5]), ("system_writer", [403; 5])]
    {
        let found = [
            ask(role, Method::PUT, S, &one).await,
            ask(role, Method::GET, S, &Value::Null).await,
            ask(role, Method::GET, "/queues/q/schedules", &Value::Null).await,
            ask(role, Method::POST, &format!("{S}/run"), &Value::Null).await,
            ask(role, Method::DELETE, S, &Value::Null).await,
        ];
        assert_eq!(found, statuses, "{role}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_may_be_put_back_alone_in_a_set_in_a_definition_and_in_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let settings = [("POSTRIDER_QUEUES_DIR", directory.path().to_str().unwrap())];
    let app = TestApp::with(&settings, |app| app).await;
    app.define("q", json!({})).await;
    let document = r#"{"every":"1h","message":{"n":1.0,"state":"stays"}}"#;
    let put = app.request(Method::PUT, S).header("content-type", "application/json").body(document);
    json(put.send().await.unwrap(), 201).await;
    let read = text(app.get(S).await, 200).await;
    assert!(read.contains(r#""state":{"next_run":"2"#), "{read}");
    let set = format!(r#"{{"schedules":{{"s":{read}}}}}"#);
    for (path, body) in [(S, &read), ("/queues/q/schedules", &set), ("/queues/q", &set)] {
        let put = app.request(Method::PUT, path).header("content-type", "application/json");
        json(put.body(body.clone()).send().await.unwrap(), 200).await;
        assert_eq!(text(app.get(S).await, 200).await, read, "{path}");
    }
    let draft = directory.path().join(".draft");
    fs::write(&draft, format!(r#"{{"client_id":"file",{}"#, &set[1..])).unwrap();
    fs::rename(draft, directory.path().join("q.queue.json")).unwrap();
    eventually("the file is loaded", async || {
        json(app.get("/queues/q").await, 200).await["client_id"] == "file"
    })
    .await;
    assert_eq!(text(app.get(S).await, 200).await, read);

    // Another process finds all in place: nothing changes.
    let mut db = app.connect().await;
    let revision = "SELECT revision FROM catalog";
    let before: i64 = sqlx::query_scalar(revision).fetch_one(&mut db).await.unwrap();
    let second = TestApp::on(app.database.clone(), &settings, |app| app).await;
    let after: i64 = sqlx::query_scalar(revision).fetch_one(&mut db).await.unwrap();
    assert_eq!(before, after);
    second.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_leaves_the_moments_as_they_are_waits_for_a_firing_that_is_under_way() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    let one = |of: &str| json!({ "every": "1h", "message": of });
    let set = |of: &str| json!({ "schedules": { "s": one(of) } });
    json(app.put(S, &one("former")).await, 201).await;
    let first = listed(&app).await;
    for (path, body) in
        [(S, one("alone")), ("/queues/q/schedules", set("in a set")), ("/queues/q", set("in a definition"))]
    {
        let mut firing = holding(&app).await;
        let mut put = Box::pin(app.put(path, &body));
        let early = tokio::select! { answer = &mut put => Some(answer), () = stopped(&app, 1) => None };
        assert!(early.is_none(), "{path}: it was answered while the former was being pushed");
        sqlx::query("COMMIT").execute(&mut firing).await.unwrap();
        json(put.await, 200).await;
    }
    assert_eq!(listed(&app).await, first);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn once_a_put_is_answered_nothing_former_is_pushed() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    put(&app, "s", &hourly("former", json!({}))).await;
    // A firing stops in the middle: it has read which message it pushes.
    let mut gate = app.connect().await;
    let stops = "SELECT pg_advisory_lock(1);
        CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM pg_advisory_xact_lock(1);
            RETURN NEW;
        END $$;
        CREATE TRIGGER stops BEFORE INSERT ON dispatch FOR EACH ROW EXECUTE FUNCTION stop()";
    sqlx::raw_sql(stops).execute(&mut gate).await.unwrap();
    due(&app, "s").await;
    stopped(&app, 1).await;
    let new = hourly("new", json!({}));
    let mut put = Box::pin(app.put(S, &new));
    let early = tokio::select! { answer = &mut put => Some(answer), () = stopped(&app, 2) => None };
    assert!(early.is_none(), "it was answered while the former was being pushed");
    sqlx::query("SELECT pg_advisory_unlock(1)").execute(&mut gate).await.unwrap();
    json(put.await, 200).await;
    assert_eq!(pushed(&app).await, ["former"]);
    due(&app, "s").await;
    eventually("it fires again", async || pushed(&app).await.len() == 2).await;
    assert_eq!(pushed(&app).await, ["former", "new"]);
    app.stop().await;
}
