//! Who may call the SQL functions and read the reports: rows of `grants`, which the functions ask, and the privileges
//! of PostgreSQL that go with them, which are made from these rows. Nobody needs a privilege on a table for it.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor as _};

/// What may be done with what: a row of `grants`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// `queue`, `store`, `job type` or `reports`.
    pub kind: &'static str,
    /// The name of it, or how it begins, with `*` at its end; empty for reports.
    pub name: String,
}

/// The functions that a kind of grant is for.
const FUNCTIONS: &[(&str, &[&str])] = &[
    ("queue", &["enqueue", "enqueue_many"]),
    ("store", &["publish"]),
    ("job type", &["broadcast"]),
    ("reports", &["is_silent", "readable_json", "uuid_v7_floor", "uuid_v7_time"]),
];

/// What the reports read: no definition, and nothing of what messages, jobs and answers carry.
const READABLE: &[(&str, &str)] = &[
    ("attempts", "queue_id, id, lease, ending, started_at, finished_at"),
    ("broadcasts", "job_id, seq, created_at"),
    ("circuit_parts", "lane, part, failures, open_until"),
    ("circuits", "lane, failures, open_until, gone_at"),
    (
        "deliveries",
        "id, mapping_id, attempts, status, next_attempt_at, finished_at, archived_at, last_error, parked, parked_by",
    ),
    (
        "delivery_attempts",
        "id, endpoint_id, verdict, status_code, started_at, finished_at, duration, cause, error",
    ),
    ("dispatch", "lane, rank, seq, item, attempt"),
    ("endpoints", "id, store_id, name, disabled_at"),
    ("envelopes", "job_id, type, status, created_at, deadline, answered_at"),
    ("held_deliveries", "mapping_id, delivery_id"),
    ("job_types", "id, name"),
    ("jobs", "id, type_id, status, termination_type, created_at, started_at, completed_at, deadline, seq"),
    ("leased_items", "lease, lane, item, claimed_at, worker, holder"),
    ("lease_terms", "id, lane, items, claimed_at, holder, renewed_at, lease"),
    ("line_waits", "item"),
    ("mappings", "id, store_id, name, endpoint_id, enabled, deleted_at"),
    ("messages", "queue_id, rank, id"),
    ("outcome_causes", "queue_id, id, status, finished_at, error"),
    ("outcomes", "queue_id, attempt, id, started_at, finished_at, status, ending, worker"),
    ("queue_handlers", "queue_id, kind, native, is_unique"),
    ("queue_runners", "queue_id, kind, native, is_there"),
    ("queues", "id, name, paused_at, created_at, updated_at"),
    ("queue_schedules", "id, queue_id, name, created_at, updated_at"),
    ("registrations", "job_id, subject, via, cursor, created_at"),
    ("schedules", "kind, owner, next_at, last_at, last_item"),
    ("scheduled", "run_at, lane, rank, item, attempt"),
    ("stores", "id, name"),
    ("ticks", "kind, owner, at, fired_at, outcome, item"),
    ("unfinished_deliveries", "id"),
    ("workers", "id, name, started_at, heartbeat, given_up_at, lease, capacity"),
];

/// What a role of PostgreSQL is to this schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// There is no such role.
    Absent,
    /// It owns the schema: it may do everything.
    Owner,
    /// Another.
    Other,
}

/// What `role` is to this schema.
///
/// # Errors
/// The database's.
pub async fn standing(tx: &mut PgConnection, role: &str) -> sqlx::Result<Standing> {
    let owns = sqlx::query_scalar!(
        r#"
        SELECT nspowner = to_regrole(quote_ident($1)) AS owns
        FROM pg_namespace
        WHERE oid = current_schema()::regnamespace
        "#,
        role,
    )
    .fetch_one(tx)
    .await?;
    Ok(match owns {
        None => Standing::Absent,
        Some(true) => Standing::Owner,
        Some(false) => Standing::Other,
    })
}

/// What `role` itself has.
///
/// # Errors
/// The database's.
pub async fn of(tx: &mut PgConnection, role: &str) -> sqlx::Result<Vec<(String, String)>> {
    let rows = sqlx::query!("SELECT kind, name FROM grants WHERE role = $1 ORDER BY kind, name", role);
    Ok(rows.fetch_all(tx).await?.into_iter().map(|row| (row.kind, row.name)).collect())
}

/// Gives `role` these grants too.
///
/// # Errors
/// The database's: also when the role that asks does not own the schema.
pub async fn grant(tx: &mut PgConnection, role: &str, grants: &[Grant]) -> sqlx::Result<()> {
    let (kinds, names) = columns(grants);
    sqlx::query!(
        "
        INSERT INTO grants (role, kind, name)
        SELECT $1, g.kind, g.name
        FROM unnest($2::text[], $3::text[]) AS g (kind, name)
        ON CONFLICT ON CONSTRAINT grants_pkey DO NOTHING
        ",
        role,
        &kinds,
        &names,
    )
    .execute(&mut *tx)
    .await?;
    apply(tx, role).await
}

/// Takes these grants from `role`, or all; returns how many it had of them.
///
/// # Errors
/// As [`grant`].
pub async fn revoke(tx: &mut PgConnection, role: &str, grants: Option<&[Grant]>) -> sqlx::Result<u64> {
    let (kinds, names) = columns(grants.unwrap_or_default());
    let done = sqlx::query!(
        "
        DELETE FROM grants
        WHERE role = $1
            AND ($2 OR (kind, name) IN (SELECT * FROM unnest($3::text[], $4::text[])))
        ",
        role,
        grants.is_none(),
        &kinds,
        &names,
    )
    .execute(&mut *tx)
    .await?;
    apply(tx, role).await?;
    Ok(done.rows_affected())
}

fn columns(grants: &[Grant]) -> (Vec<String>, Vec<String>) {
    grants.iter().map(|grant| (grant.kind.to_owned(), grant.name.clone())).unzip()
}

/// Makes the privileges of `role` what its grants ask for: no more than they do, of those that grants can ask for.
async fn apply(tx: &mut PgConnection, role: &str) -> sqlx::Result<()> {
    if standing(tx, role).await? != Standing::Other {
        return Ok(());
    }
    let kinds: Vec<String> = of(tx, role).await?.into_iter().map(|(kind, _)| kind).collect();
    let has = |kind: &str| kinds.iter().any(|one| one == kind);
    let mut given = vec![(!kinds.is_empty(), "USAGE ON SCHEMA".to_owned(), current_schema(tx).await?)];
    for (kind, names) in FUNCTIONS {
        for function in functions(tx, names).await? {
            given.push((has(kind), "EXECUTE ON FUNCTION".to_owned(), function));
        }
    }
    for (table, columns) in READABLE {
        given.push((has("reports"), format!("SELECT ({columns}) ON"), (*table).to_owned()));
    }
    let quoted =
        sqlx::query_scalar!(r#"SELECT quote_ident($1) AS "quoted!""#, role).fetch_one(&mut *tx).await?;
    let statements = given.into_iter().map(|(is_granted, what, object)| {
        if is_granted {
            format!("GRANT {what} {object} TO {quoted}")
        } else {
            format!("REVOKE {what} {object} FROM {quoted}")
        }
    });
    tx.execute(AssertSqlSafe(statements.collect::<Vec<_>>().join(";"))).await?;
    Ok(())
}

async fn current_schema(tx: &mut PgConnection) -> sqlx::Result<String> {
    sqlx::query_scalar!(r#"SELECT quote_ident(current_schema()) AS "schema!""#).fetch_one(tx).await
}

/// The functions of these names, however they are overloaded, as a statement names them.
async fn functions(tx: &mut PgConnection, names: &[&str]) -> sqlx::Result<Vec<String>> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    sqlx::query_scalar!(
        r#"
        SELECT oid::regprocedure::text AS "function!"
        FROM pg_proc
        WHERE pronamespace = current_schema()::regnamespace AND proname = ANY ($1)
        "#,
        &names as &[String],
    )
    .fetch_all(tx)
    .await
}
