//! No page of a listing reads more than a bounded number of rows, however many messages there are, and the pages
//! together hold every message once.

use crate::support::app::TestApp;
use crate::support::reads::rows_read;
use postrider::internals::queues::listing::{Page, WALK, Wanted, page};
use serde_json::json;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

const LIMIT: i64 = 50;

/// 60,000 messages that are COMPLETE. Of the queue `bad` there are as many in ERROR and 3 COMPLETE; of both some of
/// every other status, the oldest.
const FILL: &str = "
    INSERT INTO messages (queue_id, id, request)
    SELECT q.id, uuid_v7(date_trunc('week', now()) + n * interval '1 ms'), '1'
    FROM queues AS q, generate_series(1, 60000) AS n WHERE q.name <> 'backlog';
    INSERT INTO outcomes (queue_id, attempt, id, lease, started_at, status, ending, result, error)
    SELECT
        m.queue_id, 1, m.id, gen_random_uuid(), now(), m.status::message_status,
        (CASE WHEN m.status = 'COMPLETE' THEN 'completed' ELSE 'failed' END)::attempt_ending,
        CASE WHEN m.status = 'COMPLETE' THEN '1'::json END, CASE WHEN m.status = 'ERROR' THEN '1'::json END
    FROM (
        SELECT m.*, row_number() OVER (PARTITION BY queue_id ORDER BY m.id) AS n,
            CASE
                WHEN q.name = 'good' THEN 'COMPLETE'
                WHEN row_number() OVER (PARTITION BY queue_id ORDER BY m.id) BETWEEN 100 AND 102 THEN 'COMPLETE'
                ELSE 'ERROR'
            END AS status
        FROM messages AS m JOIN queues AS q ON q.id = m.queue_id
    ) AS m
    WHERE m.n > 20;
    WITH rest AS (
        SELECT m.queue_id, m.id, row_number() OVER (PARTITION BY queue_id ORDER BY id) AS n
        FROM messages AS m
        WHERE NOT EXISTS (SELECT FROM outcomes AS o WHERE o.queue_id = m.queue_id AND o.id = m.id)
    ), ready AS (
        INSERT INTO dispatch (lane, rank, item) SELECT queue_id, 0, id FROM rest WHERE n <= 7
    ), later AS (
        INSERT INTO scheduled (run_at, lane, rank, item)
        SELECT now() + interval '1 day', queue_id, 0, id FROM rest WHERE n BETWEEN 8 AND 14
    )
    INSERT INTO leases (expires_at, lease, lane, ranks, items, attempts)
    SELECT now() + interval '1 day', '1 day', queue_id, array_agg(0), array_agg(id), array_agg(1) FROM rest WHERE n > 14
    GROUP BY queue_id;
    WITH m AS (
        INSERT INTO messages (queue_id, id, request)
        SELECT q.id, uuid_v7(date_trunc('week', now()) + n * interval '1 ms'), '1'
        FROM queues AS q, generate_series(1, 30000) AS n WHERE q.name = 'backlog'
        RETURNING queue_id, id
    ), ready AS (
        INSERT INTO dispatch (lane, rank, item) SELECT queue_id, 0, id FROM m ORDER BY id LIMIT 20000
    )
    INSERT INTO scheduled (run_at, lane, rank, item)
    SELECT now() + interval '1 day', queue_id, 0, id FROM (SELECT * FROM m ORDER BY id OFFSET 20000) AS m;
    ANALYZE";

/// All pages of a status; fails when one reads too much.
async fn pages(db: &mut PgConnection, queue: i32, status: Option<&str>, from: Uuid, to: Uuid) -> Vec<Uuid> {
    let mut ids: Vec<Uuid> = Vec::new();
    let mut before = to;
    loop {
        let wanted = Wanted { status, key: None, from, to: before, limit: LIMIT + 1 };
        let read = rows_read(&mut *db).await;
        let Page { mut rows, stopped_at } = page(&mut *db, queue, &wanted).await.unwrap();
        let read = rows_read(&mut *db).await - read;
        // Of each row that is looked through its message, its end and its lease may be looked up.
        let most = match status {
            None | Some("ERROR" | "INPROGRESS") => 20 * LIMIT,
            _ => 4 * WALK,
        };
        assert!(read <= most, "{status:?}: a page of {} rows read {read}", rows.len());
        assert!(rows.iter().all(|row| status.is_none_or(|status| row.status == status)), "{status:?}");
        let more = rows.len() > usize::try_from(LIMIT).unwrap();
        rows.truncate(usize::try_from(LIMIT).unwrap());
        ids.extend(rows.iter().map(|row| row.id));
        let Some(next) = rows.last().filter(|_| more).map(|row| row.id).or(stopped_at) else { return ids };
        assert!(next < before, "it goes on");
        before = next;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_any_status_reads_a_bounded_number_of_rows() {
    let app = TestApp::start().await;
    for queue in ["good", "bad", "backlog"] {
        app.define(queue, json!({})).await;
        app.post(&format!("/queues/{queue}/pause"), &json!(null)).await;
    }
    let mut db = app.connect().await;
    sqlx::raw_sql(FILL).execute(&mut db).await.unwrap();
    let queues: Vec<(String, i32)> =
        sqlx::query_as("SELECT name, id FROM queues ORDER BY id").fetch_all(&mut db).await.unwrap();
    let mut tx = db.begin().await.unwrap();
    for (name, queue) in queues {
        let every = "SELECT id, status::text FROM queue_messages WHERE queue_id = $1 ORDER BY id DESC";
        let every: Vec<(Uuid, String)> = sqlx::query_as(every).bind(queue).fetch_all(&mut *tx).await.unwrap();
        let (oldest, middle) = (every[every.len() - 1].0, every[every.len() / 2].0);
        for status in [None, Some("PENDING"), Some("INPROGRESS"), Some("COMPLETE"), Some("ERROR")] {
            for (from, to) in [(Uuid::nil(), Uuid::max()), (oldest, middle), (middle, Uuid::max())] {
                let expected: Vec<Uuid> = every
                    .iter()
                    .filter(|(id, is)| status.is_none_or(|status| is == status) && *id >= from && *id < to)
                    .map(|(id, _)| *id)
                    .collect();
                // Thousands of pages take their time: the first ones are enough of what is many.
                let to = expected.first().map_or(to, |first| if expected.len() < 5000 { to } else { *first });
                let from = if expected.len() < 5000 { from } else { expected[2000] };
                let expected: Vec<Uuid> = expected.into_iter().filter(|id| *id >= from && *id < to).collect();
                let found = pages(&mut tx, queue, status, from, to).await;
                assert!(found == expected, "{name} {status:?}: {} of {}", found.len(), expected.len());
            }
        }
    }
    drop(tx);
    app.stop().await;
}
