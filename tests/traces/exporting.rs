//! What becomes of spans when a collector is well, or not.

use super::{OUTSIDE, TRACE, all_spans, collected, collector, spans};
use crate::faults::url_of;
use crate::support::app::{TestApp, database};
use crate::support::scripted::{Asked, Reply, Scripted};
use crate::support::serve::Serve;
use crate::support::{eventually, free_address};
use axum::http::Method;
use postrider::{Failure, Message};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

async fn echo(message: Message) -> Result<Value, Failure> {
    message.json()
}

/// An instance with these settings and a queue.
async fn app(settings: &[(&str, &str)]) -> TestApp {
    let app = TestApp::with(settings, |app| app.handler("echo", echo)).await;
    app.define("q", json!({ "handler": { "kind": "native", "name": "echo" } })).await;
    app
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_asks_a_collector_when_it_is_disabled() {
    let collector = collector().await;
    let settings = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.url), ("OTEL_SDK_DISABLED", "true")];
    let app = app(&settings).await;
    let id = app.push("q", &json!({})).await;
    app.ended("q", &id).await;
    assert_eq!(app.whole_message("q", &id).await["trace_id"], json!(null));
    app.stop().await;
    assert_eq!((collector.asked().len(), collector.open()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graceful_stop_exports_what_is_left() {
    let collector = collector().await;
    let headers = ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20hunter2");
    let app = app(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url), headers]).await;
    let id = app.push_with("q", &[("traceparent", OUTSIDE)]).await;
    app.ended("q", &id).await;
    app.stop().await;
    assert_eq!(spans(&collector, TRACE).len(), 2, "{:#?}", all_spans(&collector));
    assert!(collector.asked().iter().all(|asked| asked.header("authorization") == Some("Bearer hunter2")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_or_is_down_delays_nothing() {
    let hanging = Scripted::start(|_: &Asked| Reply::Hangs).await;
    let down = format!("http://{}", free_address());
    for collector in [&hanging.url, &down] {
        let settings =
            [("OTEL_EXPORTER_OTLP_ENDPOINT", &**collector), ("OTEL_EXPORTER_OTLP_TIMEOUT", "60000")];
        let app = app(&settings).await;
        for _ in 0..50 {
            let id = app.push("q", &json!({})).await;
            assert_eq!(app.ended("q", &id).await["status"], "COMPLETE");
        }
        let began = Instant::now();
        app.stop().await;
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    }
    assert!(!hanging.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_collector_cannot_take_now_is_exported_again_and_what_it_refuses_is_counted() {
    let collector = Scripted::start(|_: &Asked| Reply::status(400)).await;
    let settings = [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &*collector.url), ("POSTRIDER_METRICS", "open")];
    let serve = Serve::on(&url_of(&database().await), &settings).await;
    serve.define("q", &json!({ "handler": { "kind": "worker" } })).await;
    let counted = async |name: &str| {
        let metrics = serve.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        line.map(|count| count.parse::<f64>().unwrap())
    };
    eventually("it is counted", async || counted("postrider_spans_dropped_total").await > Some(0.0)).await;
    assert_eq!(counted("postrider_spans_exported_total").await, Some(0.0));
    let refused = collector.asked().len();
    collector.follow(|_: &Asked| Reply::Says(503, vec![("retry-after", "1".to_owned())], String::new()));
    let push = serve.request(Method::POST, "/queues/q/messages").header("traceparent", OUTSIDE);
    assert!(push.json(&json!({})).send().await.unwrap().status().is_success());
    eventually("it is asked", async || collector.asked().len() > refused).await;
    let dropped = counted("postrider_spans_dropped_total").await;
    collector.follow(|_: &Asked| Reply::Says(200, Vec::new(), "{}".to_owned()));
    eventually("it is exported", async || counted("postrider_spans_exported_total").await > Some(0.0)).await;
    assert_eq!(counted("postrider_spans_dropped_total").await, dropped);
    let asked = collector.asked();
    let [.., before, last] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!(before.body, last.body);
    assert!(last.at - before.at >= Duration::from_millis(900), "{:?}", last.at - before.at);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_do_not_export_and_what_the_sampler_leaves_out_is_not_exported() {
    let collector = collector().await;
    let quiet = OUTSIDE.replace("-01", "-00");
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.url);
    let all = app(&[endpoint]).await;
    let none =
        [endpoint, ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0")];
    let none = app(&none).await;
    let id = all.push_with("q", &[("traceparent", &quiet)]).await;
    all.ended("q", &id).await;
    // Its context is passed on all the same.
    assert_eq!(all.whole_message("q", &id).await["trace_id"], TRACE);
    all.stop().await;
    assert_eq!(spans(&collector, TRACE).len(), 0);
    let before = all_spans(&collector).len();
    let id = none.push("q", &json!({})).await;
    none.ended("q", &id).await;
    let id = none.push_with("q", &[("traceparent", OUTSIDE)]).await;
    none.ended("q", &id).await;
    collected(&collector, TRACE, 2).await;
    none.stop().await;
    assert_eq!(all_spans(&collector).len(), before + 2);
}
