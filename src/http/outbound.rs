//! The only way in which Postrider sends an HTTP request to anybody.
//!
//! Endpoints, handlers and key sets are named by tenants, so a URL may point into the operator's own network.
//! Every address that a name resolves to is vetted, and exactly the vetted addresses are dialled: a name that
//! changes its mind between the check and the connection gains nothing. No redirect is followed, no proxy of
//! the environment is used, and an answer is read up to a limit within a time.

use super::address::special_purpose;
use super::names::Names;
use crate::config::Network;
use axum::http::{HeaderMap, Method, StatusCode};
use bytes::{Bytes, BytesMut};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::error::Error as StdError;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use url::{Host, Url};

/// Sends requests to public addresses, and to the private networks that the operator allows. Cheap to clone;
/// clones share their idle connections.
#[derive(Debug, Clone)]
pub struct Outbound {
    client: reqwest::Client,
    allow: Arc<[Network]>,
}

/// A request to somebody else's server.
#[derive(Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// An `http` or `https` URL.
    pub url: Url,
    /// Headers beside `Host`, `Content-Length` and `User-Agent`.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// How long everything may take: name, connection, request and the whole answer.
    pub timeout: Duration,
    /// The largest answer that is read, in bytes.
    pub max_response: usize,
}

/// What the server said.
#[derive(Debug)]
pub struct Answer {
    /// Its status; a redirect is not followed.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body as sent: nothing is unpacked.
    pub body: Bytes,
}

/// Why there is no answer. The words are coarse, since a tenant reads them: no address, no port scan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The URL or the address behind it is not one that may be asked.
    #[error("{0}")]
    Refused(String),
    /// No whole answer in time.
    #[error("no answer in time")]
    Timeout,
    /// No connection, or it broke: name, route, TLS, HTTP.
    #[error("the server could not be reached")]
    Unreachable,
    /// The answer, of this status, is larger than this many bytes.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize, StatusCode),
}

impl Outbound {
    /// A sender that may also reach the private networks in `allow` (`POSTRIDER_ALLOW_NETWORKS`).
    ///
    /// # Errors
    /// When the TLS library cannot be set up.
    pub fn new(allow: Vec<Network>) -> anyhow::Result<Self> {
        Self::with_names(allow, &Names::of_the_system()?)
    }

    fn with_names(allow: Vec<Network>, names: &Names) -> anyhow::Result<Self> {
        let allow: Arc<[Network]> = allow.into();
        let builder = || {
            reqwest::Client::builder()
                .dns_resolver(Arc::new(Vetted { allow: Arc::clone(&allow), names: names.clone() }))
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .no_proxy()
                .referer(false)
                .http1_only()
                .user_agent(concat!("postrider/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(Duration::from_secs(10))
                .pool_idle_timeout(Duration::from_secs(30))
                .pool_max_idle_per_host(1024)
        };
        let client = builder().build().or_else(|error| {
            tracing::warn!(error = ?error, "no root certificates on this machine: https endpoints are unreachable");
            builder().tls_certs_only([]).build()
        })?;
        Ok(Self { client, allow })
    }

    /// The URL, if it may be asked as far as its text tells: scheme, credentials, a literal address.
    ///
    /// # Errors
    /// Why it may not, in words for whoever wrote it.
    pub fn check_url(&self, url: &str) -> Result<Url, String> {
        let url = Url::parse(url).map_err(|error| format!("the URL cannot be read: {error}"))?;
        self.check(&url)?;
        Ok(url)
    }

    fn check(&self, url: &Url) -> Result<(), String> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err("the URL must be http or https".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("the URL must not carry credentials".to_owned());
        }
        // The parser has brought every spelling of an address (`2130706433`, `0x7f.1`, fullwidth digits) to
        // its plain form. No resolver sees it: it would be dialled as it is.
        let literal = match url.host() {
            Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
            Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
            Some(Host::Domain(_)) => None,
            None => return Err("the URL has no host".to_owned()),
        };
        match literal.map(|ip| vet(ip, &self.allow)) {
            Some(Err(RefusedAddress)) => Err(RefusedAddress.to_string()),
            _ => Ok(()),
        }
    }

    /// Sends `request` and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// [`Failure`], which is data: the request may have been processed even so.
    pub async fn send(&self, request: Request) -> Result<Answer, Failure> {
        let timeout = request.timeout;
        tokio::time::timeout(timeout, self.exchange(request)).await.unwrap_or(Err(Failure::Timeout))
    }

    async fn exchange(&self, request: Request) -> Result<Answer, Failure> {
        self.check(&request.url).map_err(Failure::Refused)?;
        let limit = request.max_response;
        let mut asked = reqwest::Request::new(request.method, request.url);
        *asked.headers_mut() = request.headers;
        *asked.body_mut() = Some(request.body.into());
        let mut response = self.client.execute(asked).await.map_err(|error| failure(&error))?;
        let too_large = |length: u64| usize::try_from(length).map_or(true, |length| length > limit);
        if response.content_length().is_some_and(too_large) {
            return Err(Failure::TooLarge(limit, response.status()));
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| failure(&error))? {
            if body.len() + chunk.len() > limit {
                return Err(Failure::TooLarge(limit, response.status()));
            }
            body.extend_from_slice(&chunk);
        }
        let headers = std::mem::take(response.headers_mut());
        Ok(Answer { status: response.status(), headers, body: body.freeze() })
    }
}

fn failure(error: &reqwest::Error) -> Failure {
    let first: &(dyn StdError + 'static) = error;
    let mut chain = std::iter::successors(Some(first), |error| (*error).source());
    if chain.any(<dyn StdError>::is::<RefusedAddress>) {
        return Failure::Refused(RefusedAddress.to_string());
    }
    tracing::debug!(error = ?error, "an outbound request failed");
    if error.is_timeout() { Failure::Timeout } else { Failure::Unreachable }
}

/// The address is not public and not allowed by the operator.
#[derive(Debug, thiserror::Error)]
#[error("the address is not public (an operator can allow it with POSTRIDER_ALLOW_NETWORKS)")]
struct RefusedAddress;

fn vet(ip: IpAddr, allow: &[Network]) -> Result<(), RefusedAddress> {
    let Some(kind) = special_purpose(ip) else { return Ok(()) };
    if allow.iter().any(|network| network.contains(ip)) {
        return Ok(());
    }
    tracing::info!(%ip, kind, "an outbound request to a special-purpose address was refused");
    Err(RefusedAddress)
}

/// Looks names up, and yields nothing unless every address may be dialled.
struct Vetted {
    names: Names,
    allow: Arc<[Network]>,
}

impl Resolve for Vetted {
    fn resolve(&self, name: Name) -> Resolving {
        let (allow, names) = (Arc::clone(&self.allow), self.names.clone());
        Box::pin(async move {
            let addresses = names.look_up(name.as_str()).await?;
            for address in &addresses {
                vet(*address, &allow)?;
            }
            Ok(Box::new(addresses.into_iter().map(|ip| SocketAddr::from((ip, 0)))) as Addrs)
        })
    }
}

#[cfg(test)]
#[path = "outbound_tests.rs"]
mod tests;
