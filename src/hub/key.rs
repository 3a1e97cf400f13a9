//! The key of a message, and the patterns of keys that mappings name.

/// Whether `key` is a message key such as `order:new`.
pub fn is_key(key: &str) -> bool {
    let word = |word: &str| {
        !word.is_empty() && word.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
    };
    key.len() <= 255 && key.contains(':') && key.split(':').all(word)
}

/// Whether only the hub itself may make messages of this key.
pub fn is_reserved(key: &str) -> bool {
    key.starts_with("hub:")
}

/// Message keys: one, or all that begin alike (`order:*`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// This key.
    Exact(String),
    /// All keys that begin with this, colon included.
    Prefix(String),
}

impl Pattern {
    /// Reads `order:new` or `order:*`.
    pub fn read(text: &str) -> Option<Self> {
        if is_key(text) {
            return Some(Self::Exact(text.to_owned()));
        }
        let prefix = text.strip_suffix('*')?;
        // With any last word the prefix makes a key.
        (prefix.ends_with(':') && is_key(&format!("{prefix}x"))).then(|| Self::Prefix(prefix.to_owned()))
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
    fn a_key_has_at_least_two_words_of_small_letters() {
        for key in ["order:new", "a:b:c", "product:in_stock", "x-1:y_2"] {
            assert!(is_key(key), "{key}");
        }
        for key in ["", "order", "order:", ":new", "Order:new", "order::new", "order:new ", "order:né", "a:*"]
        {
            assert!(!is_key(key), "{key}");
        }
        assert!(!is_key(&format!("a:{}", "b".repeat(254))) && is_key(&format!("a:{}", "b".repeat(253))));
    }

    #[test]
    fn a_pattern_is_a_key_or_all_keys_that_begin_alike() {
        let order = Pattern::read("order:*");
        assert_eq!(order, Some(Pattern::Prefix("order:".to_owned())));
        let matches = |key| order.as_ref().is_some_and(|order| order.matches(key));
        assert!(matches("order:new") && matches("order:new:late") && !matches("orders:new"));
        for wrong in ["*", "order*", "order:n*", "*:new", "order:*:new", ":*", "Order:*"] {
            assert_eq!(Pattern::read(wrong), None, "{wrong}");
        }
    }
}
