//! Puts definitions in place, from wherever they come: checks them whole, then stores them.

use super::definition::Definition;
use super::runners::Runners;
use super::schema::CompiledSchema;
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
    /// A pair of files that ships with Postrider.
    Example,
}

impl Source {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::File => "file",
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
    if let Some(schema) = definition.schema {
        CompiledSchema::compile(schema).await?;
    }
    match &definition.handler {
        Some(handler) => runners.check(name, handler).await,
        None => Ok(()),
    }
}

/// Stores a checked definition; says whether the queue is new.
///
/// # Errors
/// The database's.
pub async fn store(db: &Database, name: &str, document: Box<RawValue>, source: Source) -> Result<bool> {
    let name = name.to_owned();
    db::transaction::<_, Error, _>(&db.api, move |tx| {
        Box::pin(async move { Ok(definitions::put(tx, &name, &document, source.as_str()).await?) })
    })
    .await
}
