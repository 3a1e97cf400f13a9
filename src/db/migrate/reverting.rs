//! Takes the newest migration back: what that would drop, who still works on it, and doing it.

use super::{Applied, MIGRATIONS, applied, begin, connect};
use anyhow::Context as _;
use sqlx::migrate::Migration;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, Row as _};

/// What taking the newest migration back means.
#[derive(Debug)]
pub struct Reverting {
    /// Its version.
    pub version: i64,
    /// What it brought, in a word.
    pub description: String,
    /// The tables that go with it, each with whether there is a row in it.
    pub tables: Vec<(String, bool)>,
    /// What else its script drops, as the script says it.
    pub others: Vec<String>,
    /// The processes that live.
    pub processes: Vec<String>,
    /// Whether it was taken back.
    pub done: bool,
}

/// Takes the newest migration back, unless processes live or rows would go with it; with `force` then as well.
/// `None` when none is applied.
///
/// # Errors
/// The database cannot be reached, or the migration is not of this program.
pub async fn revert(
    options: &PgConnectOptions,
    schema: &str,
    force: bool,
) -> anyhow::Result<Option<Reverting>> {
    let mut connection = connect(options).await?;
    let mut tx = begin(&mut connection, schema).await?;
    let Some(Applied { version, .. }) = applied(&mut tx, schema).await?.pop() else { return Ok(None) };
    let migration = MIGRATIONS
        .iter()
        .find(|migration| migration.version == version && migration.migration_type.is_down_migration())
        .context("the newest migration is not one of this program's")?;
    let mut reverting = look(&mut tx, migration).await.context("cannot look at what would go")?;
    let in_use = !reverting.processes.is_empty() || reverting.tables.iter().any(|(_, rows)| *rows);
    if force || !in_use {
        tx.execute(migration.sql.clone()).await.context("cannot revert")?;
        let forget = format!("DELETE FROM _sqlx_migrations WHERE version = {version}");
        tx.execute(AssertSqlSafe(forget)).await?;
        tx.commit().await?;
        reverting.done = true;
    } else {
        tx.rollback().await?;
    }
    connection.close().await?;
    Ok(Some(reverting))
}

/// Reads the script rather than run it: that would lock the tables of those who work.
async fn look(tx: &mut PgConnection, migration: &Migration) -> sqlx::Result<Reverting> {
    let (names, others) = drops(migration.sql.as_str());
    let mut tables = Vec::new();
    for name in names {
        let any = format!("SELECT EXISTS (SELECT FROM {name})");
        let any = sqlx::raw_sql(AssertSqlSafe(any)).fetch_one(&mut *tx).await?.try_get(0)?;
        tables.push((name, any));
    }
    let living = "SELECT name FROM workers WHERE given_up_at IS NULL AND NOT is_silent(heartbeat, lease) ORDER BY name";
    let living = sqlx::raw_sql(living).fetch_all(tx).await?;
    let processes = living.iter().map(|row| row.try_get(0)).collect::<sqlx::Result<_>>()?;
    let (version, description) = (migration.version, migration.description.to_string());
    Ok(Reverting { version, description, tables, others, processes, done: false })
}

/// The tables that a script drops, and the statements that drop something else.
fn drops(script: &str) -> (Vec<String>, Vec<String>) {
    let lines = script.lines().filter(|line| !line.trim_start().starts_with("--"));
    let script = lines.collect::<Vec<_>>().join(" ");
    let (mut tables, mut others) = (Vec::new(), Vec::new());
    for statement in script.split(';') {
        let statement = statement.split_whitespace().collect::<Vec<_>>().join(" ");
        match statement.strip_prefix("DROP TABLE ") {
            Some(names) => tables.extend(names.split(',').map(|name| name.trim().to_owned())),
            None if statement.contains("DROP ") => others.push(statement),
            None => {}
        }
    }
    (tables, others)
}

#[cfg(test)]
mod tests {
    use super::drops;

    #[test]
    fn a_script_says_what_it_drops() {
        let script = "-- Takes it away.\nDROP VIEW v;\nDROP TABLE a, b,\n    c;\nDELETE FROM d;\nALTER TABLE d DROP COLUMN e;";
        let (tables, others) = drops(script);
        assert_eq!(tables, ["a", "b", "c"]);
        assert_eq!(others, ["DROP VIEW v", "ALTER TABLE d DROP COLUMN e"]);
    }
}
