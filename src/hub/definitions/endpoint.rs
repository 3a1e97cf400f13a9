//! An endpoint: a server that takes messages, and how gently it is to be treated.

use crate::flow::circuit::Breaker;
use crate::flow::circuits::{Guarded, State};
use crate::flow::rate::Rate;
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
    /// What it bore before, which it may still quote.
    pub former: Vec<SecretString>,
    /// The catalog's revision at its last change.
    pub version: i64,
    /// What was written of its circuits when the definition was read.
    pub state: State,
}

impl Endpoint {
    /// Its lane, as its circuit breaker guards it.
    pub fn guarded(&self) -> Guarded {
        Guarded { lane: self.id, breaker: self.definition.breaker, state: self.state }
    }
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
