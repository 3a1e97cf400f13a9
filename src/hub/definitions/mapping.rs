//! A mapping: which messages of a store go to which service, and how.

use super::endpoint::{Endpoint, Wire};
use super::template::Template;
use crate::hub::key::Pattern;
use axum::http::{HeaderName, HeaderValue, Method};
use std::time::Duration;

/// A mapping of a store, ready to use.
#[derive(Debug)]
pub struct Mapping {
    /// The mapping.
    pub id: i32,
    /// The store's id.
    pub store_id: i32,
    /// The store's name.
    pub store: String,
    /// Its name in the API.
    pub name: String,
    /// The endpoint of its service.
    pub endpoint_id: i32,
    /// What it is.
    pub definition: Definition,
    /// Whether its deliveries run; otherwise they are held.
    pub enabled: bool,
    /// The catalog's revision at its last change.
    pub version: i64,
}

impl Mapping {
    /// What counts as success: where it does not say, any 2xx of what is sent the bare payload, which does not tell it our
    /// `message_id`.
    pub fn ack(&self, endpoint: &Endpoint) -> Ack {
        let usual = match endpoint.definition.wire {
            Wire::Messages => Ack::Strict,
            Wire::Raw => Ack::Lenient,
        };
        self.definition.options.ack.unwrap_or(usual)
    }

    /// How long a request to its service may take.
    pub fn timeout(&self, endpoint: &Endpoint) -> Duration {
        let timeout = endpoint.definition.timeout;
        self.definition.options.timeout.map_or(timeout, |less| less.min(timeout))
    }
}

/// The definition of a mapping.
#[derive(Debug, Clone)]
pub struct Definition {
    /// The endpoint's name.
    pub endpoint: String,
    /// The path below the endpoint's URL; empty for that itself.
    pub service: String,
    /// Which messages it takes.
    pub messages: Vec<Pattern>,
    /// The names of the parameters that its service is sent.
    pub parameters: Vec<String>,
    /// What a message must be like beside its key.
    pub filters: Filters,
    /// Names and paths: the same values go to this mapping at most once.
    pub identifiers: Vec<(String, Path)>,
    /// How it is delivered.
    pub options: Options,
    /// When a poll message goes to its service by itself.
    pub schedule: Option<Schedule>,
}

pub use super::filter::{Filters, Path};
pub use super::schedule::Schedule;

/// How the messages of a mapping are delivered.
#[derive(Debug, Clone)]
pub struct Options {
    /// What counts as success; absent, as the endpoint's wire has it.
    pub ack: Option<Ack>,
    /// Whether a failure is tried again at all.
    pub retries_allowed: bool,
    /// After so many failed attempts it is parked; absent: never.
    pub max_attempts: Option<u32>,
    /// When it is older than this it is parked; absent: never.
    pub max_age: Option<Duration>,
    /// The backoff, where it is not the instance's.
    pub retry: Option<Retry>,
    /// Whether messages wait for each other.
    pub serial: Serial,
    /// Which messages an answer may bring; absent: any.
    pub allow_responses: Option<Vec<Pattern>>,
    /// How often one chain of answers may bring it the same key: a further time is parked, as a loop.
    pub revisit: u16,
    /// How long a request may take, where it is less than the endpoint says.
    pub timeout: Option<Duration>,
    /// Which parameters of its store an answer may set.
    pub parameters: MaySet,
    /// What its requests look like, where the endpoint's wire leaves that open.
    pub shape: Shape,
}

/// What the requests of a mapping look like beside their bodies.
#[derive(Debug, Clone, Default)]
pub struct Shape {
    /// The method; absent, POST.
    pub method: Option<Method>,
    /// The content type; absent, JSON.
    pub content_type: Option<HeaderValue>,
    /// Headers beside those of the endpoint, and in the place of those of the same name.
    pub headers: Vec<(HeaderName, Template)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ack: None,
            retries_allowed: true,
            max_attempts: None,
            max_age: None,
            retry: None,
            serial: Serial::default(),
            allow_responses: None,
            revisit: 1,
            timeout: None,
            parameters: MaySet::default(),
            shape: Shape::default(),
        }
    }
}

/// What counts as success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    /// 200 and our `message_id` in the body.
    Strict,
    /// Any 2xx.
    Lenient,
}

/// Which parameters of its store an answer may set. New names it may set anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MaySet {
    /// Those that the mapping is sent.
    #[default]
    Sent,
    /// Any.
    Any,
}

/// Full jitter below a ceiling that doubles from `base` to `cap`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// The ceiling of the first delay.
    pub base: Duration,
    /// The highest ceiling.
    pub cap: Duration,
}

/// Whether messages wait for each other.
#[derive(Debug, Clone, Default)]
pub enum Serial {
    /// They do not.
    #[default]
    No,
    /// One after the other.
    All,
    /// Those with the same value at this path.
    By(Path),
}
