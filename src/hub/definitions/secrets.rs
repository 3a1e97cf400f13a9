//! The secrets of an endpoint on their way in: new ones, and those that are kept, sealed together by one key, with those
//! that they replace.

use super::documents::{PutEndpoint, PutSecret};
use super::former;
use super::store::endpoints::Secrets;
use super::wire_secrets::{Bears, WireSecrets};
use crate::error::{Error, Result};
use crate::hub::purpose::Purpose;
use crate::seal::{Sealed, Sealer, Unopened};
use secrecy::{ExposeSecret as _, SecretString};

/// Seals what was put for the endpoint `name`; a stand-in becomes the secret in its place among the `stored` ones. Also
/// returns what it bears with them, which is still to be proven.
///
/// # Errors
/// 422 when a stand-in stands for nothing, or a secret is no key of its signature; 503 when it stands for a secret that cannot be opened.
pub fn seal(
    sealer: Option<&Sealer>,
    store_id: i32,
    name: &str,
    put: &PutEndpoint,
    stored: &Secrets,
) -> Result<(Secrets, Bears)> {
    let Some(sealer) = sealer else { return Ok(<_>::default()) };
    let open = |bytes: &Option<Vec<u8>>, purpose: Purpose<'_>| {
        let Some(bytes) = bytes else { return Ok(None) };
        let secret = Sealed { key_id: stored.key_id.clone().unwrap_or_default(), bytes: bytes.clone() };
        sealer.open(&secret, &purpose.of_store(store_id)).map(Some)
    };
    let there = There {
        token: open(&stored.token, Purpose::Token(name)),
        secrets: open(&stored.secrets, Purpose::SigningSecrets(name)).map(|list| former::read(list.as_ref())),
        wire: open(&stored.wire, Purpose::WireSecrets(name)).map(|text| WireSecrets::read(text.as_ref())),
    };
    let token = there.token(put.token.as_ref())?;
    let secrets = there.secrets(&put.signing_secrets)?;
    let wire = WireSecrets::of_put(&put.definition, &put.wire, &there.wire)?;
    let bears = wire.bears(&put.definition)?;
    let earlier = former::read(open(&stored.former, Purpose::FormerSecrets(name)).ok().flatten().as_ref());
    let now: Vec<&str> = secrets.iter().copied().chain(token).chain(wire.all()).collect();
    let former = former::former(&now, there.all(), earlier);

    let mut all = Secrets::default();
    let mut close = |secret: &str, purpose: Purpose<'_>| {
        let closed = sealer.seal(secret, &purpose.of_store(store_id)).map_err(Error::Internal)?;
        all.key_id = Some(closed.key_id);
        Ok::<_, Error>(closed.bytes)
    };
    let token = token.map(|token| close(token, Purpose::Token(name))).transpose()?;
    let secrets = if secrets.is_empty() {
        None
    } else {
        let list = SecretString::from(serde_json::to_string(&secrets).map_err(Error::internal)?);
        Some(close(list.expose_secret(), Purpose::SigningSecrets(name))?)
    };
    let wire = wire.written().map_err(Error::internal)?;
    let wire = wire.map(|text| close(text.expose_secret(), Purpose::WireSecrets(name))).transpose()?;
    let former = former::written(&former).map_err(Error::internal)?;
    let former = former.map(|list| close(list.expose_secret(), Purpose::FormerSecrets(name))).transpose()?;
    Ok((Secrets { token, secrets, wire, former, ..all }, bears))
}

/// The secrets that are stored, as far as they can be opened.
struct There {
    token: Result<Option<SecretString>, Unopened>,
    secrets: Result<Vec<String>, Unopened>,
    wire: Result<WireSecrets, Unopened>,
}

impl There {
    fn token<'a>(&'a self, put: Option<&'a PutSecret>) -> Result<Option<&'a str>> {
        match put {
            None => Ok(None),
            Some(PutSecret::New(token)) => Ok(Some(token.expose_secret())),
            Some(PutSecret::Stored) => {
                let stored = self.token.as_ref().map_err(|_| Unopened)?;
                stored.as_ref().map(|token| Some(token.expose_secret())).ok_or_else(|| nothing("/token"))
            }
        }
    }

    fn secrets<'a>(&'a self, put: &'a [PutSecret]) -> Result<Vec<&'a str>> {
        let secret = |(index, secret): (usize, &'a PutSecret)| match secret {
            PutSecret::New(secret) => Ok(secret.expose_secret()),
            PutSecret::Stored => {
                let stored = self.secrets.as_ref().map_err(|_| Unopened)?;
                let stored = stored.get(index).map(String::as_str);
                stored.ok_or_else(|| nothing(format!("/signing_secrets/{index}")))
            }
        };
        put.iter().enumerate().map(secret).collect()
    }

    fn all(&self) -> Vec<String> {
        let token = self.token.as_ref().ok().and_then(Option::as_ref);
        let secrets = self.secrets.iter().flatten().cloned();
        let wire = self.wire.iter().flat_map(WireSecrets::all).map(str::to_owned);
        secrets.chain(token.map(|token| token.expose_secret().to_owned())).chain(wire).collect()
    }
}

fn nothing(pointer: impl Into<String>) -> Error {
    Error::invalid(pointer, "secret", "there is no stored secret to be kept here")
}
