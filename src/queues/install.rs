//! Puts definitions in place, from wherever they come: checks them whole, then stores them.

use super::definition::{Definition, handler_of, with_handler};
use super::runners::Runners;
use super::store::definitions;
use crate::db::{self, Database};
use crate::error::{Error, Result};
use serde_json::Value;
use serde_json::value::RawValue;

/// Who wrote a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// An administrator, over HTTP.
    Api,
    /// A pair of files in the queues directory.
    File,
    /// The program that uses this crate as a library.
    Code,
    /// A pair of files that ships with Postrider.
    Example,
}

impl Source {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::File => "file",
            Self::Code => "code",
            Self::Example => "example",
        }
    }
}

/// Checks that the definition `document` of the queue `name` can work: its members, its schema, its handler.
///
/// # Errors
/// 422 with what is wrong.
pub async fn check(runners: &Runners, name: &str, document: &Value) -> Result<()> {
    let definition = Definition::read(name, document)?;
    definition.compile_schema().await?;
    match &definition.handler {
        Some(handler) => runners.check(name, handler).await,
        None => Ok(()),
    }
}

/// Stores a checked definition; says whether the queue is new, and returns the definition as it is now in
/// force. One without a handler keeps the handler that was put by itself.
///
/// # Errors
/// The database's.
pub async fn store(
    db: &Database,
    name: &str,
    document: Box<RawValue>,
    source: Source,
) -> Result<(bool, Box<RawValue>)> {
    let name = name.to_owned();
    db::transaction::<_, Error, _>(&db.api, move |tx| {
        Box::pin(async move {
            let former = definitions::lock(&mut *tx, &name).await?;
            let document = match former.and_then(|former| keep_handler(&document, &former)) {
                Some(merged) => merged,
                None => document,
            };
            let made = definitions::put(tx, &name, &document, source.as_str()).await?;
            Ok((made, document))
        })
    })
    .await
}

/// `document` with the handler of `former`, if it has none of its own.
fn keep_handler(document: &RawValue, former: &RawValue) -> Option<Box<RawValue>> {
    if handler_of(document).is_some() {
        return None;
    }
    Some(with_handler(document, handler_of(former)?))
}
