//! What became of a record since it was last seen, and the message that tells.

use super::definition::Collection;
use super::page::text;
use crate::http::json_text::{members, to_string, to_value};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use std::collections::BTreeMap;

/// A message about a record.
#[derive(Debug)]
pub struct Change {
    /// Its key.
    pub key: String,
    /// `{<payload>: record}`, and for a change `previous` and `diff`: field by field the former and the new value.
    pub payload: Box<RawValue>,
}

/// Compares a record with what was last seen of it; `None` when nothing changed.
///
/// # Errors
/// One of them is no JSON object.
pub fn change(
    collection: &Collection,
    previous: Option<&RawValue>,
    record: &RawValue,
) -> serde_json::Result<Option<Change>> {
    let Some(previous) = previous else {
        let payload = to_raw_value(&BTreeMap::from([(collection.payload.as_str(), record)]))?;
        return Ok(Some(Change { key: format!("{}:new", collection.key), payload }));
    };
    let (former, now) = (value(previous), value(record));
    if former == now {
        return Ok(None);
    }
    let diff = to_raw_value(&diff(previous, record))?;
    let members =
        BTreeMap::from([(collection.payload.as_str(), record), ("previous", previous), ("diff", &diff)]);
    Ok(Some(Change { key: key(collection, &former, &now), payload: to_raw_value(&members)? }))
}

/// The key of a change: that of the first rule that fits, or the general one.
fn key(collection: &Collection, former: &Value, now: &Value) -> String {
    let state = |record: &Value| record.get(&collection.state).and_then(text);
    let (from, to) = (state(former), state(now));
    let rule = collection.rules.iter().find(|rule| {
        from != to
            && to.as_ref() == Some(&rule.to)
            && rule.from.as_ref().is_none_or(|wanted| from.as_ref() == Some(wanted))
    });
    rule.map_or_else(|| format!("{}:update", collection.key), |rule| rule.message.clone())
}

/// The fields that differ, each with its former and its new value; `null` where there was none.
fn diff(previous: &RawValue, record: &RawValue) -> BTreeMap<String, [Box<RawValue>; 2]> {
    let (former, now) = (fields(previous), fields(record));
    let mut diff = BTreeMap::new();
    for name in former.keys().chain(now.keys()) {
        let (before, after) = (former.get(name), now.get(name));
        let value = |side: Option<&Box<RawValue>>| side.map(|raw| value(raw));
        if value(before) != value(after) {
            let side =
                |side: Option<&Box<RawValue>>| side.cloned().unwrap_or_else(|| RawValue::NULL.to_owned());
            diff.insert(name.clone(), [side(before), side(after)]);
        }
    }
    diff
}

fn fields(record: &RawValue) -> BTreeMap<String, Box<RawValue>> {
    let members = members(record).unwrap_or_default();
    members.into_iter().filter_map(|(name, value)| Some((to_string(name)?, value.to_owned()))).collect()
}

fn value(raw: &RawValue) -> Value {
    to_value(raw.get()).unwrap_or_default()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;
    use crate::hub::polling::definition::Rule;
    use serde_json::json;

    fn orders() -> Collection {
        let rule = |from: Option<&str>, to: &str, message: &str| Rule {
            from: from.map(str::to_owned),
            to: to.to_owned(),
            message: message.to_owned(),
        };
        Collection {
            name: "orders".to_owned(),
            path: "orders".to_owned(),
            id: "number".to_owned(),
            updated: "updated_at".to_owned(),
            key: "order".to_owned(),
            payload: "order".to_owned(),
            state: "state".to_owned(),
            rules: vec![
                rule(Some("complete"), "canceled", "order:cancel"),
                rule(None, "returned", "order:return"),
            ],
        }
    }

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    fn told(previous: Option<&str>, record: &str) -> Option<(String, String)> {
        let previous = previous.map(raw);
        let change = change(&orders(), previous.as_deref(), &raw(record)).unwrap()?;
        Some((change.key, change.payload.get().to_owned()))
    }

    #[test]
    fn an_unknown_record_is_new_as_it_was_given() {
        let (key, payload) = told(None, r#"{"number":"R1", "total":19.90}"#).unwrap();
        assert_eq!(
            (key.as_str(), payload.as_str()),
            ("order:new", r#"{"order":{"number":"R1", "total":19.90}}"#)
        );
    }

    #[test]
    fn a_changed_record_comes_with_what_it_was_and_what_differs() {
        let (key, payload) = told(
            Some(r#"{"number":"R1","total":19.90,"gone":1,"items":[{"n":1}],"same":{"a":1,"b":2}}"#),
            r#"{"number":"R1","total":20.00,"new":null,"items":[{"n":2}],"same":{"b":2,"a":1}}"#,
        )
        .unwrap();
        assert_eq!(key, "order:update");
        let diff = r#"{"diff":{"gone":[1,null],"items":[[{"n":1}],[{"n":2}]],"new":[null,null],"total":[19.90,20.00]},"#;
        assert!(payload.starts_with(diff), "{payload}");
        let payload: Value = serde_json::from_str(&payload).unwrap();
        assert_eq!((&payload["order"]["total"], &payload["previous"]["total"]), (&json!(20.0), &json!(19.9)));
    }

    #[test]
    fn a_record_that_is_only_written_differently_has_not_changed() {
        assert_eq!(told(Some(r#"{"a":1,"b":[1,2]}"#), r#"{ "b": [1, 2], "a": 1 }"#), None);
        assert!(told(Some(r#"{"a":1,"b":[1,2]}"#), r#"{"a":1,"b":[2,1]}"#).is_some());
    }

    #[test]
    fn a_rule_stands_in_for_the_general_message() {
        let key = |from: Value, to: Value| {
            let record = |state: &Value, n: u8| json!({ "number": "R1", "state": state, "n": n }).to_string();
            told(Some(&record(&from, 1)), &record(&to, 2)).unwrap().0
        };
        assert_eq!(key(json!("complete"), json!("canceled")), "order:cancel");
        assert_eq!(key(json!("cart"), json!("canceled")), "order:update");
        assert_eq!(key(json!("canceled"), json!("canceled")), "order:update");
        assert_eq!(key(json!("cart"), json!("returned")), "order:return");
        assert_eq!(key(json!(null), json!("returned")), "order:return");
        assert_eq!(key(json!("returned"), json!("returned")), "order:update");
        assert_eq!(key(json!("complete"), json!(["canceled"])), "order:update");
        assert_eq!(told(None, r#"{"number":"R1","state":"canceled"}"#).unwrap().0, "order:new");
    }
}
