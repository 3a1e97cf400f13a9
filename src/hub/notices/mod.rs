//! Notices: what the hub says of itself, a message `hub:…` and a log entry, in the transaction of what they tell.
//!
//! Mappings route these messages like any other, so an alert needs no second system. Nobody else may make them: a push
//! of such a key is refused, and a child of an answer is parked. Each tells a transition of a row, under the lock of that
//! row, so once, however many processes see it. None tells of a delivery of another, nor of what such a delivery did to
//! its endpoint: an alert that cannot be delivered makes no further one. A notice about a delivery is a child of its
//! message, one hop further, so that what is made of notices ends as other messages do.

pub mod log_entry;
pub mod store;

use crate::db::Ids;
use crate::hub::definitions::catalog::Catalog;
use crate::hub::routing::decide::{self, Accepted};
use crate::hub::routing::lineage::Lineage;
use crate::hub::routing::message::{Draft, Parent};
use chrono::{DateTime, Utc};
use log_entry::{Entry, Level, Note};
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use std::time::Duration;
use uuid::Uuid;

/// One thing that the hub says of itself.
#[derive(Debug, Clone)]
pub struct Notice {
    store_id: i32,
    key: &'static str,
    level: Level,
    subject: &'static str,
    /// In words.
    words: String,
    /// What it is about: a kind, and which one.
    about: (&'static str, String),
    /// The delivery that it is about and its message, and what it comes of so.
    parent: Option<(Parent, Lineage)>,
    payload: Value,
}

/// A service, or a whole endpoint.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The store.
    pub store_id: i32,
    /// The endpoint.
    pub endpoint: &'a str,
    /// The service, unless all of them are meant.
    pub service: Option<&'a str>,
}

impl Place<'_> {
    fn name(self) -> String {
        self.service
            .filter(|service| !service.is_empty())
            .map_or_else(|| self.endpoint.to_owned(), |service| format!("{}/{service}", self.endpoint))
    }
}

/// A delivery that was parked.
#[derive(Debug, Clone)]
pub struct Parked<'a> {
    /// The store.
    pub store_id: i32,
    /// The delivery and its message.
    pub parent: Parent,
    /// The message's key.
    pub message: &'a str,
    /// What answers to it would come of.
    pub lineage: Lineage,
    /// Its mapping, if that is known.
    pub mapping: Option<&'a str>,
    /// Its endpoint, if that is known.
    pub endpoint: Option<&'a str>,
    /// Why.
    pub reason: &'a str,
}

impl Notice {
    /// A circuit was opened: nothing is sent for a while.
    pub fn endpoint_failing(place: Place<'_>, failures: u32, error: &str) -> Self {
        let failures_in_a_row = format!("{failures} attempts in a row failed; the last: {error}");
        let Place { endpoint, service, .. } = place;
        Self {
            payload: json!({ "endpoint": endpoint, "service": service, "failures": failures, "error": error }),
            ..Self::of_endpoint(
                place,
                ("hub:endpoint_failing", Level::Error, "An endpoint is failing"),
                failures_in_a_row,
            )
        }
    }

    /// A circuit of which that was told was closed again, by a delivery that was taken.
    pub fn endpoint_recovered(place: Place<'_>) -> Self {
        let what = ("hub:endpoint_recovered", Level::Info, "An endpoint has recovered");
        Self::of_endpoint(place, what, "It is served as before.".to_owned())
    }

    /// An endpoint answered 410 Gone.
    pub fn endpoint_gone(place: Place<'_>) -> Self {
        let what = ("hub:endpoint_gone", Level::Error, "An endpoint is gone");
        Self::of_endpoint(place, what, "It answered 410 Gone.".to_owned())
    }

    /// An endpoint was switched off: its attempts had failed since then.
    pub fn endpoint_disabled(place: Place<'_>, failures: i32, since: DateTime<Utc>, error: &str) -> Self {
        let words = format!("{failures} attempts in a row failed since {since}; the last: {error}");
        Self {
            payload: json!({ "endpoint": place.endpoint, "failures": failures, "since": since, "error": error }),
            ..Self::of_endpoint(
                place,
                ("hub:endpoint_disabled", Level::Error, "An endpoint is switched off"),
                words,
            )
        }
    }

    fn of_endpoint(
        place: Place<'_>,
        (key, level, subject): (&'static str, Level, &'static str),
        words: String,
    ) -> Self {
        Self {
            store_id: place.store_id,
            key,
            level,
            subject,
            words,
            about: ("endpoint", place.name()),
            parent: None,
            payload: json!({ "endpoint": place.endpoint, "service": place.service }),
        }
    }

    /// A delivery was parked by its end; one that somebody parks is not told.
    pub fn delivery_parked(parked: Parked<'_>) -> Self {
        let Parked { store_id, parent, message, lineage, mapping, endpoint, reason } = parked;
        let payload = json!({
            "delivery": parent.delivery, "message": message, "message_id": parent.message, "mapping": mapping,
            "endpoint": endpoint, "reason": reason,
        });
        Self {
            store_id,
            key: "hub:delivery_parked",
            level: Level::Warn,
            subject: "A delivery is parked",
            words: reason.to_owned(),
            about: ("delivery", parent.delivery.to_string()),
            parent: Some((parent, lineage)),
            payload,
        }
    }

    /// Runs of a poller failed again and again.
    pub fn poller_failing(store_id: i32, poller: &str, failures: i32, error: &str) -> Self {
        Self {
            store_id,
            key: "hub:poller_failing",
            level: Level::Error,
            subject: "A poller is failing",
            words: format!("{failures} runs in a row failed; the last: {error}"),
            about: ("poller", poller.to_owned()),
            parent: None,
            payload: json!({ "poller": poller, "failures": failures, "error": error }),
        }
    }

    /// Its message, to be stored and routed.
    pub fn draft(&self, ids: &Ids) -> Draft {
        Draft {
            id: ids.next(),
            store_id: self.store_id,
            key: self.key.to_owned(),
            payload: serde_json::value::to_raw_value(&self.payload).unwrap_or_default(),
            parent: self.parent.as_ref().map(|(parent, _)| *parent),
            hop: self.parent.as_ref().map_or(0, |(_, lineage)| lineage.hop),
            root: self.parent.as_ref().map(|(_, lineage)| lineage.root),
            visits: self.parent.as_ref().map(|(_, lineage)| lineage.visits.clone()).unwrap_or_default(),
            held_back: None,
            delay: Duration::ZERO,
            parked: None,
            trace: None,
        }
    }

    /// Its log entry. The same of the same raises its occurrences.
    pub fn entry(&self) -> Entry {
        let mut note = Note::new(self.level, self.subject, self.words.clone());
        let (kind, which) = &self.about;
        note.reference = (Some((*kind).to_owned()), Some(which.clone()));
        let message: Option<Uuid> = self.parent.as_ref().map(|(parent, _)| parent.message);
        Entry::new(self.store_id, message, self.key.as_bytes(), note)
    }
}

/// Stores and routes notices, and writes their log entries. What became ready is to be rung for after the commit.
///
/// # Errors
/// As [`decide::accept`].
pub async fn raise(
    tx: &mut PgConnection,
    catalog: &Catalog,
    ids: &Ids,
    notices: &[Notice],
) -> sqlx::Result<Accepted> {
    if notices.is_empty() {
        return Ok(Accepted::default());
    }
    let drafts = notices.iter().map(|notice| notice.draft(ids)).collect();
    let accepted = decide::accept(&mut *tx, catalog, ids, drafts).await?;
    let entries: Vec<Entry> = notices.iter().map(Notice::entry).collect();
    store::write(tx, &entries).await?;
    Ok(accepted)
}
