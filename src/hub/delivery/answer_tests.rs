//! Answers in all the shapes that real endpoints give, and in some that they should not.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use super::*;
use serde_json::{Value, json};

const ID: &str = "0198c0de-0000-7000-8000-000000000001";

fn read(body: &str) -> Answer {
    let answer = Answer::read(body.replace("ID", &format!("\"{ID}\"")).as_bytes()).unwrap();
    assert!(answer.acknowledges(ID.parse().unwrap()), "{body}");
    answer
}

/// Keys and payloads of the children that can be routed.
fn children(body: &str) -> Vec<(String, Value)> {
    let answer = read(body);
    assert_eq!(answer.unread, 0, "{body}");
    assert!(answer.children.iter().all(|child| child.parked.is_none()), "{body}");
    let pair = |child: &Child| (child.key.clone(), serde_json::from_str(child.payload.get()).unwrap());
    answer.children.iter().map(pair).collect()
}

#[test]
fn the_bare_id_acknowledges() {
    for body in [
        r#"{"message_id":ID}"#,
        "\u{feff} {\"message_id\": ID }\n",
        r#"{"a":1,"message_id":ID,"messages":null}"#,
    ] {
        assert_eq!(children(body), []);
    }
    assert_eq!(children(&format!(r#"{{"message_id":"{}"}}"#, ID.to_uppercase())), []);
}

#[test]
fn what_does_not_name_the_id_does_not_acknowledge() {
    for body in [
        "{}",
        "[]",
        r#"{"message_id":null}"#,
        r#"{"message_id":1}"#,
        r#"{"message_id":[ID]}"#,
        r#"{"message_id":"0198c0de-0000-7000-8000-000000000002"}"#,
        r#"{"messages":[{"message_id":ID}]}"#,
        r#"{"payload":{"message_id":ID}}"#,
    ] {
        let answer = Answer::read(body.replace("ID", &format!("\"{ID}\"")).as_bytes());
        assert!(answer.is_ok_and(|answer| !answer.acknowledges(ID.parse().unwrap())), "{body}");
    }
}

#[test]
fn a_list_of_messages_gives_children() {
    let body = r#"{"message_id":ID,"messages":[
        {"message":"notification:info","payload":{"subject":"s"}}, {"message":"payment:capture","payload":null},
        {"message":"a:b","message_id":"its own","payload":{"x":1.0}}]}"#;
    let expected = [
        ("notification:info", json!({"subject":"s"})),
        ("payment:capture", json!({})),
        ("a:b", json!({"x":1.0})),
    ];
    assert_eq!(children(body), expected.map(|(key, payload)| (key.to_owned(), payload)));
    assert_eq!(
        children(r#"{"message_id":ID,"messages":{"message":"a:b"}}"#),
        [("a:b".to_owned(), json!({}))]
    );
}

#[test]
fn a_single_message_may_stand_beside_the_id() {
    let expected = [("product:in_stock".to_owned(), json!({"sku":"x"}))];
    assert_eq!(children(r#"{"message_id":ID,"message":"product:in_stock","payload":{"sku":"x"}}"#), expected);
    assert_eq!(children(r#"{"message":"a:b","message_id":ID}"#), [("a:b".to_owned(), json!({}))]);
}

#[test]
fn an_array_acknowledges_with_every_element() {
    let body = r#"[{"message_id":ID,"message":"order:import","payload":{"n":1}},{"message_id":ID,"message":"order:import"}]"#;
    let expected = [("order:import".to_owned(), json!({"n":1})), ("order:import".to_owned(), json!({}))];
    assert_eq!(children(body), expected);
    assert_eq!(children(r#"[{"message_id":ID}]"#), []);
}

#[test]
fn a_payload_keeps_its_bytes() {
    let answer = read(
        "{\"message_id\":ID,\"messages\":[{\"message\":\"a:b\",\"payload\":{ \"b\" : 1.0, \"a\":\"\\u00e9\" }}]}",
    );
    assert_eq!(answer.children[0].payload.get(), "{ \"b\" : 1.0, \"a\":\"\\u00e9\" }");
}

#[test]
fn what_cannot_be_routed_is_kept_aside_or_counted() {
    let answer = read(
        r#"{"message_id":ID,"messages":[{"message":"Order New"},{"message":"a:b","payload":[1]},7,{"payload":{}},{"message":""},{"message":3}]}"#,
    );
    assert!(answer.children.iter().all(|child| child.parked.is_some()));
    assert_eq!((answer.children.len(), answer.unread), (2, 4));
    let long = format!(r#"{{"message_id":ID,"message":"{}"}}"#, "é".repeat(1000));
    assert_eq!(read(&long).children[0].key.chars().count(), LONGEST_KEY);
}

#[test]
fn a_delay_belongs_to_the_message_it_stands_beside() {
    let answer = read(r#"{"message_id":ID,"message":"a:b","delay":1.5}"#);
    assert_eq!((answer.children[0].delay, answer.delay), (Duration::from_millis(1500), None));
    let answer = read(r#"{"message_id":ID,"delay":"60","update_url":"/status/1"}"#);
    assert_eq!(answer.delay, Some(Duration::from_mins(1)));
    assert_eq!(answer.update_url.as_deref(), Some("/status/1"));
    for (delay, expected) in [
        ("-5", Some(Duration::ZERO)),
        ("1e300", Some(LONGEST_DELAY)),
        ("\"soon\"", None),
        ("null", None),
        ("\"NaN\"", Some(Duration::ZERO)),
    ] {
        assert_eq!(read(&format!(r#"{{"message_id":ID,"delay":{delay}}}"#)).delay, expected, "{delay}");
    }
}

#[test]
fn notifications_are_messages_too() {
    let answer = read(
        r#"{"message_id":ID,"notifications":[{"level":"error","subject":"s","description":"d","reference_type":"order","reference_id":7},{"subject":"t"},5]}"#,
    );
    let [error, info] = &answer.notifications[..] else { panic!("two") };
    assert_eq!((error.key.as_str(), info.key.as_str()), ("notification:error", "notification:info"));
    assert_eq!(
        error.payload.get(),
        r#"{"subject":"s","description":"d","reference_type":"order","reference_id":7}"#
    );
    let reference = (Some("order".to_owned()), Some("7".to_owned()));
    let (level, subject, description) = (Level::Error, "s".to_owned(), "d".to_owned());
    assert_eq!(error.note(), Some(Note { level, subject, description, reference }));
    assert_eq!(info.note().map(|note| (note.level, note.subject)), Some((Level::Info, "t".to_owned())));
}

#[test]
fn only_notifications_of_a_known_level_are_for_the_log() {
    let answer = read(
        r#"{"message_id":ID,"messages":[{"message":"notification:warn"},{"message":"notification:critical"},{"message":"notification:other"},{"message":"a:b"}]}"#,
    );
    let notes = answer.children.iter().filter_map(Child::note).map(|note| (note.level, note.subject));
    let expected = [(Level::Warn, "notification:warn"), (Level::Error, "notification:critical")];
    assert_eq!(notes.collect::<Vec<_>>(), expected.map(|(level, subject)| (level, subject.to_owned())));
}

#[test]
fn a_level_is_the_nearest_of_the_three_and_an_unknown_one_is_a_warning() {
    for (level, key) in [
        (r#""critical""#, "notification:error"),
        (r#""FATAL""#, "notification:error"),
        (r#""Warning""#, "notification:warn"),
        (r#""severity 1""#, "notification:warn"),
        ("7", "notification:warn"),
        (r#""notice""#, "notification:info"),
        (r#""""#, "notification:info"),
        ("null", "notification:info"),
    ] {
        let answer = read(&format!(r#"{{"message_id":ID,"notifications":[{{"level":{level}}}]}}"#));
        assert_eq!(answer.notifications[0].key, key, "{level}");
    }
}

#[test]
fn a_notification_keeps_its_words_whatever_they_are_called() {
    for (members, subject, description) in [
        (r#""summary":"s""#, "s", ""),
        (r#""result":"r""#, "r", ""),
        (r#""result":"r","summary":"s""#, "s", "r"),
        (r#""subject":"t","result":{"code":7}"#, "t", r#"{"code":7}"#),
        (r#""subject":"t","description":"d","summary":"s""#, "t", "d"),
    ] {
        let answer = read(&format!(r#"{{"message_id":ID,"notifications":[{{{members}}}]}}"#));
        let note = answer.notifications[0].note().unwrap();
        assert_eq!((note.subject.as_str(), note.description.as_str()), (subject, description), "{members}");
    }
}

#[test]
fn nobody_but_the_hub_makes_its_messages() {
    let answer = read(r#"{"message_id":ID,"message":"hub:delivery_parked","payload":{}}"#);
    assert_eq!(answer.children[0].parked.as_deref(), Some("keys that begin with hub: are the hub's own"));
}

#[test]
fn parameters_are_read_and_an_error_is_words() {
    let answer = read(r#"{"message_id":ID,"parameters":[{"name":"since","value":"x"}],"error":{"code":7}}"#);
    assert_eq!(answer.parameters.len(), 1);
    assert_eq!(answer.error.as_deref(), Some(r#"{"code":7}"#));
}

#[test]
fn what_is_no_json_or_nests_too_deep_says_nothing() {
    for body in [
        "",
        "<html>",
        "7",
        "\"x\"",
        "null",
        "{\"message_id\":",
        "{} {}",
        "{\"a\":\"\u{1}\"}",
        "[{\"a\":\"\0\"}]",
    ] {
        assert_eq!(Answer::read(body.as_bytes()).err(), Some(Unreadable::NotJson), "{body}");
    }
    assert_eq!(Answer::read(b"{\"a\":\"\xff\"}").err(), Some(Unreadable::NotJson));
    assert_eq!(Answer::read("[".repeat(1 << 20).as_bytes()).err(), Some(Unreadable::TooDeep));
    assert_eq!(Answer::read("{\"a\":".repeat(1000).as_bytes()).err(), Some(Unreadable::TooDeep));
}

#[test]
fn the_last_of_two_members_counts_and_payloads_stand_as_they_are() {
    assert_eq!(children(r#"{"message_id":"x","message_id":ID}"#), []);
    let answer = read(
        "{\"message_id\":ID,\"messages\":[{\"message\":\"a:b\",\"payload\":{\"a\":\"\\u0000\\ud800\"}}]}",
    );
    assert_eq!(answer.children[0].payload.get(), r#"{"a":"\u0000\ud800"}"#);
}
