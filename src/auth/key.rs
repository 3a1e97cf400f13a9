//! One verification key with the one algorithm it is for.
//!
//! The algorithm follows from the key. A token never chooses it: that is how a public key would become an
//! HMAC secret that everybody knows.

use anyhow::{Context, Result, bail, ensure};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents, VerificationAlgorithm,
};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, Validation};
use secrecy::{ExposeSecret, SecretString};

/// The shortest HS256 secret, in bytes: as long as the hash (RFC 7518, section 3.2).
const SECRET_BYTES: usize = 32;

/// A key that can verify tokens.
#[derive(Debug)]
pub(super) struct Key {
    /// The key id (`kid`) of a published key.
    pub(super) id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
    /// Only the signature and its algorithm: the claims are judged in `claims.rs`, at a given time.
    pub(super) validation: Validation,
}

impl Key {
    fn new(id: Option<String>, algorithm: Algorithm, decoding: DecodingKey) -> Self {
        let mut validation = Validation::new(algorithm);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        Self { id, algorithm, decoding, validation }
    }

    /// An HS256 key: the bytes of the text as they stand.
    ///
    /// # Errors
    /// When the secret is too short to be one.
    pub(super) fn from_secret(secret: &SecretString) -> Result<Self> {
        Ok(Self::new(None, Algorithm::HS256, DecodingKey::from_secret(strong(secret)?)))
    }

    /// The public key of a PEM file: RS256, ES256 (P-256), ES384 (P-384) or `EdDSA` (Ed25519), as it is.
    ///
    /// # Errors
    /// Says why the text is no such key.
    pub(super) fn from_pem(pem: &[u8]) -> Result<Self> {
        let text = str::from_utf8(pem).context("not a PEM file")?;
        let label = text.split_once("-----BEGIN ").and_then(|(_, rest)| rest.split_once("-----"));
        match label.map(|(label, _)| label) {
            Some("PUBLIC KEY" | "RSA PUBLIC KEY") => {}
            Some("CERTIFICATE") => {
                bail!("a certificate: take its key with `openssl x509 -pubkey -noout -in <file>`")
            }
            Some(label) if label.ends_with("PRIVATE KEY") => {
                bail!("a private key, which belongs to the issuer alone: `openssl pkey -pubout -in <file>`")
            }
            _ => bail!("no `-----BEGIN PUBLIC KEY-----` in it"),
        }
        ensure!(text.matches("-----BEGIN ").count() == 1, "more than one key in it");
        let decoding = DecodingKey::from_rsa_pem(pem)
            .or_else(|_| DecodingKey::from_ec_pem(pem))
            .or_else(|_| DecodingKey::from_ed_pem(pem))
            .ok()
            .context("neither an RSA, an EC nor an Ed25519 public key")?;
        let jwk = Jwk::from_decoding_key(&decoding, None)?;
        Self::from_jwk(&jwk)
    }

    /// A published key, for the algorithm it names (`alg`) or else the usual one of its kind.
    ///
    /// # Errors
    /// Says why it cannot verify tokens here; a symmetric key (`oct`) never can, because whoever reads a
    /// published one can sign with it.
    pub(super) fn from_jwk(jwk: &Jwk) -> Result<Self> {
        use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
        let (fitting, curve): (&[Algorithm], Option<&'static dyn VerificationAlgorithm>) =
            match &jwk.algorithm {
                AlgorithmParameters::RSA(_) => (&[RS256, RS384, RS512, PS256, PS384, PS512], None),
                AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
                    (&[ES256], Some(&ECDSA_P256_SHA256_FIXED))
                }
                AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => {
                    (&[ES384], Some(&ECDSA_P384_SHA384_FIXED))
                }
                AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                    (&[EdDSA], Some(&ED25519))
                }
                AlgorithmParameters::OctetKey(_) => bail!("a symmetric key"),
                _ => bail!("of an unknown type or curve"),
            };
        let common = &jwk.common;
        ensure!(matches!(common.public_key_use, None | Some(PublicKeyUse::Signature)), "not for signatures");
        let verifies = |operations: &Vec<KeyOperations>| operations.contains(&KeyOperations::Verify);
        ensure!(common.key_operations.as_ref().is_none_or(verifies), "not for verifying");
        let algorithm = match common.key_algorithm {
            None => fitting[0],
            Some(named) => Algorithm::try_from(named)
                .ok()
                .filter(|algorithm| fitting.contains(algorithm))
                .with_context(|| format!("for {named}, which does not fit its type or is not known here"))?,
        };
        let decoding = DecodingKey::from_jwk(jwk)?;
        match decoding.kind() {
            DecodingKeyKind::RsaModulusExponent { n, e } => sound_rsa(n, e)?,
            DecodingKeyKind::SecretOrDer(point) => {
                let curve = curve.context("without a curve")?;
                ParsedPublicKey::new(curve, point).ok().context("not a point of its curve")?;
            }
        }
        Ok(Self::new(common.key_id.clone(), algorithm, decoding))
    }
}

/// The bytes of an HS256 secret.
///
/// # Errors
/// When there are too few of them.
pub(super) fn strong(secret: &SecretString) -> Result<&[u8]> {
    let bytes = secret.expose_secret().as_bytes();
    ensure!(bytes.len() >= SECRET_BYTES, "{} bytes, an HS256 secret needs {SECRET_BYTES}", bytes.len());
    Ok(bytes)
}

/// Refuses an RSA key that the verification would refuse each time (the bounds are those of aws-lc).
fn sound_rsa(n: &[u8], e: &[u8]) -> Result<()> {
    let bits = n.len() * 8 - n.first().map_or(0, |byte| byte.leading_zeros() as usize);
    ensure!((2048..=8192).contains(&bits), "{bits} bits, RSA needs 2048 to 8192");
    let components = RsaPublicKeyComponents { n, e };
    components.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).ok().context("not an RSA public key")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test")]
    use super::*;
    use serde_json::{Value, json};

    fn refusal(key: Result<Key>) -> String {
        format!("{:#}", key.err().unwrap())
    }

    #[test]
    fn a_secret_has_at_least_as_many_bytes_as_the_hash() {
        let key = |bytes| Key::from_secret(&SecretString::from("x".repeat(bytes)));
        assert_eq!(key(32).unwrap().algorithm, Algorithm::HS256);
        assert_eq!(refusal(key(31)), "31 bytes, an HS256 secret needs 32");
    }

    #[test]
    fn a_pem_file_decides_the_algorithm() {
        let algorithm = |pem: &str| Key::from_pem(pem.as_bytes()).unwrap().algorithm;
        assert_eq!(algorithm(include_str!("../../tests/keys/rs256.public.pem")), Algorithm::RS256);
        assert_eq!(algorithm(include_str!("../../tests/keys/rs256.pkcs1.public.pem")), Algorithm::RS256);
        assert_eq!(algorithm(include_str!("../../tests/keys/es256.public.pem")), Algorithm::ES256);
        assert_eq!(algorithm(include_str!("../../tests/keys/es384.public.pem")), Algorithm::ES384);
        assert_eq!(algorithm(include_str!("../../tests/keys/eddsa.public.pem")), Algorithm::EdDSA);
    }

    #[test]
    fn a_pem_file_that_cannot_verify_is_refused_with_its_reason() {
        let refused = |pem: &str| refusal(Key::from_pem(pem.as_bytes()));
        assert!(refused(include_str!("../../tests/keys/rs256.private.pem")).contains("a private key"));
        assert!(refused(include_str!("../../tests/keys/refused-certificate.pem")).contains("a certificate"));
        assert!(refused(include_str!("../../tests/keys/refused-rsa1024.public.pem")).contains("1024 bits"));
        assert!(refused(include_str!("../../tests/keys/refused-ed448.public.pem")).contains("neither"));
        assert!(refused(include_str!("../../tests/keys/refused-secp256k1.public.pem")).contains("curve"));
        assert!(refused("").contains("BEGIN PUBLIC KEY"));
        assert!(
            refused(&include_str!("../../tests/keys/eddsa.public.pem").repeat(2)).contains("more than one")
        );
        assert!(refused("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n").contains("neither"));
    }

    fn jwk(name: &str, with: &Value) -> Result<Key> {
        let pem = std::fs::read(format!("tests/keys/{name}.public.pem")).unwrap();
        let key = Key::from_pem(&pem).unwrap();
        let mut jwk = serde_json::to_value(Jwk::from_decoding_key(&key.decoding, None).unwrap()).unwrap();
        jwk.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        Key::from_jwk(&serde_json::from_value(jwk).unwrap())
    }

    #[test]
    fn a_published_key_says_what_it_is_for() {
        let algorithm = |name, with: Value| jwk(name, &with).unwrap().algorithm;
        assert_eq!(algorithm("rs256", json!({})), Algorithm::RS256);
        assert_eq!(algorithm("rs256", json!({"alg": "PS512", "use": "sig"})), Algorithm::PS512);
        assert_eq!(algorithm("es256", json!({"key_ops": ["verify"]})), Algorithm::ES256);
        assert_eq!(algorithm("es384", json!({"alg": "ES384"})), Algorithm::ES384);
        assert_eq!(algorithm("eddsa", json!({"alg": "EdDSA"})), Algorithm::EdDSA);
        assert_eq!(jwk("eddsa", &json!({"kid": "a"})).unwrap().id.unwrap(), "a");
    }

    #[test]
    fn a_published_key_that_is_for_something_else_is_refused() {
        for (name, with) in [
            ("rs256", json!({"alg": "HS256"})),
            ("rs256", json!({"alg": "ES256"})),
            ("rs256", json!({"alg": "RSA-OAEP"})),
            ("rs256", json!({"alg": "none"})),
            ("rs256", json!({"use": "enc"})),
            ("rs256", json!({"key_ops": ["encrypt"]})),
            ("rs256", json!({"e": ""})),
            ("rs256", json!({"kty": "oct", "k": "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IQ", "alg": "HS256"})),
            ("es256", json!({"alg": "ES384"})),
            ("es256", json!({"crv": "P-384"})),
            ("es256", json!({"crv": "secp256k1"})),
            ("es256", json!({"x": "AAAA"})),
            ("eddsa", json!({"crv": "X25519"})),
            ("eddsa", json!({"x": "AAAA"})),
        ] {
            assert!(jwk(name, &with).is_err(), "{name} {with}");
        }
    }
}
