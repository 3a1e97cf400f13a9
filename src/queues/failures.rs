//! What is told of attempts: a message that ended in ERROR is one line of the log that somebody should read; each attempt
//! is a span.

use super::catalog::Queue;
use super::outcome::{End, Next};
use super::spans::Attempt;
use super::store::ends::Ending;
use crate::traces::{Context, Origin, Tracer};
use crate::worker::{Claim, Lines};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Duration;

/// The longest cause that is logged, in characters.
const LONGEST: usize = 300;

/// How an attempt ended that is told of.
#[derive(Debug)]
pub(super) struct Told<'a> {
    /// The claim that ran it.
    pub(super) claim: &'a Claim,
    /// Its queue, unless that is gone.
    pub(super) queue: Option<Arc<Queue>>,
    /// How long it took.
    pub(super) took: Duration,
    how: How,
    said: Said,
    /// Its word in the tables.
    ending: Ending,
}

#[derive(Debug, Clone, Copy)]
enum How {
    Completed,
    Again,
    Ended,
}

/// What the error says: its name, and its words.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    name: Option<String>,
    words: String,
}

impl<'a> Told<'a> {
    /// What is to be told of an attempt: of one that ended its message in ERROR always, of the others where somebody asks
    /// the log for more, or spans are exported.
    pub(super) fn of(
        claim: &'a Claim,
        queue: Option<&Arc<Queue>>,
        (end, next): (&End, &Next<'_>),
        took: Duration,
        is_traced: bool,
    ) -> Option<Self> {
        let (how, said) = match next {
            Next::Error(error) => (How::Ended, Said::of(error)),
            _ if !is_traced && !tracing::enabled!(tracing::Level::DEBUG) => return None,
            Next::Again { error, .. } => (How::Again, Said::of(error)),
            Next::Complete(_) => (How::Completed, Said::default()),
        };
        Some(Self { claim, queue: queue.cloned(), took, how, said, ending: end.ending() })
    }

    /// Notes its line and its span, with what the message comes of.
    pub(super) fn note(self, lines: &mut Lines, origin: Origin, tracer: &Tracer) {
        let Self { claim, queue, took, how, said: Said { name, words }, ending } = self;
        let (id, attempt) = (claim.item, claim.attempt);
        let (claim, tracer) = (claim.clone(), tracer.clone());
        lines.push(move || {
            let Origin { request_id, trace } = origin;
            let queue = queue.as_ref().map_or("deleted", |queue| queue.name.as_str());
            let (error, cause, request_id) = (name.as_deref(), words.as_str(), request_id.as_deref());
            let context = tracer.attempt(trace.as_ref(), claim.tried(id));
            let trace_id = context.as_ref().map(Context::trace_id);
            let trace_id = trace_id.as_deref();
            match how {
                How::Ended => {
                    tracing::warn!(queue, %id, attempt, error, cause, ?took, request_id, trace_id, "a message ended in ERROR");
                }
                How::Again => {
                    tracing::debug!(queue, %id, attempt, error, cause, ?took, request_id, trace_id, "an attempt failed: the message runs again");
                }
                How::Completed => {
                    tracing::debug!(queue, %id, attempt, ?took, request_id, trace_id, "an attempt completed its message");
                }
            }
            if let Some(context) = context {
                let (claim, was_last, parent) = (&claim, matches!(how, How::Ended), trace);
                tracer.end(Attempt { queue, claim, ending, was_last, error, took, context, parent }.span());
            }
        });
    }
}

impl Said {
    /// What the handler's error says, in few words.
    fn of(error: &RawValue) -> Self {
        let text = |members: &mut Map<String, Value>, name: &str| match members.remove(name) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let mut said = Self { name: None, words: error.get().chars().take(LONGEST + 1).collect() };
        match serde_json::from_str(error.get()) {
            Ok(Value::String(text)) => said.words = text,
            Ok(Value::Object(mut members)) => {
                said.name = text(&mut members, "name").map(short);
                if let Some(words) = text(&mut members, "message") {
                    said.words = words;
                }
            }
            _ => {}
        }
        said.words = short(said.words);
        said
    }
}

fn short(mut text: String) -> String {
    if let Some((at, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(at);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_what_the_handler_says_in_few_words() {
        for (error, name, words) in [
            (r#""no""#, None, "no"),
            (r#"{"name":"TypeError","message":"x is null","stack":"at y"}"#, Some("TypeError"), "x is null"),
            (r#"{"message":"full"}"#, None, "full"),
            (r#"{"code":7}"#, None, r#"{"code":7}"#),
            ("[1]", None, "[1]"),
        ] {
            let error = RawValue::from_string(error.to_owned()).unwrap_or_default();
            let said = Said { name: name.map(str::to_owned), words: words.to_owned() };
            assert_eq!(Said::of(&error), said);
        }
        let long = RawValue::from_string(format!("\"{}\"", "ä".repeat(400))).unwrap_or_default();
        assert_eq!(Said::of(&long).words.chars().count(), LONGEST + 1);
    }
}
