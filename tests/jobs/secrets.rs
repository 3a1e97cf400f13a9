//! What nobody may learn from the log: access keys, answers, what a job knows of its cardholder, tokens.

use super::{JOBS, channel};
use crate::faults::url_of;
use crate::support::app::database;
use crate::support::eventually;
use crate::support::serve::Serve;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

/// What stands for a secret; each must be nowhere in the log, in no part that is long enough to be told.
const USERNAME: &str = "zebra-user-61574";
const PASSWORD: &str = "tiger-pass-90412";
const CODE: &str = "84736251";

async fn ok(request: RequestBuilder) -> Value {
    let answer = request.send().await.unwrap();
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert!(status.is_success(), "{status}: {text}");
    if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_tells_everything_tells_no_secret() {
    let database = database().await;
    let settings = [("POSTRIDER_LOG", "trace"), ("POSTRIDER_SECRET_KEY", "a key of at least 32 characters!")];
    let mut serve = Serve::on(&url_of(&database), &settings).await;
    let data = json!({ "cardholder_id": 7, "username": USERNAME, "data": { "password": PASSWORD } });
    let traced = |request: RequestBuilder| request.header("x-cardsavr-trace", r#"{"key": "a trace"}"#);
    let job = ok(traced(serve.request(Method::POST, JOBS).json(&data))).await;
    let id = job["id"].as_i64().unwrap();
    let mut keys = vec![job["access_key"].as_str().unwrap().to_owned()];
    let register = serve.request(Method::POST, &format!("{}/broadcasts/registrations", channel(id)));
    keys.push(ok(register).await["access_key"].as_str().unwrap().to_owned());
    let claimed = ok(serve.request(Method::POST, &format!("{JOBS}/claim?wait=20s"))).await;
    assert_eq!(claimed[0]["data"]["password"], PASSWORD);

    // What is asked and answered, as it should be and as it should not.
    let (requests, responses) =
        (format!("{}/credential_requests", channel(id)), format!("{}/credential_responses", channel(id)));
    let asked = ok(serve.request(Method::POST, &requests).json(&json!({ "type": "tfa_request" }))).await;
    let envelope = &asked["envelope_id"];
    for (body, status) in [
        (json!({ "envelope_id": envelope, "message": CODE.parse::<u64>().unwrap() }).to_string(), 422),
        (json!({ "envelope_id": envelope, "message": CODE, "type": "job_status" }).to_string(), 422),
        (json!({ "envelope_id": asked["job_id"].to_string(), "message": CODE }).to_string(), 404),
        (format!(r#"{{"envelope_id": {envelope}, "message": "{CODE}""#), 400),
        (json!({ "envelope_id": envelope, "message": CODE }).to_string(), 200),
        (json!({ "envelope_id": envelope, "message": CODE }).to_string(), 409),
    ] {
        let answer = serve.request(Method::POST, &responses).header("content-type", "application/json");
        let answer = traced(answer).body(body.clone()).send().await.unwrap();
        assert_eq!(answer.status(), status, "{body}");
        let told = answer.text().await.unwrap();
        assert!(!told.contains(CODE), "the code is echoed: {told}");
    }
    assert_eq!(ok(serve.request(Method::GET, &responses)).await["message"], CODE);
    let end = json!({ "status": "DONE", "termination_type": "BILLABLE" });
    ok(serve.request(Method::PUT, &format!("{JOBS}/{id}")).json(&end)).await;

    // Keys as they are shown: the right ones, another's, a stream, in a query by mistake.
    let broadcasts = format!("{}/broadcasts", channel(id));
    let mut in_addresses: Vec<String> = Vec::new();
    for key in &keys {
        let poll = |path: &str| {
            traced(serve.request(Method::GET, path)).header("cardsavr-messaging-access-key", key)
        };
        ok(poll(&broadcasts)).await;
        let stream = poll(&broadcasts).header("accept", "text/event-stream").send().await.unwrap();
        assert!(stream.status().is_success());
        let elsewhere = poll(&format!("{}/broadcasts", channel(id + 1))).send().await.unwrap();
        assert_eq!(elsewhere.status(), 401);
        let misplaced = serve.request(Method::GET, &format!("{broadcasts}?access_key={key}"));
        assert_eq!(misplaced.send().await.unwrap().status(), 400);
        // As an event source sends them: rightly, to another's job, with what nobody knows.
        let encoded: String = url::form_urlencoded::byte_serialize(key.as_bytes()).collect();
        let elsewhere = format!("{}/broadcasts/stream", channel(id + 1));
        let streams = format!("{broadcasts}/stream");
        for (path, more, status) in [
            (&streams, "&after=0", 200),
            (&elsewhere, "", 401),
            (&streams, "&nonsense=1", 400),
            (&streams, "&after=x", 400),
        ] {
            let stream = serve.request(Method::GET, &format!("{path}?access_key={encoded}{more}"));
            let stream = stream.header("referer", format!("{}{path}?access_key={encoded}", serve.url));
            assert_eq!(traced(stream).send().await.unwrap().status(), status, "{path}{more}");
            let encoded = encoded.trim_end_matches("%3D").to_owned();
            in_addresses.push(encoded);
        }
    }
    let token = serve.request(Method::GET, "/").build().unwrap().headers()["authorization"].clone();
    let signature = token.to_str().unwrap().rsplit('.').next().unwrap().to_owned();

    serve.signal(rustix::process::Signal::TERM);
    assert!(serve.end().await.success());
    eventually("the log is whole", async || serve.log().iter().any(|line| line.contains("stopping"))).await;
    let log = serve.log();
    // It tells what it should: the requests and the trace.
    for told in [broadcasts.as_str(), "a trace", "registrations"] {
        assert!(log.iter().any(|line| line.contains(told)), "the log is not that of a trace: {told}");
    }
    let mut secrets: Vec<&str> = vec![USERNAME, PASSWORD, CODE, &signature];
    secrets.extend(keys.iter().map(|key| key.trim_end_matches('=')));
    secrets.extend(in_addresses.iter().map(String::as_str));
    for secret in secrets {
        let told: Vec<&String> = log.iter().filter(|line| line.contains(secret)).collect();
        assert!(told.is_empty(), "{secret}: {told:#?}");
    }
}
