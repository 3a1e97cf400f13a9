//! The SQL of lines: who leaves one lets the next go, who comes back joins at the end.

use sqlx::postgres::PgConnection;
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// A delivery and the line it stands in.
#[derive(Debug, Clone)]
pub struct Place {
    /// The mapping.
    pub mapping_id: i32,
    /// The line.
    pub line: Vec<u8>,
    /// The delivery.
    pub id: Uuid,
}

/// Takes deliveries that have ended from the heads of their lines; the next of each goes. Gives the lanes in which
/// something became ready.
///
/// The lines are locked first, so that the statement after that sees everybody who joined.
pub async fn leave(tx: &mut PgConnection, places: &[Place]) -> sqlx::Result<Vec<i32>> {
    let mappings: Vec<i32> = places.iter().map(|p| p.mapping_id).collect();
    let lines: Vec<&[u8]> = places.iter().map(|p| p.line.as_slice()).collect();
    let ids: Vec<Uuid> = places.iter().map(|p| p.id).collect();
    let heads = sqlx::query!(
        r#"
        SELECT l.head
        FROM unnest($1::int[], $2::bytea[], $3::uuid[]) AS p (mapping_id, line, id)
        JOIN lines AS l ON l.mapping_id = p.mapping_id AND l.line = p.line AND l.head = p.id
        ORDER BY l.mapping_id, l.line
        FOR UPDATE OF l
        "#,
        &mappings,
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
            SELECT l.mapping_id, l.line, w.seq, w.delivery_id
            FROM unnest($1::int[], $2::bytea[], $3::uuid[]) AS p (mapping_id, line, id)
            JOIN lines AS l ON l.mapping_id = p.mapping_id AND l.line = p.line AND l.head = p.id
            CROSS JOIN LATERAL (
                SELECT seq, delivery_id
                FROM line_waits
                WHERE mapping_id = l.mapping_id AND line = l.line
                ORDER BY seq
                LIMIT 1
            ) AS w
        ),
        called AS (
            DELETE FROM line_waits AS w
            USING next
            WHERE w.mapping_id = next.mapping_id AND w.line = next.line AND w.seq = next.seq
        ),
        moved AS (
            UPDATE lines AS l
            SET head = next.delivery_id
            FROM next
            WHERE l.mapping_id = next.mapping_id AND l.line = next.line
        )
        INSERT INTO dispatch (lane, rank, item)
        SELECT m.endpoint_id, 0, next.delivery_id
        FROM next
        JOIN mappings AS m ON m.id = next.mapping_id
        RETURNING lane
        "#,
        &mappings,
        &lines as _,
        &ids,
    )
    .fetch_all(&mut *tx)
    .await?;
    // Those whose head is still who left have nobody behind.
    sqlx::query!(
        r#"
        DELETE FROM lines AS l
        USING unnest($1::int[], $2::bytea[], $3::uuid[]) AS p (mapping_id, line, id)
        WHERE l.mapping_id = p.mapping_id AND l.line = p.line AND l.head = p.id
        "#,
        &mappings,
        &lines as _,
        &ids,
    )
    .execute(tx)
    .await?;
    Ok(ready)
}

/// Lets a delivery join its line; says whether it may run, since it is the first.
pub async fn join(tx: &mut PgConnection, place: &Place) -> sqlx::Result<bool> {
    let head = sqlx::query_scalar!(
        r#"
        INSERT INTO lines (mapping_id, line, head)
        VALUES ($1, $2, $3)
        ON CONFLICT (mapping_id, line) DO UPDATE SET head = lines.head
        RETURNING head
        "#,
        place.mapping_id,
        place.line,
        place.id,
    )
    .fetch_one(&mut *tx)
    .await?;
    if head != place.id {
        sqlx::query!(
            r#"
            INSERT INTO line_waits (mapping_id, line, delivery_id)
            VALUES ($1, $2, $3)
            ON CONFLICT (delivery_id) DO NOTHING
            "#,
            place.mapping_id,
            place.line,
            place.id,
        )
        .execute(tx)
        .await?;
    }
    Ok(head == place.id)
}

/// Joins the lines of these deliveries, given in their order; returns those that are the head of their line.
pub async fn join_all(
    tx: &mut PgConnection,
    deliveries: &[(i32, [u8; 32], Uuid)],
) -> sqlx::Result<HashSet<Uuid>> {
    if deliveries.is_empty() {
        return Ok(HashSet::new());
    }
    let mut firsts: HashMap<(i32, [u8; 32]), Uuid> = HashMap::new();
    for (mapping, line, id) in deliveries {
        firsts.entry((*mapping, *line)).or_insert(*id);
    }
    let mut firsts: Vec<_> = firsts.into_iter().collect();
    firsts.sort_unstable();
    let mappings: Vec<i32> = firsts.iter().map(|((mapping, _), _)| *mapping).collect();
    let lines: Vec<&[u8]> = firsts.iter().map(|((_, line), _)| line.as_slice()).collect();
    let heads: Vec<Uuid> = firsts.iter().map(|(_, id)| *id).collect();
    let found = sqlx::query_scalar!(
        r#"
        INSERT INTO lines AS l (mapping_id, line, head)
        SELECT mapping_id, line, head
        FROM unnest($1::int[], $2::bytea[], $3::uuid[]) WITH ORDINALITY AS i (mapping_id, line, head, place)
        ORDER BY place
        -- It changes nothing and locks the row: whoever leaves the line waits, and then finds who joined.
        ON CONFLICT ON CONSTRAINT lines_pkey DO UPDATE SET head = l.head
        RETURNING head
        "#,
        &mappings,
        &lines as _,
        &heads,
    )
    .fetch_all(tx)
    .await?;
    let found: HashSet<Uuid> = found.into_iter().collect();
    Ok(heads.into_iter().filter(|head| found.contains(head)).collect())
}
