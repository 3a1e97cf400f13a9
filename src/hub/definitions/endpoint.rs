//! An endpoint: a server that takes messages, and how gently it is to be treated.

use crate::flow::rate::Rate;
use chrono::{DateTime, Utc};
use secrecy::SecretString;
use std::time::Duration;
use url::Url;

/// An endpoint of a store, ready to use.
#[derive(Debug)]
pub struct Endpoint {
    /// Its lane.
    pub id: i32,
    /// The store's id.
    pub store_id: i32,
    /// The store's name.
    pub store: String,
    /// Its name in the API.
    pub name: String,
    /// Where it is and what it bears.
    pub definition: Definition,
    /// What is sent as `X-Hub-Token`.
    pub token: Option<SecretString>,
    /// `whsec_` secrets; two during a rotation.
    pub signing_secrets: Vec<SecretString>,
    /// The catalog's revision at its last change.
    pub version: i64,
    /// Failed attempts since the last that was not, as they were written when the definition was read.
    pub failures: u32,
    /// Until when its circuit is open, as was written then.
    pub open_until: Option<DateTime<Utc>>,
    /// Whether it answered 410, as was written then.
    pub is_gone: bool,
    /// How often these three had changed by then.
    pub circuit: i64,
}

/// The definition of an endpoint, without its secrets.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// The base URL; a service is a path below it.
    pub url: Url,
    /// The most requests at once, in one process.
    pub concurrency: usize,
    /// The most requests over time, over all processes.
    pub rate: Option<Rate>,
    /// How long a request may take, the whole answer included; a mapping may say less.
    pub timeout: Duration,
    /// When to leave it alone for a while.
    pub breaker: Breaker,
    /// Whether it is sent anything.
    pub enabled: bool,
}

/// A circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    /// It opens after so many failed attempts in a row.
    pub failures: u32,
    /// For how long it stays open before one delivery tries again.
    pub cooldown: Duration,
}
