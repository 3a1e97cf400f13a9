//! `postrider keys rotate`: seals everything anew with the first key of the settings, and says what is left.

use super::database::{Database, advised, existing_key};
use crate::config::Config;
use crate::db;
use crate::seal::{Rotated, Sealer};
use crate::{hub, jobs, queues};
use anyhow::Context as _;
use clap::Subcommand;
use futures::future::BoxFuture;

/// What to do with the keys.
#[derive(Debug, Subcommand)]
pub(super) enum Keys {
    /// Seal everything that lies sealed in the database with the first key of `POSTRIDER_SECRET_KEY`, and say what is
    /// left under which key. Give every server and worker the new key, in front of the former one, before
    Rotate,
}

type Rotating<'a> = BoxFuture<'a, anyhow::Result<Vec<Rotated>>>;

pub(super) async fn run(config: Config, keys: &Keys) -> anyhow::Result<()> {
    let Keys::Rotate = keys;
    let key = existing_key(&config)?;
    let key =
        key.context("there is no key: set POSTRIDER_SECRET_KEY to the new one, a comma and the former one")?;
    let sealer = Sealer::new(&key)?;
    let database = Database::join(&config).await?;
    let db = database.checked_pools(&config).await?;
    let left = rotate(&db, &sealer).await;
    db.close().await;
    database.close().await;
    let left = left?;
    anyhow::ensure!(
        left == 0,
        "{left} are left: add their keys to POSTRIDER_SECRET_KEY and run it again, or put them anew"
    );
    println!("everything is sealed with the first key, {}", sealer.first());
    Ok(())
}

/// Prints a line a table; returns how many are still sealed with other keys than the first.
async fn rotate(db: &db::Database, sealer: &Sealer) -> anyhow::Result<u64> {
    let parts: [Rotating<'_>; 4] = [
        Box::pin(queues::store::keys::rotate(&db.api, sealer)),
        Box::pin(jobs::store::keys::rotate(&db.api, sealer)),
        Box::pin(hub::definitions::store::keys::rotate(&db.api, sealer)),
        Box::pin(hub::polling::store::keys::rotate(&db.api, sealer)),
    ];
    let mut left = 0;
    for part in parts {
        for rotated in part.await.map_err(explained)? {
            tell(&rotated);
            left += rotated.left();
        }
    }
    Ok(left)
}

fn tell(Rotated { table, anew, unopened, held }: &Rotated) {
    println!("{table}: {anew} sealed anew");
    for (key, count) in unopened {
        println!("{table}: {count} left under the key {key}, which is not among POSTRIDER_SECRET_KEY");
    }
    if *held > 0 {
        println!("{table}: {held} left, held by other transactions: run it again");
    }
}

fn explained(error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<sqlx::Error>() {
        Ok(error) => advised(error),
        Err(error) => error,
    }
}
