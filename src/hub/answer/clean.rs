//! Makes an answer fit to be kept: what PostgreSQL's text cannot hold is replaced, what nests too deep refused.

use std::borrow::Cow;

/// The deepest nesting that is read, as for what is pushed.
const MAX_DEPTH: usize = 128;
/// U+FFFD as an escape: as long as what it stands in for.
const REPLACEMENT: &str = "\\ufffd";

/// Arrays and objects nest deeper than anybody means.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::hub) struct TooDeep;

/// The text with every escape of U+0000 and of half a surrogate pair replaced. Whether it is JSON is the parser's
/// to say; here nothing recurses.
pub(in crate::hub) fn clean(text: &str) -> Result<Cow<'_, str>, TooDeep> {
    let bytes = text.as_bytes();
    let (mut depth, mut in_string, mut at) = (0_usize, false, 0);
    let mut cleaned = String::new();
    let mut copied = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' if in_string => {
                let unit = unit(bytes, at);
                let pair = matches!(unit, Some(0xd800..=0xdbff))
                    && matches!(self::unit(bytes, at + 6), Some(0xdc00..=0xdfff));
                match unit {
                    Some(_) if pair => at += 12,
                    Some(0 | 0xd800..=0xdfff) => {
                        cleaned.push_str(&text[copied..at]);
                        cleaned.push_str(REPLACEMENT);
                        at += 6;
                        copied = at;
                    }
                    Some(_) => at += 6,
                    None => at += 2,
                }
                continue;
            }
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(TooDeep);
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    if copied == 0 {
        return Ok(Cow::Borrowed(text));
    }
    cleaned.push_str(&text[copied..]);
    Ok(Cow::Owned(cleaned))
}

/// The code unit of the escape `\uXXXX` at `at`, if that is what stands there.
fn unit(bytes: &[u8], at: usize) -> Option<u16> {
    let escape = bytes.get(at..at + 6)?;
    let digits = escape.strip_prefix(b"\\u")?;
    digits
        .iter()
        .try_fold(0, |unit, digit| Some(unit << 4 | u16::try_from(char::from(*digit).to_digit(16)?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_what_the_database_cannot_hold_is_replaced() {
        let same = r#"{"a":"\u0001 \\u0000 \ud83d\ude00 \"","b":[1,2]}"#;
        assert_eq!(clean(same), Ok(Cow::Borrowed(same)));
        let broken = r#"{"\u0000":"\ud83d x \ude00","é":"\uD800\u0041\ud800\ud800\udc00"}"#;
        let mended = r#"{"\ufffd":"\ufffd x \ufffd","é":"\ufffd\u0041\ufffd\ud800\udc00"}"#;
        assert_eq!(clean(broken).as_deref(), Ok(mended));
    }

    #[test]
    fn depth_is_counted_outside_of_strings() {
        assert!(clean(&"[".repeat(MAX_DEPTH)).is_ok());
        assert_eq!(clean(&"[".repeat(MAX_DEPTH + 1)), Err(TooDeep));
        assert!(clean(&format!("\"{}\"", "[".repeat(1000))).is_ok());
        assert!(clean(&"[]".repeat(1000)).is_ok());
    }

    proptest! {
        #[test]
        fn cleaned_json_is_json_of_the_same_length(text in r#""([ -!#-\[\]-~é]|\\u[dD][89a-fA-F][0-9a-f]{2}|\\u0000|\\"|\\\\)*""#) {
            let cleaned = clean(&text).map_err(|_| TestCaseError::fail("deep"))?;
            prop_assert_eq!(cleaned.len(), text.len());
            let read: String = serde_json::from_str(&cleaned).map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert!(!read.contains('\0'));
        }
    }
}
