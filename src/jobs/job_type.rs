//! The rules of a kind of jobs, as `<name>.jobs.json` says them.

use super::metrics::Series;
use crate::auth::role;
use crate::error::{Error, Result, Violation};
use crate::http::{body, duration};
use serde::Deserialize;
use std::time::Duration;

/// The type that is always there.
pub const BUILT_IN: &str = "place_card_on_single_site_jobs";

/// First words of the API's other addresses.
const RESERVED: [&str; 17] = [
    "queues",
    "stores",
    "messages",
    "reports",
    "dashboard",
    "docs",
    "metrics",
    "healthz",
    "readyz",
    "endpoints",
    "services",
    "events",
    "hub",
    "jump",
    "session",
    "merchant_sites",
    "cardsavr_accounts",
];

/// A kind of jobs.
#[derive(Debug)]
pub struct JobType {
    /// Its lane.
    pub id: i32,
    /// Its name in the API.
    pub name: String,
    /// Its rules.
    pub rules: Rules,
    /// What is counted of it.
    pub series: Series,
}

/// What holds for all jobs of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// `job_timeout`: how long a job may take; absent, as the settings say.
    pub job_timeout: Option<Duration>,
    /// `credential_timeout`: how long a question waits; absent, as the settings say.
    pub credential_timeout: Option<Duration>,
    /// `lease`: how long a worker may be silent. 60 s.
    pub lease: Duration,
    /// `grace`: how long a worker has to end a job whose cancellation was requested. 30 s.
    pub grace: Duration,
    /// `attempts`: how often a job is given to a worker when workers are lost. 1: a lost worker ends it.
    pub attempts: i16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    job_timeout: Option<String>,
    credential_timeout: Option<String>,
    lease: Option<String>,
    grace: Option<String>,
    attempts: Option<i16>,
}

impl Rules {
    /// Reads the rules in `text`, which is JSON.
    ///
    /// # Errors
    /// 422 with what is wrong.
    pub fn read(text: &str) -> Result<Self> {
        let file: File = body::parse(text.as_bytes())?.to_typed()?;
        let attempts = file.attempts.unwrap_or(1);
        if !(1..=100).contains(&attempts) {
            return Err(Error::invalid("/attempts", "range", "must lie between 1 and 100"));
        }
        Ok(Self {
            job_timeout: span("job_timeout", file.job_timeout.as_deref())?,
            credential_timeout: span("credential_timeout", file.credential_timeout.as_deref())?,
            lease: span("lease", file.lease.as_deref())?.unwrap_or(Duration::from_mins(1)),
            grace: span("grace", file.grace.as_deref())?.unwrap_or(Duration::from_secs(30)),
            attempts,
        })
    }
}

/// Refuses a name that cannot be the first word of an address.
///
/// # Errors
/// 422.
pub fn check_name(name: &str) -> Result<()> {
    let plain = name.len() <= 100
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !plain || RESERVED.contains(&name) || role::check_own(name).is_err() {
        let words =
            "a job type is named with lower-case letters, digits and _, and none of the API's own words";
        return Err(Error::Invalid(words.to_owned(), vec![Violation::new("", "name", words)]));
    }
    Ok(())
}

fn span(name: &str, text: Option<&str>) -> Result<Option<Duration>> {
    let Some(text) = text else { return Ok(None) };
    let wrong =
        || Error::invalid(format!("/{name}"), "format", "must be a duration from 1s to 30d, such as 300s");
    let duration = duration::read(text).ok_or_else(wrong)?;
    let whole = Duration::from_secs(duration.as_secs());
    if whole != duration || !(1..=30 * 86_400).contains(&whole.as_secs()) {
        return Err(wrong());
    }
    Ok(Some(whole))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn rules_have_defaults_and_refuse_what_they_do_not_know() {
        let rules = Rules::read("{}").unwrap();
        assert_eq!((rules.lease, rules.attempts), (Duration::from_mins(1), 1));
        let rules = Rules::read(r#"{"job_timeout":"10m","attempts":3}"#).unwrap();
        assert_eq!((rules.job_timeout, rules.attempts), (Some(Duration::from_mins(10)), 3));
        for wrong in
            ["", "[]", r#"{"timeout":"1s"}"#, r#"{"lease":"0s"}"#, r#"{"lease":"1ms"}"#, r#"{"attempts":0}"#]
        {
            assert!(Rules::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_refusal_names_the_place_of_what_is_wrong() {
        for (wrong, place) in [
            (r#"{"attempts":"two"}"#, "at `/attempts`: expected i16"),
            (r#"{"lease":5}"#, "at `/lease`: expected a string"),
            (r#"{"lease":"soon"}"#, "at `/lease`: must be a duration from 1s to 30d, such as 300s"),
            (r#"{"timeout":"1s"}"#, "at `/timeout`: unknown field `timeout`"),
            ("{", "the body is not JSON"),
        ] {
            let said = Rules::read(wrong).unwrap_err().whole();
            assert!(said.contains(place), "{wrong}: {said}");
        }
    }

    #[test]
    fn a_name_is_no_other_address() {
        assert!(check_name(BUILT_IN).is_ok());
        for wrong in ["", "queues", "stores", "session", "Jobs", "a-b", "1st", "a/b"] {
            assert!(check_name(wrong).is_err(), "{wrong}");
        }
    }
}
