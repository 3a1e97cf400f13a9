//! Whether a handler can be accepted: it compiles, loads, and exports a function.

use super::dialogue::Task;
use super::limits;
use super::outcome::Outcome;
use super::pool::Pool;
use super::protocol::ServiceError;
use super::services::{Answer, Services};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;

/// Why a handler cannot be accepted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// It does not compile, throws while it is loaded, takes too long or too much memory to load, or exports
    /// no function.
    #[error("{message}")]
    Refused {
        /// The line of the source, from 1, where one is to blame.
        line: Option<u32>,
        /// What is wrong.
        message: String,
    },
    /// It could not be checked.
    #[error("no process to check the handler in: {0}")]
    Unavailable(String),
}

impl Pool {
    /// Loads `source` without a message, in a child and within a second. `name` is its file name in messages.
    pub async fn check(&self, name: &str, source: &Arc<str>) -> Result<(), CheckError> {
        let task =
            Task { source, name, timeout: limits::CHECK, attempt: (1, 1), message: None, traceparent: None };
        match self.perform(&task, &Nobody).await.outcome {
            Outcome::Resolved(_) => Ok(()),
            Outcome::Rejected(error)
            | Outcome::Final(error)
            | Outcome::Retry(error, _)
            | Outcome::Later(error, _) => Err(refusal(name, &error)),
            Outcome::NotStarted(reason) => Err(CheckError::Unavailable(reason)),
            Outcome::TimedOut(after) => {
                let after = humantime::format_duration(after);
                Err(CheckError::Refused {
                    line: None,
                    message: format!("it takes longer than {after} to load"),
                })
            }
            Outcome::Interrupted => Err(CheckError::Unavailable("it was told to end".to_owned())),
            Outcome::Crashed(_) | Outcome::Cancelled => Err(CheckError::Refused {
                line: None,
                message: "its process dies while it is loaded".to_owned(),
            }),
        }
    }
}

/// No service answers a handler that is only being looked at.
struct Nobody;

impl Services for Nobody {
    fn call<'a>(&'a self, service: &'a str, _: &'a str, _: Box<RawValue>) -> BoxFuture<'a, Answer> {
        async move { Err(ServiceError::new(format!("{service} is not there while a handler is checked"))) }
            .boxed()
    }
}

/// An error of QuickJS as a refusal, with the first line of this file that its trace names.
fn refusal(name: &str, error: &RawValue) -> CheckError {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Thrown {
        name: String,
        message: String,
        stack: String,
    }
    let Ok(thrown) = serde_json::from_str::<Thrown>(error.get()) else {
        return CheckError::Refused { line: None, message: format!("it throws {error} while it is loaded") };
    };
    let after = thrown.stack.split(&format!("{name}:")).nth(1).unwrap_or_default();
    let line = after.split(|c: char| !c.is_ascii_digit()).next().and_then(|line| line.parse().ok());
    CheckError::Refused { line, message: format!("{}: {}", thrown.name, thrown.message) }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_line_of_the_handler() {
        let refused = |json: &str| refusal("q.js", serde_json::from_str(json).unwrap());
        assert_eq!(
            refused(r#"{"name":"SyntaxError","message":"no","stack":"SyntaxError: no\n    at q.js:12:7"}"#),
            CheckError::Refused { line: Some(12), message: "SyntaxError: no".to_owned() }
        );
        assert_eq!(
            refused(r#""thrown bare""#),
            CheckError::Refused {
                line: None,
                message: "it throws \"thrown bare\" while it is loaded".to_owned()
            }
        );
    }
}
