//! Every operator, on values that are there and on values that are not.

use super::*;
use serde_json::json;

fn read(filters: &Value) -> Result<Filters, Vec<(String, String)>> {
    let (mut read, mut violations) = (Filters::default(), Vec::new());
    let document = json!({ "filters": filters });
    Reader::within(&document, String::new(), &mut violations, |reader| read = Filters::read(reader));
    let found: Vec<_> = violations.into_iter().map(|found| (found.pointer, found.keyword)).collect();
    if found.is_empty() { Ok(read) } else { Err(found) }
}

/// Whether a filter on `payload.a` holds for this payload.
fn holds(operator: &str, value: &Value, payload: &Value) -> bool {
    holds_at("payload.a", operator, value, None, payload)
}

fn holds_at(path: &str, operator: &str, value: &Value, rule: Option<&str>, payload: &Value) -> bool {
    let mut filter = json!({ "path": path, "operator": operator, "value": value });
    if let Some(rule) = rule {
        filter["match_rule"] = json!(rule);
    }
    let filters = read(&json!([filter])).unwrap_or_else(|found| panic!("{operator} {value}: {found:?}"));
    filters.hold(&json!({ "message": "order:new", "message_id": "1", "payload": payload }))
}

#[test]
fn each_operator_says_what_it_is_called() {
    let a = |value: Value| json!({ "a": value });
    for (operator, value, yes, no) in [
        ("eq", json!("x"), vec![json!("x")], vec![json!("X"), json!(["x"]), json!(null)]),
        (
            "eq",
            json!(10),
            vec![json!(10), json!(10.0), json!("10"), json!("10.00")],
            vec![json!("ten"), json!([10])],
        ),
        ("eq", json!("10"), vec![json!(10), json!("10")], vec![json!("10.0"), json!(11)]),
        ("eq", json!("true"), vec![json!(true)], vec![json!(false), json!(1)]),
        ("eq", json!(null), vec![json!(null)], vec![json!(""), json!(0), json!(false)]),
        ("eq", json!({ "b": [1] }), vec![json!({ "b": [1] })], vec![json!({ "b": [1], "c": 1 })]),
        ("neq", json!("x"), vec![json!("y"), json!(null), json!(["x"])], vec![json!("x")]),
        (
            "gt",
            json!(10),
            vec![json!(10.5), json!("19.99"), json!(9_007_199_254_740_993_i64)],
            vec![json!(10), json!("9"), json!("inf"), json!(null), json!([11])],
        ),
        (
            "gt",
            json!(9_007_199_254_740_992_i64),
            vec![json!(9_007_199_254_740_993_i64)],
            vec![json!(9_007_199_254_740_992_i64)],
        ),
        (
            "gt",
            json!("2026-01-01"),
            vec![json!("2026-01-01T00:00:00Z")],
            vec![json!("2025-12-31"), json!(2027)],
        ),
        ("lt", json!(10), vec![json!(-1), json!("9.9"), json!("1e0")], vec![json!(10), json!("x")]),
        ("begin", json!("R1"), vec![json!("R12")], vec![json!("xR1"), json!(null), json!(["R1"])]),
        ("begin", json!("12"), vec![json!(123)], vec![json!(312)]),
        ("end", json!("2"), vec![json!("R12"), json!(12)], vec![json!("R21")]),
        (
            "contains",
            json!("b"),
            vec![json!("abc"), json!(["a", "b"])],
            vec![json!("ac"), json!(["abc"]), json!({ "b": 1 })],
        ),
        ("contains", json!(1), vec![json!([1]), json!(["1"]), json!("x1")], vec![json!([11]), json!([[1]])]),
        (
            "present",
            json!(null),
            vec![json!(0), json!(false), json!("x"), json!([null])],
            vec![json!(null), json!(""), json!([]), json!({})],
        ),
        (
            "empty",
            json!(null),
            vec![json!(null), json!(""), json!([]), json!({})],
            vec![json!(0), json!(false), json!(" ")],
        ),
        ("match", json!("^R\\d+$"), vec![json!("R12")], vec![json!("R"), json!("xR12"), json!(["R12"])]),
        ("match", json!("^4\\d\\d$"), vec![json!(404)], vec![json!(500)]),
    ] {
        for found in yes {
            assert!(holds(operator, &value, &a(found.clone())), "{found} {operator} {value}");
        }
        for found in no {
            assert!(!holds(operator, &value, &a(found.clone())), "not {found} {operator} {value}");
        }
    }
}

#[test]
fn where_there_is_nothing_only_empty_and_neq_hold() {
    for payload in [json!({}), json!({ "a": {} }), json!({ "a": [] }), json!({ "a": 1 })] {
        for (operator, holds) in [
            ("eq", false),
            ("neq", true),
            ("gt", false),
            ("lt", false),
            ("begin", false),
            ("contains", false),
            ("end", false),
            ("present", false),
            ("empty", true),
            ("match", false),
        ] {
            for rule in [None, Some("all"), Some("any")] {
                let found = holds_at("payload.a.*.b", operator, &json!("1"), rule, &payload);
                assert_eq!(found, holds, "{operator} {rule:?} {payload}");
            }
        }
    }
}

#[test]
fn of_several_values_all_or_any_must_be_so() {
    let payload = json!({ "items": [{ "sku": "a" }, { "sku": "b" }] });
    let sku = |operator, value: &str, rule| {
        holds_at("payload.items.*.sku", operator, &json!(value), rule, &payload)
    };
    assert!(sku("eq", "a", None) && sku("eq", "a", Some("any")) && !sku("eq", "a", Some("all")));
    assert!(!sku("neq", "a", None) && sku("neq", "a", Some("any")) && sku("neq", "c", None));
    assert!(sku("match", "^[ab]$", Some("all")) && !sku("gt", "a", Some("all")) && sku("gt", "a", None));
}

#[test]
fn all_filters_must_hold_and_they_see_key_and_id() {
    let filters = |second: &str| {
        read(&json!([
            { "path": "message", "operator": "end", "value": ":new" },
            { "path": "message_id", "operator": "eq", "value": second },
        ]))
    };
    let message = json!({ "message": "order:new", "message_id": "1", "payload": {} });
    assert!(filters("1").is_ok_and(|filters| filters.hold(&message)));
    assert!(filters("2").is_ok_and(|filters| !filters.hold(&message)));
    assert!(Filters::default().hold(&message));
}

#[test]
fn a_filter_that_cannot_be_is_refused_when_it_is_saved() {
    let one = |filter: Value| read(&json!([filter])).map(|_| ()).map_err(|found| found[0].clone());
    let at = |pointer: &str, keyword: &str| Err((format!("/filters/0{pointer}"), keyword.to_owned()));
    assert_eq!(one(json!(1)), at("", "type"));
    assert_eq!(one(json!({})), at("", "required"));
    assert_eq!(one(json!({ "path": "order", "operator": "empty" })), at("/path", "path"));
    assert_eq!(one(json!({ "path": "payload", "operator": "like", "value": 1 })), at("/operator", "enum"));
    assert_eq!(one(json!({ "path": "payload", "operator": "eq" })), at("", "required"));
    assert_eq!(one(json!({ "path": "payload", "operator": "eq", "value": null })), Ok(()));
    assert_eq!(one(json!({ "path": "payload", "operator": "gt", "value": [1] })), at("/value", "type"));
    assert_eq!(one(json!({ "path": "payload", "operator": "begin", "value": "" })), at("/value", "type"));
    assert_eq!(
        one(json!({ "path": "payload", "operator": "empty", "match_rule": "some" })),
        at("/match_rule", "enum")
    );
    assert_eq!(
        one(json!({ "path": "payload", "operator": "empty", "more": 1 })),
        at("/more", "additionalProperties")
    );
    for pattern in ["(", "(?=x)", "(a)\\1", "(\\w{1000}){1000}", &"a".repeat(1001), &"(".repeat(300)] {
        assert_eq!(
            one(json!({ "path": "payload", "operator": "match", "value": pattern })),
            at("/value", "regex")
        );
    }
    let many: Vec<Value> = vec![json!({ "path": "payload", "operator": "empty" }); 51];
    assert!(read(&json!(many)).is_err());
}

#[test]
fn what_patterns_look_at_is_bounded() {
    let pattern = |path: &str| json!({ "path": path, "operator": "match", "value": "^x+$" });
    let message = |length: usize| json!({ "payload": { "a": "x".repeat(length), "b": "x".repeat(length) } });
    let (one, two) =
        (read(&json!([pattern("payload.a")])), read(&json!([pattern("payload.a"), pattern("payload.b")])));
    let (one, two) = (one.unwrap_or_default(), two.unwrap_or_default());
    assert!(one.hold(&message(MOST_TEXT)) && !one.hold(&message(MOST_TEXT + 1)));
    assert!(two.hold(&message(MOST_TEXT / 2)) && !two.hold(&message(MOST_TEXT / 2 + 1)));
}
