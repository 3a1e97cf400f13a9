//! A definition as it is stored and shown: what was put, to the letter, with a stand-in for each secret.

use crate::http::json_text::{members, object, raw, to_string};
use crate::hub::definitions::documents::REDACTED;
use serde_json::value::RawValue;

/// What stands in the place of a member, by its name and its value; `None` where it stays.
type Edit<'a> = &'a dyn Fn(&str, &RawValue) -> Option<Box<RawValue>>;

/// A checked definition with a stand-in for each secret.
pub fn shown(document: &RawValue) -> Box<RawValue> {
    let secrets = |name: &str, value: &RawValue| (name == "secrets").then(|| each(value, &|_| raw(REDACTED)));
    let secret = |name: &str, _: &RawValue| (name == "secret").then(|| raw(REDACTED));
    edited(document, &|name, value| match name {
        "token" if value.get() != "null" => Some(raw(REDACTED)),
        "signing_secrets" => Some(each(value, &|_| raw(REDACTED))),
        "sign" => Some(each(value, &|sign| edited(sign, &secrets))),
        "headers" => Some(edited(value, &|_, header| Some(edited(header, &secret)))),
        _ => None,
    })
}

/// A definition with this value for a member.
pub fn with_member(document: &RawValue, name: &str, value: &RawValue) -> Box<RawValue> {
    let own = raw(name);
    let members = last_members(document).unwrap_or_default();
    let others = members.iter().filter(|(other, ..)| other != name).map(|(_, key, value)| (*key, *value));
    object(others.chain([(&*own, value)]))
}

/// An object whose members `edit` replaces; what is none stays. Of members that stand in it twice the last counts, and the
/// others, which nobody has checked, do not stay.
fn edited(value: &RawValue, edit: Edit<'_>) -> Box<RawValue> {
    let Some(members) = last_members(value) else { return value.to_owned() };
    let edits: Vec<_> = members.iter().map(|(name, _, value)| edit(name, value)).collect();
    let is_whole = edits.iter().all(Option::is_none) && members.len() == count(value);
    if is_whole {
        return value.to_owned();
    }
    let edited = members.iter().zip(&edits);
    object(edited.map(|((_, key, value), edit)| (*key, edit.as_deref().unwrap_or(value))))
}

fn count(value: &RawValue) -> usize {
    members(value).map_or(0, |members| members.len())
}

/// The members of an object by their names, of each name the last; `None` when it is none.
pub(super) fn last_members(value: &RawValue) -> Option<Vec<(String, &RawValue, &RawValue)>> {
    let mut found: Vec<(String, &RawValue, &RawValue)> = Vec::new();
    for (key, member) in members(value)? {
        let name = to_string(key).unwrap_or_default();
        found.retain(|(other, ..)| *other != name);
        found.push((name, key, member));
    }
    Some(found)
}

/// A list with each of its items replaced; what is none stays.
fn each(list: &RawValue, edit: &dyn Fn(&RawValue) -> Box<RawValue>) -> Box<RawValue> {
    let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(list.get()) else { return list.to_owned() };
    raw(&items.into_iter().map(edit).collect::<Vec<_>>())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;

    fn of(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn secrets_have_a_stand_in_and_the_rest_stays_as_it_was_put() {
        let put = r#"{ "url" : "http://e", "token": "t", "disable":{"n":1.0}, "signing_secrets": ["a", "b"],
            "sign": [{"kind":"jwt","s\u0065crets": ["c"],"claims":{"n":1e400}}], "headers": {"A":"{id}","B":{"secret":"d"}}}"#;
        assert_eq!(
            shown(&of(put)).get(),
            concat!(
                r#"{"url":"http://e","token":"[redacted]","disable":{"n":1.0},"signing_secrets":["[redacted]","[redacted]"],"#,
                r#""sign":[{"kind":"jwt","s\u0065crets":["[redacted]"],"claims":{"n":1e400}}],"headers":{"A":"{id}","B":{"secret":"[redacted]"}}}"#
            )
        );
        let plain = r#"{ "url" : "http://e" , "token": null }"#;
        assert_eq!(shown(&of(plain)).get(), plain);
        assert_eq!(
            with_member(&of(r#"{"a":1.0,"enabled":true,"b":2}"#), "enabled", &of("false")).get(),
            r#"{"a":1.0,"b":2,"enabled":false}"#
        );
    }

    #[test]
    fn what_stands_twice_leaves_nothing_in_clear_of_what_nobody_has_checked() {
        for twice in [
            r#"{"headers":"Bearer hush","headers":{}}"#,
            r#"{"headers":{"A":"hush","A":{"secret":"hush"}}}"#,
            r#"{"headers":{"A":{"x":"hush","secret":"hush","secret":"hush"},"\u0041":"{id}"}}"#,
            r#"{"sign":{"secrets":["hush"]},"sign":[{"secrets":"hush","secrets":["hush"]}]}"#,
            r#"{"token":{"x":"hush"},"token":"hush","signing_secrets":"hush","signing_secrets":["hush"]}"#,
        ] {
            let shown = shown(&of(twice));
            assert!(!shown.get().contains("hush"), "{shown}");
        }
    }
}
