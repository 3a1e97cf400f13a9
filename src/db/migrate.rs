//! Brings a schema to this version. `sqlx migrate` does the same with the same files.

use anyhow::Context as _;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

/// The files in `migrations/`, built in.
pub static MIGRATIONS: Migrator = sqlx::migrate!();

/// Makes the schema if it is not there and applies what is missing. Safe to run from several processes.
///
/// # Errors
/// The database cannot be reached, the role may not create, or the schema is of a newer version.
pub async fn migrate(options: &PgConnectOptions, schema: &str) -> anyhow::Result<()> {
    let mut connection = connect(options, schema).await?;
    // A concurrent creator makes IF NOT EXISTS fail on the catalog's unique index: then it is there.
    let created = connection.execute(AssertSqlSafe(format!("CREATE SCHEMA IF NOT EXISTS {schema}"))).await;
    match created {
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {}
        other => {
            other.with_context(|| format!("cannot create the schema {schema}"))?;
        }
    }
    MIGRATIONS.run(&mut connection).await.context("cannot migrate")?;
    connection.close().await?;
    Ok(())
}

/// Takes the newest migration back.
///
/// # Errors
/// As [`migrate`].
pub async fn revert(options: &PgConnectOptions, schema: &str) -> anyhow::Result<()> {
    let mut connection = connect(options, schema).await?;
    let applied =
        sqlx::query_scalar!(r#"SELECT version FROM _sqlx_migrations ORDER BY version DESC OFFSET 1 LIMIT 1"#)
            .fetch_optional(&mut connection)
            .await?;
    MIGRATIONS.undo(&mut connection, applied.unwrap_or(0)).await.context("cannot revert")?;
    connection.close().await?;
    Ok(())
}

/// Makes `schema` the role's default `search_path` in this database, for a transaction-mode pooler, which
/// refuses or forgets what a connection asks for at its start.
///
/// # Errors
/// The database cannot be reached, or the role may not be altered.
pub async fn set_role_default(options: &PgConnectOptions, schema: &str) -> anyhow::Result<()> {
    let mut connection = connect(options, schema).await?;
    let row = sqlx::query!(
        r#"SELECT quote_ident(current_user) AS "role!", quote_ident(current_database()) AS "db!""#
    )
    .fetch_one(&mut connection)
    .await?;
    let statement = format!("ALTER ROLE {} IN DATABASE {} SET search_path = {schema}", row.role, row.db);
    connection.execute(AssertSqlSafe(statement)).await?;
    connection.close().await?;
    Ok(())
}

async fn connect(options: &PgConnectOptions, schema: &str) -> anyhow::Result<PgConnection> {
    // Not `db::session`: a migration may need longer than a request.
    PgConnection::connect_with(
        &options.clone().options([("search_path", schema), ("client_min_messages", "warning")]),
    )
    .await
    .context("cannot reach the database")
}
