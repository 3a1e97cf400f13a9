//! Keys of 32 bytes: of an integrator, of a password, of a session.

use aws_lc_rs::agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use aws_lc_rs::pbkdf2::{self, PBKDF2_HMAC_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use std::num::NonZeroU32;

/// The rounds in which a password becomes a key.
const ROUNDS: NonZeroU32 = NonZeroU32::new(5000).unwrap();
/// How long a point of P-256 is that is not compressed, and what it begins with.
const POINT: (usize, u8) = (65, 4);

/// A key. It is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl Key {
    /// The key that the client makes of these bytes: zero bytes are added, or what is too much is left.
    pub fn of(bytes: &[u8]) -> Self {
        let mut key = [0; 32];
        key.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        Self(key)
    }

    /// The key in `text`, which is base64 of exactly 32 bytes.
    pub fn exact(text: &str) -> Option<Self> {
        Some(Self(STANDARD.decode(text).ok()?.try_into().ok()?))
    }

    /// A key of the system's randomness.
    ///
    /// # Errors
    /// The operating system has no random bytes.
    pub fn random() -> anyhow::Result<Self> {
        let mut key = [0; 32];
        aws_lc_rs::rand::fill(&mut key)?;
        Ok(Self(key))
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key as base64.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// What signs with it.
    pub fn signing(&self) -> hmac::Context {
        hmac::Context::with_key(&hmac::Key::new(HMAC_SHA256, &self.0))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// The key of a password, which is kept in its place.
pub fn of_password(username: &str, password: &str) -> Key {
    let salt = digest(&SHA256, username.as_bytes());
    let mut key = [0; 32];
    pbkdf2::derive(PBKDF2_HMAC_SHA256, ROUNDS, salt.as_ref(), password.as_bytes(), &mut key);
    Key(key)
}

/// Whether `proof` shows that who sends it knows the password of which this is the key. It takes as long whatever is
/// wrong with it.
pub fn is_proof(proof: &str, password: &Key, integrator: &Key) -> bool {
    let proof = STANDARD.decode(proof).unwrap_or_default();
    hmac::verify(&hmac::Key::new(HMAC_SHA256, &password.0), &integrator.0, &proof).is_ok()
}

/// What a login agrees on.
#[derive(Debug)]
pub struct Agreed {
    /// What the client needs to come to the same key.
    pub server_public_key: String,
    /// The session's key.
    pub key: Key,
}

/// Agrees on a key with a client that shows the public half of its pair; `None` if that is no point of the curve.
///
/// # Errors
/// The operating system has no random bytes.
pub fn agree(client_public_key: &str) -> anyhow::Result<Option<Agreed>> {
    agree_with(&PrivateKey::generate(&ECDH_P256)?, client_public_key)
}

fn agree_with(ours: &PrivateKey, client_public_key: &str) -> anyhow::Result<Option<Agreed>> {
    let theirs = STANDARD.decode(client_public_key).unwrap_or_default();
    if (theirs.len(), theirs.first().copied().unwrap_or_default()) != POINT {
        return Ok(None);
    }
    let public = ours.compute_public_key()?;
    let theirs = UnparsedPublicKey::new(&ECDH_P256, theirs);
    let key = agreement::agree(ours, theirs, (), |shared| Ok(Key::of(shared)));
    Ok(key.ok().map(|key| Agreed { server_public_key: STANDARD.encode(public.as_ref()), key }))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const K0: &str = "QWNjZXB0YW5jZUtleTAxMjM0NTY3ODlhYmNkZWZnaGk=";
    const CLIENT: &str =
        "BAIX5hfwtkQ5KCePlpmeaaI6TywVK99tbN9m5bgCgtTtGUp968uXcS0t2jyoWqh2Wlb0X8dYWZZS8ol8ZTBuV5Q=";
    const SERVER: &str =
        "BNZak5d8qj0bCBhS/1ennkZfFmBXcwS66tUF3TpIWJzzUBheiVNy32Ih6joTdVfkc/3bZ1XwW9UHw8Uz/OnJEoU=";
    const K1: &str = "zPwmH1gZPJjKStSlO7rG8O4pvE1IQ4CQRGkIYiynmvY=";

    #[test]
    fn a_password_becomes_the_clients_key_and_its_proof_holds() {
        let k0 = Key::exact(K0).unwrap();
        for (username, password, key, proof) in [
            (
                "agent",
                "agent-pass",
                "2s5kqBHGf0BYdJWubJ4hBMOwLNdhkCw0fOBLMIcUf70=",
                "4xTJCI7hO/HdesINToadHjJJkuEGBJ+kP8tWS9AP++k=",
            ),
            (
                "ärger@example.com",
                "pä$$ wörd",
                "X/fs4lyBeYDZq8xzod4TiTXtfCanKeIvCJ8YU7VpbMo=",
                "3a+iDCYHxl2DK4IHANWUI8knL3zW+dk1aNYaiP7rNhI=",
            ),
        ] {
            let made = of_password(username, password);
            assert_eq!(made.to_base64(), key, "{username}");
            assert!(is_proof(proof, &made, &k0), "{username}");
            for wrong in ["", "?", key, &proof.to_lowercase()] {
                assert!(!is_proof(wrong, &made, &k0), "{wrong}");
            }
            assert!(!is_proof(proof, &k0, &k0));
        }
    }

    #[test]
    fn the_salt_of_a_password_is_the_digest_of_its_username() {
        for (username, salt) in [
            ("agent", [0xd4, 0xf0, 0xbc, 0x5a, 0x29, 0xde, 0x06, 0xb5]),
            ("ärger@example.com", [0xf9, 0xf1, 0x15, 0x58, 0x9b, 0x98, 0xf3, 0x49]),
        ] {
            assert_eq!(digest(&SHA256, username.as_bytes()).as_ref()[..8], salt, "{username}");
        }
    }

    #[test]
    fn both_sides_agree_on_the_same_key() {
        let pair = |byte: u8| PrivateKey::from_private_key(&ECDH_P256, &[byte; 32]).unwrap();
        for (ours, theirs, public) in [(0x22, CLIENT, SERVER), (0x11, SERVER, CLIENT)] {
            let agreed = agree_with(&pair(ours), theirs).unwrap().unwrap();
            assert_eq!((agreed.server_public_key.as_str(), agreed.key.to_base64().as_str()), (public, K1));
        }
        let agreed = agree(CLIENT).unwrap().unwrap();
        assert_ne!(agreed.server_public_key, agree(CLIENT).unwrap().unwrap().server_public_key);
    }

    #[test]
    fn what_is_no_point_of_the_curve_is_refused() {
        let mut beside = STANDARD.decode(CLIENT).unwrap();
        *beside.last_mut().unwrap() ^= 1;
        let compressed = STANDARD.decode(CLIENT).unwrap()[..33].to_vec();
        for wrong in [beside, compressed, vec![0; 65], vec![4; 65], vec![4], Vec::new()] {
            assert!(agree(&STANDARD.encode(&wrong)).unwrap().is_none(), "{wrong:?}");
        }
        assert!(agree("no base64").unwrap().is_none());
    }

    #[test]
    fn a_key_is_filled_up_or_cut_and_never_shown() {
        assert_eq!(Key::of(&[1]).bytes()[..2], [1, 0]);
        assert_eq!(Key::of(&[1; 40]).bytes(), &[1; 32]);
        assert!(Key::exact("AQ==").is_none() && Key::exact(&STANDARD.encode([1; 33])).is_none());
        assert_eq!(format!("{:?}", Key::exact(K0)), "Some(Key)");
    }
}
