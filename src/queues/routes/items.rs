//! The body of a batch: messages, or messages with what they are called.

use crate::error::{Error, MAX_VIOLATIONS, Result, Violation};
use crate::http::json_text::{members, to_string};
use crate::http::openapi::{both, either};
use crate::queues::identity::Identity;
use serde_json::value::RawValue;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// The most messages in one request.
const MOST: usize = 1000;

/// The body of a batch.
pub(super) enum BatchBody {}

impl PartialSchema for BatchBody {
    fn schema() -> RefOr<Schema> {
        either::<QueueMessages, QueueItems>()
    }
}

impl ToSchema for BatchBody {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        both::<QueueMessages, QueueItems>(schemas);
    }
}

/// Messages.
#[derive(Debug, utoipa::ToSchema)]
#[schema(min_items = 1, max_items = 1000)]
struct QueueMessages(#[expect(dead_code, reason = "it only describes")] Vec<serde_json::Value>);

/// Messages with what they are called.
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "it only describes")]
struct QueueItems {
    /// The messages, in their order.
    #[schema(min_items = 1, max_items = 1000)]
    messages: Vec<QueueItem>,
}

/// A message of a batch, with what it is called.
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "it only describes")]
struct QueueItem {
    /// The message: any JSON value that the queue's schema allows.
    #[schema(example = json!({"hello": "world"}))]
    message: serde_json::Value,
    /// As the parameter of a single push.
    #[schema(min_length = 1, max_length = 255, example = "booking:42")]
    key: Option<String>,
    /// As the parameter of a single push.
    #[schema(min_length = 1, max_length = 255, example = "order-R123")]
    unique: Option<String>,
}

/// A message of a batch.
pub(super) struct Item<'a> {
    pub(super) message: &'a RawValue,
    /// Where it stands in the body.
    pub(super) pointer: String,
    pub(super) identity: Identity,
}

/// Reads the body of a batch.
///
/// # Errors
/// 400 when it is neither an array of messages nor an object with one, or has not 1 to 1,000; 422 with what is wrong with
/// the items.
pub(super) fn read(body: &RawValue) -> Result<Vec<Item<'_>>> {
    let is_object = body.get().starts_with('{');
    let list = if is_object { only_member(body) } else { Some(body) };
    let items: Vec<&RawValue> = list.and_then(|list| serde_json::from_str(list.get()).ok()).ok_or_else(|| {
        let words = "the body must be an array of messages, or an object whose one member `messages` is an array of objects with a `message`";
        Error::BadRequest(words.to_owned())
    })?;
    if items.is_empty() || items.len() > MOST {
        return Err(Error::BadRequest(format!("a batch has 1 to {MOST} messages")));
    }
    let (mut read, mut violations) = (Vec::with_capacity(items.len()), Vec::new());
    for (index, text) in items.into_iter().enumerate() {
        if is_object {
            let place = format!("/messages/{index}");
            if let Some((message, identity)) = item(text, &place, &mut violations) {
                read.push(Item { message, pointer: format!("{place}/message"), identity });
            }
        } else {
            read.push(Item { message: text, pointer: format!("/{index}"), identity: Identity::default() });
        }
    }
    if violations.is_empty() {
        return Ok(read);
    }
    violations.truncate(MAX_VIOLATIONS);
    Err(Error::Invalid("an item of the batch breaks a rule: none was stored".to_owned(), violations))
}

fn only_member(body: &RawValue) -> Option<&RawValue> {
    let members = members(body)?;
    let [(name, list)] = *members else { return None };
    (to_string(name)? == "messages").then_some(list)
}

/// An item with its message; what breaks a rule is noted.
fn item<'a>(
    text: &'a RawValue,
    place: &str,
    violations: &mut Vec<Violation>,
) -> Option<(&'a RawValue, Identity)> {
    let Some(members) = members(text) else {
        violations.push(Violation::new(place, "type", "must be an object with a `message`"));
        return None;
    };
    let (mut message, mut identity) = (None, Identity::default());
    for (name, value) in members {
        let name = to_string(name).unwrap_or_default();
        let below = format!("{place}/{}", name.replace('~', "~0").replace('/', "~1"));
        let label = match name.as_str() {
            "message" => {
                message = Some(value);
                continue;
            }
            "key" => &mut identity.own_key,
            "unique" => &mut identity.given,
            _ => {
                violations.push(Violation::new(below, "additionalProperties", "is not known here"));
                continue;
            }
        };
        *label = to_string(value);
        if label.as_deref().is_none_or(|label| !crate::queues::identity::is_label(label)) {
            let words = "must be a text of 1 to 255 characters, without U+0000";
            violations.push(Violation::new(below, "text", words));
        }
    }
    if message.is_none() {
        violations.push(Violation::new(place, "required", "must have the property \"message\""));
    }
    Some((message?, identity))
}
