//! The key of a message, and the patterns of keys that mappings name.
//!
//! Keys are event names as customers know them: `order:new`, `invoice.created`, `order_created`, `DOCUMENT_CREATED`,
//! `ObjectCreated:Put`. Dots and colons part them into words.

/// What is said of a text that is no key.
pub const WANTED: &str = "must be a message key such as order:new or invoice.created";
/// What is said of a text that is no pattern.
pub const WANTED_PATTERN: &str =
    "must be a message key such as order:new, or a wildcard at a colon or a dot such as order:* or invoice.*";
/// What is said of a key that nobody but the hub may use.
pub const RESERVED: &str = "keys that begin with hub: are the hub's own";

/// Whether `key` is a message key such as `order:new`: `^[A-Za-z0-9_-]+([.:][A-Za-z0-9_-]+)*$`, at most 255 long.
pub fn is_key(key: &str) -> bool {
    let word = |word: &str| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    };
    key.len() <= 255 && key.split([':', '.']).all(word)
}

/// Whether only the hub itself may make messages of this key.
pub fn is_reserved(key: &str) -> bool {
    key.starts_with("hub:")
}

/// Message keys: one, or all that begin alike (`order:*`, `invoice.*`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// This key.
    Exact(String),
    /// All keys that begin with this, colon or dot included.
    Prefix(String),
}

impl Pattern {
    /// Reads `order:new`, `order:*` or `invoice.*`.
    pub fn read(text: &str) -> Option<Self> {
        if is_key(text) {
            return Some(Self::Exact(text.to_owned()));
        }
        let prefix = text.strip_suffix('*')?;
        // With any last word the prefix makes a key.
        let is_prefix = prefix.ends_with([':', '.']) && is_key(&format!("{prefix}x"));
        is_prefix.then(|| Self::Prefix(prefix.to_owned()))
    }

    /// Whether `key` is one of these.
    pub fn matches(&self, key: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == key,
            Self::Prefix(prefix) => key.starts_with(prefix.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_an_event_name_as_applications_of_the_field_have_it() {
        for key in [
            "order:new",
            "a:b:c",
            "product:in_stock",
            "x-1:y_2",
            "order",
            "invoice.created",
            "order_created",
            "DOCUMENT_CREATED",
            "ObjectCreated:Put",
            "customer.subscription.trial_will_end",
            "s3:ObjectCreated.Put",
        ] {
            assert!(is_key(key), "{key}");
        }
        for key in [
            "",
            "order:",
            ":new",
            "order::new",
            "order.:new",
            "order..new",
            ".order",
            "order.",
            "order:new ",
            "order new",
            "orders/create",
            "order:né",
            "a:*",
            "order:new\n",
        ] {
            assert!(!is_key(key), "{key}");
        }
        assert!(!is_key(&format!("a:{}", "b".repeat(254))) && is_key(&format!("a:{}", "b".repeat(253))));
    }

    #[test]
    fn a_pattern_is_a_key_or_all_keys_that_begin_alike() {
        let order = Pattern::read("order:*");
        assert_eq!(order, Some(Pattern::Prefix("order:".to_owned())));
        let matches = |pattern: &str, key| Pattern::read(pattern).is_some_and(|read| read.matches(key));
        assert!(matches("order:*", "order:new") && matches("order:*", "order:new:late"));
        assert!(!matches("order:*", "orders:new") && !matches("order:*", "order.new"));
        assert!(matches("invoice.*", "invoice.created") && matches("invoice.*", "invoice.paid:late"));
        assert!(matches("s3:Object.*", "s3:Object.Put") && !matches("invoice.*", "invoice"));
        assert!(matches("DOCUMENT_CREATED", "DOCUMENT_CREATED") && !matches("order", "Order"));
        for wrong in ["*", "order*", "order:n*", "*:new", "order:*:new", ":*", ".*", "order.:*", "orders/*"] {
            assert_eq!(Pattern::read(wrong), None, "{wrong}");
        }
    }
}
