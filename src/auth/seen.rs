//! Tokens that one set of keys has verified, so that a caller's next request costs a hash, not a signature.
//!
//! A token is remembered by its SHA-256 alone: no token lies in memory, and how long a look-up takes tells
//! nothing about one. What time says is asked again at each use: see [`Window`].

use super::Caller;
use super::claims::Window;
use aws_lc_rs::digest;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;

/// How many tokens a generation holds.
const GENERATION: usize = 4096;

/// The SHA-256 of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Digest([u8; 32]);

impl Digest {
    pub(super) fn of(token: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        Self(bytes)
    }
}

/// A verified token.
#[derive(Debug, Clone)]
pub(super) struct Verified {
    pub(super) caller: Arc<Caller>,
    pub(super) window: Window,
}

/// At most two generations of verified tokens: what was not used while the young one filled is forgotten.
#[derive(Debug, Default)]
pub(super) struct Seen(RwLock<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Digest, Verified>,
    old: HashMap<Digest, Verified>,
}

impl Seen {
    pub(super) fn get(&self, token: &Digest) -> Option<Verified> {
        let generations = self.0.read();
        if let Some(verified) = generations.young.get(token) {
            return Some(verified.clone());
        }
        let verified = generations.old.get(token)?.clone();
        drop(generations);
        self.insert(*token, verified.clone());
        Some(verified)
    }

    pub(super) fn insert(&self, token: Digest, verified: Verified) {
        let mut generations = self.0.write();
        let mut forgotten = HashMap::new();
        if generations.young.len() >= GENERATION {
            let young = std::mem::take(&mut generations.young);
            forgotten = std::mem::replace(&mut generations.old, young);
        }
        generations.young.insert(token, verified);
        // Thousands of entries are dropped after the lock, not under it.
        drop(generations);
        drop(forgotten);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::claims::{Claims, Rules};

    fn verified() -> Verified {
        let claims: Claims = serde_json::from_str("{}").unwrap_or_else(|error| panic!("{error}"));
        let (caller, window) = claims.admit(&Rules::default(), 0).unwrap_or_else(|error| panic!("{error}"));
        Verified { caller: Arc::new(caller), window }
    }

    #[test]
    fn it_holds_at_most_two_generations_and_keeps_what_is_used() {
        let seen = Seen::default();
        let used = Digest::of("used");
        let unused = Digest::of("unused");
        seen.insert(used, verified());
        seen.insert(unused, verified());
        for n in 0..5 * GENERATION {
            seen.insert(Digest::of(&n.to_string()), verified());
            assert!(seen.get(&used).is_some(), "after {n} others");
        }
        assert!(seen.get(&unused).is_none());
        let generations = seen.0.read();
        assert!(generations.young.len() <= GENERATION && generations.old.len() <= GENERATION);
    }
}
