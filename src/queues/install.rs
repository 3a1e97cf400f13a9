//! Puts definitions in place, from wherever they come: checks them whole, then stores them.

use super::definition::{Definition, handler_of, with_handler};
use super::runners::Runners;
use super::schedules::{self, Entry, entry};
use super::secret::{self, Parted};
use super::store::definitions::{self, Former};
use crate::db::{self, Database};
use crate::error::{Error, Result};
use crate::http::json_text::to_value;
use crate::seal::Sealer;
use serde_json::Value;
use serde_json::value::RawValue;
use sqlx::postgres::PgConnection;
use std::sync::Arc;

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
    let definition = Definition::read(name, &to_value(document.get()).unwrap_or_default())?;
    // A name that is there twice is seen in the text alone.
    let mut violations = Vec::new();
    let schedules = entry::read_member(document, &mut violations);
    if !violations.is_empty() {
        return Err(Error::Invalid("the definition breaks a rule".to_owned(), violations));
    }
    let schema = definition.compile_schema().await?;
    entry::check(schema.as_ref(), schedules.as_deref().unwrap_or_default(), Some("/schedules")).await?;
    if let Some(handler) = &definition.handler {
        runners.check(name, handler).await?;
    }
    Ok(schedules)
}

/// Stores a checked definition, and its schedules if it names them; says whether the queue is new, and returns the
/// definition as it is now in force, without its secret. One without a handler keeps the handler that was put by itself.
///
/// # Errors
/// As [`secret::seal`], and the database's.
pub async fn store(
    db: &Database,
    sealer: Option<Arc<Sealer>>,
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
            let document =
                match former.as_ref().and_then(|former| keep_handler(&document, &former.definition)) {
                    Some(merged) => merged,
                    None => document,
                };
            let done = put(&mut *tx, sealer.as_deref(), &name, &document, former.as_ref(), source).await?;
            if let Some(set) = schedules
                && let Some(id) = definitions::id(&mut *tx, &name).await?
            {
                schedules::put::all(tx, id, &name, &set).await?;
            }
            Ok(done)
        })
    })
    .await
}

/// Stores a checked handler in the place of the former; returns the definition, without its secret.
///
/// # Errors
/// 404 when there is no such queue; as [`store`].
pub async fn store_handler(
    db: &Database,
    sealer: Option<Arc<Sealer>>,
    name: &str,
    handler: Box<RawValue>,
) -> Result<Box<RawValue>> {
    let name = name.to_owned();
    db::transaction::<_, Error, _>(&db.api, move |tx| {
        Box::pin(async move {
            let gone = || Error::NotFound("there is no such queue".to_owned());
            let former = definitions::lock(&mut *tx, &name).await?.ok_or_else(gone)?;
            let document = with_handler(&former.definition, &handler);
            let (_, document) =
                put(tx, sealer.as_deref(), &name, &document, Some(&former), Source::Api).await?;
            Ok(document)
        })
    })
    .await
}

async fn put(
    tx: &mut PgConnection,
    sealer: Option<&Sealer>,
    name: &str,
    document: &RawValue,
    former: Option<&Former>,
    source: Source,
) -> Result<(bool, Box<RawValue>)> {
    let Parted { document, secret } = secret::part(document);
    let former = former.and_then(|former| former.secret.as_ref());
    let stored = secret::seal(sealer, name, secret.as_ref(), former)?;
    let uniqueness = uniqueness(name, &document);
    let made =
        definitions::put(tx, name, &document, uniqueness.as_ref(), stored.as_ref(), source.as_str()).await?;
    Ok((made, document))
}

/// What the database is to know of the uniqueness that a checked definition asks for.
fn uniqueness(name: &str, document: &RawValue) -> Option<Value> {
    let definition = Definition::read(name, &to_value(document.get())?).ok()?;
    definition.options.unique.map(|unique| unique.stored())
}

/// `document` with the handler of `former`, if it has none of its own.
fn keep_handler(document: &RawValue, former: &RawValue) -> Option<Box<RawValue>> {
    if handler_of(document).is_some() {
        return None;
    }
    Some(with_handler(document, handler_of(former)?))
}
