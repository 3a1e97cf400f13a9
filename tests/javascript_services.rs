//! The services behind a handler, over HTTP: addresses, tokens, and what becomes of the answers.

use axum::http::{HeaderMap, Method, StatusCode, header};
use futures::FutureExt;
use futures::future::BoxFuture;
use postrider::internals::queues::identity::Identity;
use postrider::internals::queues::javascript::ServiceError;
use postrider::internals::queues::javascript::services::{
    Answer, Directory, HttpAnswer, HttpCall, Messaging, QueueServices, Services, Settings,
};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

const SECRET: &str = "a/secret&of=ours";
const TOKEN: &str = "the-token";

/// The world outside: it remembers what it was asked, and answers by path.
#[derive(Default)]
struct World {
    calls: Mutex<Vec<(Method, String, HeaderMap, String)>>,
}

impl World {
    fn answer(&self, call: HttpCall) -> HttpAnswer {
        let path = call.url.path().to_owned();
        let body = String::from_utf8(call.body.unwrap_or_default()).expect("it is text");
        self.calls.lock().expect("no panic").push((call.method, call.url.to_string(), call.headers, body));
        let mut headers = HeaderMap::new();
        let (status, body) = match path.as_str() {
            "/token" => (200, json!({"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"})),
            "/v1/people" => {
                headers.insert(
                    header::LOCATION,
                    "https://evil.example/v1/people/7?x=1".parse().expect("a header"),
                );
                (201, Value::Null)
            }
            "/v1/people/7" => (200, json!({"id": 7, "name": "Ada"})),
            "/v1/people/404" => (404, json!({"detail": "not here"})),
            "/v1/people/401" => (401, Value::Null),
            _ => (200, json!({"path": path})),
        };
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        HttpAnswer { status: StatusCode::from_u16(status).expect("a status"), headers, body }
    }

    /// `METHOD url` of each call, but those for tokens.
    fn seen(&self) -> Vec<String> {
        let calls = self.calls.lock().expect("no panic");
        let calls = calls.iter().filter(|(_, url, ..)| !url.ends_with("/token"));
        calls.map(|(method, url, ..)| format!("{method} {url}")).collect()
    }

    fn tokens_issued(&self) -> usize {
        self.calls.lock().expect("no panic").iter().filter(|(_, url, ..)| url.ends_with("/token")).count()
    }
}

/// Queues that answer with what they were asked.
struct Queues;

impl Messaging for Queues {
    fn queue_message<'a>(
        &'a self,
        queue: &'a str,
        message: &'a RawValue,
        identity: Identity,
    ) -> BoxFuture<'a, Result<String, ServiceError>> {
        let called = [identity.own_key, identity.given].into_iter().flatten().collect::<Vec<_>>();
        async move { Ok([format!("{queue}:{message}"), called.join(" ")].join(" ").trim().to_owned()) }
            .boxed()
    }

    fn get_message<'a>(&'a self, queue: &'a str, id: &'a str) -> BoxFuture<'a, Answer> {
        async move { Err(ServiceError::new(format!("{queue} has no {id}"))) }.boxed()
    }

    fn delete_message<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<(), ServiceError>> {
        async move { Ok(()) }.boxed()
    }
}

fn services(client_id: Option<&str>) -> (Arc<World>, QueueServices) {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = json!({
        "token_url": "https://login.example/token",
        "clients": {"my-client": {"secret": SECRET}},
        "services": {
            "storageService": "https://storage.example/v1/",
            "rulesetService": "https://rules.example",
            "integrationService": "https://integrations.example/api",
            "idmService": "https://idm.example",
            "billing": "https://billing.example/v2"
        }
    });
    std::fs::write(directory.path().join("services.json"), settings.to_string()).expect("it is written");
    let settings = Settings::load(directory.path()).expect("it is read");
    build(settings, client_id)
}

fn build(settings: Settings, client_id: Option<&str>) -> (Arc<World>, QueueServices) {
    let world = Arc::new(World::default());
    let outside = Arc::clone(&world);
    let send = Arc::new(move |call: HttpCall| {
        let answer = outside.answer(call);
        async move { Ok(answer) }.boxed()
    });
    let directory = Arc::new(Directory::new(settings, send));
    (world, QueueServices::new(directory, client_id.map(str::to_owned), Arc::new(Queues), None))
}

async fn call(
    services: &QueueServices,
    service: &str,
    method: &str,
    args: Value,
) -> Result<Value, ServiceError> {
    let args = RawValue::from_string(args.to_string()).expect("it is JSON");
    let answer = services.call(service, method, args).await?;
    Ok(serde_json::from_str(answer.get()).expect("an answer is JSON"))
}

#[tokio::test]
async fn each_method_becomes_the_documented_request() {
    let table = [
        ("storageService", "getEntity", json!(["people", 7]), "GET https://storage.example/v1/people/7"),
        (
            "storageService",
            "getEntity",
            json!(["/a/b/", "x y/z"]),
            "GET https://storage.example/v1/a/b/x%20y/z",
        ),
        (
            "storageService",
            "getList",
            json!(["a", 0, 10, {"n": "Ada"}]),
            "GET https://storage.example/v1/a?start=0&count=10&filters=%7B%22n%22%3A%22Ada%22%7D",
        ),
        (
            "storageService",
            "getList",
            json!(["a", 0, 10, null, [{"n": "asc"}]]),
            "GET https://storage.example/v1/a?start=0&count=10&orders=%5B%7B%22n%22%3A%22asc%22%7D%5D",
        ),
        ("storageService", "updateEntity", json!(["a", "1", {}]), "PUT https://storage.example/v1/a/1"),
        ("storageService", "patchEntity", json!(["a", "1", {}]), "PATCH https://storage.example/v1/a/1"),
        ("storageService", "deleteEntity", json!(["a", "1"]), "DELETE https://storage.example/v1/a/1"),
        ("rulesetService", "callRuleset", json!(["r", {"f": 1}]), "POST https://rules.example/r"),
        (
            "integrationService",
            "callIntegration",
            json!(["crm", "get", {"q": "a&b", "n": 1}]),
            "GET https://integrations.example/api/crm?n=1&q=a%26b",
        ),
        (
            "integrationService",
            "callIntegration",
            json!(["crm", "patch", {"q": 1}]),
            "PATCH https://integrations.example/api/crm",
        ),
        ("idmService", "registerUser", json!([{"name": "Ada"}]), "POST https://idm.example/users"),
        ("idmService", "getUser", json!(["ada"]), "GET https://idm.example/users/ada"),
        ("idmService", "updateUser", json!(["ada", {}]), "PUT https://idm.example/users/ada"),
    ];
    for (service, method, args, request) in table {
        let (world, services) = services(Some("my-client"));
        call(&services, service, method, args).await.expect(request);
        assert_eq!(world.seen(), [request]);
    }
}

#[tokio::test]
async fn a_created_entity_is_read_back_from_the_same_service() {
    let (world, services) = services(Some("my-client"));
    let created = call(&services, "storageService", "createEntity", json!(["people", {"name": "Ada"}])).await;
    assert_eq!(created, Ok(json!({"id": 7, "name": "Ada"})));
    assert_eq!(
        world.seen(),
        ["POST https://storage.example/v1/people", "GET https://storage.example/v1/people/7"]
    );
    let calls = world.calls.lock().expect("no panic");
    assert_eq!(calls[1].3, r#"{"name":"Ada"}"#);
    assert_eq!(calls[1].2[header::CONTENT_TYPE], "application/json");
}

#[tokio::test]
async fn a_collection_is_detailed_with_the_entities_its_items_name() {
    let (world, services) = services(Some("my-client"));
    let collection = json!({"items": [{"who": 7}, {"who": "404"}, {"who": 7, "a": 1}, {}, 5], "total": 5});
    let args = json!([collection, "who", "person", "people"]);
    let ada = json!({"id": 7, "name": "Ada"});
    assert_eq!(
        call(&services, "storageService", "detailCollection", args).await,
        Ok(json!({
            "items": [{"who": 7, "person": ada}, {"who": "404", "person": null}, {"who": 7, "a": 1, "person": ada}, {}, 5],
            "total": 5
        }))
    );
    assert_eq!(world.seen().len(), 2);
}

#[tokio::test]
async fn one_token_of_the_queues_client_serves_many_calls() {
    let (world, services) = services(Some("my-client"));
    let read = || call(&services, "storageService", "getEntity", json!(["people", 7]));
    let (first, second) = tokio::join!(read(), read());
    assert_eq!((first.is_ok(), second.is_ok()), (true, true));
    assert_eq!(call(&services, "authClientProvider", "getAccessToken", json!([])).await, Ok(json!(TOKEN)));
    assert_eq!(world.tokens_issued(), 1);
    let calls = world.calls.lock().expect("no panic");
    assert_eq!(calls[0].3, "grant_type=client_credentials");
    assert_eq!(calls[0].2[header::AUTHORIZATION], "Basic bXktY2xpZW50OmElMkZzZWNyZXQlMjZvZiUzRG91cnM=");
    assert!(calls[1..].iter().all(|(.., headers, _)| headers[header::AUTHORIZATION] == "Bearer the-token"));
    assert!(!format!("{:?}", calls[1].2).contains(TOKEN), "a token shows");
}

#[tokio::test]
async fn a_refused_token_is_not_used_again() {
    let (world, services) = services(Some("my-client"));
    let refused = call(&services, "storageService", "getEntity", json!(["people", 401])).await;
    assert_eq!(refused.map_err(|error| error.status), Err(Some(401)));
    call(&services, "storageService", "getEntity", json!(["people", 7])).await.expect("it answers");
    assert_eq!(world.tokens_issued(), 2);
}

#[tokio::test]
async fn what_is_not_configured_says_so() {
    let table = [
        ("storageService", "getList", "storageService is not configured"),
        ("rulesetService", "callRuleset", "rulesetService is not configured"),
        ("integrationService", "callIntegration", "integrationService is not configured"),
        ("idmService", "getUser", "idmService is not configured"),
        ("authClientProvider", "getAccessToken", "authClientProvider is not configured"),
        ("serviceProvider", "resolveService", "get is not configured"),
        ("nobody", "calls", "nobody has no method calls"),
    ];
    for (service, method, message) in table {
        let (world, services) = build(Settings::default(), Some("my-client"));
        let refused = call(&services, service, method, json!(["get", "get", {}])).await;
        assert_eq!(refused, Err(ServiceError::new(message)));
        assert_eq!(world.seen(), [""; 0]);
    }
    for (client_id, message) in [
        (None, "this queue has no client_id to call services with"),
        (Some("other"), "the client other is not configured"),
    ] {
        let (_, services) = services(client_id);
        let refused = call(&services, "idmService", "getUser", json!([1])).await;
        assert_eq!(refused, Err(ServiceError::new(message)));
    }
}

#[tokio::test]
async fn a_path_stays_below_its_service() {
    for path in ["..", "a/../../b", "./a"] {
        let (world, services) = services(Some("my-client"));
        let refused = call(&services, "storageService", "getEntity", json!([path, 1])).await;
        assert_eq!(refused, Err(ServiceError::new("a path cannot hold . or ..")));
        assert_eq!(world.seen(), [""; 0]);
    }
}

#[tokio::test]
async fn a_service_that_refuses_is_an_error_with_its_status() {
    let (_, services) = services(Some("my-client"));
    let refused = call(&services, "storageService", "getEntity", json!(["people", 404])).await;
    let message = "storageService answered 404".to_owned();
    assert_eq!(refused, Err(ServiceError { message, status: Some(404) }));
}

#[tokio::test]
async fn queues_and_addresses_are_served_without_http() {
    let (world, services) = services(None);
    for (service, method, args, expected) in [
        ("messagingService", "queueMessage", json!(["q", {"a": 1}]), Ok(json!(r#"q:{"a":1}"#))),
        ("messagingService", "queueMessage", json!(["q", null]), Ok(json!("q:null"))),
        (
            "messagingService",
            "queueMessage",
            json!(["q", 1, {"unique": "u", "key": 7}]),
            Ok(json!("q:1 7 u")),
        ),
        ("messagingService", "queueMessage", json!(["q", 1, {"key": null}]), Ok(json!("q:1"))),
        (
            "messagingService",
            "queueMessage",
            json!(["q", 1, {"kez": "k"}]),
            Err(ServiceError::new("the argument options may have key and unique, and nothing else")),
        ),
        (
            "messagingService",
            "queueMessage",
            json!(["q", 1, {"key": ""}]),
            Err(ServiceError::new("`key` must have 1 to 255 characters, without U+0000")),
        ),
        ("messagingService", "getMessage", json!(["q", "7"]), Err(ServiceError::new("q has no 7"))),
        ("messagingService", "deleteMessage", json!(["q", "7"]), Ok(Value::Null)),
        (
            "messagingService",
            "queueMessage",
            json!([]),
            Err(ServiceError::new("the argument queue is missing")),
        ),
        ("serviceProvider", "resolveService", json!(["billing"]), Ok(json!("https://billing.example/v2"))),
    ] {
        assert_eq!(call(&services, service, method, args).await, expected);
    }
    assert_eq!(world.seen(), [""; 0]);
}
