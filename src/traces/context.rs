//! The W3C trace context: which span is the parent of what comes next, in whichever process.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use std::fmt;
use std::sync::Arc;

/// The header that carries it.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The header with which tracing systems say more to themselves.
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The only flag of ours: whoever began the trace has it exported.
const SAMPLED: u8 = 1;
/// The flags that the specification knows: sampled, and that the trace id is random. What it does not know is zero in
/// what we send.
const KNOWN: u8 = 3;
/// The longest `tracestate` that is passed on, as the specification asks at least; a longer one is left out.
const LONGEST: usize = 512;
/// Trace id, span id and flags.
const BYTES: usize = 16 + 8 + 1;

/// A span as its children know it.
#[derive(Clone, PartialEq, Eq)]
pub struct Context {
    pub(super) trace: [u8; 16],
    pub(super) span: [u8; 8],
    pub(super) flags: u8,
    pub(super) state: Option<Arc<str>>,
}

impl Context {
    /// That of a request; `None` when it carries none, or a wrong one, which counts as none.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        // Asked first, since this is all that a request without one costs.
        let mut sent = headers.get_all(TRACEPARENT).iter();
        let first = sent.next()?;
        if sent.next().is_some() {
            return None;
        }
        let mut context = Self::parse(first.to_str().ok()?)?;
        context.state = state(headers);
        Some(context)
    }

    /// Reads a `traceparent`. Of a version that we do not know, the fields that every version has.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let (known, rest) = bytes.split_at_checked(55)?;
        if known[2] != b'-' || known[35] != b'-' || known[52] != b'-' {
            return None;
        }
        let [version] = hex(&known[..2])?;
        let is_whole =
            if version == 0 { rest.is_empty() } else { rest.first().is_none_or(|next| *next == b'-') };
        let (trace, span, [flags]) = (hex(&known[3..35])?, hex(&known[36..52])?, hex(&known[53..])?);
        (version != 0xff && is_whole && trace != [0; 16] && span != [0; 8]).then_some(Self {
            trace,
            span,
            flags: flags & KNOWN,
            state: None,
        })
    }

    /// As it is stored: trace id, span id, flags, and then the `tracestate`, if there is one.
    pub fn stored(&self) -> Vec<u8> {
        let state = self.state.as_deref().unwrap_or_default();
        let mut bytes = Vec::with_capacity(BYTES + state.len());
        bytes.extend_from_slice(&self.trace);
        bytes.extend_from_slice(&self.span);
        bytes.push(self.flags);
        bytes.extend_from_slice(state.as_bytes());
        bytes
    }

    /// What is stored. The schema refuses what is shorter.
    pub fn of_stored(bytes: &[u8]) -> Option<Self> {
        let (trace, rest) = bytes.split_first_chunk()?;
        let (span, rest) = rest.split_first_chunk()?;
        let (flags, state) = rest.split_first()?;
        let state = std::str::from_utf8(state).ok().filter(|state| !state.is_empty()).map(Arc::from);
        Some(Self { trace: *trace, span: *span, flags: *flags, state })
    }

    /// Has a request carry it.
    pub fn send(&self, headers: &mut HeaderMap) {
        // Hexadecimal digits and dashes can always be sent.
        if let Ok(value) = HeaderValue::try_from(self.to_string()) {
            headers.insert(TRACEPARENT, value);
        }
        match self.state.as_deref().map(HeaderValue::try_from) {
            Some(Ok(state)) => headers.insert(TRACESTATE, state),
            _ => headers.remove(TRACESTATE),
        };
    }

    /// The trace, in 32 hexadecimal digits.
    pub fn trace_id(&self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.trace))
    }

    /// Whether its spans are exported.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The same trace, with this span as the parent of what follows.
    pub(super) fn with(&self, span: [u8; 8], is_sampled: bool) -> Self {
        let flags = (self.flags & !SAMPLED) | u8::from(is_sampled);
        Self { span, flags, ..self.clone() }
    }
}

/// As `traceparent` has it.
impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, span) = (u128::from_be_bytes(self.trace), u64::from_be_bytes(self.span));
        write!(f, "00-{trace:032x}-{span:016x}-{:02x}", self.flags)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Several headers are one list.
fn state(headers: &HeaderMap) -> Option<Arc<str>> {
    let mut joined = String::new();
    for part in headers.get_all(TRACESTATE) {
        let part = part.to_str().ok()?.trim();
        if !part.is_empty() {
            joined.push_str(if joined.is_empty() { "" } else { "," });
            joined.push_str(part);
        }
    }
    (!joined.is_empty() && joined.len() <= LONGEST).then(|| Arc::from(joined))
}

/// Lower-case hexadecimal digits, as the specification asks.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
#[path = "context_tests.rs"]
mod tests;
