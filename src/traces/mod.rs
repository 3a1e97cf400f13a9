//! Traces: the W3C context that travels with what is pushed, and the spans of this process.
//!
//! | file | does |
//! | --- | --- |
//! | `context.rs` | reads, stores and sends a context |
//! | `span.rs`, `encode.rs` | a span that has ended, and how OTLP writes it |
//! | `export.rs` | takes spans to a collector, and stands in nobody's way |
//!
//! The context is that of the span which made something: it is stored with it, and so a child knows its parent in
//! whichever process it runs. The span of an attempt needs no such storage: its id follows from the claim that runs it and
//! the item, which every process knows alike. So whoever writes the end of an attempt writes its span, be it another
//! server, or the reclaim once its worker is lost. What came without a context begins a trace whose id is its own id.
//!
//! When nothing is exported, a context is only passed on: what carries none costs a look for a header, and an attempt
//! nothing.

mod context;
mod encode;
mod export;
mod span;

pub use context::Context;
pub use export::Exporter;
pub use span::{Kind, Span};

use crate::config::{Sampler, Traces};
use axum::http::HeaderMap;
use chrono::{DateTime, Utc};
use export::Outbox;
use std::fmt;
use std::sync::Arc;
use uuid::Uuid;

/// What something that is pushed comes of.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// The request from outside.
    pub request_id: Option<Arc<str>>,
    /// The span.
    pub trace: Option<Context>,
}

/// Makes the spans of this process; without a collector it passes contexts on as they are.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<Inner>>);

struct Inner {
    outbox: Outbox,
    sampler: Sampler,
    clock: Box<dyn Fn() -> Option<DateTime<Utc>> + Send + Sync>,
}

/// An attempt, by what every process knows of it.
#[derive(Debug, Clone, Copy)]
pub struct Tried {
    /// The message. If it came without a context, its id is that of its trace.
    pub message: Uuid,
    /// What the engine claims for it: itself, or its delivery.
    pub item: Uuid,
    /// The claim.
    pub lease: Uuid,
}

impl Tried {
    /// The id of its span. Both ids are random in their second halves, but for the two bits of the variant.
    fn span(self) -> [u8; 8] {
        let (item, lease) = (self.item.as_u64_pair().1, self.lease.as_u64_pair().1);
        non_zero((item ^ lease.rotate_left(29)).to_be_bytes())
    }
}

/// A span that has begun.
#[derive(Debug)]
pub struct Begun {
    /// Its trace, and its own id: what its children are told.
    pub context: Context,
    /// The span that it is a child of.
    pub parent: Option<Context>,
    /// When.
    pub started_at: DateTime<Utc>,
}

impl Tracer {
    /// A tracer, and what exports its spans; times are those of `clock`.
    ///
    /// # Errors
    /// The exporter's client cannot be made.
    pub fn new(
        settings: Option<Traces>,
        clock: impl Fn() -> Option<DateTime<Utc>> + Send + Sync + 'static,
    ) -> anyhow::Result<(Self, Option<Exporter>)> {
        let Some(settings) = settings else { return Ok((Self(None), None)) };
        let sampler = settings.sampler;
        let (outbox, exporter) = Exporter::new(settings)?;
        let inner = Inner { outbox, sampler, clock: Box::new(clock) };
        Ok((Self(Some(Arc::new(inner))), Some(exporter)))
    }

    /// Whether spans are exported.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// What an attempt tells whatever it causes; `stored` is what the message came with. Without a collector that is passed
    /// on.
    pub fn attempt(&self, stored: Option<&Context>, tried: Tried) -> Option<Context> {
        let Some(inner) = &self.0 else { return stored.cloned() };
        let parent = stored.cloned().unwrap_or_else(|| root(tried.message.into_bytes()));
        let is_sampled = inner.is_sampled(&parent, stored.is_some());
        Some(parent.with(tried.span(), is_sampled))
    }

    /// The trace of a message that came with this context, as the log names it.
    pub fn trace_id(&self, stored: Option<&Context>, message: Uuid) -> Option<String> {
        let own = || self.is_on().then(|| root(message.into_bytes()).trace_id());
        stored.map(Context::trace_id).or_else(own)
    }

    /// Begins the span of a request to us, or `None` without a collector. `begins` if it may be the first of a trace.
    pub fn serve(&self, headers: &HeaderMap, begins: bool) -> Option<Begun> {
        let inner = self.0.as_ref()?;
        let parent = Context::of(headers);
        if parent.is_none() && !begins {
            return None;
        }
        Some(inner.begin(parent))
    }

    /// Begins the span of a request of ours, or `None` when it is not exported: then `parent` is passed on.
    pub fn ask(&self, parent: Option<&Context>) -> Option<Begun> {
        let inner = self.0.as_ref()?;
        parent.filter(|parent| parent.is_sampled()).map(|parent| inner.begin(Some(parent.clone())))
    }

    /// What time it is, where anybody asks for it.
    pub fn now(&self) -> Option<DateTime<Utc>> {
        self.0.as_ref().and_then(|inner| (inner.clock)())
    }

    /// Exports a span that has ended.
    pub fn end(&self, span: Span) {
        if let Some(inner) = &self.0
            && span.context.is_sampled()
        {
            inner.outbox.send(span);
        }
    }
}

impl Inner {
    fn begin(&self, parent: Option<Context>) -> Begun {
        let whole = parent.clone().unwrap_or_else(|| root(rand::random()));
        let is_sampled = self.is_sampled(&whole, parent.is_some());
        let context = whole.with(non_zero(rand::random()), is_sampled);
        Begun { context, parent, started_at: (self.clock)().unwrap_or_default() }
    }

    fn is_sampled(&self, whole: &Context, has_parent: bool) -> bool {
        if has_parent && self.sampler.follows_parent {
            return whole.is_sampled();
        }
        // The last seven bytes of a trace id are random: of ours, of an item's id (RFC 9562), and of others' (W3C).
        let place = u128::from_be_bytes(whole.trace) & ((1 << 56) - 1);
        #[expect(clippy::cast_precision_loss, reason = "a share need not be exact")]
        let place = place as f64 / (1_u64 << 56) as f64;
        place < self.sampler.ratio
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tracer").field(&self.is_on()).finish()
    }
}

/// A trace that begins.
fn root(trace: [u8; 16]) -> Context {
    Context { trace, span: [0; 8], flags: 0, state: None }
}

/// Zero is no id.
fn non_zero(mut id: [u8; 8]) -> [u8; 8] {
    if id == [0; 8] {
        id[7] = 1;
    }
    id
}
