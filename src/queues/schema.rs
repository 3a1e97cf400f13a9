//! The JSON Schema of a queue's messages: compiled once for each version of a definition, and bounded in all
//! that it can cost.
//!
//! `$schema` decides the dialect (drafts 4, 6, 7, 2019-09, 2020-12), and without it draft-07 holds. `format`
//! asserts where the dialect says so by default: in drafts 4 to 7; later it is an annotation. Nothing is
//! fetched: a reference to another document is refused when the schema is defined.
//!
//! What bounds the work, since neither the schema nor the message is to be trusted:
//!
//! | what | bound |
//! | --- | --- |
//! | references that multiply, endless ones | counted before anything runs: [`expansion`] |
//! | recursion into a nested message, long lists | looks at the message are counted: [`meter`] |
//! | regular expressions | a linear-time engine; look-around and back-references step back a limited number of times |
//! | the async threads | what needs more than some 0.1 ms goes to a thread of its own: [`thread`] |

mod expansion;
mod meter;
mod thread;
mod wording;

use crate::error::{Error, Result, Violation};
use jsonschema::{Draft, PatternOptions, Validator, meta::MetaValidator};
use meter::{Budget, Look, Meter, Metered};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// Most violations that are listed of one document.
pub const MAX_VIOLATIONS: usize = 50;
/// Largest schema, in bytes of compact JSON.
pub const MAX_SCHEMA: usize = 64 * 1024;

/// How long a definition waits for its schema to compile.
const COMPILE_TIMEOUT: Duration = Duration::from_secs(5);
/// Size of one compiled regular expression, in bytes.
const PATTERN_SIZE: usize = 1 << 20;
/// Steps back in one match, for patterns beyond the linear-time engine.
const BACKTRACKS: usize = 10_000;

/// What a message may use on an async thread: some 0.1 ms.
const BRIEF: Budget = Budget { looks: 10_000, stack: 256 << 10 };
/// What a message may use on a thread of its own: some tenths of a second.
const AMPLE: Budget = Budget { looks: 20_000_000, stack: thread::STACK - (4 << 20) };
/// What listing the violations may use there. Less: each takes memory until the last is found.
const LISTING: Budget = Budget { looks: 200_000, ..AMPLE };

/// A schema, ready to be held against messages.
#[derive(Debug)]
pub struct CompiledSchema {
    validator: Validator<Metered>,
    // The cost of a look, see [`Meter::new`].
    price: u64,
}

/// What came out within a budget.
enum Verdict {
    Valid,
    Invalid(Vec<Violation>),
    /// Not valid, but it takes more than the budget to say why.
    Unlisted,
    /// It takes more than the budget to say anything.
    Spent,
}

impl CompiledSchema {
    /// Compiles `schema` on a thread of its own.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every violation of the meta-schema, or the reason why it cannot be used; the
    /// pointers count from the schema. [`Error::Unavailable`] if no thread can be had.
    pub async fn compile(schema: Value) -> Result<Arc<Self>> {
        let compiling = thread::run(move || compile(&schema));
        let compiled = match tokio::time::timeout(COMPILE_TIMEOUT, compiling).await {
            Ok(compiled) => compiled?,
            Err(_) => Err(vec![Violation::new("", "schema", "takes too long to compile")]),
        };
        let refused = |violations| Error::Invalid("the schema cannot be used".to_owned(), violations);
        compiled.map(Arc::new).map_err(refused)
    }

    /// Holds the schema against `message`: here if that is quickly done, else on a thread of its own.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every violation, up to [`MAX_VIOLATIONS`]; their messages do not repeat values
    /// of `message`. [`Error::Unavailable`] if no thread can be had.
    pub async fn validate(self: &Arc<Self>, message: Value) -> Result<()> {
        let verdict = match self.judge(&message, BRIEF, BRIEF) {
            Verdict::Spent | Verdict::Unlisted => {
                let schema = Arc::clone(self);
                thread::run(move || schema.judge(&message, AMPLE, LISTING)).await?
            }
            verdict => verdict,
        };
        let violations = match verdict {
            Verdict::Valid => return Ok(()),
            Verdict::Invalid(violations) => violations,
            Verdict::Unlisted => {
                vec![Violation::new("", "schema", "does not match, in more ways than can be listed")]
            }
            Verdict::Spent => vec![Violation::new("", "schema", "takes too many steps to validate")],
        };
        Err(Error::Invalid("the message does not match the queue's schema".to_owned(), violations))
    }

    fn judge(&self, message: &Value, judging: Budget, listing: Budget) -> Verdict {
        let meter = Meter::new(judging, self.price);
        let valid = self.validator.is_valid(Look::new(message, &meter));
        if meter.is_spent() {
            return Verdict::Spent;
        }
        if valid {
            return Verdict::Valid;
        }
        let meter = Meter::new(listing, self.price);
        let violations = wording::violations(self.validator.iter_errors(Look::new(message, &meter)));
        if meter.is_spent() { Verdict::Unlisted } else { Verdict::Invalid(violations) }
    }
}

fn compile(schema: &Value) -> Result<CompiledSchema, Vec<Violation>> {
    let one = |violation| vec![violation];
    if schema.to_string().len() > MAX_SCHEMA {
        return Err(one(Violation::new("", "schema", format!("larger than {MAX_SCHEMA} bytes"))));
    }
    let draft = Draft::Draft7.detect(schema);
    let Some(meta_schema) = meta_schema(draft) else {
        return Err(one(Violation::new("/$schema", "$schema", "not a dialect of JSON Schema known here")));
    };
    // Each step below stops at its first reason; the meta-schema knows all of them.
    let all = |reason: Vec<Violation>| {
        let listed = wording::violations(meta_schema.iter_errors(schema));
        if listed.is_empty() { reason } else { listed }
    };
    let checks = expansion::measure(schema, draft).map_err(|reason| all(vec![reason]))?;
    let options = jsonschema::options_for::<Metered>().with_draft(draft).with_retriever(expansion::Offline);
    let linear = PatternOptions::regex().size_limit(PATTERN_SIZE);
    let backtracking = PatternOptions::fancy_regex().size_limit(PATTERN_SIZE).backtrack_limit(BACKTRACKS);
    let validator = options.clone().with_pattern_options(linear).build(schema);
    let validator = validator.or_else(|_| options.with_pattern_options(backtracking).build(schema));
    let validator = validator.map_err(|error| all(wording::violations(std::iter::once(error))))?;
    Ok(CompiledSchema { validator, price: 1 + checks / 256 })
}

fn meta_schema(draft: Draft) -> Option<MetaValidator<'static>> {
    match draft {
        Draft::Draft4 => Some(jsonschema::draft4::meta::validator()),
        Draft::Draft6 => Some(jsonschema::draft6::meta::validator()),
        Draft::Draft7 => Some(jsonschema::draft7::meta::validator()),
        Draft::Draft201909 => Some(jsonschema::draft201909::meta::validator()),
        Draft::Draft202012 => Some(jsonschema::draft202012::meta::validator()),
        _ => None,
    }
}
