//! Encryption at rest: what must not lie in the database in clear is sealed with a key from the settings.

mod rotation;

pub use rotation::{Rotated, Turn};

use crate::error::Error;
use anyhow::{Result, ensure};
use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret as _, SecretString};
use std::time::Duration;

/// What is shown in the place of a secret. Put back, it means the one that is there.
pub const REDACTED: &str = "[redacted]";

/// How many bytes of nonce stand before the sealed text.
const NONCE: usize = 12;
/// Whoever is refused for want of a key may come again after this time.
const WITHOUT_A_KEY: Duration = Duration::from_mins(1);

/// Seals and opens small secrets with AES-256-GCM. The first key seals; every key opens, so that keys can be
/// changed while there is something sealed with the former one.
pub struct Sealer {
    keys: Vec<(String, RandomizedNonceKey)>,
}

/// A sealed secret.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// Which key it is sealed with.
    pub key_id: String,
    /// The nonce and the sealed text.
    pub bytes: Vec<u8>,
}

/// The key is not among the settings any more, or the bytes are not what was sealed for this purpose.
#[derive(Debug, thiserror::Error)]
#[error("a stored secret cannot be opened: its key is not among POSTRIDER_SECRET_KEY, or it was changed")]
pub struct Unopened;

impl From<Unopened> for Error {
    /// 503: where the key is, the same is done.
    fn from(unopened: Unopened) -> Self {
        Self::Unavailable(unopened.to_string(), WITHOUT_A_KEY)
    }
}

/// 503: this server has no key to seal this with.
pub fn no_key(what: &str) -> Error {
    Error::Unavailable(format!("this server cannot keep {what}: set POSTRIDER_SECRET_KEY"), WITHOUT_A_KEY)
}

impl Sealer {
    /// A sealer with the keys in `setting`, separated by commas, each of at least 32 characters.
    ///
    /// # Errors
    /// A key is shorter than that.
    pub fn new(setting: &SecretString) -> Result<Self> {
        let mut keys = Vec::new();
        for text in setting.expose_secret().split(',').map(str::trim) {
            ensure!(text.len() >= 32, "POSTRIDER_SECRET_KEY: each key needs at least 32 characters");
            let key = RandomizedNonceKey::new(&AES_256_GCM, digest(&SHA256, text.as_bytes()).as_ref())?;
            keys.push((id(text), key));
        }
        Ok(Self { keys })
    }

    /// Whether it has the key of this name.
    pub fn knows(&self, key_id: &str) -> bool {
        self.keys.iter().any(|(id, _)| id == key_id)
    }

    /// Seals `secret` for `purpose`, without which it cannot be opened.
    ///
    /// # Errors
    /// The operating system has no random bytes.
    pub fn seal(&self, secret: &str, purpose: &[u8]) -> Result<Sealed> {
        let [(key_id, key), ..] = self.keys.as_slice() else { anyhow::bail!("there is no key") };
        let mut text = secret.as_bytes().to_vec();
        let nonce = key.seal_in_place_append_tag(Aad::from(purpose), &mut text)?;
        let mut bytes = nonce.as_ref().to_vec();
        bytes.append(&mut text);
        Ok(Sealed { key_id: key_id.clone(), bytes })
    }

    /// The names of its keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|(id, _)| id.as_str())
    }

    /// The name of the key that seals.
    pub fn first(&self) -> &str {
        self.keys.first().map_or("", |(id, _)| id)
    }

    /// Seals anew, with the first key, what was sealed for `purpose`; `None` when it cannot be opened.
    ///
    /// # Errors
    /// The operating system has no random bytes.
    pub fn reseal(&self, sealed: &Sealed, purpose: &[u8]) -> Result<Option<Sealed>> {
        self.open(sealed, purpose).ok().map(|secret| self.seal(secret.expose_secret(), purpose)).transpose()
    }

    /// Opens what was sealed for `purpose`.
    ///
    /// # Errors
    /// [`Unopened`].
    pub fn open(&self, sealed: &Sealed, purpose: &[u8]) -> Result<SecretString, Unopened> {
        let (_, key) = self.keys.iter().find(|(id, _)| *id == sealed.key_id).ok_or(Unopened)?;
        let (nonce, text) = sealed.bytes.split_at_checked(NONCE).ok_or(Unopened)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Unopened)?;
        let mut text = text.to_vec();
        let opened = key.open_in_place(nonce, Aad::from(purpose), &mut text).map_err(|_| Unopened)?;
        std::str::from_utf8(opened).map(SecretString::from).map_err(|_| Unopened)
    }
}

/// The name of a key: it tells keys apart and says nothing of them.
fn id(key: &str) -> String {
    let named = digest(&SHA256, format!("the name of the key {key}").as_bytes());
    URL_SAFE_NO_PAD.encode(&named.as_ref()[..6])
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const OLD: &str = "an old key that has 32 characters";
    const NEW: &str = "the new key that has 32 characters";

    fn sealer(keys: &str) -> Sealer {
        Sealer::new(&SecretString::from(keys)).unwrap()
    }

    #[test]
    fn a_secret_is_opened_for_its_purpose_alone() {
        let sealed = sealer(NEW).seal("1234", b"envelope 1").unwrap();
        assert!(!sealed.bytes.windows(4).any(|window| window == b"1234"));
        assert_eq!(sealer(NEW).open(&sealed, b"envelope 1").unwrap().expose_secret(), "1234");
        assert!(sealer(NEW).open(&sealed, b"envelope 2").is_err());
        assert!(sealer(OLD).open(&sealed, b"envelope 1").is_err());
        let mut changed = sealed.clone();
        *changed.bytes.last_mut().unwrap() ^= 1;
        assert!(sealer(NEW).open(&changed, b"envelope 1").is_err());
        let again = sealer(NEW).seal("1234", b"envelope 1").unwrap();
        assert_ne!(sealed.bytes, again.bytes);
    }

    #[test]
    fn a_new_key_seals_and_the_old_one_still_opens() {
        let before = sealer(OLD).seal("1234", b"").unwrap();
        let both = sealer(&format!("{NEW}, {OLD}"));
        assert_eq!(both.open(&before, b"").unwrap().expose_secret(), "1234");
        let after = both.seal("1234", b"").unwrap();
        assert_ne!(before.key_id, after.key_id);
        assert!(sealer(OLD).open(&after, b"").is_err());
        assert!(sealer(NEW).open(&after, b"").is_ok());
    }

    #[test]
    fn a_short_key_is_refused() {
        assert!(Sealer::new(&SecretString::from("short")).is_err());
        assert!(Sealer::new(&SecretString::from(format!("{NEW},short"))).is_err());
    }
}
