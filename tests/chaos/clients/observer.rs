//! Somebody who looks at the database all the time: what it has seen ended had ended by then.

use crate::history::What;
use crate::world::{Act, World};
use sqlx::postgres::PgConnection;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

const ENDED: &str = "SELECT id::text FROM outcomes
    UNION ALL
    SELECT d.message_id::text || '/' || m.name
    FROM deliveries AS d JOIN mappings AS m ON m.id = d.mapping_id
    WHERE d.status = 'COMPLETE'";

pub(super) async fn run(world: Arc<World>) {
    let mut seen: HashSet<String> = HashSet::new();
    let mut db: Option<PgConnection> = None;
    while world.act() < Act::Over {
        if db.is_none() {
            db = world.postgres.connect().await.ok();
        }
        if let Some(connection) = &mut db {
            match sqlx::query_scalar::<_, String>(ENDED).fetch_all(connection).await {
                Ok(all) => {
                    let ids: Vec<String> = all.into_iter().filter(|id| !seen.contains(id)).collect();
                    seen.extend(ids.iter().cloned());
                    if !ids.is_empty() {
                        world.history.note("observer", What::Ended { ids });
                    }
                }
                Err(_) => db = None,
            }
        }
        world.sleep(Duration::from_millis(300)).await;
    }
}
