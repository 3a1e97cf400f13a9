//! Who is where, and with whose token one may go there.

use super::ServiceError;
use super::http::{HttpAnswer, HttpCall, Send};
use super::settings::{Address, Settings};
use super::tokens::Tokens;
use secrecy::SecretString;
use url::Url;

/// The services of this installation, shared by all queues.
pub struct Directory {
    settings: Settings,
    tokens: Tokens,
    send: Send,
}

impl Directory {
    /// By these settings; `send` is the way out.
    pub fn new(settings: Settings, send: Send) -> Self {
        Self { settings, tokens: Tokens::default(), send }
    }

    /// The base URL of a service, if it is configured.
    pub(super) fn base(&self, service: &str) -> Option<&Url> {
        self.settings.services.get(service).map(Address::url)
    }

    /// A token for a queue's client; none where services are called without.
    pub(super) async fn token(&self, client_id: Option<&str>) -> Result<Option<SecretString>, ServiceError> {
        let Some(url) = &self.settings.token_url else { return Ok(None) };
        let id = client_id
            .ok_or_else(|| ServiceError::new("this queue has no client_id to call services with"))?;
        let Some(client) = self.settings.clients.get(id) else {
            return Err(ServiceError::new(format!("the client {id} is not configured")));
        };
        self.tokens.get(&self.send, url.url(), id, &client.secret).await.map(Some)
    }

    /// Forgets a client's token, which a service has refused.
    pub(super) fn forget_token(&self, client_id: Option<&str>) {
        if let Some(id) = client_id {
            self.tokens.forget(id);
        }
    }

    pub(super) async fn send(&self, call: HttpCall) -> Result<HttpAnswer, String> {
        (self.send)(call).await
    }
}
