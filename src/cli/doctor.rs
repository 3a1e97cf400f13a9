//! `postrider doctor`: looks at everything that must be in order, and says what to do about what is not.

mod finding;
mod grants;
mod hub;
mod schedules;
mod schema;
mod secrets;
mod server;
mod session;
mod settings;
mod upkeep;
mod work;

use super::database::{Database, existing_key};
use crate::config::Config;
use crate::db::{self, transaction::transaction_within};
use crate::error::explain;
use crate::seal::Sealer;
use finding::{Finding, Level, fail};
use sqlx::postgres::PgConnection;
use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

/// Prints a line a check; an error when one of them failed.
pub(super) async fn run(config: anyhow::Result<Config>) -> anyhow::Result<()> {
    let findings = match config {
        Ok(config) => examine(&config).await,
        Err(error) => {
            vec![fail(explain(error.as_ref()), "correct this setting; .env.example lists them all")]
        }
    };
    let mut out = std::io::stdout();
    let colour = out.is_terminal();
    for Finding { level, what, advice } in &findings {
        let (word, code) = match level {
            Level::Ok => ("ok  ", 32),
            Level::Warn => ("warn", 33),
            Level::Fail => ("FAIL", 31),
        };
        if colour {
            writeln!(out, "\x1b[{code}m{word}\x1b[0m  {what}")?;
        } else {
            writeln!(out, "{word}  {what}")?;
        }
        if !advice.is_empty() {
            writeln!(out, "      {advice}")?;
        }
    }
    let failed = findings.iter().filter(|finding| finding.level == Level::Fail).count();
    anyhow::ensure!(failed == 0, "{failed} of {} checks failed", findings.len());
    Ok(())
}

/// Every check. Those that need what an earlier one found missing are left out.
async fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = settings::check(config);
    let sealer = existing_key(config).and_then(|key| key.as_ref().map(Sealer::new).transpose());
    let sealer = sealer.unwrap_or_else(|error| {
        findings.push(fail(explain(error.as_ref()), "correct this setting"));
        None
    });
    let database = match Database::join(config).await {
        Ok(database) => database,
        Err(error) => {
            findings.push(fail(explain(error.as_ref()), "nothing else can be looked at without PostgreSQL"));
            return findings;
        }
    };
    let mut db = database.pools(config);
    if let Some(url) = &config.listen_url {
        match db::parse("POSTRIDER_LISTEN_URL", url) {
            Ok(options) => db = db.listening_on(&options),
            Err(error) => findings.push(fail(explain(error.as_ref()), "correct this setting")),
        }
    }
    if let Err(error) = look(&db, config.command_timeout, sealer.map(Arc::new), &mut findings).await {
        findings.push(fail(
            format!("the database does not answer: {}", explain(&error)),
            "is DATABASE_URL right, and does the server run?",
        ));
    }
    db.close().await;
    database.close().await;
    findings
}

async fn look(
    db: &db::Database,
    patience: Duration,
    sealer: Option<Arc<Sealer>>,
    findings: &mut Vec<Finding>,
) -> sqlx::Result<()> {
    let pool = &db.api;
    let session = session::check(db).await?;
    let works = session.iter().all(|finding| finding.level != Level::Fail);
    findings.extend(session);
    if !works {
        // Any statement might come to others, or run as another.
        return Ok(());
    }
    findings.extend(server::check(pool).await?);
    findings.push(session::settings(&db.worker).await?);
    let schema = schema::version(pool).await?;
    let current = schema.level != Level::Fail;
    findings.push(schema);
    if current {
        work::await_heartbeats(pool).await?;
        let moment: Vec<Finding> =
            transaction_within(pool, patience, |tx| Box::pin(at_one_moment(tx, sealer))).await?;
        findings.extend(moment);
    }
    Ok(())
}

/// What is to be said of the work: what one statement finds settled, no other finds on its way.
async fn at_one_moment(tx: &mut PgConnection, sealer: Option<Arc<Sealer>>) -> sqlx::Result<Vec<Finding>> {
    sqlx::query!("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").execute(&mut *tx).await?;
    let mut findings = schema::check(&mut *tx).await?;
    findings.extend(work::check(&mut *tx).await?);
    findings.extend(schedules::check(&mut *tx).await?);
    findings.extend(upkeep::check(&mut *tx).await?);
    findings.extend(hub::check(&mut *tx).await?);
    findings.extend(secrets::check(&mut *tx, sealer.as_deref()).await?);
    findings.extend(grants::check(tx).await?);
    Ok(findings)
}
