//! Puts definitions in place, from wherever they come: checks them whole, then stores them.

use super::definition::{Definition, handler_of, with_handler};
use super::runners::Runners;
use super::schedules::{Entry, entry, put};
use super::store::definitions;
use crate::db::{self, Database};
use crate::error::{Error, MAX_VIOLATIONS, Result};
use crate::http::json_text::to_value;
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

/// Checks that the definition `document` of the queue `name` can work: its members, its schema, its schedules, its
/// handler. Returns its schedules, if it names them.
///
/// # Errors
/// 422 with what is wrong.
pub async fn check(runners: &Runners, name: &str, document: &RawValue) -> Result<Option<Vec<Entry>>> {
    let mut violations = Vec::new();
    let schedules = entry::read_member(document, &mut violations);
    let definition = match Definition::read(name, &to_value(document.get()).unwrap_or_default()) {
        Ok(definition) if violations.is_empty() => definition,
        Ok(_) => return Err(Error::Invalid("the definition breaks a rule".to_owned(), violations)),
        Err(Error::Invalid(title, mut found)) => {
            found.extend(violations);
            found.truncate(MAX_VIOLATIONS);
            return Err(Error::Invalid(title, found));
        }
        Err(error) => return Err(error),
    };
    let schema = definition.compile_schema().await?;
    entry::check(schema.as_ref(), schedules.as_deref().unwrap_or_default(), Some("/schedules")).await?;
    if let Some(handler) = &definition.handler {
        runners.check(name, handler).await?;
    }
    Ok(schedules)
}

/// Stores a checked definition, and its schedules if it names them; says whether the queue is new, and returns the
/// definition as it is now in force. One without a handler keeps the handler that was put by itself.
///
/// # Errors
/// The database's.
pub async fn store(
    db: &Database,
    name: &str,
    document: &RawValue,
    schedules: Option<Vec<Entry>>,
    source: Source,
) -> Result<(bool, Box<RawValue>)> {
    let name = name.to_owned();
    let document = entry::without_member(document);
    db::transaction::<_, Error, _>(&db.api, move |tx| {
        Box::pin(async move {
            let former = definitions::lock(&mut *tx, &name).await?;
            let document = match former.and_then(|former| keep_handler(&document, &former)) {
                Some(merged) => merged,
                None => document,
            };
            let made = definitions::put(&mut *tx, &name, &document, source.as_str()).await?;
            if let Some(schedules) = schedules
                && let Some(id) = definitions::id(&mut *tx, &name).await?
            {
                put::all(tx, id, &name, &schedules).await?;
            }
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
