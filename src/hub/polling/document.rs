//! The definition of a poller: `{api, token?, token_header?, every | cron + timezone?, page_size?, paging?, overlap?,
//! history?, since?, collections?, timeout?, enabled?}`. Without `collections` it is the orders, payments and shipments of a Spree
//! store.

use super::definition::{self, Collection, Definition, History, Rule};
use super::mark::Overlap;
use super::paging::Paging;
use crate::error::Result;
use crate::flow::timing::Timing;
use crate::http::reader::Reader;
use crate::hub::definitions::documents::endpoint::{take_token, take_url};
use crate::hub::definitions::documents::read;
use crate::hub::definitions::documents::secret::PutSecret;
use crate::hub::key::{self, is_key, is_reserved};
use axum::http::{HeaderName, header};
use serde_json::Value;
use std::time::Duration;

/// The header that a Spree store reads its token from.
const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-spree-token");
/// Headers that say what the request is: no token goes there.
const RESERVED: [HeaderName; 5] =
    [header::HOST, header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::ACCEPT];
const PAGE_SIZE: u16 = 100;
const OVERLAP: Overlap = Overlap::Time(Duration::from_mins(5));
const TIMEOUT: Duration = Duration::from_secs(30);
/// The most collections of a poller, and the most rules of one.
const MANY: usize = 50;

/// A definition as it was put.
#[derive(Debug)]
pub struct PutPoller {
    /// What it says.
    pub definition: Definition,
    /// The token, if it has one.
    pub token: Option<PutSecret>,
}

impl PutPoller {
    /// Reads a definition. Whether the addresses behind its URL may be asked is not looked at.
    ///
    /// # Errors
    /// 422 with every violation; they do not repeat what was put.
    pub fn read(document: &Value) -> Result<Self> {
        read(document, take)
    }
}

fn take(reader: &mut Reader<'_>) -> Option<PutPoller> {
    let api = take_url(reader, "api");
    let token = take_token(reader);
    let token_header = reader.text("token_header").map(|text| {
        let name = HeaderName::from_bytes(text.as_bytes()).ok().filter(|name| !RESERVED.contains(name));
        if name.is_none() {
            reader.note("/token_header", "pattern", "must be the name of a header, such as X-Spree-Token");
        }
        name
    });
    let timing = Timing::read(reader, "timezone");
    let page_size = reader.integer("page_size", 1..=1000).unwrap_or(PAGE_SIZE);
    let since = reader.text("since").map(str::to_owned);
    let overlap = overlap(reader);
    let paging = Paging::read(reader);
    let history = history(reader);
    let timeout = reader.duration("timeout", Duration::from_secs(1)..=Duration::from_mins(10));
    let enabled = reader.boolean("enabled").unwrap_or(true);
    let collections = match reader.take("collections") {
        Some(given) => collections(reader, given),
        None => definition::shipped(),
    };
    let token_header = token_header.unwrap_or(Some(TOKEN_HEADER));
    let timeout = timeout.unwrap_or(TIMEOUT);
    let (api, token_header, timing) = (api?, token_header?, timing?);
    let definition = Definition {
        api,
        token_header,
        timing,
        page_size,
        paging,
        history,
        overlap,
        since,
        collections,
        timeout,
        enabled,
    };
    Some(PutPoller { definition, token })
}

/// A duration, or a whole number for storefronts whose times are numbers.
fn overlap(reader: &mut Reader<'_>) -> Overlap {
    if reader.take("overlap").is_some_and(Value::is_number) {
        return reader.integer("overlap", 0..=u32::MAX).map_or(OVERLAP, Overlap::Number);
    }
    reader.duration("overlap", Duration::ZERO..=Duration::from_hours(30 * 24)).map_or(OVERLAP, Overlap::Time)
}

fn history(reader: &mut Reader<'_>) -> History {
    match reader.take("history").map(Value::as_str) {
        None | Some(Some("messages")) => History::Messages,
        Some(Some("snapshot")) => History::Snapshot,
        Some(_) => {
            reader.note("/history", "enum", "must be messages or snapshot");
            History::Messages
        }
    }
}

fn collections(reader: &mut Reader<'_>, given: &Value) -> Vec<Collection> {
    let mut collections: Vec<Collection> = Vec::new();
    reader.objects("collections", MANY, |reader| {
        let Some(collection) = collection(reader) else { return };
        if collections.iter().any(|other| other.name == collection.name) {
            reader.note("/name", "uniqueItems", "is the name of another collection");
        }
        collections.push(collection);
    });
    if given.as_array().is_some_and(Vec::is_empty) {
        reader.note("/collections", "minItems", "must have at least one item");
    }
    collections
}

fn collection(reader: &mut Reader<'_>) -> Option<Collection> {
    let name = reader.required("name", Reader::word);
    let path = reader.text("path").map(str::to_owned).or_else(|| name.clone());
    if path.as_ref().is_some_and(|path| !is_path(path)) {
        reader.note("/path", "pattern", "must be a path such as orders or v1/orders, without a query");
    }
    let mut field = |name, absent: &str| reader.word(name).unwrap_or_else(|| absent.to_owned());
    let (id, updated, state) = (field("id", "id"), field("updated", "updated_at"), field("state", "state"));
    let key = reader.required("key", Reader::word);
    if key.as_ref().is_some_and(|key| !is_key(&format!("{key}:update"))) {
        reader.note("/key", "pattern", "must be the beginning of a message key, such as order");
    }
    if key.as_ref().is_some_and(|key| is_reserved(&format!("{key}:"))) {
        reader.note("/key", "reserved", key::RESERVED);
    }
    let payload = reader.word("payload").or_else(|| key.clone());
    if payload.as_ref().is_some_and(|name| ["previous", "diff", "parameters"].contains(&name.as_str())) {
        reader.note("/payload", "pattern", "must not be previous, diff or parameters");
    }
    let mut rules = Vec::new();
    reader.objects("rules", MANY, |reader| rules.extend(rule(reader)));
    Some(Collection { name: name?, path: path?, id, updated, key: key?, payload: payload?, state, rules })
}

fn rule(reader: &mut Reader<'_>) -> Option<Rule> {
    let from = reader.word("from");
    let to = reader.required("to", Reader::word);
    let message = reader.required("message", Reader::word);
    if message.as_ref().is_some_and(|text| !is_key(text)) {
        reader.note("/message", "pattern", "must be a message key such as order:cancel");
    }
    if message.as_deref().is_some_and(is_reserved) {
        reader.note("/message", "reserved", key::RESERVED);
    }
    Some(Rule { from, to: to?, message: message? })
}

fn is_path(path: &str) -> bool {
    let fits = |segment: &str| !segment.is_empty() && !matches!(segment, "." | "..");
    !path.contains(['?', '#', '\\', '%']) && path.trim_matches('/').split('/').all(fits)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::hub::definitions::documents::REDACTED;
    use secrecy::ExposeSecret as _;
    use serde_json::json;

    fn violations(document: &Value) -> Vec<(String, String)> {
        match PutPoller::read(document) {
            Err(Error::Invalid(_, found)) => found.into_iter().map(|v| (v.pointer, v.keyword)).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn without_collections_it_is_what_the_guides_speak_of() {
        let put = PutPoller::read(&json!({ "api": "https://shop.example/api", "every": "5m" })).unwrap();
        assert!(put.token.is_none());
        let Definition { token_header, timing, page_size, since, collections, timeout, enabled, .. } =
            put.definition;
        assert_eq!((token_header, page_size), (TOKEN_HEADER, 100));
        assert_eq!((timing, timeout), (Timing::Every(Duration::from_mins(5)), Duration::from_secs(30)));
        assert!(since.is_none() && enabled);
        let keys: Vec<_> =
            collections.iter().map(|c| (c.path.as_str(), c.id.as_str(), c.key.as_str())).collect();
        assert_eq!(
            keys,
            [
                ("orders", "number", "order"),
                ("payments", "id", "payment"),
                ("shipments", "number", "shipment")
            ]
        );
        assert_eq!(collections[0].rules[0].message, "order:cancel");
    }

    #[test]
    fn a_collection_says_what_is_not_usual() {
        let document = json!({
            "api": "https://shop.example/api", "token": "s3cret", "token_header": "Authorization",
            "cron": "0 6 * * *", "timezone": "Europe/Berlin", "page_size": 50, "since": "2026-01-01",
            "timeout": "5s", "enabled": false,
            "collections": [
                { "name": "items", "key": "stock" },
                { "name": "orders", "path": "v2/orders", "id": "uid", "updated": "changed", "key": "order:b2b",
                  "payload": "data", "state": "status", "rules": [{ "to": "void", "message": "order:void" }] }
            ]
        });
        let PutPoller { definition, token } = PutPoller::read(&document).unwrap();
        assert!(matches!(token, Some(PutSecret::New(token)) if token.expose_secret() == "s3cret"));
        assert_eq!((definition.token_header, definition.enabled), (header::AUTHORIZATION, false));
        let collection = |name: &str, path: &str, fields: [&str; 3], key: &str, payload: &str| Collection {
            name: name.to_owned(),
            path: path.to_owned(),
            id: fields[0].to_owned(),
            updated: fields[1].to_owned(),
            state: fields[2].to_owned(),
            key: key.to_owned(),
            payload: payload.to_owned(),
            rules: Vec::new(),
        };
        let rules = vec![Rule { from: None, to: "void".to_owned(), message: "order:void".to_owned() }];
        let expected = [
            collection("items", "items", ["id", "updated_at", "state"], "stock", "stock"),
            Collection {
                rules,
                ..collection("orders", "v2/orders", ["uid", "changed", "status"], "order:b2b", "data")
            },
        ];
        assert_eq!(definition.collections, expected);
        let stored = json!({ "api": "https://shop.example", "every": "5m", "token": REDACTED });
        assert!(matches!(PutPoller::read(&stored).unwrap().token, Some(PutSecret::Stored)));
    }

    #[test]
    fn every_broken_rule_is_noted() {
        let mut found = violations(&json!({
            "api": "ftp://hush", "token": "hush\n", "token_header": "content-length", "page_size": 0, "since": "",
            "timeout": "1h", "enabled": 1, "colour": 1,
            "collections": [
                { "name": "orders", "path": "../orders?x", "key": "or/der", "payload": "diff" },
                { "name": "orders", "path": "/", "key": "order", "rules": [{ "from": "a", "message": "can cel" }] },
                { "name": "orders", "key": "order" }, { "name": "orders", "key": "order" }, 5
            ]
        }));
        found.sort();
        let expected = [
            ("", "required"),
            ("/api", "url"),
            ("/collections/0/key", "pattern"),
            ("/collections/0/path", "pattern"),
            ("/collections/0/payload", "pattern"),
            ("/collections/1/name", "uniqueItems"),
            ("/collections/1/path", "pattern"),
            ("/collections/1/rules/0", "required"),
            ("/collections/1/rules/0/message", "pattern"),
            ("/collections/2/name", "uniqueItems"),
            ("/collections/3/name", "uniqueItems"),
            ("/collections/4", "type"),
            ("/colour", "additionalProperties"),
            ("/enabled", "type"),
            ("/page_size", "range"),
            ("/since", "type"),
            ("/timeout", "range"),
            ("/token", "token"),
            ("/token_header", "pattern"),
        ];
        let found: Vec<(&str, &str)> = found.iter().map(|(p, k)| (p.as_str(), k.as_str())).collect();
        assert_eq!(found, expected);
        let none = json!({ "api": "https://shop.example", "every": "5m", "collections": [] });
        assert_eq!(violations(&none), [("/collections".to_owned(), "minItems".to_owned())]);
    }
}
