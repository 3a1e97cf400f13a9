//! `postrider migrate`: brings the database to this version, or takes the newest migration back.

use super::database::Place;
use crate::config::Config;
use crate::db::migrate::{self, Reverting};
use anyhow::bail;
use sqlx::postgres::PgConnectOptions;

/// What to do.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Take the newest migration back instead: says what would be dropped, and refuses while processes live or rows
    /// would go with it
    #[arg(long)]
    revert: bool,
    /// Take it back although processes live and rows go with it
    #[arg(long, requires = "revert")]
    yes: bool,
    /// Also make what connections ask for the role's defaults in this database, for a transaction-mode pooler
    #[arg(long, conflicts_with = "revert")]
    role_default: bool,
}

pub(super) async fn run(config: Config, args: &Args) -> anyhow::Result<()> {
    let place = Place::of(&config)?;
    let database = if args.revert { place.join(&config).await } else { place.join_or_open(&config).await }?;
    let done = change(&config, args, &database.options).await;
    database.close().await;
    done
}

async fn change(config: &Config, args: &Args, database: &PgConnectOptions) -> anyhow::Result<()> {
    let schema = &config.schema;
    if args.revert {
        return match migrate::revert(database, schema, args.yes).await? {
            None => bail!("no migration is applied to schema {schema}: there is nothing to take back"),
            Some(reverting) => tell(&reverting, schema),
        };
    }
    migrate::migrate(database, schema).await?;
    println!("schema {schema} is up to date");
    if args.role_default {
        migrate::set_role_defaults(database, schema).await?;
        println!(
            "the role's connections to this database start in schema {schema} with the settings of Postrider: have the pooler reconnect"
        );
    }
    Ok(())
}

/// Says what went, or what would have gone and why it did not.
fn tell(reverting: &Reverting, schema: &str) -> anyhow::Result<()> {
    let Reverting { version, description, tables, others, processes, done } = reverting;
    println!("the newest migration of schema {schema} is {version}, {description}; with it go");
    for (table, rows) in tables {
        println!("  the table {table}{}", if *rows { ", with rows in it" } else { "" });
    }
    for statement in others {
        println!("  {statement}");
    }
    if *done {
        println!("took it back");
        return Ok(());
    }
    let mut why = Vec::new();
    if !processes.is_empty() {
        why.push(format!("processes live: {} (stop them)", processes.join(", ")));
    }
    if tables.iter().any(|(_, rows)| *rows) {
        why.push("rows would be lost (make a backup)".to_owned());
    }
    bail!("nothing was taken back: {}. With --yes it is taken back all the same", why.join("; "))
}
