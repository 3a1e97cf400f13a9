//! Which answers count as what.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use super::*;
use axum::http::{HeaderMap, HeaderValue, header};

const ID: &str = "0198c0de-0000-7000-8000-000000000001";
const NOW: &str = "2026-11-21T10:00:00Z";

fn decided(
    ack: Ack,
    allowed: Option<&[Pattern]>,
    status: u16,
    header: Option<&'static str>,
    body: &str,
) -> Verdict {
    let url: Url = "https://e.example:8443/v1/ship?k=1".parse().unwrap();
    let (id, wire, now) = (ID.parse().unwrap(), Wire::Messages, NOW.parse().unwrap());
    let asked = Asked { id, ack, wire, allowed, url: &url, now };
    let mut headers = HeaderMap::new();
    headers.extend(header.map(|value| (header::RETRY_AFTER, HeaderValue::from_static(value))));
    let body = body.replace("ID", &format!("\"{ID}\"")).into_bytes().into();
    let reply = Reply { status: StatusCode::from_u16(status).unwrap(), headers, body };
    decide(asked, Ok((&reply, Answer::read(&reply.body))))
}

fn strict(status: u16, body: &str) -> Verdict {
    decided(Ack::Strict, None, status, None, body)
}

fn failed(verdict: Verdict) -> Failed {
    let Verdict::Failed(failed) = verdict else { panic!("{verdict:?}") };
    failed
}

fn delivered(verdict: Verdict) -> Delivered {
    let Verdict::Delivered(delivered) = verdict else { panic!("{verdict:?}") };
    delivered
}

fn deferred(body: &str) -> (Duration, Option<String>) {
    match strict(200, body) {
        Verdict::Deferred { after, continue_url, .. } => (after, continue_url),
        verdict => panic!("{verdict:?}"),
    }
}

#[test]
fn only_200_with_our_id_is_delivered() {
    delivered(strict(200, r#"{"message_id":ID}"#));
    for status in [201, 202, 204, 299, 301, 302, 307, 308, 400, 404, 409, 410, 422, 429, 500, 503, 599] {
        let failed = failed(strict(status, r#"{"message_id":ID}"#));
        assert!(failed.error.contains(&status.to_string()), "{}", failed.error);
        assert_eq!(failed.gone, status == 410);
    }
    for (body, words) in [
        ("", "message_id"),
        ("<html>", "JSON"),
        ("{}", "message_id"),
        (r#"{"message_id":"0198c0de-0000-7000-8000-000000000002"}"#, "message_id"),
    ] {
        assert!(failed(strict(200, body)).error.contains(words), "{body}");
    }
    assert!(failed(strict(200, &"[".repeat(1000))).error.contains("deep"));
}

/// What failed under `strict`, by its cause and its words.
fn refused(status: u16, headers: &[(header::HeaderName, &'static str)], body: &str) -> (Cause, String) {
    let url: Url = "https://e.example/".parse().unwrap();
    let asked = Asked {
        id: ID.parse().unwrap(),
        ack: Ack::Strict,
        wire: Wire::Messages,
        allowed: None,
        url: &url,
        now: NOW.parse().unwrap(),
    };
    let headers = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
    let body = body.replace("ID", &format!("\"{ID}\"")).into_bytes().into();
    let reply = Reply { status: StatusCode::from_u16(status).unwrap(), headers: headers.collect(), body };
    let failed = failed(decide(asked, Ok((&reply, Answer::read(&reply.body)))));
    (failed.cause.unwrap(), failed.error)
}

#[test]
fn what_ordinary_handlers_answer_is_told_what_counts_and_what_would_let_it_count() {
    const HTML: &[(header::HeaderName, &str)] = &[(header::CONTENT_TYPE, "text/html; charset=utf-8")];
    for (status, headers, body, cause) in [
        // Flask, Express, Sinatra, PHP and Go, as their handlers answer who says nothing more.
        (200, HTML, "ok", Cause::NotJson),
        (200, &[(header::CONTENT_TYPE, "application/json")], r#"{"ok":true}"#, Cause::NoMessageId),
        (200, HTML, "", Cause::NoMessageId),
        (200, HTML, "<html><body>ok</body></html>", Cause::NotJson),
        (204, &[], "", Cause::NoMessageId),
        (201, &[], r#"{"id":7}"#, Cause::NoMessageId),
        (202, &[], r#"{"message_id":ID}"#, Cause::Status),
        (200, &[], r#"{"message_id":"0198c0de-0000-7000-8000-000000000002"}"#, Cause::OtherMessageId),
        (200, &[(header::CONTENT_ENCODING, "gzip")], "\u{1f}x", Cause::Encoded),
    ] {
        let (found, words) = refused(status, headers, body);
        assert_eq!(found, cause, "{status} {body}: {words}");
        assert!(words.starts_with(&format!("{cause}: ")) && words.contains(&status.to_string()), "{words}");
        assert!(words.contains("200 and a JSON body with our message_id"), "{words}");
        assert!(words.contains(r#""ack": "lenient""#), "{words}");
    }
}

#[test]
fn what_is_no_success_in_any_mapping_is_not_told_to_be_lenient() {
    let (cause, words) = refused(307, &[(header::LOCATION, "https://elsewhere.example/hook")], "");
    assert_eq!(
        (cause, words.contains("to https://elsewhere.example/hook")),
        (Cause::Redirect, true),
        "{words}"
    );
    for status in [304, 400, 404, 410, 500] {
        let (cause, words) = refused(status, &[], r#"{"message_id":ID}"#);
        assert_eq!((cause, words.contains("lenient")), (Cause::Status, false), "{words}");
    }
}

#[test]
fn without_a_reply_it_has_failed_in_coarse_words() {
    let url = "https://e.example".parse().unwrap();
    let asked = Asked {
        id: Uuid::nil(),
        ack: Ack::Lenient,
        wire: Wire::Messages,
        allowed: None,
        url: &url,
        now: NOW.parse().unwrap(),
    };
    for cause in [Cause::Timeout, Cause::Dns, Cause::BodyTooLarge, Cause::AddressNotAllowed] {
        let failed = failed(decide(asked, Err(&Failure::new(cause, "no"))));
        assert_eq!((failed.cause, failed.error, failed.gone), (Some(cause), format!("{cause}: no"), false));
    }
}

#[test]
fn lenient_is_any_2xx_and_reads_what_names_our_id() {
    for (status, body) in
        [(200, ""), (201, "ok"), (202, r#"{"message":"thank you"}"#), (204, ""), (299, "{}")]
    {
        let taken = delivered(decided(Ack::Lenient, None, status, None, body));
        assert!(taken.children.is_empty() && taken.notes.is_empty(), "{body}");
    }
    let taken = delivered(decided(Ack::Lenient, None, 201, None, r#"{"message_id":ID,"message":"a:b"}"#));
    assert_eq!(taken.children.len(), 1);
    for status in [301, 400, 500] {
        failed(decided(Ack::Lenient, None, status, None, ""));
    }
}

#[test]
fn an_error_notification_is_a_business_error_and_all_three_are_noted() {
    let taken = delivered(strict(
        200,
        r#"{"message_id":ID,"messages":[{"message":"notification:error","payload":{"subject":"no"}}]}"#,
    ));
    assert!(taken.business_error && taken.notes.len() == 1 && taken.children.len() == 1);
    let taken =
        delivered(strict(200, r#"{"message_id":ID,"notifications":[{"level":"error","subject":"no"}]}"#));
    assert!(taken.business_error && taken.notes.len() == 1 && taken.children.len() == 1);
    let taken = delivered(strict(200, r#"{"message_id":ID,"message":"notification:warn"}"#));
    assert!(!taken.business_error && taken.notes.len() == 1);
    assert_eq!(delivered(strict(200, r#"{"message_id":ID,"messages":[1,2]}"#)).notes[0].level, Level::Warn);
}

#[test]
fn of_a_failure_only_what_it_says_to_people_is_kept() {
    let body = r#"{"message_id":ID,"messages":[{"message":"notification:error"},{"message":"a:b"}],
        "parameters":[{"name":"since","value":1}],"notifications":[{"level":"warn","subject":"s"}],"error":"down"}"#;
    let failed = failed(strict(500, body));
    let notes: Vec<_> = failed.notes.iter().map(|note| (note.level, note.description.as_str())).collect();
    assert_eq!(notes, [(Level::Warn, ""), (Level::Error, "down")]);
}

#[test]
fn a_delay_alone_puts_off_and_with_messages_it_does_not() {
    assert_eq!(deferred(r#"{"message_id":ID,"delay":60}"#), (Duration::from_mins(1), None));
    assert_eq!(deferred(r#"{"message_id":ID,"delay":0}"#), (Duration::from_secs(1), None));
    assert_eq!(deferred(r#"{"message_id":ID,"delay":1e9}"#), (Duration::from_hours(24), None));
    delivered(strict(200, r#"{"message_id":ID,"delay":60,"messages":[{"message":"a:b"}]}"#));
    failed(strict(500, r#"{"message_id":ID,"delay":60}"#));
}

#[test]
fn an_update_url_leads_to_the_same_host_or_nowhere() {
    for (url, expected) in [
        ("https://e.example:8443/status/1", "https://e.example:8443/status/1"),
        ("/status/1?a=b", "https://e.example:8443/status/1?a=b"),
        ("status", "https://e.example:8443/v1/status"),
    ] {
        let body = format!(r#"{{"message_id":ID,"delay":5,"update_url":"{url}"}}"#);
        assert_eq!(deferred(&body), (Duration::from_secs(5), Some(expected.to_owned())));
    }
    for url in [
        "https://evil.example/status",
        "http://e.example:8443/",
        "https://e.example/",
        "//evil.example/x",
        "file:///etc/passwd",
        "https://user:x@e.example:8443/",
        "data:,x",
        "https://e.example:8443@evil.example/",
    ] {
        let body = format!(r#"{{"message_id":ID,"delay":5,"update_url":"{url}"}}"#);
        let refused = failed(strict(200, &body));
        assert!(refused.error.contains("another host") && refused.is_final, "{url}");
    }
}

#[test]
fn an_answer_may_bring_a_thousand_messages_and_asking_again_for_more_helps_nobody() {
    let body = |count: usize| {
        format!(r#"{{"message_id":ID,"messages":[{}]}}"#, vec![r#"{"message":"a:b"}"#; count].join(","))
    };
    assert_eq!(delivered(strict(200, &body(1000))).children.len(), 1000);
    let too_many = failed(strict(200, &body(1001)));
    assert!(too_many.is_final && too_many.error.contains("1001"), "{too_many:?}");
}

#[test]
fn what_the_mapping_does_not_allow_is_kept_aside() {
    let allowed = [Pattern::read("order:*").unwrap()];
    let body = r#"{"message_id":ID,"messages":[{"message":"order:new"},{"message":"payment:capture"}]}"#;
    let taken = delivered(decided(Ack::Strict, Some(&allowed), 200, None, body));
    assert!(taken.children[0].parked.is_none() && taken.children[1].parked.is_some());
}

#[test]
fn who_is_sent_the_bare_payload_has_nothing_to_say_to_the_hub_though_it_names_our_id() {
    let url: Url = "https://e.example/".parse().unwrap();
    let (id, ack, wire, now) = (ID.parse().unwrap(), Ack::Lenient, Wire::Raw, NOW.parse().unwrap());
    let asked = Asked { id, ack, wire, allowed: None, url: &url, now };
    let body = format!(r#"{{"message_id":"{ID}","message":"order:new","delay":5,"parameters":{{"a":1}}}}"#);
    let reply = Reply { status: StatusCode::ACCEPTED, headers: HeaderMap::new(), body: body.into() };
    let taken = delivered(decide(asked, Ok((&reply, Answer::read(&reply.body)))));
    assert!(taken.children.is_empty() && taken.parameters.is_empty() && taken.notes.is_empty());
    assert!(matches!(
        decide(asked, Ok((&Reply { status: StatusCode::CONFLICT, ..reply }, Answer::read(b"")))),
        Verdict::Failed(_)
    ));
}

#[test]
fn retry_after_is_seconds_or_a_date_and_an_hour_at_most() {
    for (header, seconds) in [
        ("7", Some(7)),
        ("0", Some(0)),
        ("999999", Some(3600)),
        ("soon", None),
        ("-1", None),
        ("Sat, 21 Nov 2026 10:00:30 GMT", Some(30)),
        ("Sat, 21 Nov 2026 23:00:00 GMT", Some(3600)),
        ("Sat, 21 Nov 2026 09:00:00 GMT", None),
    ] {
        let failed = failed(decided(Ack::Strict, None, 503, Some(header), ""));
        assert_eq!(failed.retry_after, seconds.map(Duration::from_secs), "{header}");
    }
}
