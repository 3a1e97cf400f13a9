//! The secrets of an endpoint on their way in: new ones, and those that are kept, sealed together by one key.

use super::documents::{PutEndpoint, PutSecret};
use super::store::endpoints::Secrets;
use crate::error::{Error, Result};
use crate::hub::purpose::Purpose;
use crate::seal::{Sealed, Sealer};
use secrecy::{ExposeSecret as _, SecretString};

/// Seals what was put for the endpoint `name`; a stand-in becomes the secret in its place among the `former` ones.
///
/// # Errors
/// 422 when a stand-in stands for nothing; 500 when a stored secret cannot be opened.
pub fn seal(
    sealer: Option<&Sealer>,
    store_id: i32,
    name: &str,
    put: &PutEndpoint,
    former: &Secrets,
) -> Result<Secrets> {
    let Some(sealer) = sealer else { return Ok(Secrets::default()) };
    let open = |bytes: &Option<Vec<u8>>, purpose: Purpose<'_>| {
        let Some(bytes) = bytes else { return Ok(None) };
        let secret = Sealed { key_id: former.key_id.clone().unwrap_or_default(), bytes: bytes.clone() };
        sealer.open(&secret, &purpose.of_store(store_id)).map(Some).map_err(Error::internal)
    };
    let nothing =
        |pointer: String| Error::invalid(pointer, "secret", "there is no stored secret to be kept here");
    let token = match &put.token {
        None => None,
        Some(PutSecret::New(token)) => Some(token.clone()),
        Some(PutSecret::Stored) => {
            let stored = open(&former.token, Purpose::Token(name))?;
            Some(stored.ok_or_else(|| nothing("/token".to_owned()))?)
        }
    };
    let keeps = put.signing_secrets.iter().any(|secret| matches!(secret, PutSecret::Stored));
    let stored = if keeps { open(&former.secrets, Purpose::SigningSecrets(name))? } else { None };
    let stored: Vec<String> = match stored {
        Some(stored) => serde_json::from_str(stored.expose_secret()).map_err(Error::internal)?,
        None => Vec::new(),
    };
    let mut secrets = Vec::with_capacity(put.signing_secrets.len());
    for (index, secret) in put.signing_secrets.iter().enumerate() {
        secrets.push(match secret {
            PutSecret::New(secret) => secret.expose_secret(),
            PutSecret::Stored => {
                stored.get(index).ok_or_else(|| nothing(format!("/signing_secrets/{index}")))?.as_str()
            }
        });
    }
    let mut all = Secrets::default();
    let mut close = |secret: &str, purpose: Purpose<'_>| {
        let closed = sealer.seal(secret, &purpose.of_store(store_id)).map_err(Error::Internal)?;
        all.key_id = Some(closed.key_id);
        Ok::<_, Error>(closed.bytes)
    };
    let token = token.map(|token| close(token.expose_secret(), Purpose::Token(name))).transpose()?;
    let secrets = if secrets.is_empty() {
        None
    } else {
        let list = SecretString::from(serde_json::to_string(&secrets).map_err(Error::internal)?);
        Some(close(list.expose_secret(), Purpose::SigningSecrets(name))?)
    };
    all.token = token;
    all.secrets = secrets;
    Ok(all)
}
