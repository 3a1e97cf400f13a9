//! What the owner of a job hands over for its worker alone: when the job is created, in its place later, and as the answer
//! to what the worker asks.

use super::{Client, JOBS, ann, channel, ok, refused, statuses, worker};
use crate::support::answer::{json as body, text};
use crate::support::app::TestApp;
use crate::support::eventually;
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

const USERNAME: &str = "zebra-user-61574";
const PASSWORD: &str = "tiger-pass-90412";
const NEW: &str = "lion-pass-33107";
const CODE: &str = "84736251";

/// A job as the vendor's client creates it.
fn job(cuid: &str) -> Value {
    json!({
        "account": {
            "merchant_site_id": 3, "cardholder_ref": { "cuid": cuid },
            "account_link": { "username": USERNAME, "password": PASSWORD },
        },
        "cardholder": { "cuid": cuid, "first_name": "Ada" },
        "queue_name": "garbo",
    })
}

async fn create(client: &Client<'_>, cuid: &str, hydration: &str) -> Value {
    let request = client.request(Method::POST, JOBS).header("x-cardsavr-hydration", hydration);
    body(request.json(&job(cuid)).send().await.unwrap(), 201).await
}

/// Takes the one job, which must be there: all that its worker gets.
async fn take(app: &TestApp) -> Value {
    ok(worker(app).post(&format!("{JOBS}/claim?wait=20s"), &json!({})).await).await[0].clone()
}

/// Everything in the tables of jobs, as text.
async fn stored(app: &TestApp) -> String {
    let mut db = app.connect().await;
    let all = "SELECT string_agg(line, ' ') FROM (
        SELECT concat(to_jsonb(j), encode(coalesce(j.data, ''), 'escape')) AS line FROM jobs AS j
        UNION ALL SELECT concat(to_jsonb(s), encode(s.content, 'escape')) FROM job_safes AS s
        UNION ALL SELECT concat(to_jsonb(e), encode(coalesce(e.answer, ''), 'escape')) FROM envelopes AS e
        UNION ALL SELECT to_jsonb(b)::text FROM broadcasts AS b
        UNION ALL SELECT to_jsonb(c)::text FROM cardholders AS c) AS lines";
    sqlx::query_scalar(all).fetch_one(&mut db).await.unwrap()
}

async fn safes(app: &TestApp) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM job_safes").fetch_one(&mut app.connect().await).await.unwrap()
}

/// Asks for something by these names: the envelope.
async fn ask(app: &TestApp, id: &Value, kind: &str, names: &[&str]) -> String {
    let fields: Vec<Value> = names.iter().map(|name| json!({ "key_name": name, "label": "x" })).collect();
    let question = json!({ "type": kind, "message": "please", "account_link": fields });
    let path = format!("{}/credential_requests", channel(id.as_i64().unwrap()));
    body(worker(app).post(&path, &question).await, 201).await["envelope_id"].as_str().unwrap().to_owned()
}

/// Hands something over as the answer to a question.
async fn answer(client: &Client<'_>, path: &str, envelope: &str, document: &Value) -> reqwest::Response {
    let request = client.request(Method::PUT, path).header("x-cardsavr-envelope-id", envelope);
    request.json(document).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_handed_over_is_sealed_and_only_the_worker_that_holds_the_lease_reads_it() {
    let app = TestApp::start().await;
    let created = create(&ann(&app), "c1", r#"["cardholder","account","card"]"#).await;
    let (id, person) = (created["id"].clone(), created["cardholder_id"].clone());
    assert_eq!(created["account_id"], id);
    assert_eq!(created["account"], json!({ "id": id, "cardholder_id": person, "merchant_site_id": 3 }));
    assert_eq!(created["cardholder"], json!({ "id": person, "cuid": "c1" }));
    assert!(created.get("credential_requests").is_none());
    let path = format!("{JOBS}/{id}");
    let plain = ok(ann(&app).get(&path).await).await;
    assert!(plain.get("account").is_none() && plain.get("cardholder").is_none(), "{plain}");
    assert_eq!((&plain["account_id"], &plain["cardholder_id"]), (&id, &person));

    let taken = take(&app).await;
    let lease = taken["lease"].as_str().unwrap();
    assert_eq!(taken["data"], job("c1"));
    let hydrated = async |client: &Client<'_>, lease: Option<&str>| {
        let request = client.request(Method::GET, &path).header("x-cardsavr-hydration", r#"["account"]"#);
        let request =
            lease.iter().fold(request, |request, lease| request.header("x-postrider-lease", *lease));
        text(request.send().await.unwrap(), 200).await
    };
    let whole: Value = serde_json::from_str(&hydrated(&worker(&app), Some(lease)).await).unwrap();
    assert_eq!(whole["account"]["account_link"], json!({ "username": USERNAME, "password": PASSWORD }));
    assert_eq!(whole["account"]["merchant_site_id"], 3);
    for (client, lease) in [(ann(&app), None), (ann(&app), Some(lease)), (worker(&app), None)] {
        let shown = hydrated(&client, lease).await;
        assert!(!shown.contains(PASSWORD) && !shown.contains(USERNAME), "{shown}");
        assert!(shown.contains(r#""merchant_site_id":3"#), "{shown}");
    }
    let dump = stored(&app).await;
    assert!(dump.contains("c1") && !dump.contains(PASSWORD) && !dump.contains(USERNAME), "{dump}");

    // It is gone with the job's end.
    assert_eq!(safes(&app).await, 1);
    worker(&app).say(id.as_i64().unwrap(), &json!({ "termination_type": "BILLABLE" })).await;
    assert_eq!(safes(&app).await, 0);
    assert_eq!(ok(ann(&app).get(&path).await).await["account_id"], id);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_has_one_number_for_each_who_knows_it_by_a_name() {
    let app = TestApp::start().await;
    let bob = Client { app: &app, subject: "bob", roles: &["cardholder_agent"] };
    let number = async |client: &Client<'_>, cuid: &str| {
        create(client, cuid, "[]").await["cardholder_id"].as_i64().unwrap()
    };
    let first = number(&ann(&app), "c1").await;
    assert!(first > 1_000_000_000, "{first}");
    assert_eq!(number(&ann(&app), "c1").await, first);
    assert_ne!(number(&ann(&app), "c2").await, first);
    assert_ne!(number(&bob, "c1").await, first);
    // Many at once, in either order, and a number that is given counts before a name.
    let (ann, bodies) =
        (ann(&app), [json!([job("c3"), job("c1"), job("c3")]), json!([job("c1"), job("c3")])]);
    let (many, other) = tokio::join!(ann.post(JOBS, &bodies[0]), ann.post(JOBS, &bodies[1]));
    let (many, other) = (body(many, 201).await, body(other, 201).await);
    assert_eq!(many[0]["cardholder_id"], many[2]["cardholder_id"]);
    assert_eq!(many[0]["cardholder_id"], other[1]["cardholder_id"]);
    assert_eq!(many[1]["cardholder_id"], first);
    let mut given = job("c1");
    given["cardholder_id"] = json!(7);
    assert_eq!(body(ann.post(JOBS, &given).await, 201).await["cardholder_id"], 7);
    // The channel of the person is its owner's alone.
    let messages = format!("/messages/cardholders/{first}");
    assert_eq!(ann.get(&messages).await.status(), StatusCode::OK);
    refused(&bob.get(&messages).await, StatusCode::NOT_FOUND);

    for wrong in [
        json!({ "cardholder": {} }),
        json!({ "cardholder": { "cuid": "" } }),
        json!({ "cardholder": { "cuid": 5 } }),
        json!({ "cardholder": { "cuid": "a\0" } }),
    ] {
        refused(&ann.post(JOBS, &wrong).await, StatusCode::UNPROCESSABLE_ENTITY);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persons_number_is_forgotten_with_its_last_job_and_not_before() {
    let app = TestApp::start().await;
    let mut db = app.connect().await;
    let names = "SELECT string_agg(cuid, ' ' ORDER BY cuid) FROM cardholders";
    let jobs = "SELECT count(*) FROM jobs";
    let (gone, _) = (create(&ann(&app), "gone", "[]").await, create(&ann(&app), "kept", "[]").await);
    let cancel = json!({ "status": "CANCEL_REQUESTED" });
    ok(ann(&app).put(&format!("{JOBS}/{}", gone["id"]), &cancel).await).await;
    // Whoever starts tidies up: first the job goes, then, once as much time has passed, who has none any more.
    for (question, left) in [(jobs, "1"), (names, "kept")] {
        app.elapse(Duration::from_hours(32 * 24)).await;
        let tidier = TestApp::on(app.database.clone(), &[], |app| app).await;
        eventually(left, async || {
            let found = format!("SELECT ({question})::text");
            let found: Option<String> =
                sqlx::query_scalar(sqlx::AssertSqlSafe(found)).fetch_one(&mut db).await.unwrap();
            found.as_deref() == Some(left)
        })
        .await;
        tidier.stop().await;
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_credentials_answer_the_question_and_the_worker_reads_them_once_with_the_answer() {
    let app = TestApp::start().await;
    let ann = ann(&app);
    let created = create(&ann, "c1", "[]").await;
    let (id, key) = (created["id"].as_i64().unwrap(), created["access_key"].as_str().unwrap());
    let taken = take(&app).await;
    let envelope = ask(&app, &created["id"], "credential_request", &["username", "password"]).await;
    let path = format!("{JOBS}/{id}");
    let new = json!({ "account": { "account_link": { "username": USERNAME, "password": NEW } } });
    let missing = json!({ "account": { "account_link": { "password": NEW } } });
    assert!(text(answer(&ann, &path, &envelope, &missing).await, 400).await.contains("`username`"));
    refused(&answer(&ann, &path, &id.to_string(), &new).await, StatusCode::NOT_FOUND);
    let nothing = json!({ "status": "CANCEL_REQUESTED" });
    refused(&answer(&ann, &path, &envelope, &nothing).await, StatusCode::UNPROCESSABLE_ENTITY);
    let with_requests = ann.request(Method::PUT, &path).header("x-cardsavr-envelope-id", &envelope);
    let with_requests = with_requests.header("x-cardsavr-hydration", r#"["credential_requests","account"]"#);
    let put = text(with_requests.json(&new).send().await.unwrap(), 200).await;
    assert!(!put.contains(NEW), "{put}");
    let put: Value = serde_json::from_str(&put).unwrap();
    assert_eq!((&put["status"], &put["credential_requests"]), (&json!("CREDS_RECEIVED"), &json!([])));
    assert_eq!(put["account"]["id"], id);
    refused(&answer(&ann, &path, &envelope, &new).await, StatusCode::CONFLICT);
    let log = ann.poll(id, key, "").await;
    assert_eq!(statuses(&log), ["PENDING_NEWCREDS", "CREDS_RECEIVED"]);

    let responses = format!("{}/credential_responses", channel(id));
    let lease = taken["lease"].as_str().unwrap();
    let pick = async || {
        let request = worker(&app).request(Method::GET, &responses).header("x-postrider-lease", lease);
        ok(request.send().await.unwrap()).await
    };
    let picked = pick().await;
    assert_eq!((&picked["type"], &picked["message"]), (&json!("credential_response"), &json!("submitted")));
    assert_eq!(picked["account_link"], new["account"]["account_link"]);
    assert_eq!(ok(worker(&app).get(&responses).await).await, Value::Null);

    // A code is told as it is, and does not take the place of the credentials.
    let envelope = ask(&app, &created["id"], "tfa_request", &["tfa"]).await;
    let account = format!("/cardsavr_accounts/{id}");
    let code = json!({ "account_link": { "tfa": CODE } });
    let put = text(answer(&ann, &account, &envelope, &code).await, 200).await;
    assert!(!put.contains(CODE) && put.contains(r#""merchant_site_id":3"#), "{put}");
    let picked = pick().await;
    assert_eq!((&picked["type"], &picked["message"]), (&json!("tfa_response"), &json!(CODE)));
    assert_eq!(picked["account_link"]["password"], NEW);
    let request = worker(&app)
        .request(Method::GET, &path)
        .header("x-postrider-lease", taken["lease"].as_str().unwrap());
    let whole = ok(request.send().await.unwrap()).await;
    assert_eq!(
        whole["account"]["account_link"],
        json!({ "username": USERNAME, "password": NEW, "tfa": CODE })
    );
    let dump = stored(&app).await;
    assert!(!dump.contains(NEW) && !dump.contains(CODE), "{dump}");

    // And nothing is handed over for a question whose time is over, or for a job that has ended.
    let envelope = ask(&app, &created["id"], "credential_request", &[]).await;
    for _ in 0..5 {
        ok(worker(&app).get(&responses).await).await;
        app.elapse(Duration::from_secs(49)).await;
    }
    refused(&answer(&ann, &path, &envelope, &new).await, StatusCode::GONE);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_answer_at_once_one_does_and_its_credentials_are_those_that_are_read() {
    let app = TestApp::start().await;
    let created = create(&ann(&app), "c1", "[]").await;
    let taken = take(&app).await;
    let envelope = ask(&app, &created["id"], "credential_request", &["password"]).await;
    let path = format!("{JOBS}/{}", created["id"]);
    let (ann, path, envelope) = (ann(&app), path.as_str(), envelope.as_str());
    let one = async |n: usize| {
        let document = json!({ "account": { "account_link": { "password": format!("p{n}") } } });
        (n, answer(&ann, path, envelope, &document).await.status().as_u16())
    };
    let done = futures::future::join_all((0..8).map(one)).await;
    let winners: Vec<usize> = done.iter().filter(|(_, status)| *status == 200).map(|(n, _)| *n).collect();
    assert_eq!(winners.len(), 1, "{done:?}");
    assert!(done.iter().all(|(_, status)| [200, 409].contains(status)), "{done:?}");
    let responses = format!("{}/credential_responses", channel(created["id"].as_i64().unwrap()));
    let lease = taken["lease"].as_str().unwrap();
    let request = worker(&app).request(Method::GET, &responses).header("x-postrider-lease", lease);
    let picked = ok(request.send().await.unwrap()).await;
    assert_eq!(picked["account_link"], json!({ "password": format!("p{}", winners[0]) }));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_replaced_without_a_question_by_their_owner_alone() {
    let app = TestApp::start().await;
    let created = create(&ann(&app), "c1", "[]").await;
    let (path, account) =
        (format!("{JOBS}/{}", created["id"]), format!("/cardsavr_accounts/{}", created["id"]));
    let link = |password: &str| json!({ "account_link": { "password": password } });
    let nested = |password: &str| json!({ "account": link(password) });
    ok(ann(&app).put(&path, &nested("one")).await).await;
    ok(ann(&app).put(&account, &link(NEW)).await).await;
    let boss = Client { app: &app, subject: "boss", roles: &["admin"] };
    let bob = Client { app: &app, subject: "bob", roles: &["cardholder_agent"] };
    for (client, status) in [(&boss, 403), (&worker(&app), 403), (&bob, 404)] {
        text(client.put(&path, &nested("theirs")).await, status).await;
    }
    for (client, status) in [(&boss, 404), (&worker(&app), 403), (&bob, 404)] {
        text(client.put(&account, &link("theirs")).await, status).await;
    }
    for wrong in [
        json!({ "account": { "account_link": [] } }),
        json!({ "account": { "account_link": { "n": 1 } } }),
        json!({ "account": link("x"), "status": "REQUESTED" }),
        json!({ "account": { "account_link": {}, "more": 1 } }),
    ] {
        refused(&ann(&app).put(&path, &wrong).await, StatusCode::UNPROCESSABLE_ENTITY);
    }
    refused(&ann(&app).put(&account, &json!({ "account_link": 5 })).await, StatusCode::UNPROCESSABLE_ENTITY);
    let wrong = json!({ "cardholder_id": 7, "account": { "account_link": { "n": 1 } } });
    refused(&ann(&app).post(JOBS, &wrong).await, StatusCode::UNPROCESSABLE_ENTITY);
    // U+0000 is a character as any other where nobody looks into it.
    let strange = json!({ "account": { "account_link": { "password": "a\0b\u{1F600}" } } });
    ok(ann(&app).put(&path, &strange).await).await;
    let taken = take(&app).await;
    assert_eq!(taken["data"]["account"]["account_link"], json!({ "password": "a\0b\u{1F600}" }));
    assert_eq!(taken["data"]["account"]["merchant_site_id"], 3);

    // A job without an account gets one from its own address alone.
    let (plain, _) = ann(&app).create().await;
    refused(&ann(&app).put(&format!("/cardsavr_accounts/{plain}"), &link("x")).await, StatusCode::NOT_FOUND);
    let made = ok(ann(&app).put(&format!("{JOBS}/{plain}"), &nested(PASSWORD)).await).await;
    assert_eq!(made["account_id"], plain);
    let taken = take(&app).await;
    assert_eq!(taken["data"], json!({ "site": "shop", "account": link(PASSWORD) }));
    worker(&app).say(plain, &json!({ "termination_type": "BILLABLE" })).await;
    refused(&ann(&app).put(&format!("{JOBS}/{plain}"), &nested("late")).await, StatusCode::CONFLICT);
    refused(
        &ann(&app).put(&format!("/cardsavr_accounts/{plain}"), &link("late")).await,
        StatusCode::CONFLICT,
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_runs_again_has_the_newest_credentials() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("scrape.jobs.json"), r#"{"attempts": 2, "lease": "2s"}"#).unwrap();
    let queues = directory.path().to_str().unwrap();
    let app = TestApp::with(&[("POSTRIDER_QUEUES_DIR", queues)], |app| app).await;
    let created = body(ann(&app).post("/scrape", &job("c1")).await, 201).await;
    let claim = "/scrape/claim?wait=20s";
    assert_eq!(ok(worker(&app).post(claim, &json!({})).await).await[0]["data"], job("c1"));
    let new = json!({ "account": { "account_link": { "password": NEW } } });
    ok(ann(&app).put(&format!("/scrape/{}", created["id"]), &new).await).await;
    app.elapse(Duration::from_secs(10)).await;
    let again = ok(worker(&app).post(claim, &json!({})).await).await;
    assert_eq!(again[0]["data"]["account"]["account_link"], new["account"]["account_link"]);
    app.stop().await;
}
