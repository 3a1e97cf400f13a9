//! The bytes of a service request.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use super::*;

fn raw(text: &str) -> Box<RawValue> {
    serde_json::from_str(text).unwrap()
}

fn parameter(name: &str, value: &str) -> Parameter {
    Parameter { name: name.to_owned(), value: raw(value), secret: false, former: Vec::new() }
}

fn sent(payload: &str, parameters: &[Parameter]) -> String {
    let payload = raw(payload);
    let message = Message { id: Uuid::nil(), key: "order:new", payload: &payload };
    let body = document(message, "s1", parameters);
    String::from_utf8(body.to_vec()).unwrap()
}

const HEAD: &str = r#"{"message":"order:new","message_id":"00000000-0000-0000-0000-000000000000","store_id":"s1","payload":"#;

#[test]
fn the_members_of_the_payload_keep_their_bytes() {
    let payload = "{ \"b\" : 1.0,\n \"\\u0061\":{\"x\" : [ ], \"n\":1e400, \"s\":\"\\u00e9\\/\" },\"b\":12345678901234567890123 }";
    let expected = format!(
        "{HEAD}{{\"b\":1.0,\"\\u0061\":{{\"x\" : [ ], \"n\":1e400, \"s\":\"\\u00e9\\/\" }},\"b\":12345678901234567890123,\"parameters\":[]}}}}"
    );
    assert_eq!(sent(payload, &[]), expected);
}

#[test]
fn the_payload_is_an_object_and_the_parameters_a_list_even_when_there_are_none() {
    assert_eq!(sent("{}", &[]), format!("{HEAD}{{\"parameters\":[]}}}}"));
    let list = r#"[ {"standard":"UPS Next Day"} ]"#;
    let parameters = [parameter("api_key", "\"12\\\"34\""), parameter("lookup", list)];
    assert_eq!(
        sent("{}", &parameters),
        format!(
            r#"{HEAD}{{"parameters":[{{"name":"api_key","value":"12\"34"}},{{"name":"lookup","value":{list}}}]}}}}"#
        )
    );
}

#[test]
fn what_is_linked_overrides_what_was_pushed_name_by_name() {
    let expected = format!(
        r#"{HEAD}{{"order":{{}},"parameters":[{{"name":"mine","value":[1]}},{{"name":"api_key","value":"ours"}}]}}}}"#
    );
    let linked = [parameter("api_key", "\"ours\"")];
    for pushed in [
        r#"[{"name":"api_key","value":"theirs"},{"name":"mine","value":[1]}]"#,
        r#"{"api_key":"theirs","mine":[1]}"#,
    ] {
        for key in ["parameters", r"p\u0061rameters"] {
            assert_eq!(sent(&format!(r#"{{"order":{{}},"{key}":{pushed}}}"#), &linked), expected);
        }
    }
    assert_eq!(sent(r#"{"parameters":7}"#, &[]), format!("{HEAD}{{\"parameters\":[]}}}}"));
}

#[test]
fn a_service_is_a_path_below_the_endpoint_whose_query_stays() {
    for (base, service, expected) in [
        ("https://e.example", "ship", "https://e.example/ship"),
        ("https://e.example/", "/ship", "https://e.example/ship"),
        ("https://e.example/v1/", "ship/now", "https://e.example/v1/ship/now"),
        ("https://e.example/v1?key=1", "ship", "https://e.example/v1/ship?key=1"),
        ("https://e.example/v1?key=1", "ship?a=b", "https://e.example/v1/ship?key=1&a=b"),
        ("https://e.example/v1", "", "https://e.example/v1"),
        ("https://e.example/v1#x", "a b", "https://e.example/v1/a%20b"),
    ] {
        assert_eq!(url(&base.parse().unwrap(), service).as_str(), expected, "{base} {service}");
    }
}
