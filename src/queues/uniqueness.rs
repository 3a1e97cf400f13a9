//! Which messages of a queue are the same, for how long, and what becomes of a push that finds one: `options.unique`.
//!
//! A value is found in the message, or comes with the push. The row in `unique_holders` says which message took it; whether
//! that still holds it is judged when another push has the same value, by what has become of the message. So neither a
//! claim nor an end knows of uniqueness, and a crash leaves nothing to mend. A push that replaces what was claimed says so in
//! that message (`replaced_by`): whatever brings it back, no attempt of it begins any more (`runners::unfit`).

use crate::error::Error;
use crate::http::idempotency::digest;
use crate::http::json_text::{is, members, raw};
use crate::http::reader::Reader;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

/// The longest pointer, in characters.
const LONGEST: usize = 255;
/// The shortest time for which a value is held.
const SHORTEST: Duration = Duration::from_secs(1);

/// The option `unique` of a definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uniqueness {
    /// `key`: where the value is found; absent, only pushes that give one have a value.
    pub by: Option<By>,
    /// `while`: for how long a message holds its value.
    pub holds: Holds,
    /// `conflict`: what becomes of a push whose value is held.
    pub conflict: Conflict,
}

/// Where the value of a message is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// It is the whole body.
    Body,
    /// It is the own key of the push.
    Key,
    /// A JSON pointer into the body finds it.
    Pointer(String),
}

/// For how long a message holds its value. One that is deleted holds none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Until it is claimed for an attempt that counts.
    Waiting,
    /// Until it has ended.
    Unfinished,
    /// For this long after its push.
    For(Duration),
}

/// What becomes of a push whose value is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    /// The message that holds the value is the answer.
    Existing,
    /// That message takes over what the push says, if it waits and no attempt of it counts; otherwise the push is stored, and
    /// no attempt of that message begins any more.
    Replace,
    /// It is refused.
    Reject,
}

impl By {
    fn as_str(&self) -> &str {
        match self {
            Self::Body => "body",
            Self::Key => "key",
            Self::Pointer(pointer) => pointer,
        }
    }

    fn read(text: &str) -> Option<Self> {
        match text {
            "body" => Some(Self::Body),
            "key" => Some(Self::Key),
            pointer => is_pointer(pointer).then(|| Self::Pointer(pointer.to_owned())),
        }
    }
}

impl Uniqueness {
    /// Reads the members of the option; what breaks a rule is noted. No value is held for longer than messages are kept
    /// (`retention`): the one that holds it is there.
    pub fn read(reader: &mut Reader<'_>, retention: Duration) -> Self {
        let by = reader.text("key").and_then(|text| {
            let by = By::read(text);
            if by.is_none() {
                reader.note(
                    "/key",
                    "pointer",
                    "must be a JSON pointer such as \"/order/id\", \"body\" or \"key\"",
                );
            }
            by
        });
        let word = |name: &str, value: &Value| value.as_str().is_some_and(|text| text == name);
        let holds = match reader.peek("while") {
            Some(value) if word("waiting", value) => Some(Holds::Waiting),
            Some(value) if word("unfinished", value) => Some(Holds::Unfinished),
            Some(_) => None,
            None => Some(Holds::Unfinished),
        };
        let holds = match holds {
            Some(holds) => {
                reader.take("while");
                holds
            }
            None => reader.duration("while", SHORTEST..=retention).map_or(Holds::Unfinished, Holds::For),
        };
        let conflicts =
            [("existing", Conflict::Existing), ("replace", Conflict::Replace), ("reject", Conflict::Reject)];
        let conflict = reader.choice("conflict", &conflicts).unwrap_or(Conflict::Existing);
        Self { by, holds, conflict }
    }

    /// As the database has it, in `queues.uniqueness`.
    pub fn stored(&self) -> Value {
        let holds = match self.holds {
            Holds::Waiting => json!("waiting"),
            Holds::Unfinished => json!("unfinished"),
            Holds::For(time) => json!(time.as_secs_f64()),
        };
        let conflict = match self.conflict {
            Conflict::Existing => "existing",
            Conflict::Replace => "replace",
            Conflict::Reject => "reject",
        };
        let mut stored = json!({ "while": holds, "conflict": conflict });
        if let Some(by) = &self.by {
            stored["key"] = json!(by.as_str());
        }
        stored
    }

    /// Where values are found, as the database has it; empty for those that are given alone.
    pub fn scope(&self) -> &str {
        self.by.as_ref().map_or("", By::as_str)
    }

    /// What stands for the value of a push; none when it has none, which is when it is not there, or `null`.
    pub fn digest(&self, request: &RawValue, own_key: Option<&str>, given: Option<&str>) -> Option<[u8; 32]> {
        let text = |text: &str| Some(digest(self.scope(), raw(text).get()));
        if let Some(given) = given {
            return text(given);
        }
        let value = match self.by.as_ref()? {
            By::Key => return own_key.and_then(text),
            By::Body => request,
            By::Pointer(pointer) => find(request, pointer)?,
        };
        (value.get() != "null").then(|| digest(self.scope(), value.get()))
    }
}

/// What became of a push whose value a message held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// That message.
    pub message: Uuid,
    /// What was done.
    pub what: Verdict,
}

/// What is done with a push whose value a message holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: that message is the answer.
    Existing,
    /// That message, which waits, took over what the push says.
    Replaced,
    /// It is refused.
    Rejected,
}

impl Told {
    /// 409.
    pub fn refusal(&self) -> Error {
        Error::Taken(format!("message {} holds this value", self.message), self.message)
    }
}

/// 503: a transaction of somebody else has taken the value, and has not ended.
pub fn held() -> Error {
    let words = "another transaction, which has not ended, uses this value, which is unique";
    Error::Unavailable(words.to_owned(), Duration::from_secs(1))
}

/// Whether this is a JSON pointer (RFC 6901) to a part of a document.
fn is_pointer(text: &str) -> bool {
    let mut escapes = text.split('~').skip(1);
    text.starts_with('/')
        && text.chars().count() <= LONGEST
        && !text.chars().any(char::is_control)
        && escapes.all(|rest| rest.starts_with(['0', '1']))
}

/// What a JSON pointer finds, as it stands in the text; of duplicate keys the last counts.
fn find<'a>(value: &'a RawValue, pointer: &str) -> Option<&'a RawValue> {
    let mut at = value;
    for token in pointer.split('/').skip(1) {
        at = if at.get().starts_with('[') {
            let items: Vec<&RawValue> = serde_json::from_str(at.get()).ok()?;
            let is_index =
                token == "0" || !token.starts_with('0') && token.bytes().all(|b| b.is_ascii_digit());
            let index = Some(token).filter(|token| is_index && token.len() <= 9)?;
            items.get(index.parse::<usize>().ok()?)?
        } else {
            let token = token.replace("~1", "/").replace("~0", "~");
            members(at)?.into_iter().rev().find(|(key, _)| is(key, &token))?.1
        };
    }
    Some(at)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;

    fn read(document: &Value) -> Result<Uniqueness, Vec<(String, String)>> {
        let (mut rule, mut violations) = (None, Vec::new());
        Reader::within(document, String::new(), &mut violations, |reader| {
            rule = Some(Uniqueness::read(reader, Duration::from_hours(48)));
        });
        let found: Vec<_> = violations.into_iter().map(|broken| (broken.pointer, broken.keyword)).collect();
        if found.is_empty() { Ok(rule.unwrap()) } else { Err(found) }
    }

    fn text(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn what_is_absent_has_its_default() {
        let default = Uniqueness { by: None, holds: Holds::Unfinished, conflict: Conflict::Existing };
        assert_eq!(read(&json!({})).unwrap(), default);
        let whole = json!({ "key": "/order/id", "while": "1day 30m", "conflict": "replace" });
        let rule = read(&whole).unwrap();
        assert_eq!(rule.by, Some(By::Pointer("/order/id".to_owned())));
        assert_eq!(rule.holds, Holds::For(Duration::from_mins(24 * 60 + 30)));
        assert_eq!(rule.stored(), json!({ "key": "/order/id", "while": 88_200.0, "conflict": "replace" }));
        assert_eq!(read(&json!({ "key": "body", "while": "waiting" })).unwrap().by, Some(By::Body));
        assert_eq!(read(&json!({ "key": "key" })).unwrap().stored()["key"], "key");
    }

    #[test]
    fn each_member_that_breaks_a_rule_is_named() {
        let broken = |document: Value| read(&document).unwrap_err();
        let one = |pointer: &str, keyword: &str| vec![(pointer.to_owned(), keyword.to_owned())];
        let longest = format!("/{}", "x".repeat(254));
        assert!(read(&json!({ "key": longest })).is_ok());
        for key in ["order", "#/a", "/a~2", "/a~", "/a\n", &format!("{longest}x")] {
            assert_eq!(broken(json!({ "key": key })), one("/key", "pointer"), "{key}");
        }
        assert_eq!(broken(json!({ "key": "" })), one("/key", "type"));
        assert_eq!(broken(json!({ "key": ["/a"] })), one("/key", "type"));
        assert_eq!(broken(json!({ "while": "running" })), one("/while", "duration"));
        assert_eq!(broken(json!({ "while": 5 })), one("/while", "duration"));
        assert_eq!(broken(json!({ "while": "999ms" })), one("/while", "range"));
        assert_eq!(broken(json!({ "while": "49h" })), one("/while", "range"));
        assert_eq!(broken(json!({ "conflict": "merge" })), one("/conflict", "enum"));
        assert_eq!(broken(json!({ "conflict": true })), one("/conflict", "type"));
        assert_eq!(broken(json!({ "for": "24h" })), one("/for", "additionalProperties"));
    }

    #[test]
    fn a_pointer_finds_what_rfc_6901_says() {
        let body =
            text(r#"{"a":{"b/c":[1,{"":2}],"~":3},"a~1b":0,"a":{"b/c":[4,{"":5, "\u0078":"\ud800"}]}}"#);
        let found = |pointer: &str| find(&body, pointer).map(RawValue::get);
        assert_eq!(found("/a/b~1c/0"), Some("4"));
        assert_eq!(found("/a/b~1c/1/"), Some("5"));
        assert_eq!(found("/a/b~1c/1/x"), Some(r#""\ud800""#));
        assert_eq!(found("/a~01b"), Some("0"));
        for nothing in ["/b", "/a/~0", "/a/b~1c/2", "/a/b~1c/00", "/a/b~1c/-", "/a/b~1c/0/0", "/"] {
            assert_eq!(found(nothing), None, "{nothing}");
        }
    }
}
