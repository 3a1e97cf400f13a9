//! No page of the hub's listings reads more than a bounded number of rows, however many there are, and the pages
//! together hold everything once.

use crate::support::app::TestApp;
use crate::support::reads::rows_read;
use postrider::internals::hub::{Page, Span, State, WALK};
use postrider::internals::hub::{delivery_listing, delivery_page, log_listing, message_page};
use serde_json::json;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use uuid::Uuid;

const LIMIT: i64 = 50;

/// 40,000 messages with a delivery each. Nearly all are COMPLETE and of the mapping `most`; the oldest few of `few`
/// are of every other status, and so are some of another store, all of it newer.
const FILL: &str = "
    INSERT INTO stores (name) VALUES ('other');
    INSERT INTO hub_messages (store_id, state, id, message, payload, reason)
    SELECT
        s.id,
        (CASE WHEN n <= 4 THEN 'pending' WHEN n <= 8 THEN 'unrouted' WHEN n <= 12 THEN 'parked' ELSE 'routed' END)::hub_message_state,
        uuid_v7(date_trunc('week', now()) + n * interval '1 ms' + CASE WHEN s.name = 'other' THEN interval '1 hour' ELSE '0' END),
        CASE WHEN n <= 30 THEN 'order:rare' ELSE 'order:new' END, '{}', CASE WHEN n BETWEEN 9 AND 12 THEN 'no' END
    FROM stores AS s, generate_series(1, 40000) AS n;
    INSERT INTO deliveries (store_id, mapping_id, id, message_id, status, finished_at, last_error, parked_by)
    SELECT
        m.store_id, mappings.id, uuid_v7(uuid_v7_time(m.id)), m.id, d.status::delivery_status,
        CASE WHEN d.status <> 'PENDING' THEN now() END, CASE WHEN d.status = 'ERROR' THEN 'no' END,
        CASE WHEN d.status = 'ERROR' THEN 'max_age' END
    FROM (SELECT m.*, row_number() OVER (PARTITION BY store_id ORDER BY id) AS n FROM hub_messages AS m) AS m
    CROSS JOIN LATERAL (
        SELECT CASE WHEN m.n <= 10 THEN 'PENDING' WHEN m.n <= 20 THEN 'ERROR' WHEN m.n <= 30 THEN 'SKIPPED' ELSE 'COMPLETE' END AS status
    ) AS d
    JOIN mappings ON mappings.name = CASE WHEN m.n <= 35 AND m.n % 2 = 0 THEN 'few' ELSE 'most' END;
    WITH waits AS (
        SELECT d.id, m.endpoint_id, d.mapping_id, row_number() OVER (ORDER BY d.id) AS n
        FROM deliveries AS d JOIN mappings AS m ON m.id = d.mapping_id
        WHERE d.status = 'PENDING' AND d.store_id = m.store_id
    ), ready AS (
        INSERT INTO dispatch (lane, rank, item) SELECT endpoint_id, 0, id FROM waits WHERE n <= 3
    ), later AS (
        INSERT INTO scheduled (run_at, lane, rank, item)
        SELECT now() + interval '1 day', endpoint_id, 0, id FROM waits WHERE n BETWEEN 4 AND 5
    ), held AS (
        INSERT INTO held_deliveries (mapping_id, delivery_id) SELECT mapping_id, id FROM waits WHERE n BETWEEN 6 AND 7
    )
    INSERT INTO leases (expires_at, lease, lane, ranks, items, attempts)
    SELECT now() + interval '1 day', '1 day', endpoint_id, array_agg(0), array_agg(id), array_agg(1) FROM waits WHERE n > 7
    GROUP BY endpoint_id;
    INSERT INTO log_entries (store_id, level, subject, digest, message_id, reference_type, reference_id)
    SELECT
        s.id, (CASE WHEN n <= 10 THEN 'error' WHEN n <= 20 THEN 'warn' ELSE 'info' END)::log_level, n::text,
        n::text::bytea, CASE WHEN n <= 30 THEN '00000000-0000-7000-8000-000000000001'::uuid END,
        CASE WHEN n % 1000 = 7 THEN 'rare' WHEN n % 2 = 0 THEN 'order' END, CASE WHEN n % 2 = 0 THEN 'R' || n % 10 END
    FROM stores AS s, generate_series(1, 40000) AS n
    ORDER BY s.name DESC, n + 0;
    ANALYZE";

async fn stage() -> TestApp {
    let app = TestApp::start().await;
    for (mapping, endpoint) in [("few", "e1"), ("most", "e2")] {
        app.endpoint(endpoint, "http://127.0.0.1:1", json!({ "enabled": false })).await;
        app.mapping(mapping, endpoint, &["order:*"], json!({})).await;
    }
    sqlx::raw_sql(FILL).execute(&mut app.connect().await).await.unwrap();
    app
}

/// Goes on from page to page; fails when one reads too much.
struct Reader<C> {
    what: String,
    ids: Vec<C>,
    before: C,
}

impl<C: Copy + Ord> Reader<C> {
    fn new(what: String, before: C) -> Self {
        Self { what, ids: Vec::new(), before }
    }

    /// Takes a page; says whether there is another.
    fn take<T>(&mut self, page: Page<T, C>, read: i64, most: i64, id: impl Fn(&T) -> C) -> bool {
        let Page { mut rows, stopped_at } = page;
        assert!(read <= most, "{}: a page of {} rows read {read}", self.what, rows.len());
        let more = rows.len() > usize::try_from(LIMIT).unwrap();
        rows.truncate(usize::try_from(LIMIT).unwrap());
        self.ids.extend(rows.iter().map(&id));
        // A hundred pages are enough of what is many.
        let next = rows.last().filter(|_| more).map(&id).or(stopped_at).filter(|_| self.ids.len() < 5000);
        let Some(next) = next else { return false };
        assert!(next < self.before, "{}: it goes on", self.what);
        self.before = next;
        true
    }

    fn compare(self, mut expected: Vec<C>) {
        expected.truncate(5000);
        let Self { what, mut ids, .. } = self;
        ids.truncate(5000);
        assert!(ids == expected, "{what}: {} of {}", ids.len(), expected.len());
    }
}

async fn expected<C>(db: &mut PgConnection, query: String) -> Vec<C>
where
    C: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    sqlx::query_scalar(AssertSqlSafe(query)).fetch_all(db).await.unwrap()
}

async fn store(db: &mut PgConnection) -> i32 {
    sqlx::query_scalar("SELECT id FROM stores WHERE name = 's1'").fetch_one(db).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_deliveries_by_status_mapping_and_endpoint_reads_a_bounded_number_of_rows() {
    let app = stage().await;
    let mut db = app.connect().await;
    let store = store(&mut db).await;
    let mut tx = db.begin().await.unwrap();
    let statuses =
        [None, Some("PENDING"), Some("INPROGRESS"), Some("COMPLETE"), Some("ERROR"), Some("SKIPPED")];
    for status in statuses {
        for (mapping, endpoint) in [
            (None, None),
            (Some("few"), None),
            (None, Some("e1")),
            (Some("most"), Some("e2")),
            (Some("none"), None),
        ] {
            let own = |text: Option<&str>| text.map(str::to_owned);
            let filter =
                delivery_page::Filter { status: own(status), mapping: own(mapping), endpoint: own(endpoint) };
            let mut reader = Reader::new(format!("{filter:?}"), Uuid::max());
            loop {
                let span = Span { from: Uuid::nil(), to: reader.before, limit: LIMIT + 1 };
                let read = rows_read(&mut tx).await;
                let page = delivery_page::page(&mut tx, store, &filter, span).await.unwrap();
                let read = rows_read(&mut tx).await - read;
                assert!(
                    page.rows.iter().all(|row| status.is_none_or(|status| row.status == status)),
                    "{filter:?}"
                );
                let exact = matches!(status, Some("ERROR" | "INPROGRESS" | "SKIPPED"));
                if !reader.take(page, read, if exact { 20 * LIMIT } else { 3 * WALK }, |row| row.id) {
                    break;
                }
            }
            let words = |column: &str, word: Option<&str>| {
                word.map_or_else(String::new, |word| format!("AND {column} = '{word}'"))
            };
            let query = format!(
                "SELECT d.id FROM delivery_states AS d
                JOIN mappings AS m ON m.id = d.mapping_id JOIN endpoints AS e ON e.id = m.endpoint_id
                WHERE d.store_id = {store} {} {} {} ORDER BY d.id DESC",
                words("d.status", status),
                words("m.name", mapping),
                words("e.name", endpoint)
            );
            reader.compare(expected(&mut tx, query).await);
        }
    }
    drop(tx);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_messages_by_state_and_key_reads_a_bounded_number_of_rows() {
    let app = stage().await;
    let mut db = app.connect().await;
    let store = store(&mut db).await;
    let mut tx = db.begin().await.unwrap();
    for state in [None, Some(State::Pending), Some(State::Routed), Some(State::Unrouted), Some(State::Parked)]
    {
        for (key, prefix) in
            [(None, None), (Some("order:rare"), None), (None, Some("order:r")), (Some("order:no"), None)]
        {
            let own = |text: Option<&str>| text.map(str::to_owned);
            let filter = message_page::Filter { key: own(key), prefix: own(prefix), state };
            let mut reader = Reader::new(format!("{filter:?}"), Uuid::max());
            loop {
                let span = Span { from: Uuid::nil(), to: reader.before, limit: LIMIT + 1 };
                let read = rows_read(&mut tx).await;
                let page = message_page::page(&mut tx, store, &filter, span).await.unwrap();
                let read = rows_read(&mut tx).await - read;
                let exact = key.is_none() && prefix.is_none() && state != Some(State::Routed);
                if !reader.take(page, read, if exact { 10 * LIMIT } else { 2 * WALK }, |row| row.id) {
                    break;
                }
            }
            let query = format!(
                "SELECT id FROM hub_messages WHERE store_id = {store} {} {} {} ORDER BY id DESC",
                state.map_or_else(String::new, |state| format!("AND state = '{}'", state.as_str())),
                key.map_or_else(String::new, |key| format!("AND message = '{key}'")),
                prefix.map_or_else(String::new, |prefix| format!("AND message LIKE '{prefix}%'")),
            );
            reader.compare(expected(&mut tx, query).await);
        }
    }
    drop(tx);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_log_entries_by_level_and_reference_reads_a_bounded_number_of_rows() {
    let app = stage().await;
    let mut db = app.connect().await;
    let store = store(&mut db).await;
    let mut tx = db.begin().await.unwrap();
    let message = Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0001);
    for level in [None, Some("error"), Some("info")] {
        for (kind, reference, message_id) in [
            (None, None, None),
            (Some("rare"), None, None),
            (None, Some("R4"), None),
            (Some("order"), Some("none"), None),
            (None, None, Some(message)),
        ] {
            let own = |text: Option<&str>| text.map(str::to_owned);
            let filter = log_listing::Filter {
                level: own(level),
                reference_type: own(kind),
                reference: own(reference),
                message_id,
            };
            let mut reader = Reader::new(format!("{filter:?}"), i64::MAX);
            loop {
                let read = rows_read(&mut tx).await;
                let page =
                    log_listing::page(&mut tx, store, &filter, Some(reader.before), LIMIT + 1).await.unwrap();
                let read = rows_read(&mut tx).await - read;
                let exact = kind.is_none() && reference.is_none() && message_id.is_none();
                if !reader.take(page, read, if exact { 10 * LIMIT } else { 4 * WALK }, |row| row.id) {
                    break;
                }
            }
            let text = |column: &str, word: Option<&str>| {
                word.map_or_else(String::new, |word| format!("AND {column} = '{word}'"))
            };
            let query = format!(
                "SELECT id FROM log_entries WHERE store_id = {store} {} {} {} {} ORDER BY id DESC",
                text("level", level),
                text("reference_type", kind),
                text("reference_id", reference),
                message_id.map_or_else(String::new, |id| format!("AND message_id = '{id}'")),
            );
            reader.compare(expected(&mut tx, query).await);
        }
    }
    drop(tx);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whether_a_delivery_is_under_way_is_known_without_the_leases_of_others() {
    let app = stage().await;
    let mut db = app.connect().await;
    let store = store(&mut db).await;
    let others = "INSERT INTO leases (expires_at, lease, lane, ranks, items, attempts)
        SELECT now() + interval '1 day', '1 day', 1000000 + n, ARRAY[0], ARRAY[uuid_v7()], ARRAY[1]
        FROM generate_series(1, 5000) AS n;
        WITH retired AS (
            INSERT INTO lanes (kind, removed_at) VALUES ('endpoint', now()) RETURNING id
        ), moved AS (
            DELETE FROM dispatch AS d USING endpoints AS e WHERE d.lane = e.id AND d.item = (SELECT item FROM dispatch ORDER BY item DESC LIMIT 1)
            RETURNING d.item
        )
        INSERT INTO leases (expires_at, lease, lane, ranks, items, attempts)
        SELECT now() + interval '1 day', '1 day', retired.id, ARRAY[0], ARRAY[moved.item], ARRAY[1] FROM retired, moved;
        ANALYZE leases";
    sqlx::raw_sql(others).execute(&mut db).await.unwrap();
    let deliveries = "SELECT d.id, l.id IS NOT NULL
        FROM deliveries AS d LEFT JOIN leases AS l ON d.id = ANY (l.items) WHERE d.store_id = $1 AND d.status = 'PENDING'";
    let deliveries: Vec<(Uuid, bool)> =
        sqlx::query_as(deliveries).bind(store).fetch_all(&mut db).await.unwrap();
    assert!(deliveries.iter().any(|(_, held)| *held) && deliveries.iter().any(|(_, held)| !held));
    let mut tx = db.begin().await.unwrap();
    for (id, held) in deliveries {
        let read = rows_read(&mut tx).await;
        let row = delivery_listing::get(&mut *tx, store, id).await.unwrap().unwrap();
        let is_under_way = delivery_listing::is_under_way(&mut tx, store, id).await.unwrap();
        let read = rows_read(&mut tx).await - read;
        assert_eq!((row.status.as_str(), is_under_way), (if held { "INPROGRESS" } else { "PENDING" }, held));
        assert!(read < 200, "{read} rows were read");
    }
    drop(tx);
    app.stop().await;
}
