//! Applications that speak SQL, in transactions of their own, some of which they roll back.

use crate::api::Client;
use crate::history::{Phase, What};
use crate::world::{Act, World};
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// A connection, once there is one.
async fn connect(world: &World) -> Option<PgConnection> {
    while world.act() == Act::Chaos {
        if let Ok(db) = world.postgres.connect().await {
            return Some(db);
        }
        sleep(Duration::from_millis(100)).await;
    }
    None
}

/// Enqueues and publishes, several at once; one in three transactions is rolled back.
pub(super) async fn enqueue(world: Arc<World>, name: String) {
    let mut client = Client::new(&world, name);
    let mut db = None;
    while world.act() == Act::Chaos {
        if db.is_none() {
            db = connect(&world).await;
        }
        let Some(connection) = &mut db else { continue };
        let into = ["remote", "posts", "s1"][client.dice.index(3)];
        let tags: Vec<String> = (0..client.dice.between(1, 5)).map(|_| client.word()).collect();
        let (commits, op) = (client.dice.percent(67), world.history.op());
        let push =
            |phase, ids| What::Push { op, phase, into: into.to_owned(), tags: tags.clone(), key: None, ids };
        world.history.note(&client.name, push(Phase::Invoke, Vec::new()));
        let pause = client.dice.millis(0, 60);
        match store(connection, into, &tags, commits, pause).await {
            Ok(ids) if commits => world.history.note(&client.name, push(Phase::Ok, ids)),
            Ok(_) => world.history.note(&client.name, push(Phase::Fail, Vec::new())),
            Err(_) => {
                let phase = if commits { Phase::Unknown } else { Phase::Fail };
                world.history.note(&client.name, push(phase, Vec::new()));
                db = None;
            }
        }
        let pause = client.dice.millis(40, 250);
        world.sleep(pause).await;
    }
}

async fn store(
    db: &mut PgConnection,
    into: &str,
    tags: &[String],
    commits: bool,
    pause: Duration,
) -> sqlx::Result<Vec<String>> {
    let mut tx = db.begin().await?;
    let mut ids = Vec::new();
    for tag in tags {
        let sql = match into {
            "s1" => "SELECT publish('s1', 'order:new', json_build_object('tag', $1))::text",
            "posts" => "SELECT enqueue('posts', json_build_object('tag', $1))::text",
            _ => "SELECT enqueue('remote', json_build_object('tag', $1))::text",
        };
        ids.push(sqlx::query(sql).bind(tag).fetch_one(&mut *tx).await?.try_get(0)?);
    }
    sleep(pause).await;
    if commits {
        tx.commit().await?;
    } else {
        tx.rollback().await?;
    }
    Ok(ids)
}

/// Says something about jobs, in transactions that have begun some time before.
pub(super) async fn broadcast(world: Arc<World>, name: String) {
    let mut client = Client::new(&world, name);
    let mut db = None;
    while world.act() == Act::Chaos {
        if db.is_none() {
            db = connect(&world).await;
        }
        let Some(connection) = &mut db else { continue };
        let running = "SELECT id FROM jobs WHERE completed_at IS NULL AND started_at IS NOT NULL ORDER BY random() LIMIT 1";
        let job = sqlx::query_scalar::<_, i64>(running).fetch_optional(&mut *connection).await;
        let Ok(job) = job else {
            db = None;
            continue;
        };
        if let Some(id) = job {
            let (mark, op, commits) = (client.word(), world.history.op(), client.dice.percent(75));
            let job = format!("job/{id}");
            let say = |phase| What::Say { op, phase, job: job.clone(), mark: mark.clone(), last: false };
            world.history.note(&client.name, say(Phase::Invoke));
            let pauses = [client.dice.millis(30, 400), client.dice.millis(0, 40)];
            let said = say_late(connection, id, &mark, commits, pauses).await;
            let phase = match said {
                Ok(()) if commits => Phase::Ok,
                // Refused, so rolled back: the job has ended.
                Err(sqlx::Error::Database(ref error)) if error.code().as_deref() == Some("55000") => {
                    Phase::Fail
                }
                Err(_) if commits => Phase::Unknown,
                _ => Phase::Fail,
            };
            if said.is_err() {
                db = None;
            }
            world.history.note(&client.name, say(phase));
        }
        let pause = client.dice.millis(20, 150);
        world.sleep(pause).await;
    }
}

async fn say_late(
    db: &mut PgConnection,
    job: i64,
    mark: &str,
    commits: bool,
    pauses: [Duration; 2],
) -> sqlx::Result<()> {
    let mut tx = db.begin().await?;
    sqlx::query("SELECT now()").execute(&mut *tx).await?;
    sleep(pauses[0]).await;
    let said = "SELECT broadcast($1, jsonb_build_object('status', 'SAID', 'mark', $2::text))";
    sqlx::query(said).bind(job).bind(mark).execute(&mut *tx).await?;
    sleep(pauses[1]).await;
    if commits { tx.commit().await } else { tx.rollback().await }
}
