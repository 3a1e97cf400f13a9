//! The vendor's client, as it is: sessions, signed requests, encrypted bodies, over the whole of a conversation; and what
//! nobody gets in with.

use super::{Client, JOBS, channel};
use crate::engine::ask;
use crate::support::answer::text;
use crate::support::app::{TestApp, database};
use crate::support::sdk::{self, KEYS, OTHER, PASSWORD, Sdk, encrypt, key};
use axum::http::Method;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;

const KEY: &str = "x-cardsavr-cardsavr-messaging-access-key";
const HYDRATED: (&str, &str) = ("x-cardsavr-hydration", r#"["cardholder","account","credential_requests"]"#);

/// An instance on a database where the users of the tests can log in.
pub(super) async fn on(database: PgConnectOptions, more: &[(&str, &str)]) -> TestApp {
    let directory = tempfile::tempdir().unwrap();
    let file = sdk::file(directory.path());
    let mut settings = vec![("POSTRIDER_SDK_FILE", file.to_str().unwrap())];
    settings.extend(more);
    TestApp::on(database, &settings, |app| app).await
}

pub(super) async fn app() -> TestApp {
    on(database().await, &[]).await
}

/// A job whose account has these credentials.
pub(super) fn job(password: &str) -> Value {
    let link = json!({ "username": "good_email", "password": password });
    json!({ "account": { "merchant_site_id": 3, "account_link": link }, "cardholder": { "cuid": "c1" } })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_conversation_is_held_in_sessions_of_both_sides() {
    let app = app().await;
    let (agent, worker) = (Sdk::of(&app.url, "agent").await, Sdk::of(&app.url, "worker").await);
    let sites = agent.get("/merchant_sites?host=shop.example").await.of(200);
    assert_eq!(sites, json!([{ "id": 3, "host": "shop.example", "name": "The shop", "tier": 1 }]));
    assert_eq!(agent.get("/merchant_sites/4").await.of(200)["name"], "The bank");
    assert_eq!(agent.get("/merchant_sites?").await.of(200).as_array().unwrap().len(), 2);
    agent.get("/merchant_sites/5").await.of(404);

    let created = agent.send_with(Method::POST, JOBS, Some(&job("bad")), &[HYDRATED]).await.of(201);
    let (id, person) = (created["id"].as_i64().unwrap(), created["cardholder_id"].clone());
    assert_eq!((&created["credential_requests"], &created["cardholder"]["cuid"]), (&json!([]), &json!("c1")));
    assert!(!created.to_string().contains("bad"));
    let registered = agent
        .post(&format!("{}/broadcasts/registrations", channel(id)), &json!({ "job_id": id }))
        .await
        .of(200);
    let access_key = registered["access_key"].as_str().unwrap();
    let broadcasts = format!("{}/broadcasts", channel(id));
    let poll = async |key: &str| agent.send_with(Method::GET, &broadcasts, None, &[(KEY, key)]).await;
    assert_eq!(poll(access_key).await.of(200), json!([]));

    let claimed = worker.send(Method::POST, &format!("{JOBS}/claim?wait=20s"), None).await.of(200);
    assert_eq!(claimed[0]["data"], job("bad"));
    worker.put(&format!("{JOBS}/{id}"), &json!({ "status": "AUTH", "percent_complete": 5 })).await.of(200);
    assert_eq!(poll(access_key).await.of(200)[0]["message"]["status"], "AUTH");

    // Nothing is asked: an empty body, and never an array.
    let (requests, responses) =
        (format!("{}/credential_requests", channel(id)), format!("{}/credential_responses", channel(id)));
    let nothing = agent.get(&requests).await;
    assert_eq!((nothing.status, nothing.kind, nothing.body), (200, None, Value::Null));
    let fields = json!([{ "key_name": "username" }, { "key_name": "password" }]);
    let question =
        json!({ "jobId": id, "type": "credential_request", "message": "wrong", "account_link": fields });
    worker.post(&requests, &question).await.of(201);
    let messages = agent.get(&format!("/messages/cardholders/{person}")).await.of(200);
    assert_eq!(messages[0]["type"], "credential_request");
    let asked = agent.get(&requests).await.of(200);
    assert_eq!(asked["account_link"], fields);
    let hydrated = agent.send_with(Method::GET, &format!("{JOBS}/{id}"), None, &[HYDRATED]).await.of(200);
    assert_eq!(hydrated["credential_requests"], json!([asked]));

    let envelope = ("x-cardsavr-envelope-id", asked["envelope_id"].as_str().unwrap());
    let new = json!({ "account": { "account_link": { "username": "good_email", "password": "tfa" } } });
    let put = agent
        .send_with(Method::PUT, &format!("{JOBS}/{id}"), Some(&new), &[envelope, HYDRATED])
        .await
        .of(200);
    assert_eq!((&put["status"], &put["credential_requests"]), (&json!("CREDS_RECEIVED"), &json!([])));
    let lease = [("x-postrider-lease", claimed[0]["lease"].as_str().unwrap())];
    let picked = worker.send_with(Method::GET, &responses, None, &lease).await.of(200);
    assert_eq!(picked["account_link"], new["account"]["account_link"]);

    worker.post(&requests, &json!({ "type": "tfa_request" })).await.of(201);
    let asked = agent.get(&requests).await.of(200);
    let code = json!({ "envelope_id": asked["envelope_id"], "type": "tfa_response", "message": "1234" });
    assert_eq!(agent.post(&responses, &code).await.of(200)["message"], "submitted");
    agent.post(&responses, &code).await.of(409);
    assert_eq!(worker.get(&responses).await.of(200)["message"], "1234");
    worker
        .put(&format!("{JOBS}/{id}"), &json!({ "status": "DONE", "termination_type": "BILLABLE" }))
        .await
        .of(200);
    let log = poll(access_key).await.of(200);
    let last = log.as_array().unwrap().last().unwrap();
    assert_eq!(last["message"]["termination_type"], "BILLABLE");

    // A wrong key is refused as all else is, and the session goes on.
    assert!(poll("d3Jvbmc=").await.of(401)["_errors"][0]["message"].is_string());
    assert_eq!(agent.get(&format!("{JOBS}?ids={id}&status=DONE")).await.of(200).as_array().unwrap().len(), 1);
    let blank = agent.request(Method::GET, &format!("{JOBS}?ids=1&status=A B"), None);
    assert_eq!(agent.read(blank).await.of(200), json!([]));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_logs_in_without_the_keys_and_the_password() {
    let app = app().await;
    let words = "there is no such user, or it has another password";
    let mut sdk = Sdk::new(&app.url);
    for (username, password) in [("agent", "wrong"), ("nobody", PASSWORD), ("", PASSWORD), ("a\0", PASSWORD)]
    {
        assert_eq!(sdk.log_in(username, password).await.plain(401)["message"], words, "{username}");
    }
    let login = |change: &dyn Fn(&mut Value)| {
        let (mut body, _) = Sdk::new(&app.url).login("agent", PASSWORD);
        change(&mut body);
        body
    };
    let words_of_signature = "the signature does not hold, or there is no such integrator";
    let good = login(&|_| {});
    for (integrator, with) in
        [("nobody", KEYS[0]), ("acme", OTHER), ("other", KEYS[0]), ("acme\u{20}", KEYS[0])]
    {
        let wrong = Sdk { integrator: integrator.to_owned(), key: key(with), ..sdk.clone() };
        let said = wrong.post("/session/login", &good).await.plain(401);
        assert_eq!(said["message"], words_of_signature, "{integrator}");
    }
    // The key before is good too, and so is another integrator's own.
    for (integrator, with) in [("acme", KEYS[1]), ("other", OTHER)] {
        let mut other = Sdk { integrator: integrator.to_owned(), key: key(with), ..sdk.clone() };
        other.log_in("ärger@example.com", PASSWORD).await.of(200);
        other.get(JOBS).await.of(200);
        // A session is its integrator's.
        let stolen = Sdk { integrator: "nobody".to_owned(), ..other.clone() };
        stolen.get(JOBS).await.plain(401);
    }
    // A proof of the one key does not hold with the other.
    let other = Sdk { key: key(KEYS[1]), ..sdk.clone() };
    assert_eq!(other.post("/session/login", &good).await.plain(401)["message"], words);
    assert_eq!(
        sdk.post("/session/login", &login(&|body| body["password_proof"] = json!("?"))).await.plain(401)["message"],
        words
    );
    let off_the_curve = STANDARD.encode([4; 65]);
    for point in ["", "AQ==", "no base64", off_the_curve.as_str()] {
        let said = sdk
            .post("/session/login", &login(&|body| body["client_public_key"] = json!(point)))
            .await
            .of(400);
        assert!(said["message"].as_str().unwrap().contains("client_public_key"), "{said}");
    }
    for body in [json!({}), json!([]), json!({ "username": 5 }), login(&|body| body["more"] = json!(1))] {
        sdk.post("/session/login", &body).await.of(422);
    }
    sdk.send(Method::GET, "/session/login", None).await.of(405);
    assert_eq!(ask::<i64>(&mut app.connect().await, "SELECT count(*) FROM sdk_sessions").await, 2);
    assert_eq!(sdk.log_in("agent", PASSWORD).await.of(200)["user_id"], 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_counts_only_as_it_was_signed_and_in_its_own_session() {
    let app = app().await;
    let (agent, other) = (Sdk::of(&app.url, "agent").await, Sdk::of(&app.url, "ärger@example.com").await);
    let body = encrypt(&agent.key, &job("x").to_string());
    let header = |name: &'static str, value: &str| {
        let mut request = agent.request(Method::POST, JOBS, Some(body.clone())).build().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
        reqwest::RequestBuilder::from_parts(reqwest::Client::new(), request)
    };
    let elsewhere = |sdk: &Sdk, url: String, body: Option<String>| {
        let mut request = sdk.request(Method::POST, JOBS, body).build().unwrap();
        *request.url_mut() = url.parse().unwrap();
        reqwest::RequestBuilder::from_parts(reqwest::Client::new(), request)
    };
    let url = format!("{}{JOBS}", app.url);
    let unsigned = |name: &str| {
        let mut request = agent.request(Method::POST, JOBS, Some(body.clone())).build().unwrap();
        request.headers_mut().remove(name);
        reqwest::RequestBuilder::from_parts(reqwest::Client::new(), request)
    };
    let replaced = {
        let mut request = agent.request(Method::POST, JOBS, Some(body.clone())).build().unwrap();
        *request.body_mut() = Some(encrypt(&agent.key, &job("y").to_string()).into());
        reqwest::RequestBuilder::from_parts(reqwest::Client::new(), request)
    };
    for (what, request) in [
        ("another signature", header("x-cardsavr-signature", "AQ==")),
        ("no base64", header("x-cardsavr-signature", "%")),
        ("another nonce", header("x-cardsavr-nonce", "1")),
        ("another integrator", header("x-cardsavr-authorization", "SWCH-HMAC-SHA256 Credentials=other")),
        ("another scheme", header("x-cardsavr-authorization", "Bearer x")),
        ("another session", header("x-cardsavr-session-jwt", &other.token)),
        ("no such session", header("x-cardsavr-session-jwt", "null")),
        ("no session", unsigned("x-cardsavr-session-jwt")),
        ("no signature", unsigned("x-cardsavr-signature")),
        ("no nonce", unsigned("x-cardsavr-nonce")),
        ("another target", elsewhere(&agent, format!("{url}/claim"), Some(body.clone()))),
        ("another query", elsewhere(&agent, format!("{url}?ids=1"), Some(body.clone()))),
        ("another body", replaced),
        ("a body of another session", other.request(Method::POST, JOBS, Some(body.clone()))),
    ] {
        let answer = agent.read(request).await;
        if what == "a body of another session" {
            answer.plain(400);
        } else {
            answer.plain(401);
        }
    }
    // Without a signature the token is none, whatever header carries it.
    for name in ["x-cardsavr-session-jwt", "x-access-token", "authorization"] {
        let value =
            if name == "authorization" { format!("Bearer {}", agent.token) } else { agent.token.clone() };
        let request = app.anonymous(Method::GET, JOBS).header(name, value);
        text(request.send().await.unwrap(), 401).await;
    }
    assert_eq!(ask::<i64>(&mut app.connect().await, "SELECT count(*) FROM jobs").await, 0);
    // The same bytes again are the client's own business: nonces repeat.
    let again = || agent.request(Method::POST, JOBS, Some(body.clone())).header("idempotency-key", "once");
    let first = agent.read(again()).await.of(201);
    assert_eq!(agent.read(again()).await.of(200)["id"], first["id"]);
    // A clock that is far off signs as well as any other.
    for skew in [-86_400 * 365, 86_400 * 365] {
        Sdk { skew, ..agent.clone() }.get(JOBS).await.of(200);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_cannot_be_read_are_refused_as_they_come() {
    let app = on(database().await, &[("POSTRIDER_MAX_BODY", "64KiB")]).await;
    let agent = Sdk::of(&app.url, "agent").await;
    let send = async |body: String| agent.read(agent.request(Method::POST, JOBS, Some(body))).await;
    for wrong in [
        job("plain").to_string(),
        "{}".to_owned(),
        "nonsense".to_owned(),
        r#"{"encrypted_body":"abc"}"#.to_owned(),
        encrypt(&key(KEYS[0]), "{}"),
        encrypt(&agent.key, "no JSON"),
        encrypt(&agent.key, ""),
        encrypt(&agent.key, &"[".repeat(2000)),
    ] {
        send(wrong).await.plain(400);
    }
    send("x".repeat(100 << 10)).await.plain(413);
    // Encrypted it may be as large as any body, and one that is not its session's is not even read.
    let large = json!({ "cardholder_id": 7, "site": "x".repeat(40 << 10) });
    agent.post(JOBS, &large).await.of(201);
    let unknown = Sdk { token: "null".to_owned(), ..agent.clone() };
    unknown.read(unknown.request(Method::POST, JOBS, Some("x".repeat(100 << 10)))).await.plain(401);
    // What no text of the database holds is refused, or passed on, as always.
    agent.post(JOBS, &json!({ "cardholder_id": 7, "site": "a\0b" })).await.of(201);
    agent.put(&format!("{JOBS}/1"), &json!({ "status": "a\0" })).await.of(422);
    for stream in ["text/event-stream", "application/json, Text/Event-Stream"] {
        let path = format!("{}/broadcasts", channel(1));
        let refused = agent.send_with(Method::GET, &path, None, &[("accept", stream)]).await.of(406);
        assert!(refused["message"].as_str().unwrap().contains("wait"), "{refused}");
    }
    let created = agent.post(JOBS, &json!({ "cardholder_id": 7 })).await.of(201);
    let key: String =
        url::form_urlencoded::byte_serialize(created["access_key"].as_str().unwrap().as_bytes()).collect();
    let path = format!("{}/broadcasts/stream?access_key={key}", channel(created["id"].as_i64().unwrap()));
    agent.get(&path).await.of(406);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_refused_to_a_client_of_the_field_is_plain_json_and_encrypted_in_a_session() {
    let app = app().await;
    let agent = Sdk::of(&app.url, "agent").await;
    for (method, path, status) in [
        (Method::GET, format!("{JOBS}/999"), 404),
        (Method::GET, format!("{JOBS}/x"), 404),
        (Method::GET, format!("{JOBS}?nonsense=1"), 400),
        (Method::POST, format!("{JOBS}/claim"), 403),
        (Method::DELETE, format!("{JOBS}/1"), 405),
        (Method::GET, "/cardholders/1".to_owned(), 404),
        (Method::GET, format!("{}/broadcasts", channel(1)), 401),
    ] {
        let said = agent.send(method.clone(), &path, None).await.of(status);
        assert_eq!(said["status"], status, "{path}");
        assert!(said["_errors"][0]["message"].is_string() && said["message"].is_string(), "{path}: {said}");
        // The same client with a token of ours, and nobody's client.
        let client = Client { app: &app, subject: "agent", roles: &["cardholder_agent"] };
        for (named, kind) in [(true, "application/json"), (false, "application/problem+json")] {
            let request = client.request(method.clone(), &path);
            let request = if named { request.header("x-cardsavr-trace", "{}") } else { request };
            let answer = request.send().await.unwrap();
            assert_eq!(
                (answer.status().as_u16(), &answer.headers()["content-type"]),
                (status, &kind.parse().unwrap()),
                "{path}"
            );
        }
    }
    // What is not of the job channels does not know sessions.
    let elsewhere = agent.request(Method::GET, "/queues", None).send().await.unwrap();
    text(elsewhere, 401).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_file_nobody_logs_in_and_nothing_else_changes() {
    let app = TestApp::start().await;
    let sdk = Sdk::new(&app.url);
    let (login, _) = sdk.login("agent", PASSWORD);
    sdk.post("/session/login", &login).await.plain(404);
    for (method, path) in [
        (Method::PUT, "/session/refresh"),
        (Method::GET, "/session/end"),
        (Method::GET, "/session/x"),
        (Method::DELETE, "/session/login"),
    ] {
        text(app.anonymous(method, path).send().await.unwrap(), 404).await;
    }
    let agent = Client { app: &app, subject: "agent", roles: &["cardholder_agent"] };
    assert_eq!(text(agent.get("/merchant_sites").await, 200).await, "[]");
    // A token is a token, whatever else a request says.
    let request = agent
        .request(Method::GET, JOBS)
        .header("x-cardsavr-authorization", "SWCH-HMAC-SHA256 Credentials=acme");
    text(request.send().await.unwrap(), 200).await;
    app.stop().await;
}
