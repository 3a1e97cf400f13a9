//! What the hub says of itself: a message `hub:…` and a log entry, in the transaction of what they tell.
//!
//! Mappings route these messages like any other, so an alert needs no second system. Nobody else may make them: a push
//! of such a key is refused, and a child of an answer is parked. None tells of the delivery of another, so that an alert
//! that cannot be delivered makes no further one: whoever raises a notice asks [`is_reserved`] before.
//!
//! [`is_reserved`]: super::key::is_reserved

use super::definitions::catalog::Catalog;
use super::delivery::log_entry::{Entry, Level, Note};
use super::delivery::store::log_entries;
use super::routing::decide::{self, Accepted};
use super::routing::message::Draft;
use crate::db::Ids;
use serde_json::Value;
use sqlx::postgres::PgConnection;
use std::time::Duration;
use uuid::Uuid;

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The circuit of an endpoint, or of one of its services, was opened.
    EndpointFailing,
    /// It was closed again.
    EndpointRecovered,
    /// An endpoint answered 410.
    EndpointGone,
    /// A delivery was parked.
    DeliveryParked,
    /// The runs of a poller fail again and again.
    PollerFailing,
}

impl Kind {
    /// The key of its message.
    pub fn key(self) -> &'static str {
        match self {
            Self::EndpointFailing => "hub:endpoint_failing",
            Self::EndpointRecovered => "hub:endpoint_recovered",
            Self::EndpointGone => "hub:endpoint_gone",
            Self::DeliveryParked => "hub:delivery_parked",
            Self::PollerFailing => "hub:poller_failing",
        }
    }

    fn subject(self) -> &'static str {
        match self {
            Self::EndpointFailing => "An endpoint is failing",
            Self::EndpointRecovered => "An endpoint has recovered",
            Self::EndpointGone => "An endpoint is gone",
            Self::DeliveryParked => "A delivery is parked",
            Self::PollerFailing => "A poller is failing",
        }
    }

    fn level(self) -> Level {
        match self {
            Self::EndpointFailing | Self::EndpointGone | Self::PollerFailing => Level::Error,
            Self::DeliveryParked => Level::Warn,
            Self::EndpointRecovered => Level::Info,
        }
    }
}

/// One thing that the hub says of itself.
#[derive(Debug, Clone)]
pub struct Notice {
    /// The store that is told.
    pub store_id: i32,
    /// What is told.
    pub kind: Kind,
    /// What it is about: a kind such as `endpoint`, and which one. The same of the same raises the occurrences of its log
    /// entry.
    pub about: (&'static str, String),
    /// The message it is about, which shows the log entry.
    pub message_id: Option<Uuid>,
    /// In words.
    pub words: String,
    /// The payload of the message: an object.
    pub payload: Value,
}

impl Notice {
    /// Its message, to be stored and routed.
    pub fn draft(&self, ids: &Ids) -> Draft {
        Draft {
            id: ids.next(),
            store_id: self.store_id,
            key: self.kind.key().to_owned(),
            payload: serde_json::value::to_raw_value(&self.payload).unwrap_or_default(),
            parent: None,
            hop: 0,
            delay: Duration::ZERO,
            parked: None,
        }
    }

    /// Its log entry.
    pub fn entry(&self) -> Entry {
        let mut note = Note::new(self.kind.level(), self.kind.subject(), self.words.clone());
        note.reference = (Some(self.about.0.to_owned()), Some(self.about.1.clone()));
        Entry::new(self.store_id, self.message_id, self.kind.key().as_bytes(), note)
    }
}

/// Stores and routes notices, and writes their log entries. After the commit the lanes that have something are to be
/// rung.
///
/// # Errors
/// As [`decide::accept`].
pub async fn raise(
    tx: &mut PgConnection,
    catalog: &Catalog,
    ids: &Ids,
    notices: &[Notice],
) -> sqlx::Result<Accepted> {
    let drafts = notices.iter().map(|notice| notice.draft(ids)).collect();
    let accepted = decide::accept(&mut *tx, catalog, ids, drafts).await?;
    let entries: Vec<Entry> = notices.iter().map(Notice::entry).collect();
    log_entries::write(tx, &entries).await?;
    Ok(accepted)
}
