//! One trace over processes, handlers of each kind, and deliveries.

use super::{OUTSIDE, TRACE, all_spans, attribute, collected, collector, named, spans, traceparent};
use crate::faults::url_of;
use crate::support::answer::json;
use crate::support::app::{TestApp, database};
use crate::support::eventually;
use crate::support::scripted::{Asked, Reply, Scripted};
use crate::support::serve::Serve;
use axum::http::Method;
use postrider::client::{Client, Options};
use postrider::{Failure, Message};
use serde_json::{Value, json};
use sqlx::PgPool;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_push_its_handler_elsewhere_what_that_pushes_and_all_deliveries_are_one_trace() {
    let (collector, database) = (collector().await, database().await);
    let handler = Scripted::start(|_: &Asked| Reply::Says(200, Vec::new(), "{}".to_owned()).held()).await;
    let warehouse = Scripted::start(|asked: &Asked| match asked.json()["message"].as_str() {
        Some("order:new") => asked.acknowledge(json!({ "messages": [{ "message": "order:paid" }] })),
        _ => asked.acknowledge(json!({})),
    })
    .await;
    let settings = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.url), ("OTEL_SERVICE_NAME", "shop")];
    let front = TestApp::on(database.clone(), &settings, |app| app).await;
    let pool = PgPool::connect_with(database.clone()).await.unwrap();
    let first = move |message: Message| {
        let pool = pool.clone();
        async move {
            let client = Client::default().on_behalf_of(&message);
            let mut db = pool.acquire().await.unwrap();
            let id = client.enqueue(&mut db, "second", &json!({}), &Options::default()).await.unwrap();
            Ok::<Value, Failure>(json!(id))
        }
    };
    let back = TestApp::on(database, &settings, |app| app.handler("first", first)).await;
    back.define("first", json!({ "handler": { "kind": "native", "name": "first" } })).await;
    back.define("second", json!({ "handler": { "kind": "http", "url": handler.url } })).await;
    back.endpoint("warehouse", &warehouse.url, json!({ "token": "hunter2" })).await;
    back.mapping("ship", "warehouse", &["order:*"], json!({})).await;

    let push = front.request(Method::POST, "/queues/first/messages").header("x-request-id", "order-7");
    let pushed = json(push.json(&json!({ "card": "hunter2" })).send().await.unwrap(), 201).await;
    let second = front.ended("first", pushed["id"].as_str().unwrap()).await["result"].clone();
    eventually("the handler is asked", async || !handler.asked().is_empty()).await;
    let told = handler.asked()[0].header("traceparent").unwrap().to_owned();
    let tell = front.request(Method::POST, "/stores/s1/messages").header("traceparent", &told);
    let tell = tell.json(&json!({ "message": "order:new", "payload": { "card": "hunter2" } }));
    let root = json(tell.send().await.unwrap(), 201).await["message_id"].as_str().unwrap().to_owned();
    handler.release();
    front.ended("second", second.as_str().unwrap()).await;
    eventually("both are delivered", async || warehouse.asked().len() == 2).await;

    let whole = front.whole_message("second", second.as_str().unwrap()).await;
    assert_eq!(whole["request_id"], "order-7");
    let trace = whole["trace_id"].as_str().unwrap().to_owned();
    let message = front.told(&root).await;
    assert_eq!(message["trace_id"], trace);
    eventually("there is a child", async || front.told(&root).await["children"][0].is_string()).await;
    let child = front.told(&root).await["children"][0].as_str().unwrap().to_owned();
    let child = front.told(&child).await;
    assert_eq!((&child["trace_id"], &child["request_id"]), (&json!(trace), &message["request_id"]));
    front.server.run_until_idle().await.unwrap();
    front.stop().await;
    back.stop().await;

    let spans = spans(&collector, &trace);
    assert_eq!(spans.len(), 7, "{spans:#?}");
    let push = named(&spans, "POST /queues/{queue}/messages");
    let of_first = named(&spans, "process first");
    let of_second = named(&spans, "process second");
    let post = named(&spans, "POST");
    let store = named(&spans, "POST /stores/{store}/messages");
    let sent = |message: &str| {
        let sent = |span: &&Value| attribute(span, "postrider.message") == message;
        spans.iter().find(sent).unwrap().clone()
    };
    let (order, paid) = (sent("order:new"), sent("order:paid"));
    assert_eq!(push.get("parentSpanId"), None);
    for (child, parent, kind) in [
        (&of_first, &push, 5),
        (&of_second, &of_first, 5),
        (&post, &of_second, 3),
        (&store, &post, 2),
        (&order, &store, 3),
        (&paid, &order, 3),
    ] {
        assert_eq!((&child["parentSpanId"], &child["kind"]), (&parent["spanId"], &json!(kind)), "{child:#}");
        assert!(child["startTimeUnixNano"].as_str() > Some("17"), "{child:#}");
    }
    assert_eq!(told, traceparent(&post));
    let told: Vec<String> =
        warehouse.asked().iter().map(|asked| asked.header("traceparent").unwrap().to_owned()).collect();
    assert_eq!(told, [traceparent(&order), traceparent(&paid)]);
    for (span, name, value) in [
        (&push, "http.response.status_code", json!("201")),
        (&of_first, "messaging.destination.name", json!("first")),
        (&of_first, "messaging.message.id", pushed["id"].clone()),
        (&of_second, "postrider.outcome", json!("completed")),
        (&order, "postrider.mapping", json!("ship")),
        (&order, "messaging.destination.name", json!("warehouse")),
        (&paid, "postrider.outcome", json!("delivered")),
        (&paid, "postrider.attempt", json!("1")),
    ] {
        assert_eq!(attribute(span, name), value, "{name}: {span:#}");
    }
    assert!(spans.iter().all(|span| span["status"] == json!({})), "{spans:#?}");
    for asked in collector.asked() {
        assert_eq!((&*asked.path, asked.header("content-type")), ("/v1/traces", Some("application/json")));
        assert!(!asked.body.contains("hunter2"), "{}", asked.body);
        let resource = &asked.json()["resourceSpans"][0]["resource"]["attributes"];
        assert_eq!(*resource, json!([{ "key": "service.name", "value": { "stringValue": "shop" } }]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_javascript_handler_finds_its_context_and_what_it_pushes_comes_of_it() {
    let collector = collector().await;
    let app = TestApp::with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)], |app| app).await;
    let second = json!({ "handler": { "kind": "worker" }, "roles": { "roles": ["first_writer"] } });
    app.define("second", second).await;
    let source = "module.exports = async function (message, context) {
        if (context.traceparent !== this.traceparent) throw new Error(context.traceparent);
        return [this.traceparent, await this.messagingService.queueMessage('second', {})];
    };";
    app.define_javascript("first", source).await;
    let id = app.push_with("first", &[("traceparent", OUTSIDE), ("x-request-id", "order-7")]).await;
    let result = app.ended("first", &id).await["result"].clone();
    let spans = collected(&collector, TRACE, 2).await;
    let (push, process) = (named(&spans, "POST /queues/{queue}/messages"), named(&spans, "process first"));
    assert_eq!(push["parentSpanId"], &OUTSIDE[36..52]);
    assert_eq!(process["parentSpanId"], push["spanId"]);
    assert_eq!(result[0], traceparent(&process));
    let child = app.whole_message("second", result[1].as_str().unwrap()).await;
    assert_eq!(json!([child["request_id"], child["trace_id"]]), json!(["order-7", TRACE]));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_puts_its_message_off_has_not_failed_unless_that_was_tried_for_too_long() {
    let collector = collector().await;
    let tries = AtomicUsize::new(0);
    let busy = move |_: Message| {
        let wait =
            Duration::from_millis(if tries.fetch_add(1, Ordering::SeqCst) == 0 { 1 } else { 3_600_000 });
        async move { Err::<Value, _>(Failure::later(wait)) }
    };
    let app =
        TestApp::with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)], |app| app.handler("busy", busy))
            .await;
    let handler = json!({ "kind": "native", "name": "busy" });
    app.define("q", json!({ "handler": handler, "options": { "retry": { "max_age": "30m" } } })).await;
    let id = app.push_with("q", &[("traceparent", OUTSIDE)]).await;
    assert_eq!(app.ended("q", &id).await["status"], "ERROR");
    app.stop().await;
    let mut spans = spans(&collector, TRACE);
    spans.retain(|span| span["name"] == "process q");
    spans.sort_by_key(|span| span["startTimeUnixNano"].as_str().unwrap().to_owned());
    let said = spans.iter().map(|span| {
        let said = (attribute(span, "postrider.outcome"), attribute(span, "error.type"));
        (said.0, said.1, span["status"].clone())
    });
    let put_off = (json!("snoozed"), Value::Null, json!({}));
    let ended = (json!("snoozed"), json!("Later"), json!({ "code": 2 }));
    assert_eq!(said.collect::<Vec<_>>(), [put_off, ended]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_workers_attempt_is_a_span_also_when_the_worker_is_lost() {
    let collector = collector().await;
    let app = TestApp::with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)], |app| app).await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    let id = app.push_with("q", &[("traceparent", OUTSIDE)]).await;
    let claim = async || json(app.post("/queues/q/claim?wait=20s", &Value::Null).await, 200).await[0].take();
    let lost = claim().await;
    let mut db = app.connect().await;
    sqlx::query("UPDATE leases SET expires_at = now() - interval '1 hour'").execute(&mut db).await.unwrap();
    let kept = claim().await;
    let body = json!({ "lease": kept["lease"], "result": 1 });
    let ended = app.post(&format!("/queues/q/messages/{id}/complete"), &body).await;
    assert_eq!(ended.status(), 204);
    let spans = collected(&collector, TRACE, 3).await;
    let push = named(&spans, "POST /queues/{queue}/messages");
    let attempts: Vec<&Value> = spans.iter().filter(|span| span["name"] == "process q").collect();
    assert_eq!(attempts.len(), 2, "{spans:#?}");
    for (claimed, outcome, status) in [(lost, "lost", json!({ "code": 2 })), (kept, "completed", json!({}))] {
        let span = attempts.iter().find(|span| claimed["traceparent"] == traceparent(span)).unwrap();
        assert_eq!(span["parentSpanId"], push["spanId"]);
        assert_eq!(attribute(span, "postrider.outcome"), outcome);
        assert_eq!(span["status"], status);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_a_span_from_its_claim_to_its_end() {
    let collector = collector().await;
    let app = TestApp::with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)], |app| app).await;
    let jobs = "/place_card_on_single_site_jobs";
    let agent = app.request_as(&["cardholder_agent"], Method::POST, jobs).header("traceparent", OUTSIDE);
    let job = json(agent.json(&json!({ "cardholder_id": 7 })).send().await.unwrap(), 201).await;
    assert_eq!(job["trace_id"], TRACE);
    let worker = |method, path: &str| app.request_as(&["job_worker"], method, &format!("{jobs}{path}"));
    let claimed = worker(Method::POST, "/claim?wait=20s").json(&json!({})).send().await.unwrap();
    let claimed = json(claimed, 200).await[0].take();
    let end = json!({ "status": "SAID", "termination_type": "PROCESS_FAILURE", "lease": claimed["lease"] });
    let put = worker(Method::PUT, &format!("/{}", job["id"])).json(&end);
    json(put.send().await.unwrap(), 200).await;
    let spans = collected(&collector, TRACE, 2).await;
    let create = named(&spans, "POST /{job_type}");
    let process = named(&spans, &format!("process {}", &jobs[1..]));
    assert_eq!(process["parentSpanId"], create["spanId"]);
    assert_eq!(claimed["traceparent"], traceparent(&process));
    assert_eq!(process["status"], json!({ "code": 2 }));
    assert_eq!(attribute(&process, "error.type"), "PROCESS_FAILURE");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_begins_a_trace_whose_id_is_its_messages() {
    let collector = collector().await;
    let handler = Scripted::start(|_: &Asked| Reply::Says(200, Vec::new(), "{}".to_owned())).await;
    let app = TestApp::with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)], |app| app).await;
    app.define("q", json!({ "handler": { "kind": "http", "url": handler.url } })).await;
    let schedule = json!({ "every": "1s", "message": {} });
    json(app.put("/queues/q/schedules/often", &schedule).await, 201).await;
    eventually("it fires", async || all_spans(&collector).iter().any(|span| span["name"] == "process q"))
        .await;
    let process = all_spans(&collector).into_iter().find(|span| span["name"] == "process q").unwrap();
    let id = attribute(&process, "messaging.message.id").as_str().unwrap().replace('-', "");
    assert_eq!((&process["traceId"], process.get("parentSpanId")), (&json!(id), None));
    let post = named(&spans(&collector, &id), "POST");
    assert_eq!(post["parentSpanId"], process["spanId"]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_line_of_a_failure_names_the_trace() {
    let serve = Serve::on(&url_of(&database().await), &[]).await;
    let source = "module.exports = async () => { throw new TypeError('no'); };";
    serve.define("failing", &json!({ "handler": { "kind": "javascript", "source": source } })).await;
    let parked = json!({ "url": "http://127.0.0.1:9" });
    let put = async |path: &str, body: &Value| {
        json(serve.request(Method::PUT, path).json(body).send().await.unwrap(), 201).await
    };
    put("/stores/s1/endpoints/gone", &parked).await;
    let options = json!({ "retries_allowed": false });
    put(
        "/stores/s1/mappings/m",
        &json!({ "endpoint": "gone", "service": "take", "messages": ["order:new"], "options": options }),
    )
    .await;
    for (path, body) in
        [("/queues/failing/messages", json!({})), ("/stores/s1/messages", json!({ "message": "order:new" }))]
    {
        let push = serve.request(Method::POST, path).header("traceparent", OUTSIDE).json(&body);
        json(push.send().await.unwrap(), 201).await;
    }
    for saying in ["a message ended in ERROR", "a delivery is parked"] {
        let line = || {
            let lines = serve.log();
            let mut lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.find(|line| line["message"] == saying)
        };
        eventually("it is logged", async || line().is_some()).await;
        assert_eq!(line().unwrap()["trace_id"], TRACE, "{saying}");
    }
}
