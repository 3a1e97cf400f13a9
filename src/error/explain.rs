//! An error as one sentence for people: every cause once.

use std::error::Error;
use std::sync::Arc;

/// What went wrong, and of what, with colons between. Many errors of libraries say their cause themselves and name it
/// as their source too: what was said already is not said again. What the database refuses is in its own words, without
/// the line of its own source that sqlx adds.
pub fn explain(error: &(dyn Error + 'static)) -> String {
    let mut told: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let (text, is_last) = match of_database(error) {
            Some(text) => (text, true),
            None => (error.to_string(), false),
        };
        if !text.is_empty() && !told.iter().any(|said| said.contains(&text)) {
            told.push(text);
        }
        next = if is_last { None } else { error.source() };
    }
    told.join(": ")
}

/// What the database, or the way to it, says.
fn of_database(error: &(dyn Error + 'static)) -> Option<String> {
    let error = error.downcast_ref::<Arc<sqlx::Error>>().map(Arc::as_ref).or_else(|| error.downcast_ref())?;
    Some(match error {
        sqlx::Error::Database(refusal) => refusal.message().to_owned(),
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::Configuration(error) => error.to_string(),
        sqlx::Error::PoolTimedOut => "no connection in time".to_owned(),
        other => other.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn a_cause_that_is_told_already_is_not_told_again() {
        let refused = || std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "connection refused");
        let error = anyhow::Error::from(sqlx::Error::Io(refused())).context("cannot reach the database");
        assert_eq!(explain(error.as_ref()), "cannot reach the database: connection refused");
        let shared = anyhow::Error::from(Arc::new(sqlx::Error::Io(refused()))).context("cannot push");
        assert_eq!(explain(shared.as_ref()), "cannot push: connection refused");
        let other =
            Err::<(), _>(refused()).context("while dialling: connection refused").context("no answer");
        let other = other.map_err(|error| explain(error.as_ref()));
        assert_eq!(other, Err("no answer: while dialling: connection refused".to_owned()));
    }
}
