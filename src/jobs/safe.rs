//! The safe of a job: what its owner hands over for the worker alone, such as the credentials of an account. It lies
//! sealed, may be replaced while the job has not ended, and is gone with its end.

use crate::error::{Error, Result};
use crate::http::json_text::{is, members, object, raw, to_string};
use crate::seal::{Sealed, Sealer, Unopened};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::value::RawValue;
use uuid::Uuid;

/// What the member is called that goes into the safe.
pub const LINK: &str = "account_link";

/// What is handed over: an object of strings, as it stands.
pub struct Link {
    text: Box<RawValue>,
    entries: Vec<(String, SecretString)>,
}

impl Link {
    /// Reads what is to be handed over; `None` when it is no object of strings.
    pub fn read(document: &RawValue) -> Option<Self> {
        let entries = members(document)?.into_iter();
        let entries = entries.map(|(key, value)| Some((to_string(key)?, to_string(value)?.into())));
        Some(Self { text: document.to_owned(), entries: entries.collect::<Option<_>>()? })
    }

    fn get(&self, name: &str) -> Option<&SecretString> {
        self.entries.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// Seals it for the job that is called `item` in the engine.
    ///
    /// # Errors
    /// The operating system has no random bytes.
    pub fn seal(&self, sealer: &Sealer, item: Uuid) -> anyhow::Result<Sealed> {
        sealer.seal(self.text.get(), &purpose(item))
    }

    /// Seals it together with what lay there before: a code stands beside the credentials that it belongs to.
    ///
    /// # Errors
    /// As [`Link::seal`].
    pub fn seal_beside(&self, before: &RawValue, sealer: &Sealer, item: Uuid) -> anyhow::Result<Sealed> {
        let ours = members(&self.text).unwrap_or_default();
        let is_kept = |key: &RawValue| to_string(key).is_none_or(|name| self.get(&name).is_none());
        let kept = members(before).unwrap_or_default().into_iter().filter(|(key, _)| is_kept(key));
        sealer.seal(object(kept.chain(ours)).get(), &purpose(item))
    }

    /// What the worker is told that has asked for this: a code as it is, and of all else that it was submitted.
    ///
    /// # Errors
    /// 400 when something is missing that the question names.
    pub fn answer(&self, kind: &str, question: &RawValue) -> Result<SecretString> {
        let asked = asked(question);
        if let Some(missing) = asked.iter().find(|name| self.get(name).is_none()) {
            let short: String = missing.chars().take(100).collect();
            return Err(Error::BadRequest(format!("the question asks for `{short}`, which is missing")));
        }
        if !is_code(kind) {
            return Ok("submitted".to_owned().into());
        }
        let code =
            asked.first().map_or_else(|| self.entries.first().map(|(_, code)| code), |name| self.get(name));
        let code = code.filter(|code| !code.expose_secret().is_empty());
        code.cloned()
            .ok_or_else(|| Error::BadRequest("the question asks for a code, which is missing".to_owned()))
    }
}

/// Whether a question of this kind asks for a code that is good once.
pub fn is_code(kind: &str) -> bool {
    kind.starts_with("tfa")
}

/// The names that a question asks for, in its order.
fn asked(question: &RawValue) -> Vec<String> {
    let of = |document: &RawValue, name: &str| {
        let found = members(document)?.into_iter().rev().find(|(key, _)| is(key, name))?;
        Some(found.1.to_owned())
    };
    let fields =
        of(question, LINK).and_then(|fields| serde_json::from_str::<Vec<Box<RawValue>>>(fields.get()).ok());
    let names =
        fields.unwrap_or_default().into_iter().filter_map(|field| to_string(&of(&field, "key_name")?));
    names.collect()
}

/// What lies in the safe of a job.
///
/// # Errors
/// [`Unopened`].
pub fn open(sealer: Option<&Sealer>, item: Uuid, content: &Sealed) -> Result<Box<RawValue>, Unopened> {
    let opened = sealer.ok_or(Unopened)?.open(content, &purpose(item))?;
    RawValue::from_string(opened.expose_secret().to_owned()).map_err(|_| Unopened)
}

/// A job's data with what lies in its safe, where its creator had put it.
pub fn put_back(data: &RawValue, content: &RawValue) -> Box<RawValue> {
    let (name, account) = (raw(LINK), raw("account"));
    let mut whole = members(data).unwrap_or_default();
    let there = whole.iter().rev().find(|(key, _)| is(key, "account"));
    let inner = there.and_then(|(_, inner)| members(inner)).unwrap_or_default();
    let inner = inner.into_iter().filter(|(key, _)| !is(key, LINK)).chain([(&*name, content)]);
    let inner = object(inner);
    whole.retain(|(key, _)| !is(key, "account"));
    object(whole.into_iter().chain([(&*account, &*inner)]))
}

/// What the safe of the job that is called `item` in the engine is sealed for.
pub fn purpose(item: Uuid) -> Vec<u8> {
    [b"safe of the job ".as_slice(), item.as_bytes()].concat()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn link(value: &Value) -> Option<Link> {
        Link::read(&raw(value))
    }

    #[test]
    fn only_an_object_of_strings_is_handed_over() {
        assert!(link(&json!({})).is_some() && link(&json!({ "username": "a" })).is_some());
        for wrong in [json!(null), json!([]), json!("a"), json!({ "n": 1 }), json!({ "o": {} })] {
            assert!(link(&wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_code_is_told_as_it_is_and_credentials_are_submitted() {
        let question = |names: &[&str]| {
            let fields: Vec<Value> =
                names.iter().map(|name| json!({ "key_name": name, "label": "x" })).collect();
            raw(&json!({ "account_link": fields }))
        };
        let answer = |kind: &str, names: &[&str], value: Value| {
            let answer = link(&value).unwrap().answer(kind, &question(names));
            answer.map(|answer| answer.expose_secret().to_owned()).map_err(|error| error.to_string())
        };
        let both = json!({ "username": "a", "password": "b" });
        assert_eq!(
            answer("credential_request", &["username", "password"], both.clone()).unwrap(),
            "submitted"
        );
        assert_eq!(answer("tfa_request", &["tfa"], json!({ "x": "1", "tfa": "1234" })).unwrap(), "1234");
        assert_eq!(answer("tfa_request", &[], json!({ "code": "1234" })).unwrap(), "1234");
        assert!(answer("credential_request", &["pin"], both).unwrap_err().contains("`pin`"));
        assert!(answer("tfa_request", &["tfa"], json!({ "tfa": "" })).unwrap_err().contains("a code"));
        assert!(answer("tfa_request", &[], json!({})).unwrap_err().contains("a code"));
        assert!(
            link(&json!({})).unwrap().answer("credential_request", &raw(&json!({ "message": "m" }))).is_ok()
        );
    }

    #[test]
    fn what_was_handed_over_stands_where_its_creator_had_put_it() {
        let content = raw(&json!({ "password": "b" }));
        let data =
            |value: Value| serde_json::from_str::<Value>(put_back(&raw(&value), &content).get()).unwrap();
        assert_eq!(
            data(json!({ "n": 1, "account": { "merchant_site_id": 3 } })),
            json!({ "n": 1, "account": { "merchant_site_id": 3, "account_link": { "password": "b" } } })
        );
        assert_eq!(data(json!({})), json!({ "account": { "account_link": { "password": "b" } } }));
    }

    #[test]
    fn a_code_stands_beside_the_credentials() {
        let sealer =
            Sealer::new(&SecretString::from("a key of the tests of at least 32 characters")).unwrap();
        let item = Uuid::nil();
        let before = raw(&json!({ "username": "a", "tfa": "old" }));
        let content = link(&json!({ "tfa": "new" })).unwrap().seal_beside(&before, &sealer, item).unwrap();
        let found: Value = serde_json::from_str(open(Some(&sealer), item, &content).unwrap().get()).unwrap();
        assert_eq!(found, json!({ "username": "a", "tfa": "new" }));
        assert!(open(None, item, &content).is_err() && open(Some(&sealer), Uuid::max(), &content).is_err());
    }
}
