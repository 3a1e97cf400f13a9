//! `postrider push`: a message from the command line, under the same rules as over HTTP.

use super::database::Database;
use crate::config::Config;
use crate::db;
use crate::error::Error;
use crate::http::body;
use crate::http::idempotency::{self, Key};
use crate::queues::access::check;
use crate::queues::catalog::{Catalog, Queue};
use crate::queues::identity::Identity;
use crate::queues::push::{SINGLE, identified};
use crate::queues::store::pushes::{self, Claim, Push};
use crate::queues::uniqueness::Verdict;
use crate::traces::Origin;
use anyhow::{Context as _, bail, ensure};
use sqlx::postgres::PgPool;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

/// How long a key is waited for that another transaction uses.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which message to which queue.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The queue's name
    queue: String,
    /// The message: JSON, `@file`, or `-` for standard input
    #[arg(value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    message: String,
    /// How long it waits before it is due, such as 10s
    #[arg(long, value_parser = humantime::parse_duration)]
    delay: Option<Duration>,
    /// -100 to 100, higher first; absent, as the queue's definition says
    #[arg(long, allow_negative_numbers = true, value_parser = clap::value_parser!(i16).range(-100..=100))]
    priority: Option<i16>,
    /// The same key with the same message pushes once
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// What you call the message, to find it by
    #[arg(long)]
    key: Option<String>,
    /// The value that is to be unique, in the place of the one that the queue's definition finds
    #[arg(long, value_name = "VALUE")]
    unique: Option<String>,
}

/// Stores the message and prints its id. A server that runs finds it within three seconds.
pub(super) async fn run(config: Config, args: &Args) -> anyhow::Result<()> {
    let message = read(&args.message)?;
    ensure!(message.len() <= config.max_body, "the message is larger than POSTRIDER_MAX_BODY allows");
    let message = body::parse(&message).context("cannot push this")?;
    let key = args.idempotency_key.as_deref().map(|key| Key::of(key, SINGLE, &message.raw)).transpose()?;
    let database = Database::join(&config).await?;
    let pools = database.pools(&config);
    pools.check().await?;
    let queue = queue(&pools.api, &args.queue).await?;
    let identity = Identity::of(args.key.clone(), args.unique.clone())?;
    let unique = identity.value(queue.definition.options.unique.as_ref(), &message.raw)?;
    check(&queue, &message.raw).await.map_err(explained)?;
    let id = loop {
        let push = Push {
            queue_id: queue.id,
            id: pools.ids.next(),
            request: message.raw.clone(),
            rank: -args.priority.unwrap_or(queue.definition.options.priority),
            delay: args.delay.unwrap_or_default(),
            key: key.clone().map(|key| Claim::Leads { key, answer: None }),
            own_key: identity.own_key.clone(),
            unique: unique.clone(),
            origin: Origin::default(),
        };
        let id = push.id;
        let stored = db::transaction::<_, sqlx::Error, _>(&pools.api, move |tx| {
            Box::pin(async move {
                if push.is_identified() {
                    return identified::one(tx, push, PATIENCE).await;
                }
                pushes::push_apart(tx, &[&push], PATIENCE).await
            })
        })
        .await?;
        let told = stored.told.get(&id);
        if let Some(told) = told.filter(|told| told.what == Verdict::Rejected) {
            return Err(told.refusal().into());
        }
        ensure!(stored.held.is_empty(), "{}", idempotency::held());
        ensure!(stored.missing.is_empty(), "the queue {} was just deleted", args.queue);
        break match (&key, told) {
            (_, Some(told)) => told.message,
            (Some(key), None) if stored.stored.is_empty() => {
                let former = pushes::former(&pools.api, queue.id, &key.key).await?;
                // What used it was refused, or its retention has ended: it is free.
                let Some(former) = former else { continue };
                if let Some(digest) = &former.digest {
                    key.compare(digest)?;
                }
                former.message_id
            }
            _ => id,
        };
    };
    println!("{id}");
    pools.close().await;
    database.close().await;
    Ok(())
}

fn read(message: &str) -> anyhow::Result<Vec<u8>> {
    if message == "-" {
        let mut text = Vec::new();
        std::io::stdin().read_to_end(&mut text).context("cannot read standard input")?;
        return Ok(text);
    }
    match message.strip_prefix('@') {
        Some(file) => std::fs::read(file).with_context(|| format!("cannot read {file}")),
        None => Ok(message.as_bytes().to_vec()),
    }
}

/// The queue of this name, ready to hold a message against its schema.
pub(super) async fn queue(pool: &PgPool, name: &str) -> anyhow::Result<Arc<Queue>> {
    let catalog = Catalog::default();
    let revision = crate::worker::store::revision(pool).await.map_err(super::database::advised)?;
    catalog.refresh(pool, revision).await?;
    if let Some(queue) = catalog.by_name(name) {
        return Ok(queue);
    }
    let names: Vec<String> = catalog.all().iter().map(|queue| queue.name.clone()).collect();
    bail!(
        "there is no queue {name}; there is: {}",
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    )
}

/// A refusal with every violation, as one would want to read it.
fn explained(error: Error) -> anyhow::Error {
    let Error::Invalid(what, violations) = &error else { return error.into() };
    let each = violations.iter().map(|violation| {
        let place = if violation.pointer.is_empty() { "the message" } else { &violation.pointer };
        format!("\n  {place}: {}", violation.message)
    });
    anyhow::anyhow!("{what}{}", each.collect::<String>())
}
