//! Traces: the W3C context in and out, and the spans that a collector gets.

mod across;
mod context;
mod exporting;

use crate::support::app::TestApp;
use crate::support::scripted::{Reply, Scripted};
use crate::support::{eventually, scripted::Asked};
use axum::http::Method;
use serde_json::{Value, json};

/// A context from outside, of a trace that is exported, ...
pub(crate) const OUTSIDE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// ... and its trace.
pub(crate) const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A collector that takes everything.
pub(crate) async fn collector() -> Scripted {
    Scripted::start(|_: &Asked| Reply::Says(200, Vec::new(), "{}".to_owned())).await
}

/// All spans that a collector got.
pub(crate) fn all_spans(collector: &Scripted) -> Vec<Value> {
    let bodies = collector.asked().into_iter().map(|asked| asked.json());
    bodies
        .flat_map(|body| body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().cloned().unwrap())
        .collect()
}

/// Those of a trace.
pub(crate) fn spans(collector: &Scripted, trace: &str) -> Vec<Value> {
    let mut spans = all_spans(collector);
    spans.retain(|span| span["traceId"] == trace);
    spans
}

/// Waits until the collector has so many spans of a trace.
pub(crate) async fn collected(collector: &Scripted, trace: &str, count: usize) -> Vec<Value> {
    eventually("the spans are exported", async || spans(collector, trace).len() >= count).await;
    spans(collector, trace)
}

/// The span of this name; there is one.
pub(crate) fn named(spans: &[Value], name: &str) -> Value {
    let found: Vec<&Value> = spans.iter().filter(|span| span["name"] == name).collect();
    let [found] = found[..] else { panic!("{name}: {spans:#?}") };
    found.clone()
}

/// What an attribute of a span says.
pub(crate) fn attribute(span: &Value, name: &str) -> Value {
    let attributes = span["attributes"].as_array().unwrap();
    let found = attributes.iter().find(|attribute| attribute["key"] == name);
    found.map_or(Value::Null, |attribute| {
        let value = &attribute["value"];
        value.get("stringValue").or(value.get("intValue")).cloned().unwrap()
    })
}

/// The context of a span, as its children are told.
pub(crate) fn traceparent(span: &Value) -> String {
    format!("00-{}-{}-01", span["traceId"].as_str().unwrap(), span["spanId"].as_str().unwrap())
}

impl TestApp {
    /// Pushes a message with these headers, which must be accepted; returns its id.
    pub(crate) async fn push_with(&self, queue: &str, headers: &[(&str, &str)]) -> String {
        let mut request = self.request(Method::POST, &format!("/queues/{queue}/messages"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.json(&json!({})).send().await.unwrap();
        assert_eq!(answer.status(), 201);
        answer.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned()
    }
}
