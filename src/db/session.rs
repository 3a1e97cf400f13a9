//! What a connection of ours is: a session of its own, or a place in a pooler that lends sessions to everybody for
//! a transaction at a time (PgBouncer's transaction mode). It is found out by what one sees of it, since a pooler
//! need not say that it is there.

use super::transaction::Borrowed;
use anyhow::Context as _;
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use std::time::Duration;
use uuid::Uuid;

/// How often it is asked whether sessions change. Each round finds out by itself when nobody else uses the pooler;
/// when others do, they change sessions all the time.
const ROUNDS: usize = 5;
/// The longest that may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether the sessions behind this pool's connections are lent to others between our transactions. Then nothing
/// may be left in one: a LISTEN would send notifications to whoever comes next, who does not expect them.
///
/// A pooler takes a free session before it opens another, the last one used or the one that rested longest. So one
/// of ours asks twice for its session's process; another holds a transaction open, and asks; the first asks again.
/// With the last one used, the second gets the session of the first. With the one that rested longest, it gets it
/// when it is the only one, and otherwise the first got two. Sessions of our own do neither, in a session-mode pooler
/// either.
///
/// # Errors
/// The database's, also when it takes too long.
pub async fn is_shared(pool: &PgPool) -> sqlx::Result<bool> {
    let look = async {
        let mut one = pool.acquire().await?;
        let mut other = Borrowed::from(pool).await?;
        for _ in 0..ROUNDS {
            let first = process(&mut one).await?;
            if process(&mut one).await? != first {
                return Ok(true);
            }
            begin(&mut other).await?;
            // While it is held nobody else can have it; if it is the first one's, that one must not wait for it.
            let shared = process(&mut other).await? == first || process(&mut one).await? != first;
            roll_back(&mut other).await?;
            if shared {
                return Ok(true);
            }
        }
        other.give_back();
        Ok(false)
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

/// A transaction of which sqlx knows nothing: who asks may be cut off, and sqlx would end one of its own once more then,
/// also when its end was on its way. The connection is [closed](Borrowed) instead.
async fn begin(connection: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::raw_sql("BEGIN").execute(connection).await.map(drop)
}

async fn roll_back(connection: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::raw_sql("ROLLBACK").execute(connection).await.map(drop)
}

/// The process of the session that this statement runs in.
async fn process(connection: &mut PgConnection) -> sqlx::Result<i32> {
    // Without parameters and unprepared: it must work wherever it comes to.
    sqlx::raw_sql("SELECT pg_backend_pid()").fetch_one(connection).await?.try_get(0)
}

/// Whether prepared statements stay ours behind a pooler that shares sessions. Every connection of sqlx numbers its
/// statements from 1: where they reach a shared session under these names, one runs the statement of another.
/// A pooler that carries them gives them names of its own.
///
/// # Errors
/// The database's.
pub async fn carries_statements(pool: &PgPool) -> sqlx::Result<bool> {
    let look = async {
        let mut connection = Borrowed::from(pool).await?;
        begin(&mut connection).await?;
        let mark = Uuid::new_v4().simple();
        let statement = format!("SELECT name FROM pg_prepared_statements WHERE statement LIKE '%{mark}%'");
        let names =
            sqlx::query_scalar::<_, String>(AssertSqlSafe(statement)).fetch_all(&mut *connection).await;
        // What it left in a session that is not ours alone goes with it.
        drop(connection.clear_cached_statements().await);
        roll_back(&mut connection).await?;
        connection.give_back();
        match names {
            Ok(names) => Ok(!names.iter().any(|name| name.starts_with("sqlx_s_"))),
            // The name is another's here, or the session another than the one it was prepared in.
            Err(sqlx::Error::Database(refusal))
                if matches!(refusal.code().as_deref(), Some("42P05" | "26000")) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

/// Refuses what would run the statements of others, and what would write into the schema of others.
///
/// # Errors
/// Says what to do.
pub(super) async fn check(pool: &PgPool, schema: &str) -> anyhow::Result<()> {
    check_schema(pool, schema).await?;
    if is_shared(pool).await.context("cannot find out whether a pooler shares sessions")? {
        anyhow::ensure!(
            carries_statements(pool).await.context("cannot find out whether statements are carried")?,
            "a pooler shares sessions between connections and does not carry prepared statements: one would run \
             the statement of another. Use PgBouncer 1.21 or newer with max_prepared_statements above 0, session \
             mode, or a direct connection"
        );
    }
    Ok(())
}

/// Refuses a connection in which names do not mean `schema`.
///
/// # Errors
/// Says what to do.
pub async fn check_schema(pool: &PgPool, schema: &str) -> anyhow::Result<()> {
    let row = sqlx::raw_sql("SELECT current_schema()::text, current_setting('search_path')")
        .fetch_one(pool)
        .await
        .context("cannot reach the database")?;
    let (current, path): (Option<String>, String) = (row.try_get(0)?, row.try_get(1)?);
    // A schema that is not there yet is nobody's: the tables are missing, and that is said elsewhere.
    let ours = match &current {
        Some(current) => current == schema,
        None => path.trim_matches('"') == schema,
    };
    let current = current.as_deref().unwrap_or("that is not there");
    anyhow::ensure!(
        ours,
        "names mean the schema {current}, not {schema} (search_path = {path}): a pooler drops what connections \
         start with. Connect directly, or run `postrider migrate --role-default` and have the pooler reconnect"
    );
    Ok(())
}
