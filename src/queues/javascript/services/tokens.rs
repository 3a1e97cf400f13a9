//! Access tokens by OAuth 2.0 `client_credentials` (RFC 6749, section 4.4), kept until shortly before they end.

use super::ServiceError;
use super::http::{HttpCall, Send};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use url::Url;
use url::form_urlencoded::byte_serialize;

/// A token is not used in its last minute: it has to live through the call it is for.
const MARGIN: Duration = Duration::from_mins(1);

/// The tokens of all clients.
#[derive(Default)]
pub(super) struct Tokens {
    /// A slot a client, held while its token is fetched, so that many callers fetch one.
    slots: Mutex<HashMap<String, Slot>>,
}

type Slot = Arc<tokio::sync::Mutex<Option<Token>>>;

struct Token {
    text: SecretString,
    until: Instant,
}

/// The issuer's answer; what else is in it does not matter.
#[derive(Deserialize)]
struct Issued {
    access_token: String,
    expires_in: Option<u64>,
}

impl Tokens {
    /// A token that lives for another minute at least, from memory or from `url`.
    pub(super) async fn get(
        &self,
        send: &Send,
        url: &Url,
        id: &str,
        secret: &SecretString,
    ) -> Result<SecretString, ServiceError> {
        let slot = Arc::clone(self.slots.lock().entry(id.to_owned()).or_default());
        let mut slot = slot.lock().await;
        if let Some(token) = slot.as_ref().filter(|token| Instant::now() < token.until) {
            return Ok(token.text.clone());
        }
        let asked = Instant::now();
        let issued = fetch(send, url, id, secret).await?;
        let text = SecretString::from(issued.access_token);
        // One of unknown length is good for now, and is not kept.
        let life = Duration::from_secs(issued.expires_in.unwrap_or(0)).saturating_sub(MARGIN);
        *slot = asked.checked_add(life).map(|until| Token { text: text.clone(), until });
        Ok(text)
    }

    /// Forgets the token of a client.
    pub(super) fn forget(&self, id: &str) {
        self.slots.lock().remove(id);
    }
}

async fn fetch(send: &Send, url: &Url, id: &str, secret: &SecretString) -> Result<Issued, ServiceError> {
    let refused = |why: &str| ServiceError::new(format!("no access token for the client {id}: {why}"));
    // Both halves are form-encoded first (section 2.3.1).
    let encode = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    let basic = STANDARD.encode(format!("{}:{}", encode(id), encode(secret.expose_secret())));
    let mut basic =
        HeaderValue::try_from(format!("Basic {basic}")).map_err(|_| refused("its secret is odd"))?;
    basic.set_sensitive(true);
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, basic);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let body = b"grant_type=client_credentials".to_vec();
    let call = HttpCall { method: Method::POST, url: url.clone(), headers, body: Some(body) };
    let answer = send(call).await.map_err(|why| refused(&why))?;
    if !answer.status.is_success() {
        return Err(refused(&format!("the issuer answered {}", answer.status.as_u16())));
    }
    // The body may hold a token even when it cannot be read: it is not repeated.
    serde_json::from_slice(&answer.body).map_err(|_| refused("the issuer's answer cannot be read"))
}
