//! The only way in which Postrider sends an HTTP request to anybody.
//!
//! Endpoints, handlers and key sets are named by tenants, so a URL may point into the operator's own network.
//! Every address that a name resolves to is vetted, and exactly the vetted addresses are dialled: a name that
//! changes its mind between the check and the connection gains nothing. No redirect is followed, no proxy of
//! the environment is used, and an answer is read up to a limit within a time.

mod cause;
mod failure;
mod held;

pub use cause::Cause;
pub use failure::Failure;
pub use held::Still;

use super::address::{RefusedAddress, special_purpose};
use super::names::Names;
use crate::config::Network;
use axum::http::{HeaderMap, Method, StatusCode, Version, header};
use bytes::{Bytes, BytesMut};
use held::Held;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use url::{Host, Url};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a name may take to be looked up: less, so that a silent name server is told from a silent server.
const LOOK_UP: Duration = Duration::from_secs(8);

/// How often a request is sent that no connection took.
const TRIES: u8 = 4;

/// Sends requests to public addresses, and to the private networks that the operator allows. Cheap to clone;
/// clones share their idle connections.
#[derive(Debug, Clone)]
pub struct Outbound {
    client: reqwest::Client,
    allow: Arc<[Network]>,
}

/// A request to somebody else's server.
#[derive(Debug, Clone)]
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

impl Answer {
    /// What is wrong with it, if it points elsewhere: where to.
    pub fn redirect(&self) -> Option<Failure> {
        let location = self.headers.get(header::LOCATION).filter(|_| self.status.is_redirection())?;
        Some(Failure::redirect(self.status, location.as_bytes()))
    }
}

impl Outbound {
    /// A sender that may also reach the private networks in `allow` (`POSTRIDER_ALLOW_NETWORKS`).
    ///
    /// # Errors
    /// When the TLS library cannot be set up.
    pub fn new(allow: Vec<Network>) -> anyhow::Result<Self> {
        Self::with(allow, &Names::of_the_system()?, CONNECT, LOOK_UP)
    }

    fn with(
        allow: Vec<Network>,
        names: &Names,
        connect: Duration,
        look_up: Duration,
    ) -> anyhow::Result<Self> {
        let allow: Arc<[Network]> = allow.into();
        let builder = || {
            reqwest::Client::builder()
                .dns_resolver(Arc::new(Vetted { allow: Arc::clone(&allow), names: names.clone(), look_up }))
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .no_proxy()
                .referer(false)
                .http1_only()
                // What is no HTTP/1 is looked at, to say what it is; it is never an answer.
                .http09_responses()
                .user_agent(concat!("postrider/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(connect)
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
    /// `Failure`, which is data: the request may have been processed even so.
    pub async fn send(&self, request: &Request) -> Result<Answer, Failure> {
        self.answer(request, &Held::new(|| true)).await
    }

    /// Sends `request` as [`Self::send`] does if it may `still` be sent when a connection is there and only the writing
    /// is left: to there lie a name, a connection and a handshake, and as much time as they take. `None` when it may not
    /// any more: then nothing of it was sent. A request without a body is not asked for.
    pub async fn send_while(&self, request: &Request, still: impl Still) -> Option<Result<Answer, Failure>> {
        let held = Held::new(still);
        let answer = self.answer(request, &held).await;
        (!held.is_late()).then_some(answer)
    }

    async fn answer(&self, request: &Request, held: &Arc<Held>) -> Result<Answer, Failure> {
        let mut status = None;
        match tokio::time::timeout(request.timeout, self.exchange(request, held, &mut status)).await {
            Ok(exchanged) => exchanged,
            Err(_) => Err(Failure::timeout(status)),
        }
    }

    /// Sends a request until it was sent, a few times: a connection that ends between its handshake and the request, as
    /// one that wants a client certificate does, takes the reason along. The next one may tell.
    async fn execute(&self, request: &Request, held: &Arc<Held>) -> Result<reqwest::Response, Failure> {
        let mut tries = 1;
        loop {
            let mut asked = reqwest::Request::new(request.method.clone(), request.url.clone());
            *asked.headers_mut() = request.headers.clone();
            *asked.body_mut() = Some(held.body(request.body.clone()));
            match self.client.execute(asked).await {
                Ok(response) => return Ok(response),
                Err(error) if tries < TRIES && Failure::is_unsent(&error) && !held.is_late() => tries += 1,
                Err(error) => return Err(failed(&error, None)),
            }
        }
    }

    /// Notes the status as soon as it is there.
    async fn exchange(
        &self,
        request: &Request,
        held: &Arc<Held>,
        status: &mut Option<StatusCode>,
    ) -> Result<Answer, Failure> {
        self.check(&request.url).map_err(Failure::not_allowed)?;
        let limit = request.max_response;
        let mut response = self.execute(request, held).await?;
        if response.version() == Version::HTTP_09 {
            let beginning = response.chunk().await.ok().flatten();
            return Err(Failure::not_http(&beginning.unwrap_or_default()));
        }
        let said = response.status();
        *status = Some(said);
        let too_large = |length: u64| usize::try_from(length).map_or(true, |length| length > limit);
        if response.content_length().is_some_and(too_large) {
            return Err(Failure::too_large(said, limit));
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| failed(&error, Some(said)))? {
            if body.len() + chunk.len() > limit {
                return Err(Failure::too_large(said, limit));
            }
            body.extend_from_slice(&chunk);
        }
        let headers = std::mem::take(response.headers_mut());
        Ok(Answer { status: said, headers, body: body.freeze() })
    }
}

fn failed(error: &reqwest::Error, status: Option<StatusCode>) -> Failure {
    tracing::debug!(error = ?error, "an outbound request failed");
    Failure::of(error, status)
}

/// No name server answers in time.
#[derive(Debug, thiserror::Error)]
#[error("no name server answers in time")]
struct NoName;

fn vet(ip: IpAddr, allow: &[Network]) -> Result<(), RefusedAddress> {
    let Some(kind) = special_purpose(ip) else { return Ok(()) };
    if allow.iter().any(|network| network.contains(ip)) {
        return Ok(());
    }
    tracing::debug!(%ip, kind, "an outbound request to a special-purpose address was refused");
    Err(RefusedAddress)
}

/// Looks names up, and yields nothing unless every address may be dialled.
struct Vetted {
    names: Names,
    allow: Arc<[Network]>,
    look_up: Duration,
}

impl Resolve for Vetted {
    fn resolve(&self, name: Name) -> Resolving {
        let (allow, names, most) = (Arc::clone(&self.allow), self.names.clone(), self.look_up);
        Box::pin(async move {
            let looked_up = tokio::time::timeout(most, names.look_up(name.as_str())).await;
            let addresses = looked_up.map_err(|_| NoName)??;
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
