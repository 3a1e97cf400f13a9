//! A path into a message, such as `payload.order.total`: where filters, identifiers and lines look.

use serde_json::Value;

/// The longest path, in bytes, and the most steps in it.
const LONGEST: usize = 500;
const MOST_STEPS: usize = 32;

/// A path into a message: `message`, `message_id`, or `payload` and the names and numbers below it, with dots
/// between. `*` is every item of a list and every member of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// The member of this name, or the item of this number.
    Name(String),
    /// All of them.
    Each,
}

/// What a text must be to be a path, in words.
pub const WANTED: &str = "must be a path such as payload.order.total or payload.items.*.sku, that begins with payload, message or message_id";

impl Path {
    /// Reads a path.
    pub fn read(text: &str) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let steps: Vec<&str> = text.split('.').collect();
        let known = match steps.as_slice() {
            ["message" | "message_id"] => true,
            ["payload", ..] => steps.len() <= MOST_STEPS && !steps.contains(&""),
            _ => false,
        };
        let step = |step: &str| if step == "*" { Step::Each } else { Step::Name(step.to_owned()) };
        known.then(|| Self(steps.into_iter().map(step).collect()))
    }

    /// The values that are there, in their order; one at most without a `*`.
    pub fn values<'v>(&self, message: &'v Value) -> Vec<&'v Value> {
        let mut values = vec![message];
        for step in &self.0 {
            values = values.into_iter().flat_map(|value| step.take(value)).collect();
        }
        values
    }
}

impl Step {
    fn take<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        match (self, value) {
            (Self::Name(name), Value::Object(members)) => members.get(name).into_iter().collect(),
            (Self::Name(number), Value::Array(items)) => {
                number.parse().ok().and_then(|number: usize| items.get(number)).into_iter().collect()
            }
            (Self::Each, Value::Object(members)) => members.values().collect(),
            (Self::Each, Value::Array(items)) => items.iter().collect(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_path_begins_at_a_member_of_the_message() {
        for path in
            ["message", "message_id", "payload", "payload.a", "payload.*.b", "payload.0", "payload.a b"]
        {
            assert!(Path::read(path).is_some(), "{path}");
        }
        for path in ["", "order", "message.a", "payload.", "payload..a", ".payload", "*", "Payload.a"] {
            assert!(Path::read(path).is_none(), "{path}");
        }
        assert!(Path::read(&format!("payload{}", ".a".repeat(31))).is_some());
        assert!(Path::read(&format!("payload{}", ".a".repeat(32))).is_none());
        assert!(Path::read(&format!("payload.{}", "a".repeat(493))).is_none());
    }

    #[test]
    fn it_finds_members_items_and_all_of_them() {
        let message = json!({
            "message": "order:new", "payload": { "order": { "items": [{ "sku": "a" }, { "sku": 2 }, {}, 7] } }
        });
        let find = |path: &str| -> Value {
            Path::read(path).unwrap().values(&message).into_iter().cloned().collect()
        };
        assert_eq!(find("message"), json!(["order:new"]));
        assert_eq!(find("payload.order.items.1.sku"), json!([2]));
        assert_eq!(find("payload.order.items.*.sku"), json!(["a", 2]));
        assert_eq!(find("payload.*.items.0"), json!([{ "sku": "a" }]));
        assert_eq!(find("payload.order.items.9"), json!([]));
        assert_eq!(find("payload.order.items.sku"), json!([]));
        assert_eq!(find("payload.order.total"), json!([]));
        assert_eq!(find("message_id"), json!([]));
    }
}
