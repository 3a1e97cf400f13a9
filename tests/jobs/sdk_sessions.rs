//! Sessions of the vendor's client: on every process, for how long, over kills and changes of the file, and what of them lies
//! where.

use super::sdk::{app, job, on};
use super::{JOBS, channel};
use crate::engine::ask;
use crate::faults::url_of;
use crate::support::app::{TestApp, database};
use crate::support::eventually;
use crate::support::sdk::{self, KEYS, OTHER, PASSWORD, Sdk, encrypt, key};
use crate::support::serve::Serve;
use axum::http::Method;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_session_made_on_one_process_is_one_on_the_other_and_its_end_counts_on_both() {
    let database = database().await;
    let (one, other) = (on(database.clone(), &[]).await, on(database, &[]).await);
    let first = Sdk::of(&one.url, "agent").await;
    let second = Sdk { url: other.url.clone(), ..first.clone() };
    let created = second.post(JOBS, &job("x")).await.of(201);
    // Another session of the same user sees the same jobs; another user does not.
    let again = Sdk::of(&other.url, "agent").await;
    let path = format!("{JOBS}/{}", created["id"]);
    again.get(&path).await.of(200);
    Sdk::of(&one.url, "ärger@example.com").await.get(&path).await.of(404);
    assert_eq!(first.put("/session/refresh", &json!({})).await.of(200), json!({}));
    let ended = second.get("/session/end").await;
    assert_eq!((ended.status, ended.kind), (200, None));
    for session in [&first, &second] {
        let said = session.get(&path).await.plain(401);
        assert_eq!(said["message"], "there is no such session, or it has ended");
        session.put("/session/refresh", &json!({})).await.plain(401);
        session.get("/session/end").await.plain(401);
    }
    again.get(&path).await.of(200);
    one.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_when_nobody_uses_it_and_after_its_longest_time_and_its_row_goes() {
    let app = app().await;
    let mut db = app.connect().await;
    let used = "SELECT max(used_at)::text FROM sdk_sessions";
    let agent = Sdk::of(&app.url, "agent").await;
    let before: String = ask(&mut db, used).await;
    agent.get(JOBS).await.of(200);
    assert_eq!(ask::<String>(&mut db, used).await, before, "that it is used is written once a minute");
    app.elapse(Duration::from_mins(14)).await;
    // Who has its token and not its key uses nothing.
    let aged: String = ask(&mut db, used).await;
    Sdk { key: key(OTHER), ..agent.clone() }.get(JOBS).await.plain(401);
    assert_eq!(ask::<String>(&mut db, used).await, aged);
    agent.get(JOBS).await.of(200);
    assert_ne!(ask::<String>(&mut db, used).await, aged);
    // A refresh keeps it as any other call does, for twelve hours.
    for _ in 0..3 {
        app.elapse(Duration::from_mins(10)).await;
        agent.put("/session/refresh", &json!({})).await.of(200);
    }
    let idle = Sdk::of(&app.url, "agent").await;
    app.elapse(Duration::from_mins(15)).await;
    idle.get(JOBS).await.plain(401);
    agent.get(JOBS).await.plain(401);
    let old = Sdk::of(&app.url, "agent").await;
    for _ in 0..72 {
        app.elapse(Duration::from_mins(10)).await;
        if old.get(JOBS).await.status == 401 {
            break;
        }
    }
    old.get(JOBS).await.plain(401);
    let span: f64 =
        ask(&mut db, "SELECT extract(epoch FROM now() - max(created_at))::float8 FROM sdk_sessions").await;
    assert!((12.0 * 3600.0 - 60.0..12.0 * 3600.0 + 660.0).contains(&span), "{span}");
    app.elapse(Duration::from_mins(15)).await;
    // Whoever starts tidies up.
    let tidier = on(app.database.clone(), &[]).await;
    eventually("no row is left", async || {
        ask::<i64>(&mut app.connect().await, "SELECT count(*) FROM sdk_sessions").await == 0
    })
    .await;
    tidier.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_or_an_integrator_that_is_gone_from_the_file_has_no_session_any_more() {
    let (database, directory) = (database().await, tempfile::tempdir().unwrap());
    let file = sdk::file(directory.path());
    let start = async || {
        let settings = [("POSTRIDER_SDK_FILE", file.to_str().unwrap())];
        TestApp::on(database.clone(), &settings, |app| app).await
    };
    let first = start().await;
    let (agent, other) = (Sdk::of(&first.url, "agent").await, Sdk::of(&first.url, "ärger@example.com").await);
    first.stop().await;
    let mut document: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    document["users"].as_object_mut().unwrap().remove("agent");
    std::fs::write(&file, document.to_string()).unwrap();
    let second = start().await;
    let at = |sdk: &Sdk, app: &TestApp| Sdk { url: app.url.clone(), ..sdk.clone() };
    at(&agent, &second).get(JOBS).await.plain(401);
    at(&other, &second).get(JOBS).await.of(200);
    second.stop().await;
    document["integrators"].as_object_mut().unwrap().remove("acme");
    std::fs::write(&file, document.to_string()).unwrap();
    let third = start().await;
    at(&other, &third).get(JOBS).await.plain(401);
    third.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_outlive_a_process_that_is_killed_and_no_secret_is_in_its_log_or_in_the_database() {
    let (database, directory) = (database().await, tempfile::tempdir().unwrap());
    let file = sdk::file(directory.path());
    let former = "a former key of the tests of 32 characters";
    let both = format!("a newer key of the tests of 32 characters,{former}");
    let settings = |keys| {
        [
            ("POSTRIDER_LOG", "trace"),
            ("POSTRIDER_SECRET_KEY", keys),
            ("POSTRIDER_SDK_FILE", file.to_str().unwrap()),
        ]
    };
    let serve = Serve::on(&url_of(&database), &settings(former)).await;
    let agent = Sdk::of(&serve.url, "agent").await;
    let worker = Sdk::of(&serve.url, "worker").await;
    let (secret, code) = ("tiger-pass-90412", "84736251");
    let created = agent.post(JOBS, &job(secret)).await.of(201);
    let id = created["id"].as_i64().unwrap();
    let access_key = created["access_key"].as_str().unwrap().to_owned();
    worker.post(&format!("{JOBS}/claim"), &json!({})).await.of(200);
    let question = worker
        .post(&format!("{}/credential_requests", channel(id)), &json!({ "type": "tfa_request" }))
        .await
        .of(201);
    // As it should be and as it should not.
    let wrong = encrypt(&agent.key, r#"{"no JSON": "84736251""#);
    let sent = agent.request(Method::POST, JOBS, Some(wrong.clone())).build().unwrap();
    let signature = sent.headers()["x-cardsavr-signature"].to_str().unwrap().to_owned();
    agent.read(reqwest::RequestBuilder::from_parts(reqwest::Client::new(), sent)).await.plain(400);
    let (login, _) = Sdk::new(&serve.url).login("agent", "another");
    Sdk::new(&serve.url).post("/session/login", &login).await.plain(401);
    let mut secrets = vec![
        secret.to_owned(),
        code.to_owned(),
        access_key,
        signature,
        agent.token.clone(),
        PASSWORD.to_owned(),
    ];
    secrets.extend([KEYS[0], KEYS[1], OTHER].map(str::to_owned));
    secrets.extend([STANDARD.encode(agent.key), STANDARD.encode(worker.key)]);
    secrets.extend(
        [&login["password_proof"], &login["client_public_key"]]
            .map(|value| value.as_str().unwrap().to_owned()),
    );
    secrets
        .push(serde_json::from_str::<Value>(&wrong).unwrap()["encrypted_body"].as_str().unwrap().to_owned());
    let dump = {
        let mut db = crate::faults::connect(&database).await;
        ask::<String>(
            &mut db,
            "SELECT string_agg(concat(to_jsonb(s), encode(s.key, 'escape')), ' ') FROM sdk_sessions AS s",
        )
        .await
    };
    assert!(dump.contains("agent"));
    let log = serve.log();
    assert!(log.iter().any(|line| line.contains("a session begins") && line.contains("agent")), "{log:#?}");
    serve.kill().await;

    // On another process, also while keys are changed.
    let serve = Serve::on(&url_of(&database), &settings(&both)).await;
    let agent = Sdk { url: serve.url.clone(), ..agent };
    agent.get(&format!("{JOBS}/{id}")).await.of(200);
    let keys = crate::commands::keys::rotate(&database, &both).await.out;
    assert!(
        keys.contains("sdk_sessions: 2 sealed anew") && keys.contains("job_safes: 1 sealed anew"),
        "{keys}"
    );
    drop(serve);
    let newer = both.split(',').next().unwrap();
    let serve = Serve::on(&url_of(&database), &settings(newer)).await;
    let (agent, worker) = (Sdk { url: serve.url.clone(), ..agent }, Sdk { url: serve.url.clone(), ..worker });
    let answer = json!({ "envelope_id": question["envelope_id"], "type": "tfa_response", "message": code });
    agent.post(&format!("{}/credential_responses", channel(id)), &answer).await.of(200);
    let picked = worker.get(&format!("{}/credential_responses", channel(id))).await.of(200);
    // Another holds the job, and what lies in its safe is for the holder alone.
    assert_eq!((&picked["message"], &picked["account_link"]), (&json!(code), &json!(null)));
    let log: Vec<String> = log.into_iter().chain(serve.log()).collect();
    for secret in secrets {
        let secret = secret.trim_end_matches('=');
        let told: Vec<&String> = log.iter().filter(|line| line.contains(secret)).collect();
        assert!(told.is_empty(), "{secret}: {told:#?}");
        assert!(!dump.contains(secret), "{secret}: {dump}");
    }
}
