//! One page of a storefront's answer: the records in it, and whether another page follows.

use super::definition::Collection;
use crate::hub::answer::clean::clean;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::HashMap;

/// The longest id of a record, in bytes.
const MAX_ID: usize = 255;

/// A record as the storefront gave it.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its id as text.
    pub id: String,
    /// When it was last changed, as the storefront gave it.
    pub updated: Option<String>,
    /// The record, an object.
    pub raw: Box<RawValue>,
}

/// A page of a collection.
#[derive(Debug)]
pub struct Page {
    /// Its records that can be used.
    pub records: Vec<Record>,
    /// How many there are, usable or not.
    pub length: usize,
    /// How many pages there are, if the storefront says.
    pub pages: Option<u64>,
}

/// Reads `{"<collection>": […], "pages": n, …}` or a bare list.
///
/// # Errors
/// What is wrong with it, in words that do not repeat it.
pub fn read(body: &[u8], collection: &Collection) -> Result<Page, String> {
    let text = std::str::from_utf8(body).map_err(|_| "the answer is not UTF-8")?;
    let text = clean(text).map_err(|_| "the answer nests too deep")?;
    let list: Vec<&RawValue>;
    let mut pages = None;
    if text.trim_ascii_start().starts_with('[') {
        list = serde_json::from_str(&text).map_err(|_| "the answer is not JSON")?;
    } else {
        let members: HashMap<String, &RawValue> =
            serde_json::from_str(&text).map_err(|_| "the answer is no JSON object or list")?;
        let missing = || format!("the answer has no list named {}", collection.name);
        let member = members.get(collection.name.as_str()).ok_or_else(missing)?;
        list = serde_json::from_str(member.get()).map_err(|_| missing())?;
        pages = members.get("pages").and_then(|raw| serde_json::from_str(raw.get()).ok()).and_then(number);
    }
    let records = list.iter().filter_map(|raw| record(raw, collection)).collect();
    Ok(Page { records, length: list.len(), pages })
}

/// A number, or a text that is one: real storefronts give both.
fn number(value: Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// The record, unless it is no object, has no id, or holds a number that is none.
fn record(raw: &RawValue, collection: &Collection) -> Option<Record> {
    let record: Value = serde_json::from_str(raw.get()).ok()?;
    let id = text(record.get(&collection.id)?).filter(|id| !id.is_empty() && id.len() <= MAX_ID)?;
    let updated = record.get(&collection.updated).and_then(text);
    Some(Record { id, updated, raw: raw.to_owned() })
}

/// A text or a number, as text.
pub fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
