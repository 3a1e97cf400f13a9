//! Whether a mapping and its endpoint go together: each may be right by itself and ask for what the other cannot give.

use super::endpoint::{Definition, Wire};
use super::mapping::{Ack, Options};

/// What does not go together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// Where, in the mapping's definition.
    pub pointer: String,
    /// Which rule.
    pub keyword: &'static str,
    /// Why, and what to do.
    pub words: String,
}

/// What of a mapping's options, and of the parameters that it names, does not go with its endpoint.
pub fn fits(options: &Options, parameters: &[String], endpoint: &Definition) -> Vec<Misfit> {
    let mut misfits = Vec::new();
    let mut note = |pointer: &str, words: &str| {
        misfits.push(Misfit { pointer: pointer.to_owned(), keyword: "wire", words: words.to_owned() });
    };
    match endpoint.wire {
        Wire::Raw => {
            if options.ack == Some(Ack::Strict) {
                note(
                    "/options/ack",
                    "must not be strict: the wire raw does not tell our message_id, so nobody can \
                     answer with it",
                );
            }
            if !parameters.is_empty() {
                note(
                    "/parameters",
                    "must be empty: the wire raw sends the payload as it is, and adds nothing",
                );
            }
        }
        Wire::Messages => {
            for (given, pointer) in [
                (options.shape.method.is_some(), "/options/method"),
                (options.shape.content_type.is_some(), "/options/content_type"),
            ] {
                if given {
                    note(pointer, "is for endpoints whose wire is raw: the wire messages is a POST of JSON");
                }
            }
        }
    }
    for (name, _) in &options.shape.headers {
        if endpoint.sign.iter().any(|sign| sign.header == *name) {
            let words = format!("must not name {name}, which carries a signature of the endpoint");
            misfits.push(Misfit { pointer: "/options/headers".to_owned(), keyword: "uniqueItems", words });
        }
    }
    misfits
}
