//! Contexts, well-formed and not.

use super::*;

const WELL: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn sent(headers: &[(&'static str, &str)]) -> Option<Context> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::from_static(name), HeaderValue::from_str(value).ok()?);
    }
    Context::of(&map)
}

#[test]
fn a_context_is_read_stored_and_sent_as_it_came() {
    let context = sent(&[("traceparent", WELL), ("tracestate", "a=1"), ("tracestate", "b=2")]);
    let context = context.and_then(|context| Context::of_stored(&context.stored()));
    let mut headers = HeaderMap::new();
    if let Some(context) = context {
        context.send(&mut headers);
    }
    assert_eq!(headers.get("traceparent").map(HeaderValue::as_bytes), Some(WELL.as_bytes()));
    assert_eq!(headers.get("tracestate").map(HeaderValue::as_bytes), Some(b"a=1,b=2".as_slice()));
    let plain = Context::parse(WELL);
    assert_eq!(plain.map(|plain| plain.stored().len()), Some(BYTES));
}

#[test]
fn what_breaks_the_specification_counts_as_nothing() {
    for wrong in [
        "",
        "00",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
        "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "0x-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ä1",
    ] {
        assert_eq!(Context::parse(wrong), None, "{wrong}");
    }
    assert_eq!(sent(&[("traceparent", WELL), ("traceparent", WELL)]), None);
}

#[test]
fn a_version_to_come_is_read_by_the_fields_that_all_have_and_sent_on_as_ours() {
    for newer in [
        "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-fd-what-is-more",
    ] {
        assert_eq!(Context::parse(newer).map(|context| context.to_string()).as_deref(), Some(WELL));
    }
}

#[test]
fn a_tracestate_that_is_too_long_is_left_out_and_its_trace_goes_on() {
    let long = "a".repeat(LONGEST + 1);
    let context = sent(&[("traceparent", WELL), ("tracestate", &long)]);
    assert!(context.is_some_and(|context| context.state.is_none()));
}
