//! What is there at the end: waits until everything has come to rest, and reads it all.

use crate::history::{Past, What};
use crate::world::World;
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What is to come to an end, and where it is counted.
const OPEN: [(&str, &str); 9] = [
    ("dispatch", "SELECT count(*) FROM dispatch"),
    ("scheduled", "SELECT count(*) FROM scheduled"),
    ("leases", "SELECT count(*) FROM leases"),
    (
        "messages",
        "SELECT count(*) FROM messages AS m WHERE NOT EXISTS (SELECT FROM outcomes AS o WHERE o.queue_id = m.queue_id AND o.id = m.id)",
    ),
    ("deliveries", "SELECT count(*) FROM deliveries WHERE status = 'PENDING'"),
    ("hub_messages", "SELECT count(*) FROM hub_messages WHERE state = 'pending'"),
    ("lines", "SELECT count(*) FROM lines"),
    ("line_waits", "SELECT count(*) FROM line_waits"),
    ("jobs", "SELECT count(*) FROM jobs WHERE completed_at IS NULL"),
];

async fn open(db: &mut PgConnection) -> sqlx::Result<Vec<(&'static str, i64)>> {
    let mut all = Vec::new();
    for (table, count) in OPEN {
        all.push((table, sqlx::query_scalar(count).fetch_one(&mut *db).await?));
    }
    Ok(all)
}

/// Waits until nothing is open any more, for a time that tells a standstill from slowness.
pub(crate) async fn rest(world: &World, patience: Duration) {
    let begun = Instant::now();
    let idle = world
        .wait(patience, async || {
            let Ok(mut db) = world.postgres.connect().await else { return false };
            open(&mut db).await.is_ok_and(|open| open.iter().all(|(_, rows)| *rows == 0))
        })
        .await;
    world.history.note("rest", What::Rest { idle, seconds: begun.elapsed().as_secs() });
}

const MESSAGES: &str = "SELECT q.name AS into, m.id::text AS id, m.request ->> 'tag' AS tag,
        coalesce(o.status::text, 'PENDING') AS status, o.lease::text AS lease,
        coalesce(o.result ->> 'mark', o.error ->> 'mark', o.error ->> 'name') AS mark
    FROM messages AS m
    JOIN queues AS q ON q.id = m.queue_id
    LEFT JOIN outcomes AS o ON o.queue_id = m.queue_id AND o.id = m.id
    ORDER BY m.id";
const PAST: &str =
    "SELECT id::text, lease::text, coalesce(error ->> 'mark', error ->> 'name', '') AS mark FROM attempts";
const HUB_MESSAGES: &str =
    "SELECT id::text, payload ->> 'tag' AS tag, parent_id IS NOT NULL AS child FROM hub_messages";
const DELIVERIES: &str = "SELECT d.id::text AS id, m.name AS mapping, d.status::text AS status, h.payload ->> 'tag' AS tag,
        (SELECT count(*) FROM delivery_attempts AS a WHERE a.id = d.id AND a.verdict = 'delivered') AS delivered
    FROM deliveries AS d
    JOIN mappings AS m ON m.id = d.mapping_id
    JOIN hub_messages AS h ON h.id = d.message_id";
// What a job was created with is sealed, and gone at its end: its key names the tag.
const JOBS: &str =
    "SELECT j.id, substr(k.key, length('key-') + 1) AS tag, j.completed_at IS NOT NULL AS finished
    FROM jobs AS j
    LEFT JOIN job_idempotency_keys AS k ON k.job_ids @> ARRAY[j.id]";
const LOGS: &str =
    "SELECT job_id, seq, coalesce(message ->> 'mark', '') AS mark FROM broadcasts ORDER BY job_id, seq";

/// Reads what is there, and notes it.
pub(crate) async fn read(world: &World) -> sqlx::Result<()> {
    let db = &mut world.postgres.connect().await?;
    let note = |what| world.history.note("last", what);
    let mut past: BTreeMap<String, Vec<Past>> = BTreeMap::new();
    for row in all(db, PAST).await? {
        let one = Past { lease: row.try_get("lease")?, mark: row.try_get("mark")? };
        past.entry(row.try_get("id")?).or_default().push(one);
    }
    for row in all(db, MESSAGES).await? {
        let id: String = row.try_get("id")?;
        note(What::LastMessage {
            into: row.try_get("into")?,
            past: past.remove(&id).unwrap_or_default(),
            id,
            tag: text(&row, "tag")?,
            status: row.try_get("status")?,
            lease: row.try_get("lease")?,
            mark: row.try_get("mark")?,
        });
    }
    for row in all(db, HUB_MESSAGES).await? {
        note(What::LastHubMessage {
            id: row.try_get("id")?,
            tag: text(&row, "tag")?,
            child: row.try_get("child")?,
        });
    }
    for row in all(db, DELIVERIES).await? {
        let (mapping, tag): (String, String) = (row.try_get("mapping")?, text(&row, "tag")?);
        let brings = if mapping == "fan" { vec![format!("{tag}/0"), format!("{tag}/1")] } else { Vec::new() };
        let (id, status, delivered) = (row.try_get("id")?, row.try_get("status")?, row.try_get("delivered")?);
        note(What::LastDelivery { id, tag, status, delivered, brings });
    }
    let mut logs: BTreeMap<i64, Vec<(i64, String)>> = BTreeMap::new();
    for row in all(db, LOGS).await? {
        logs.entry(row.try_get("job_id")?).or_default().push((row.try_get("seq")?, row.try_get("mark")?));
    }
    for row in all(db, JOBS).await? {
        let id: i64 = row.try_get("id")?;
        let log = logs.remove(&id).unwrap_or_default();
        note(What::LastJob {
            id: format!("job/{id}"),
            tag: text(&row, "tag")?,
            finished: row.try_get("finished")?,
            log,
        });
    }
    for (table, rows) in open(db).await? {
        note(What::Left { table: table.to_owned(), rows });
    }
    Ok(())
}

async fn all(db: &mut PgConnection, sql: &'static str) -> sqlx::Result<Vec<PgRow>> {
    sqlx::query(sql).fetch_all(db).await
}

fn text(row: &PgRow, name: &str) -> sqlx::Result<String> {
    Ok(row.try_get::<Option<String>, _>(name)?.unwrap_or_default())
}
