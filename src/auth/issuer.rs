//! An issuer's published keys (JWKS, RFC 7517): fetched when needed, kept while the issuer is down.
//!
//! ```text
//! no keys yet ──first use──▶ fetch, wait ──failed──▶ 503, again after 5 s
//! keys ──older than 10 min──▶ fetch beside the requests, which go on with the keys there are
//! keys ──unknown kid, last fetch ≥ 60 s ago──▶ fetch, wait
//! ```
//! One fetch runs at a time, in a task of its own: a client that hangs up must not cancel it.

use super::key::Key;
use super::ring::Ring;
use crate::error::{Error, Result};
use anyhow::{Context, ensure};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use futures::future::BoxFuture;
use jsonwebtoken::jwk::Jwk;
use parking_lot::Mutex;
use serde::Deserialize;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Gets the body of a 200 answer to a GET of this URL.
pub type Fetch = Arc<dyn Fn(String) -> BoxFuture<'static, anyhow::Result<Bytes>> + Send + Sync>;

/// How old keys may be before they are fetched again.
const MAX_AGE: Duration = Duration::from_mins(10);
/// The least time between two fetches: whoever invents key ids must not make us a burden to the issuer.
const PAUSE: Duration = Duration::from_mins(1);
/// The same while there are no keys at all.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// The longest a fetch may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The largest key set, in bytes.
const MAX_DOCUMENT: usize = 256 * 1024;

/// A key set that is published at a URL.
pub(super) struct Issuer {
    published: Arc<Published>,
    /// The fetch that runs; it ends with the issuer.
    tasks: Mutex<JoinSet<()>>,
    /// When the last fetch began; locked while one runs.
    began: Arc<tokio::sync::Mutex<Option<Instant>>>,
}

struct Published {
    url: String,
    fetch: Fetch,
    latest: ArcSwapOption<Latest>,
}

/// The last key set that could be fetched.
struct Latest {
    ring: Arc<Ring>,
    document: Bytes,
    at: Instant,
}

impl Issuer {
    pub(super) fn new(url: String, fetch: Fetch) -> Self {
        let published = Arc::new(Published { url, fetch, latest: ArcSwapOption::empty() });
        Self { published, tasks: Mutex::default(), began: Arc::default() }
    }

    /// The keys to use at `now`.
    pub(super) async fn ring(&self, now: Instant) -> Result<Arc<Ring>> {
        if let Some(latest) = self.published.latest.load_full() {
            if now.saturating_duration_since(latest.at) >= MAX_AGE
                && let Ok(began) = Arc::clone(&self.began).try_lock_owned()
            {
                self.start(began, now, PAUSE);
            }
            return Ok(Arc::clone(&latest.ring));
        }
        self.refresh(now, FIRST_PAUSE).await;
        self.latest()
    }

    /// The keys to use at `now` after those of [`Self::ring`] lacked a token's key.
    pub(super) async fn refreshed_ring(&self, now: Instant) -> Result<Arc<Ring>> {
        self.refresh(now, PAUSE).await;
        self.latest()
    }

    fn latest(&self) -> Result<Arc<Ring>> {
        let latest = self.published.latest.load_full().ok_or_else(|| {
            Error::Unavailable("the keys of the token issuer cannot be fetched".to_owned(), FIRST_PAUSE)
        })?;
        Ok(Arc::clone(&latest.ring))
    }

    /// Waits for the fetch that runs, or for a new one if that may start.
    async fn refresh(&self, now: Instant, pause: Duration) {
        let began = Arc::clone(&self.began).lock_owned().await;
        self.start(began, now, pause);
        self.idle().await;
    }

    /// Returns when no fetch runs.
    pub(super) async fn idle(&self) {
        drop(self.began.lock().await);
    }

    fn start(&self, mut began: tokio::sync::OwnedMutexGuard<Option<Instant>>, now: Instant, pause: Duration) {
        if began.is_some_and(|last| now.saturating_duration_since(last) < pause) {
            return;
        }
        *began = Some(now);
        let published = Arc::clone(&self.published);
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            if let Err(error) = published.fetch(now).await {
                tracing::warn!(url = published.url, "the token issuer's keys cannot be fetched: {error:#}");
            }
            drop(began);
        });
    }
}

impl Published {
    async fn fetch(&self, now: Instant) -> anyhow::Result<()> {
        let answer = tokio::time::timeout(TIMEOUT, (self.fetch)(self.url.clone())).await;
        let document = answer.context("no answer in time")??;
        let ring = match self.latest.load_full() {
            // What these keys have verified stays verified.
            Some(latest) if latest.document == document => Arc::clone(&latest.ring),
            _ => Arc::new(Ring::published(usable_keys(&document)?)),
        };
        self.latest.store(Some(Arc::new(Latest { ring, document, at: now })));
        Ok(())
    }
}

/// The keys of a JWK set that can verify tokens here; others are left out (RFC 7517, section 5).
fn usable_keys(document: &[u8]) -> anyhow::Result<Vec<Key>> {
    #[derive(Deserialize)]
    struct KeySet {
        keys: Vec<serde_json::Value>,
    }
    ensure!(document.len() <= MAX_DOCUMENT, "the key set is larger than {MAX_DOCUMENT} bytes");
    let set: KeySet = serde_json::from_slice(document).context("not a JWK set")?;
    let mut keys = Vec::new();
    for (index, value) in set.keys.iter().enumerate() {
        match Jwk::deserialize(value).map_err(anyhow::Error::from).and_then(|jwk| Key::from_jwk(&jwk)) {
            Ok(key) => keys.push(key),
            Err(error) => tracing::warn!(index, "a published key is not used: {error:#}"),
        }
    }
    Ok(keys)
}
