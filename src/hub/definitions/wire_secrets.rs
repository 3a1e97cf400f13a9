//! The secrets of an endpoint's headers and signatures: sealed together, each found again by the name of its header.

use super::documents::PutSecret;
use super::documents::signing::PutWire;
use super::endpoint::Definition;
use super::header::{self, Ready, Text, Value};
use super::signing::Signer;
use crate::error::{Error, Result};
use crate::seal::Unopened;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The secrets, by the name of the header in small letters.
#[derive(Default, Serialize, Deserialize)]
pub struct WireSecrets {
    /// Those of each signature.
    sign: BTreeMap<String, Vec<String>>,
    /// Those that are headers themselves.
    headers: BTreeMap<String, String>,
}

/// What an endpoint is sent beside the hub's own headers, ready to be sent.
#[derive(Debug, Default)]
pub struct Bears {
    /// Its headers.
    pub headers: Vec<Ready>,
    /// Its signatures.
    pub signers: Vec<Signer>,
}

impl Bears {
    /// Tries the keys of its signatures, of which some take long.
    ///
    /// # Errors
    /// 422 where one of them signs nothing.
    pub fn prove(&self) -> Result<()> {
        for (place, signer) in self.signers.iter().enumerate() {
            signer.prove().map_err(|wrong| no_key(place, wrong))?;
        }
        Ok(())
    }
}

impl WireSecrets {
    /// What was put for this definition; a stand-in becomes the secret that is `stored` in its place.
    ///
    /// # Errors
    /// 422 when a stand-in stands for nothing; 503 when it stands for a secret that cannot be opened.
    pub fn of_put(
        definition: &Definition,
        put: &PutWire,
        stored: &std::result::Result<Self, Unopened>,
    ) -> Result<Self> {
        let stored = || stored.as_ref().map_err(|_| Unopened);
        let mut all = Self::default();
        for (place, (sign, secrets)) in definition.sign.iter().zip(&put.sign).enumerate() {
            let name = sign.header.as_str();
            let secret = |(index, secret): (usize, &PutSecret)| match secret {
                PutSecret::New(secret) => Ok(secret.expose_secret().to_owned()),
                PutSecret::Stored => {
                    let there = stored()?.sign.get(name).and_then(|there| there.get(index)).cloned();
                    there.ok_or_else(|| nothing(format!("/sign/{place}/secrets/{index}")))
                }
            };
            let secrets = secrets.iter().enumerate().map(secret).collect::<Result<_>>()?;
            all.sign.insert(name.to_owned(), secrets);
        }
        for (name, pointer, secret) in &put.headers {
            let name = name.as_str();
            let secret = match secret {
                PutSecret::New(secret) => secret.expose_secret().to_owned(),
                PutSecret::Stored => {
                    let there = stored()?.headers.get(name).cloned();
                    there.ok_or_else(|| nothing(pointer))?
                }
            };
            all.headers.insert(name.to_owned(), secret);
        }
        Ok(all)
    }

    /// As they were sealed.
    pub fn read(opened: Option<&SecretString>) -> Self {
        opened.and_then(|text| serde_json::from_str(text.expose_secret()).ok()).unwrap_or_default()
    }

    /// As they are sealed; nothing where there are none.
    ///
    /// # Errors
    /// None that is known.
    pub fn written(&self) -> serde_json::Result<Option<SecretString>> {
        if self.sign.is_empty() && self.headers.is_empty() {
            return Ok(None);
        }
        serde_json::to_string(self).map(|text| Some(SecretString::from(text)))
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        self.sign.values().flatten().chain(self.headers.values()).map(String::as_str)
    }

    /// What an endpoint of this definition is sent with them.
    ///
    /// # Errors
    /// 422 where one of them cannot be used.
    pub fn bears(&self, definition: &Definition) -> Result<Bears> {
        let mut bears = Bears::default();
        for (place, sign) in definition.sign.iter().enumerate() {
            let secrets = self.sign.get(sign.header.as_str()).into_iter().flatten();
            let secrets: Vec<SecretString> =
                secrets.map(|secret| SecretString::from(secret.as_str())).collect();
            let signer = sign.signer(&secrets).map_err(|wrong| no_key(place, wrong))?;
            bears.signers.push(signer);
        }
        for header in &definition.headers {
            let name = header.name.clone();
            let value = match &header.text {
                Text::Template(template) => match template.fixed().map(|text| text.parse()) {
                    Some(Ok(value)) => Value::Fixed(value),
                    _ => Value::Template(template.clone()),
                },
                Text::Secret => {
                    let secret = self.headers.get(name.as_str()).and_then(|text| header::secret(text));
                    Value::Fixed(secret.ok_or_else(|| nothing(format!("/headers/{name}/secret")))?)
                }
            };
            bears.headers.push(Ready { name, value });
        }
        Ok(bears)
    }
}

fn no_key(place: usize, (index, wanted): (usize, &str)) -> Error {
    Error::invalid(format!("/sign/{place}/secrets/{index}"), "key", wanted)
}

fn nothing(pointer: impl Into<String>) -> Error {
    Error::invalid(pointer, "secret", "there is no stored secret to be kept here")
}
