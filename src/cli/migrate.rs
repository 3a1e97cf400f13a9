//! `postrider migrate`: brings the database to this version.

use super::database::Database;
use crate::config::Config;
use crate::db::migrate;

/// What to do.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Take the newest migration back instead
    #[arg(long)]
    revert: bool,
    /// Also make what connections ask for the role's defaults in this database, for a transaction-mode pooler
    #[arg(long, conflicts_with = "revert")]
    role_default: bool,
}

pub(super) async fn run(config: Config, args: &Args) -> anyhow::Result<()> {
    let database = Database::join(&config).await?;
    if args.revert {
        migrate::revert(&database.options, &config.schema).await?;
        println!("took the newest migration of schema {} back", config.schema);
    } else {
        migrate::migrate(&database.options, &config.schema).await?;
        println!("schema {} is up to date", config.schema);
    }
    if args.role_default {
        migrate::set_role_defaults(&database.options, &config.schema).await?;
        println!(
            "the role's connections to this database start in schema {} with the settings of Postrider: have the pooler reconnect",
            config.schema
        );
    }
    database.close().await;
    Ok(())
}
