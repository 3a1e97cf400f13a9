//! `services.json`: where the services are, and who calls them.

use secrecy::SecretString;
use serde::{Deserialize, Deserializer};
use std::collections::HashMap;
use std::io;
use std::path::Path;
use url::Url;

/// The file `services.json` in the directory of queue definitions.
///
/// ```json
/// {
///   "token_url": "https://login.example.com/oauth/token",
///   "clients": { "my-client": { "secret": "…" } },
///   "services": {
///     "storageService": "https://storage.example.com/v1",
///     "idmService": "https://identity.example.com"
///   }
/// }
/// ```
///
/// A queue calls a service with a token for its `client_id`. Without `token_url` no token is sent. A service
/// without an address is not configured; addresses under other names are for `serviceProvider`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where tokens come from: an OAuth 2.0 token endpoint that knows `client_credentials`.
    pub token_url: Option<Address>,
    /// By `client_id`.
    pub clients: HashMap<String, Client>,
    /// The base URL of each service.
    pub services: HashMap<String, Address>,
}

/// An OAuth client.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// Its secret.
    #[serde(deserialize_with = "secret")]
    pub secret: SecretString,
}

impl Settings {
    /// Reads the file from `directory`; a directory without it configures nothing.
    ///
    /// # Errors
    /// When it cannot be read, is not such a document, or names an address that is not HTTP.
    pub fn load(directory: &Path) -> io::Result<Self> {
        match std::fs::read_to_string(directory.join("services.json")) {
            Ok(text) => Self::parse(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    fn parse(text: &str) -> io::Result<Self> {
        serde_json::from_str(text)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("services.json: {error}")))
    }
}

/// The address of a service: HTTP, with a host, and without credentials, which would show in logs.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Address(Url);

impl Address {
    /// As a URL.
    pub fn url(&self) -> &Url {
        &self.0
    }
}

impl TryFrom<String> for Address {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match Url::parse(&text) {
            Ok(url) if !matches!(url.scheme(), "http" | "https") => {
                Err("an address begins with http or https")
            }
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                Err("an address holds no credentials")
            }
            Ok(url) => Ok(Self(url)),
            Err(_) => Err("an address is a URL"),
        }
    }
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show() {
        let settings = Settings::parse(r#"{"clients": {"a": {"secret": "hunter2"}}}"#).unwrap();
        assert!(!format!("{settings:?}").contains("hunter2"));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for address in ["mailto:a@b", "file:///etc/passwd", "storage", "https://a:b@example.com"] {
            let text = format!(r#"{{"services": {{"storageService": "{address}"}}}}"#);
            assert!(Settings::parse(&text).is_err(), "{address}");
        }
    }
}
