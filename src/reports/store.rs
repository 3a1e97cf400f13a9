//! Runs a report: read-only, in bounded time, whatever its columns are.

use super::{Answer, Parameters, Report};
use crate::db;
use serde_json::value::RawValue;
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Column as _, Executor as _, SqlSafeStr as _, Statement as _};
use std::time::Duration;

/// Answers `report`.
///
/// # Errors
/// The database's; SQLSTATE 57014 when it took longer than `patience`.
pub async fn run(
    pool: &PgPool,
    report: &'static Report,
    parameters: Parameters,
    patience: Duration,
) -> sqlx::Result<Answer> {
    db::transaction::transaction_within(pool, patience, move |tx| {
        Box::pin(answer(tx, report, parameters, patience))
    })
    .await
}

async fn answer(
    tx: &mut PgConnection,
    report: &Report,
    parameters: Parameters,
    patience: Duration,
) -> sqlx::Result<Answer> {
    sqlx::query!("SET TRANSACTION READ ONLY").execute(&mut *tx).await?;
    let patience = format!("{}ms", patience.as_millis());
    sqlx::query!("SELECT set_config('statement_timeout', $1, true)", patience).fetch_one(&mut *tx).await?;
    let Parameters { period, lookback, long } = parameters;
    for (name, value) in [("report.period", period), ("report.lookback", lookback), ("report.long", long)] {
        // Set in any case: the session may have been someone's who left another.
        let value = value.map_or_else(String::new, milliseconds);
        sqlx::query!("SELECT set_config($1, $2, true)", name, value).fetch_one(&mut *tx).await?;
    }
    let statement = report.sql.trim_end().trim_end_matches(';');
    let columns = (&mut *tx).prepare(AssertSqlSafe(statement.to_owned()).into_sql_str()).await?;
    let columns = columns.columns().iter().map(|column| column.name().to_owned()).collect();
    let rows: Vec<Json<Box<RawValue>>> = sqlx::query_scalar(AssertSqlSafe(format!(
        "SELECT row_to_json(answer) FROM (\n{statement}\n) AS answer"
    )))
    .fetch_all(tx)
    .await?;
    Ok(Answer { columns, rows: rows.into_iter().map(|row| row.0).collect() })
}

/// As an interval of PostgreSQL.
fn milliseconds(duration: Duration) -> String {
    format!("{} milliseconds", duration.as_millis())
}
