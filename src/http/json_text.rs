//! One look over JSON text before anything parses it: how deep it nests, and what PostgreSQL cannot keep.
//!
//! Whether the text is JSON at all is the parser's to say; here nothing recurses and nothing is allocated.

/// The deepest nesting of arrays and objects that is read.
pub(super) const MAX_DEPTH: usize = 128;

/// Why the text is refused, and the byte at which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Arrays and objects nest deeper than [`MAX_DEPTH`].
    TooDeep(usize),
    /// A string or key holds U+0000, which no text of PostgreSQL can.
    Nul(usize),
    /// A string or key holds half of a surrogate pair, which is not Unicode text.
    LoneSurrogate(usize),
}

impl std::fmt::Display for Flaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooDeep(_) => write!(f, "arrays and objects nest deeper than {MAX_DEPTH}"),
            Self::Nul(_) => f.write_str("a string holds \\u0000, which PostgreSQL cannot store"),
            Self::LoneSurrogate(_) => f.write_str(
                "a string holds a lone surrogate (\\ud800 to \\udfff), which PostgreSQL cannot store",
            ),
        }
    }
}

impl Flaw {
    /// The byte at which the text is wrong.
    pub(super) fn offset(self) -> usize {
        match self {
            Self::TooDeep(offset) | Self::Nul(offset) | Self::LoneSurrogate(offset) => offset,
        }
    }
}

/// The depth of `text`, if it holds nothing that must be refused.
pub(super) fn inspect(text: &str) -> Result<usize, Flaw> {
    let bytes = text.as_bytes();
    let (mut depth, mut deepest, mut at) = (0_usize, 0, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = end_of_string(bytes, at + 1)?,
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
                if depth > MAX_DEPTH {
                    return Err(Flaw::TooDeep(at));
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    Ok(deepest)
}

/// Where the string that begins at `at` has its closing quote, or the end of the text.
fn end_of_string(bytes: &[u8], mut at: usize) -> Result<usize, Flaw> {
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => break,
            b'\\' if bytes.get(at + 1) == Some(&b'u') => {
                match escaped(bytes, at) {
                    Some(0) => return Err(Flaw::Nul(at)),
                    Some(0xd800..=0xdbff) => match escaped(bytes, at + 6) {
                        Some(0xdc00..=0xdfff) => at += 6,
                        _ => return Err(Flaw::LoneSurrogate(at)),
                    },
                    Some(0xdc00..=0xdfff) => return Err(Flaw::LoneSurrogate(at)),
                    Some(_) => {}
                    // Not four hexadecimal digits: the parser reports it, at the digit that is none.
                    None => {
                        at += 2;
                        continue;
                    }
                }
                at += 6;
            }
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    Ok(at)
}

/// The code unit that the escape `\uXXXX` at `at` stands for.
fn escaped(bytes: &[u8], at: usize) -> Option<u16> {
    let escape = bytes.get(at..at + 6)?;
    if !escape.starts_with(b"\\u") {
        return None;
    }
    escape[2..].iter().try_fold(0, |unit, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(unit << 4 | u16::try_from(digit).ok()?)
    })
}

/// Line and column of a byte, both counted from 1, columns in bytes, as `serde_json` counts.
pub(super) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let line = before.split(|byte| *byte == b'\n').count();
    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn depth_is_counted_over_arrays_and_objects_but_not_in_strings() {
        assert_eq!(inspect("1"), Ok(0));
        assert_eq!(inspect(r#"{"a":[{"b":[]}],"c":[]}"#), Ok(4));
        assert_eq!(inspect(r#"["[[[[\"[[[["]"#), Ok(1));
        let mixed = r#"{"a":["#.repeat(64);
        assert_eq!(inspect(&mixed), Ok(128));
        assert_eq!(inspect(&format!("{mixed}[")), Err(Flaw::TooDeep(mixed.len())));
    }

    #[test]
    fn nul_and_lone_surrogates_are_found_in_values_and_keys() {
        assert_eq!(inspect(r#""\u0000""#), Err(Flaw::Nul(1)));
        assert_eq!(inspect(r#"{"\u0000":1}"#), Err(Flaw::Nul(2)));
        assert_eq!(inspect(r#""\\\u0000""#), Err(Flaw::Nul(3)));
        for lone in [r#""\uD800""#, r#""\ud83dx""#, r#""\uDC00""#, r#""\ud800\ud800""#, r#""\uD800\u0041""#] {
            assert!(matches!(inspect(lone), Err(Flaw::LoneSurrogate(1))), "{lone}");
        }
    }

    #[test]
    fn what_only_looks_like_them_passes() {
        for fine in [r#""\\u0000""#, r#""\\\\ud800""#, r#""\ud83d\uDE00""#, r#""\u0001""#, r#""\u0041""#] {
            assert_eq!(inspect(fine), Ok(0), "{fine}");
        }
    }

    #[test]
    fn a_place_is_a_line_and_a_column() {
        assert_eq!(line_and_column("{\n  x", 4), (2, 3));
        assert_eq!(line_and_column("x", 0), (1, 1));
        assert_eq!(line_and_column("x\n", 9), (2, 1));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_stumble(text in r#"[\[\]{}"\\u0dD8Cc,:é]{0,40}"#) {
            let _ = inspect(&text);
        }

        /// What passes and is JSON decodes to text that PostgreSQL can keep.
        #[test]
        fn what_passes_can_be_stored(text in r#""(\\u(0000|00e9|d83d|de00|D800)|\\\\|\\"|x){0,8}""#) {
            let decoded: Result<String, _> = serde_json::from_str(&text);
            let storable = decoded.is_ok_and(|decoded| !decoded.contains('\0'));
            prop_assert_eq!(inspect(&text).is_ok(), storable);
        }
    }
}
