//! `postrider why`: finds what an id is, and says why it is not running, as the API does.

use super::database::{Database, advised, existing_key};
use crate::config::Config;
use crate::http::place::{Place, PlaceKind, Wanted};
use crate::hub::definitions::{catalog::Catalog as HubCatalog, store::stores};
use crate::hub::delivery::store::listing;
use crate::hub::delivery::why::{self as of_delivery, Store};
use crate::jobs::types::Types;
use crate::queues::catalog::Catalog;
use crate::queues::jump::Readable;
use crate::seal::Sealer;
use crate::worker::why::{ItemKind, Reason, Why};
use crate::{hub, jobs, queues};
use anyhow::Context as _;
use sqlx::postgres::PgPool;
use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use uuid::Uuid;

/// What to look at.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The id of a message, a delivery, a message of the hub (all its deliveries) or a lease (all that it holds), a job's
    /// number, or an idempotency key
    id: String,
    /// How the answer is written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For programs: an array with one object a thing that was found
    Json,
}

/// One thing that may not be running.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    Message { queue: String, id: Uuid },
    Delivery { store: String, id: Uuid },
    Job { type_id: i32, id: i64 },
}

/// The definitions, as they are now.
struct Known {
    queues: Catalog,
    hub: Arc<HubCatalog>,
    types: Types,
}

pub(super) async fn run(config: Config, args: &Args) -> anyhow::Result<()> {
    let key = existing_key(&config)?;
    let sealer = key.as_ref().map(Sealer::new).transpose()?.map(Arc::new);
    let database = Database::join(&config).await?;
    let db = database.checked_pools(&config).await?;
    let found = explain(&db.api, sealer, &Wanted::new(&args.id)).await;
    db.close().await;
    database.close().await;
    let found = found?;
    anyhow::ensure!(!found.is_empty(), "there is no message, delivery or job {}", args.id);
    let mut out = std::io::stdout();
    match args.format {
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&found)?)?,
        Format::Text => {
            let colour = out.is_terminal();
            for why in &found {
                out.write_all(text(why, colour).as_bytes())?;
            }
        }
    }
    Ok(())
}

/// Everything that `wanted` may mean, with the reasons of each.
async fn explain(pool: &PgPool, sealer: Option<Arc<Sealer>>, wanted: &Wanted) -> anyhow::Result<Vec<Why>> {
    let known = Known {
        queues: Catalog::new(sealer.clone()),
        hub: Arc::new(HubCatalog::new(sealer)),
        types: Types::default(),
    };
    let revision = crate::worker::store::revision(pool).await.map_err(advised)?;
    known.queues.refresh(pool, revision).await?;
    known.hub.refresh(pool, revision).await?;
    known.types.refresh(pool, revision).await?;
    let mut found = Vec::new();
    for item in items(pool, &known, wanted).await? {
        found.extend(match item {
            Item::Message { queue, id } => match known.queues.by_name(&queue) {
                Some(queue) => queues::why::why(pool, queue, id, true).await?,
                None => None,
            },
            Item::Delivery { store, id } => {
                let store = stores::id(pool, &store).await?.map(|number| Store { id: number, name: store });
                let store = store.context("the store is gone")?;
                of_delivery::why(pool, Arc::clone(&known.hub), store, id).await?
            }
            Item::Job { type_id, id } => match known.types.by_id(type_id) {
                Some(job_type) => jobs::why::why(pool, type_id, &job_type.name, id, true).await?,
                None => None,
            },
        });
    }
    Ok(found)
}

/// What there is of this id, number or key.
async fn items(pool: &PgPool, known: &Known, wanted: &Wanted) -> anyhow::Result<BTreeSet<Item>> {
    let readable: Vec<Readable> = known.queues.all().iter().map(|queue| Readable::whole(queue)).collect();
    let mut places = queues::jump::find(pool, &readable, wanted).await?;
    places.extend(hub::jump::find(pool, None, wanted).await?);
    let mut items = BTreeSet::new();
    for Place { kind, name, within, .. } in places {
        let (Ok(id), Some(within)) = (Uuid::try_parse(&name), within) else { continue };
        match kind {
            PlaceKind::Message => _ = items.insert(Item::Message { queue: within, id }),
            PlaceKind::Delivery => _ = items.insert(Item::Delivery { store: within, id }),
            PlaceKind::HubMessage => {
                let Some(number) = stores::id(pool, &within).await? else { continue };
                let deliveries = listing::of_message(pool, number, id).await?;
                items.extend(
                    deliveries.iter().map(|row| Item::Delivery { store: within.clone(), id: row.id }),
                );
            }
            _ => {}
        }
    }
    let found = jobs::jump::find(pool, wanted).await?;
    items.extend(found.iter().map(|job| Item::Job { type_id: job.type_id, id: job.id }));
    Ok(items)
}

/// An answer for people: what it is, and under it each reason, with what to do.
fn text(why: &Why, colour: bool) -> String {
    let kind = match why.kind {
        ItemKind::Message => "message",
        ItemKind::Delivery => "delivery",
        ItemKind::Job => "job",
    };
    let mut lines = vec![format!("{kind}  {}  {}", plain(&why.see), plain(&why.status))];
    if why.reasons.is_empty() {
        lines.push("      it has ended: nothing is to be done".to_owned());
    }
    for Reason { fault, cause, detail, act, see, .. } in &why.reasons {
        let (word, code) = if *fault { ("FAULT", 31) } else { ("waits", 33) };
        let word = if colour { format!("\x1b[{code}m{word}\x1b[0m") } else { word.to_owned() };
        lines.push(format!("{word} {}: {}", cause.word(), plain(detail)));
        lines.extend(act.as_ref().map(|act| format!("      {}", plain(act))));
        lines.extend(see.as_ref().map(|see| format!("      see {}", plain(see))));
    }
    lines.join("\n") + "\n"
}

/// A terminal obeys control characters, which errors and names may have.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::why::Cause;
    use chrono::{DateTime, Utc};

    #[test]
    fn a_terminal_is_told_each_reason_with_what_to_do_and_nothing_else() {
        let paused = Reason::new(Cause::QueuePaused, "It is paused\u{1b}[2J.").act("POST /queues/q/resume");
        let reasons = vec![Reason::new(Cause::Earlier, "3 are before it."), paused.see("/queues/q")];
        let why =
            Why::new(ItemKind::Message, "/m".to_owned(), "PENDING", DateTime::<Utc>::UNIX_EPOCH, reasons);
        assert_eq!(
            text(&why, false),
            "message  /m  PENDING\n\
             FAULT queue_paused: It is paused [2J.\n      POST /queues/q/resume\n      see /queues/q\n\
             waits earlier: 3 are before it.\n"
        );
        let ended =
            Why::new(ItemKind::Job, "/j/1".to_owned(), "DONE", DateTime::<Utc>::UNIX_EPOCH, Vec::new());
        assert_eq!(text(&ended, false), "job  /j/1  DONE\n      it has ended: nothing is to be done\n");
    }
}
