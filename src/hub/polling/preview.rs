//! What a run of a poller would tell, counted without telling it.

use super::change::change;
use super::definition::{Collection, History};
use super::mark;
use super::pollers::{Poller, ready};
use super::store::{pollers, snapshots};
use super::walk::{Step, Walk};
use super::{fetch, page::Record};
use crate::auth::Authenticated;
use crate::db::bounded;
use crate::error::{Error, Result};
use crate::http::extract::Path;
use crate::http::openapi::Problems;
use crate::hub::definitions::documents::is_name;
use crate::hub::definitions::documents::names::{DefinitionName, StoreName};
use crate::hub::roles::Right;
use crate::hub::state::Hub;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use std::collections::HashSet;
use std::time::Duration;
use tokio::time::Instant;

/// How long a preview reads: then it says how much it has seen so far.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a run would tell.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Preview {
    /// How many messages it would make.
    #[schema(example = 1204)]
    messages: usize,
    /// Whether it may be more: a list was not read to its end.
    at_least: bool,
    /// Of each collection.
    collections: Vec<Previewed>,
}

/// What a run would tell of a collection.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Previewed {
    /// Its name.
    #[schema(example = "orders")]
    name: String,
    /// How many messages a run would make of it.
    messages: usize,
    /// Whether it may be more.
    at_least: bool,
    /// Why it could not be read to its end.
    #[schema(example = "refused: the server accepts no connection")]
    error: Option<String>,
}

/// Says how many messages a run would make.
///
/// The storefront is read once, for 20 seconds at most, and nothing is stored or told.
#[utoipa::path(
    post, path = "/stores/{store}/pollers/{name}/preview", tag = "hub definitions", operation_id = "preview_poller",
    params(("store" = inline(StoreName), Path, description = "The store"), ("name" = inline(DefinitionName), Path, description = "The poller\'s name")),
    responses((status = 200, description = "How many", body = Preview), Problems),
)]
pub(super) async fn preview(
    Authenticated(caller): Authenticated,
    State(hub): State<Hub>,
    Path((store, name)): Path<(String, String)>,
) -> Result<Json<Preview>> {
    let store = hub.store(&store, &caller, Right::Admin).await?;
    let row = if is_name(&name) { pollers::row(&hub.db.api, store, &name).await? } else { None };
    let row = row.ok_or_else(|| Error::NotFound("there is no such poller in this store".to_owned()))?;
    let broken = |_| Error::Conflict("this poller cannot be used as it is: put it again".to_owned());
    let poller = ready(row, hub.sealer.as_deref()).map_err(broken)?;
    let (_, bookmarks) = bounded(snapshots::bookmarks(&hub.db.api, &[poller.id])).await?;
    let until = Instant::now() + PATIENCE;
    let mut collections = Vec::new();
    for collection in &poller.definition.collections {
        let known = bookmarks.iter().find(|(_, name, _)| *name == collection.name);
        let known = known.map(|(.., mark)| mark.as_str());
        collections.push(of(&hub, &poller, collection, known, until).await?);
    }
    let messages = collections.iter().map(|collection| collection.messages).sum();
    let at_least = collections.iter().any(|collection| collection.at_least);
    Ok(Json(Preview { messages, at_least, collections }))
}

/// What a run would tell of a collection that was read up to `known`.
async fn of(
    hub: &Hub,
    poller: &Poller,
    collection: &Collection,
    known: Option<&str>,
    until: Instant,
) -> Result<Previewed> {
    let definition = &poller.definition;
    let mut found = Previewed { name: collection.name.clone(), messages: 0, at_least: false, error: None };
    if known.is_none() && definition.since.is_none() && definition.history == History::Snapshot {
        return Ok(found);
    }
    let bookmark = known.filter(|mark| *mark != mark::NOWHERE);
    let begin =
        bookmark.map(|mark| mark::since(mark, definition.overlap)).or_else(|| definition.since.clone());
    let (mut walk, mut seen) = (Walk::new(bookmark, &definition.paging), HashSet::new());
    loop {
        let place = walk.place();
        let page = fetch::page(&hub.outbound, &hub.db.ids, poller, collection, begin.as_deref(), &place);
        let read = tokio::time::timeout_at(until, page).await;
        let page = match read {
            Ok(Ok(page)) => page,
            Ok(Err(failure)) => {
                (found.at_least, found.error) = (true, Some(failure.why));
                return Ok(found);
            }
            Err(_) => {
                found.at_least = true;
                return Ok(found);
            }
        };
        found.messages += changes(hub, poller, collection, &page.records, &mut seen).await?;
        match walk.add(&page) {
            Ok(Step::Next) => {}
            Ok(Step::Again | Step::Done(_)) => return Ok(found),
            Err(why) => {
                (found.at_least, found.error) = (true, Some(why));
                return Ok(found);
            }
        }
    }
}

/// How many of these records are new or have changed, of those that were not `seen` before.
async fn changes(
    hub: &Hub,
    poller: &Poller,
    collection: &Collection,
    records: &[Record],
    seen: &mut HashSet<String>,
) -> Result<usize> {
    let mut db = hub.db.api.acquire().await?;
    let known = bounded(snapshots::of(&mut db, poller.id, &collection.name, records)).await?;
    let is_told = |record: &&Record| {
        let previous = known.get(&record.id).map(AsRef::as_ref);
        seen.insert(record.id.clone()) && matches!(change(collection, previous, &record.raw), Ok(Some(_)))
    };
    Ok(records.iter().filter(is_told).count())
}
