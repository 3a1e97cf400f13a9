//! Spans as OTLP writes them in JSON: ids in hexadecimal, numbers of 64 bits as strings, enumerations as numbers.

use super::span::{Span, Value};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value as Json, json};

/// The status of a span that failed.
const ERROR: u8 = 2;

/// The body of a request that exports these spans of a process.
pub(super) fn request(resource: &[(String, String)], spans: &[Span]) -> Vec<u8> {
    let text = |text: &str| json!({ "stringValue": text });
    let resource: Vec<Json> =
        resource.iter().map(|(key, value)| json!({ "key": key, "value": text(value) })).collect();
    let spans: Vec<Json> = spans.iter().map(span).collect();
    let scope = json!({ "name": "postrider", "version": env!("CARGO_PKG_VERSION") });
    let document = json!({ "resourceSpans": [{
        "resource": { "attributes": resource },
        "scopeSpans": [{ "scope": scope, "spans": spans }],
    }] });
    document.to_string().into_bytes()
}

fn span(span: &Span) -> Json {
    let Span { name, kind, context, parent, started_at, took, attributes, failed } = span;
    let attribute = |(key, value): &(&'static str, Value)| {
        let value = match value {
            Value::Text(text) => json!({ "stringValue": text }),
            Value::Number(number) => json!({ "intValue": number.to_string() }),
        };
        json!({ "key": key, "value": value })
    };
    let id = |span: [u8; 8]| format!("{:016x}", u64::from_be_bytes(span));
    let ended_at = *started_at + TimeDelta::from_std(*took).unwrap_or_default();
    let mut written = json!({
        "traceId": context.trace_id(),
        "spanId": id(context.span),
        "flags": context.flags,
        "name": name,
        "kind": *kind as u8,
        "startTimeUnixNano": nanoseconds(*started_at),
        "endTimeUnixNano": nanoseconds(ended_at),
        "attributes": attributes.iter().map(attribute).collect::<Vec<_>>(),
        "status": if *failed { json!({ "code": ERROR }) } else { json!({}) },
    });
    if let Some(parent) = parent {
        written["parentSpanId"] = id(parent.span).into();
    }
    if let Some(state) = &context.state {
        written["traceState"] = (**state).into();
    }
    written
}

/// Since 1970, as a string: JSON's numbers are not made for it.
fn nanoseconds(at: DateTime<Utc>) -> String {
    // Until 2262.
    at.timestamp_nanos_opt().unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traces::{Context, Kind};
    use std::time::Duration;

    #[test]
    fn a_span_is_written_as_the_protocol_has_it() {
        let parent = Context::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        let Some(parent) = parent else { unreachable!("it is well-formed") };
        let span = Span {
            name: "process q".to_owned(),
            kind: Kind::Consumer,
            context: parent.with([0, 0, 0, 0, 0, 0, 0, 10], true),
            parent: Some(parent),
            started_at: DateTime::from_timestamp(1_800_000_000, 5).unwrap_or_default(),
            took: Duration::from_millis(2),
            attributes: vec![("messaging.system", "postrider".into()), ("postrider.attempt", 7_i64.into())],
            failed: true,
        };
        let body = request(&[("service.name".to_owned(), "shop".to_owned())], &[span]);
        let body: Json = serde_json::from_slice(&body).unwrap_or_default();
        let spans = &body["resourceSpans"][0];
        assert_eq!(
            spans["resource"]["attributes"],
            json!([{ "key": "service.name", "value": { "stringValue": "shop" } }])
        );
        assert_eq!(
            spans["scopeSpans"][0]["spans"],
            json!([{
                "traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
                "spanId": "000000000000000a",
                "parentSpanId": "00f067aa0ba902b7",
                "flags": 1,
                "name": "process q",
                "kind": 5,
                "startTimeUnixNano": "1800000000000000005",
                "endTimeUnixNano": "1800000000002000005",
                "attributes": [
                    { "key": "messaging.system", "value": { "stringValue": "postrider" } },
                    { "key": "postrider.attempt", "value": { "intValue": "7" } },
                ],
                "status": { "code": 2 },
            }])
        );
    }
}
