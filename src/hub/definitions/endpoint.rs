//! An endpoint: a server that takes messages, and how gently it is to be treated.

use crate::flow::circuit::Breaker;
use crate::flow::circuits::{Guarded, State};
use crate::flow::rate::Rate;
use crate::http::aside::LARGE;
use crate::hub::definitions::header::{self, Header};
use crate::hub::definitions::signing::{Sign, Signer};
use crate::hub::key::Pattern;
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
    /// What it is sent beside the hub's own headers.
    pub headers: Vec<header::Ready>,
    /// What signs in forms of its own.
    pub signers: Vec<Signer>,
    /// The secrets among those headers, and of those signatures.
    pub wire_secrets: Vec<SecretString>,
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

    /// Whether to make and sign a request with so many bytes takes long.
    pub fn is_slow_to_sign(&self, bytes: usize) -> bool {
        bytes > LARGE || self.signers.iter().any(Signer::is_slow)
    }
}

/// The definition of an endpoint, without its secrets.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// The base URL; a service is a path below it.
    pub url: Url,
    /// What a request to it looks like.
    pub wire: Wire,
    /// The most requests at once, in one process.
    pub concurrency: usize,
    /// The most requests over time, over all processes.
    pub rate: Option<Rate>,
    /// How long a request may take, the whole answer included; a mapping may say less.
    pub timeout: Duration,
    /// When to leave it alone for a while.
    pub breaker: Breaker,
    /// When it is switched off; absent: never by itself.
    pub disable: Option<Disable>,
    /// Which messages its own mapping takes; where there are none, it has no mapping of its own.
    pub events: Vec<Pattern>,
    /// The headers that it is sent beside the hub's own.
    pub headers: Vec<Header>,
    /// The signatures that it is sent beside those of Standard Webhooks.
    pub sign: Vec<Sign>,
    /// Whether it is sent anything.
    pub enabled: bool,
}

/// What a request looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wire {
    /// `{"message", "message_id", "store_id", "payload"}` and the hub's own headers.
    #[default]
    Messages,
    /// The payload as it was pushed, and no header but those that the definitions name.
    Raw,
}

/// When an endpoint is switched off: once so many attempts in a row have failed, the first of them so long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disable {
    /// So many failed attempts in a row, over all services and processes.
    pub failures: u32,
    /// Since the first of them.
    pub after: Duration,
}

impl Disable {
    /// Whether an endpoint is to be switched off at which so many attempts in a row have failed for so long.
    pub fn is_due(self, failures: i32, lasting: Duration) -> bool {
        failures.unsigned_abs() >= self.failures && lasting >= self.after
    }
}
