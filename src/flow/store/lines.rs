//! The SQL of `series`, `lines` and `line_waits`: items that run one after another. Who leaves a line lets the next go, who
//! comes back joins at the end.
//!
//! A series is what has lines, such as a serial mapping; it knows the lane in which their heads run. Who makes one inserts
//! it, and who stores items lines them up, in the statement that stores them.

use sqlx::postgres::PgConnection;
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// An item and the line it stands in.
#[derive(Debug, Clone)]
pub struct Place {
    /// The series.
    pub series: i32,
    /// The line.
    pub line: Vec<u8>,
    /// The item.
    pub item: Uuid,
}

/// Has the lines of a series go on in this lane. What is ready in another one stays there.
pub async fn send(tx: &mut PgConnection, series: i32, lane: i32) -> sqlx::Result<()> {
    sqlx::query!("UPDATE series SET lane = $2 WHERE id = $1 AND lane <> $2", series, lane)
        .execute(tx)
        .await?;
    Ok(())
}

/// Forgets series in whose lines nobody stands any more.
pub async fn forget(tx: &mut PgConnection, series: &[i32]) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM series WHERE id = ANY ($1)", series).execute(tx).await?;
    Ok(())
}

/// Locks a line: nobody joins or leaves it until the transaction ends.
pub async fn lock(tx: &mut PgConnection, series: i32, line: Option<&[u8]>) -> sqlx::Result<()> {
    sqlx::query!("SELECT FROM lines WHERE series = $1 AND line = $2 FOR UPDATE", series, line)
        .execute(tx)
        .await?;
    Ok(())
}

/// As [`lock`], for all lines of a series.
pub async fn lock_all(tx: &mut PgConnection, series: i32) -> sqlx::Result<()> {
    sqlx::query!("SELECT FROM lines WHERE series = $1 ORDER BY line FOR UPDATE", series).execute(tx).await?;
    Ok(())
}

/// Takes an item from among those that wait in a line; returns whether it waited there.
pub async fn withdraw(tx: &mut PgConnection, item: Uuid) -> sqlx::Result<bool> {
    let waited = sqlx::query!("DELETE FROM line_waits WHERE item = $1", item).execute(tx).await?;
    Ok(waited.rows_affected() > 0)
}

/// Ends all lines of a series, which are locked; returns who waited there.
pub async fn clear(tx: &mut PgConnection, series: i32) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        r#"
        WITH ended AS (
            DELETE FROM lines WHERE series = $1
        )
        DELETE FROM line_waits WHERE series = $1 RETURNING item
        "#,
        series,
    )
    .fetch_all(tx)
    .await
}

/// Takes items that have ended from the heads of their lines; the next of each goes. Returns the lanes in which
/// something became ready.
///
/// The lines are locked first, so that the statement after that sees everybody who joined.
pub async fn leave(tx: &mut PgConnection, places: &[Place]) -> sqlx::Result<Vec<i32>> {
    let series: Vec<i32> = places.iter().map(|p| p.series).collect();
    let lines: Vec<&[u8]> = places.iter().map(|p| p.line.as_slice()).collect();
    let ids: Vec<Uuid> = places.iter().map(|p| p.item).collect();
    let heads = sqlx::query!(
        r#"
        SELECT l.head
        FROM unnest($1::int[], $2::bytea[], $3::uuid[]) AS p (series, line, item)
        JOIN lines AS l ON l.series = p.series AND l.line = p.line AND l.head = p.item
        ORDER BY l.series, l.line
        FOR UPDATE OF l
        "#,
        &series,
        &lines as _,
        &ids,
    )
    .fetch_all(&mut *tx)
    .await?;
    if heads.is_empty() {
        return Ok(Vec::new());
    }
    let ready = sqlx::query_scalar!(
        r#"
        WITH next AS MATERIALIZED (
            SELECT l.series, l.line, w.seq, w.item
            FROM unnest($1::int[], $2::bytea[], $3::uuid[]) AS p (series, line, item)
            JOIN lines AS l ON l.series = p.series AND l.line = p.line AND l.head = p.item
            CROSS JOIN LATERAL (
                SELECT seq, item
                FROM line_waits
                WHERE series = l.series AND line = l.line
                ORDER BY seq
                LIMIT 1
            ) AS w
        ),
        called AS (
            DELETE FROM line_waits AS w
            USING next
            WHERE w.series = next.series AND w.line = next.line AND w.seq = next.seq
        ),
        moved AS (
            UPDATE lines AS l
            SET head = next.item
            FROM next
            WHERE l.series = next.series AND l.line = next.line
        )
        INSERT INTO dispatch (lane, rank, item)
        SELECT s.lane, 0, next.item
        FROM next
        JOIN series AS s ON s.id = next.series
        RETURNING lane
        "#,
        &series,
        &lines as _,
        &ids,
    )
    .fetch_all(&mut *tx)
    .await?;
    // Those whose head is still who left have nobody behind.
    sqlx::query!(
        r#"
        DELETE FROM lines AS l
        USING unnest($1::int[], $2::bytea[], $3::uuid[]) AS p (series, line, item)
        WHERE l.series = p.series AND l.line = p.line AND l.head = p.item
        "#,
        &series,
        &lines as _,
        &ids,
    )
    .execute(tx)
    .await?;
    Ok(ready)
}

/// Has an item join its line; returns whether it may run, since it is the first.
pub async fn join(tx: &mut PgConnection, place: &Place) -> sqlx::Result<bool> {
    let head = sqlx::query_scalar!(
        r#"
        INSERT INTO lines (series, line, head)
        VALUES ($1, $2, $3)
        ON CONFLICT (series, line) DO UPDATE SET head = lines.head
        RETURNING head
        "#,
        place.series,
        place.line,
        place.item,
    )
    .fetch_one(&mut *tx)
    .await?;
    if head != place.item {
        sqlx::query!(
            r#"
            INSERT INTO line_waits (series, line, item)
            VALUES ($1, $2, $3)
            ON CONFLICT (item) DO NOTHING
            "#,
            place.series,
            place.line,
            place.item,
        )
        .execute(tx)
        .await?;
    }
    Ok(head == place.item)
}

/// Has items join their lines, given in their order; returns those that are the head of their line. The others are to be
/// written into `line_waits`.
pub async fn join_all(tx: &mut PgConnection, items: &[(i32, [u8; 32], Uuid)]) -> sqlx::Result<HashSet<Uuid>> {
    if items.is_empty() {
        return Ok(HashSet::new());
    }
    let mut firsts: HashMap<(i32, [u8; 32]), Uuid> = HashMap::new();
    for (series, line, item) in items {
        firsts.entry((*series, *line)).or_insert(*item);
    }
    let mut firsts: Vec<_> = firsts.into_iter().collect();
    firsts.sort_unstable();
    let series: Vec<i32> = firsts.iter().map(|((series, _), _)| *series).collect();
    let lines: Vec<&[u8]> = firsts.iter().map(|((_, line), _)| line.as_slice()).collect();
    let heads: Vec<Uuid> = firsts.iter().map(|(_, item)| *item).collect();
    let found = sqlx::query_scalar!(
        r#"
        INSERT INTO lines AS l (series, line, head)
        SELECT series, line, head
        FROM unnest($1::int[], $2::bytea[], $3::uuid[]) WITH ORDINALITY AS i (series, line, head, place)
        ORDER BY place
        -- It changes nothing and locks the row: whoever leaves the line waits, and then finds who joined.
        ON CONFLICT ON CONSTRAINT lines_pkey DO UPDATE SET head = l.head
        RETURNING head
        "#,
        &series,
        &lines as _,
        &heads,
    )
    .fetch_all(tx)
    .await?;
    let found: HashSet<Uuid> = found.into_iter().collect();
    Ok(heads.into_iter().filter(|head| found.contains(head)).collect())
}
