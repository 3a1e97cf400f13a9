//! Brings a schema to this version. `sqlx migrate` does the same with the same files, and keeps the same account
//! in `_sqlx_migrations`.
//!
//! sqlx's own way takes a lock that belongs to the session, and finds its tables by what the session says: behind a
//! transaction-mode pooler the lock stays in a session that others have by then, and the tables come to the schema
//! of somebody else. So it looks first, which locks nothing; and what is missing it applies in one transaction
//! each, which has the lock and the schema in it.

mod reverting;

pub use reverting::{Reverting, revert};

use anyhow::{Context as _, bail, ensure};
use futures::future::BoxFuture;
use sqlx::migrate::{Migration, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, Row as _};
use std::fmt::Write as _;
use std::time::Instant;

/// The files in `migrations/`, built in.
pub static MIGRATIONS: Migrator = sqlx::migrate!();

/// Where sqlx keeps its account; this is how it makes it.
const ACCOUNT: &str = "
    CREATE TABLE IF NOT EXISTS _sqlx_migrations (
        version BIGINT PRIMARY KEY,
        description TEXT NOT NULL,
        installed_on TIMESTAMPTZ NOT NULL DEFAULT now(),
        success BOOLEAN NOT NULL,
        checksum BYTEA NOT NULL,
        execution_time BIGINT NOT NULL
    )";

/// What a command makes the role's defaults where a pooler forgets what connections ask for.
const ROLE_DEFAULTS: &[(&str, &str)] = &[
    ("jit", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    ("statement_timeout", "30s"),
    ("lock_timeout", "5s"),
    ("idle_in_transaction_session_timeout", "30s"),
];

/// Makes the schema if it is not there and applies what is missing. Safe to run from several processes.
///
/// # Errors
/// The database cannot be reached, the role may not create, or the schema is of a newer version.
pub async fn migrate(options: &PgConnectOptions, schema: &str) -> anyhow::Result<()> {
    migrate_here(options, schema).await
}

/// Compiled here, once, and not in each application: see `Prepared::start_here`.
#[inline(never)]
fn migrate_here<'a>(options: &'a PgConnectOptions, schema: &'a str) -> BoxFuture<'a, anyhow::Result<()>> {
    Box::pin(migrate_all(options, schema))
}

async fn migrate_all(options: &PgConnectOptions, schema: &str) -> anyhow::Result<()> {
    let mut connection = connect(options).await?;
    while missing(&applied(&mut connection, schema).await?)?.is_some() {
        let mut tx = begin(&mut connection, schema).await?;
        // Whoever had the lock before may have done it.
        if let Some(migration) = missing(&applied(&mut tx, schema).await?)? {
            apply(&mut tx, schema, migration)
                .await
                .with_context(|| format!("cannot apply the migration {}", migration.version))?;
        }
        tx.commit().await?;
    }
    connection.close().await?;
    Ok(())
}

/// Makes `schema` the role's default `search_path` in this database, and what else connections ask for its
/// defaults: for a transaction-mode pooler, which refuses or forgets what a connection asks for at its start.
///
/// # Errors
/// The database cannot be reached, or the role may not be altered.
pub async fn set_role_defaults(options: &PgConnectOptions, schema: &str) -> anyhow::Result<()> {
    let mut connection = connect(options).await?;
    let mut statement = String::from("DO $$ BEGIN\n");
    for (name, value) in [("search_path", schema)].iter().chain(ROLE_DEFAULTS) {
        writeln!(
            statement,
            "EXECUTE format('ALTER ROLE %I IN DATABASE %I SET {name} = %L', current_user, current_database(), '{value}');"
        )?;
    }
    statement += "END $$";
    connection.execute(AssertSqlSafe(statement)).await?;
    connection.close().await?;
    Ok(())
}

/// A migration that was applied.
struct Applied {
    version: i64,
    success: bool,
    checksum: Vec<u8>,
}

/// What was applied, in its order. Nothing is locked or prepared for it.
async fn applied(connection: &mut PgConnection, schema: &str) -> sqlx::Result<Vec<Applied>> {
    let account = format!("\"{schema}\"._sqlx_migrations");
    // In the catalogue's tables: `to_regclass` may not know yet what was made while this waited for the lock.
    let there = format!(
        "SELECT EXISTS (
            SELECT
            FROM pg_class
            JOIN pg_namespace ON pg_namespace.oid = pg_class.relnamespace
            WHERE nspname = '{schema}' AND relname = '_sqlx_migrations'
        )"
    );
    let there: bool = sqlx::raw_sql(AssertSqlSafe(there)).fetch_one(&mut *connection).await?.try_get(0)?;
    if !there {
        return Ok(Vec::new());
    }
    let rows = format!("SELECT version, success, checksum FROM {account} ORDER BY version");
    let rows = sqlx::raw_sql(AssertSqlSafe(rows)).fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            Ok(Applied { version: row.try_get(0)?, success: row.try_get(1)?, checksum: row.try_get(2)? })
        })
        .collect()
}

/// Whether the schema is one that this program can use: all of its migrations are applied as they are. One that a newer
/// program has brought further is, until it says otherwise.
///
/// # Errors
/// The database's.
pub async fn is_usable(pool: &PgPool) -> sqlx::Result<bool> {
    let applied =
        sqlx::query!("SELECT version, success, checksum FROM _sqlx_migrations").fetch_all(pool).await;
    let applied = match applied {
        // There is no such table, or no such schema.
        Err(sqlx::Error::Database(error)) if matches!(error.code().as_deref(), Some("42P01" | "3F000")) => {
            return Ok(false);
        }
        other => other?,
    };
    let mut ours = MIGRATIONS.iter().filter(|migration| !migration.migration_type.is_down_migration());
    Ok(ours.all(|migration| {
        applied.iter().any(|done| {
            done.version == migration.version && done.success && done.checksum == *migration.checksum
        })
    }))
}

/// The first of our migrations that was not applied.
fn missing(applied: &[Applied]) -> anyhow::Result<Option<&'static Migration>> {
    let ours = || MIGRATIONS.iter().filter(|migration| !migration.migration_type.is_down_migration());
    for Applied { version, success, checksum } in applied {
        let Some(migration) = ours().find(|migration| migration.version == *version) else {
            bail!("the schema is of a newer version than this program ({version}): update the program");
        };
        ensure!(success, "the migration {version} broke off: look at _sqlx_migrations and mend it");
        ensure!(
            *migration.checksum == **checksum,
            "the migration {version} is not the one that was applied: use the program that made this schema, or \
             a new schema"
        );
    }
    Ok(ours().find(|migration| !applied.iter().any(|done| done.version == migration.version)))
}

/// A transaction in which names mean `schema` and nobody else migrates it.
async fn begin<'c>(
    connection: &'c mut PgConnection,
    schema: &str,
) -> sqlx::Result<sqlx::Transaction<'c, sqlx::Postgres>> {
    let mut tx = connection.begin().await?;
    // A migration may need longer than a request, and so may those who wait for it.
    let settings = format!(
        "SET LOCAL search_path = \"{schema}\";
        SET LOCAL statement_timeout = 0;
        SET LOCAL lock_timeout = 0;
        SET LOCAL idle_in_transaction_session_timeout = 0;
        SET LOCAL client_min_messages = warning;
        SELECT pg_advisory_xact_lock(hashtextextended('postrider migrates {schema}', 0))"
    );
    tx.execute(AssertSqlSafe(settings)).await?;
    Ok(tx)
}

async fn apply(tx: &mut PgConnection, schema: &str, migration: &Migration) -> anyhow::Result<()> {
    let began = Instant::now();
    let there = format!("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = '{schema}')");
    // Who may not create schemas may use one that is there.
    if !sqlx::raw_sql(AssertSqlSafe(there)).fetch_one(&mut *tx).await?.try_get::<bool, _>(0)? {
        let create = format!("CREATE SCHEMA \"{schema}\"");
        tx.execute(AssertSqlSafe(create))
            .await
            .with_context(|| format!("cannot create the schema {schema}"))?;
    }
    tx.execute(ACCOUNT).await?;
    tx.execute(migration.sql.clone()).await?;
    let mut checksum = String::new();
    migration.checksum.iter().try_for_each(|byte| write!(checksum, "{byte:02x}"))?;
    let account = format!(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
        VALUES ({}, '{}', true, '\\x{checksum}', {})",
        migration.version,
        migration.description.replace('\'', "''"),
        began.elapsed().as_nanos(),
    );
    tx.execute(AssertSqlSafe(account)).await?;
    Ok(())
}

async fn connect(options: &PgConnectOptions) -> anyhow::Result<PgConnection> {
    PgConnection::connect_with(&super::plain(options.clone())).await.context("cannot reach the database")
}
