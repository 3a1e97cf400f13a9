//! One page of a storefront's answer: the records in it, and whether another page follows.

use super::definition::Collection;
use crate::http::json_text::{depth, is, members, to_value};
use serde_json::Value;
use serde_json::value::RawValue;

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
    /// How many records all pages hold, if it says. A count of this page alone is none.
    pub total: Option<u64>,
    /// What the next page is asked for by, if the answer names that.
    pub next: Option<String>,
    /// Whether the answer has the member that would name it.
    pub has_next_member: bool,
}

/// Reads `{"<collection>": […], "pages": n, …}` or a bare list; `next` is the path to the member that names the next page.
///
/// # Errors
/// What is wrong with it, in words that do not repeat it.
pub fn read(body: &[u8], collection: &Collection, next: Option<&str>) -> Result<Page, String> {
    let text = std::str::from_utf8(body).map_err(|_| "the answer is not UTF-8")?;
    // Real storefronts put a byte order mark in front.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    depth(text).map_err(|_| "the answer nests too deep")?;
    let list: Vec<&RawValue>;
    let (mut pages, mut count, mut named) = (None, None, None);
    if text.trim_ascii_start().starts_with('[') {
        list = serde_json::from_str(text).map_err(|_| "the answer is not JSON")?;
    } else {
        let whole: &RawValue =
            serde_json::from_str(text).map_err(|_| "the answer is no JSON object or list")?;
        let members = members(whole).ok_or("the answer is no JSON object or list")?;
        // The last of this name, as parsers commonly have it.
        let member = |name: &str| members.iter().rev().find(|(key, _)| is(key, name)).map(|(_, raw)| *raw);
        let missing = || format!("the answer has no list named {}", collection.name);
        list = serde_json::from_str(member(&collection.name).ok_or_else(missing)?.get())
            .map_err(|_| missing())?;
        let counted =
            |name| member(name).and_then(|raw| serde_json::from_str(raw.get()).ok()).and_then(number);
        (pages, count) = (counted("pages"), counted("total_count").or_else(|| counted("count")));
        named = next.and_then(|path| at(whole, path));
    }
    let records = list.iter().filter_map(|raw| record(raw, collection)).collect();
    let total = count.filter(|count| usize::try_from(*count).ok() != Some(list.len()));
    let next = named.and_then(|raw| self::text(&to_value(raw.get())?)).filter(|next| !next.is_empty());
    Ok(Page { records, length: list.len(), pages, total, next, has_next_member: named.is_some() })
}

/// The value at a path such as `meta.next_cursor`.
fn at<'a>(whole: &'a RawValue, path: &str) -> Option<&'a RawValue> {
    path.split('.').try_fold(whole, |value, name| {
        members(value)?.into_iter().rev().find(|(key, _)| is(key, name)).map(|(_, raw)| raw)
    })
}

/// A number, or a text that is one: real storefronts give both.
fn number(value: Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// The record, unless it is no object or has no id.
fn record(raw: &RawValue, collection: &Collection) -> Option<Record> {
    let record = to_value(raw.get())?;
    let field = |name: &str| match record.get(name)? {
        // To the last digit: no double stands in for it.
        Value::Number(number) if number.is_f64() => {
            let members = members(raw)?;
            members.iter().rev().find(|(key, _)| is(key, name)).map(|(_, number)| number.get().to_owned())
        }
        value => text(value),
    };
    let id = field(&collection.id).filter(|id| !id.is_empty() && id.len() <= MAX_ID)?;
    Some(Record { id, updated: field(&collection.updated), raw: raw.to_owned() })
}

/// A text or a number, as text that PostgreSQL can keep.
pub fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.replace('\0', "\u{fffd}")),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
