//! What a queue may be called.

use crate::auth::role;

/// Longest name, in bytes (all of them ASCII).
pub const MAX_LENGTH: usize = 100;

/// The name of a queue.
#[expect(dead_code, reason = "only described: no route reads it as a whole")]
#[derive(Debug, utoipa::ToSchema)]
#[schema(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$", example = "myQueue")]
pub struct QueueName(pub String);

/// Whether `name` can name a queue: `^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`, and no role of its own is another's.
///
/// # Errors
/// The reason, as the end of a sentence about the name.
pub fn check(name: &str) -> Result<(), &'static str> {
    role::check_queue(name)?;
    let mut bytes = name.bytes();
    let starts_well = bytes.next().is_some_and(|first| first.is_ascii_alphanumeric());
    if !starts_well {
        return Err("must start with a letter or a digit");
    }
    if !bytes.all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
        return Err("may consist of letters, digits, `.`, `_` and `-` only");
    }
    if name.len() > MAX_LENGTH { Err("may have at most 100 characters") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn the_grammar_and_the_reserved_names_hold() {
        let longest = "q".repeat(100);
        for good in ["myQueue", "0", "a.b_c-d", "System", "systems", "queue.1", &longest] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        let too_long = "q".repeat(101);
        for bad in [
            "", "system", "job", "s1_hub", ".a", "_a", "-a", "a b", "a/b", "a\0", "a\n", "ä", "aä",
            "a:batch", &too_long,
        ] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }
}
