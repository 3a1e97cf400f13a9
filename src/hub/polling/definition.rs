//! What a poller is: which storefront it reads, when, and what it watches there.

use super::mark::Overlap;
use super::paging::Paging;
use crate::flow::timing::Timing;
use axum::http::HeaderName;
use std::time::Duration;
use url::Url;

/// What a definition says.
#[derive(Debug, Clone)]
pub struct Definition {
    /// `api`: the base URL; a collection is a path below it.
    pub api: Url,
    /// `token_header`: where the token is sent.
    pub token_header: HeaderName,
    /// When it runs.
    pub timing: Timing,
    /// `page_size`: sent as `per_page`.
    pub page_size: u16,
    /// `paging`: how a list comes in pages.
    pub paging: Paging,
    /// `history`: whether what is there at the first run is told.
    pub history: History,
    /// `overlap`: how far before its bookmark a run begins.
    pub overlap: Overlap,
    /// `since`: where the first run begins; absent: with everything there is.
    pub since: Option<String>,
    /// `collections`: what it reads, in this order.
    pub collections: Vec<Collection>,
    /// `timeout`: how long one page may take.
    pub timeout: Duration,
    /// `enabled`: whether it runs by itself.
    pub enabled: bool,
}

/// What becomes of the records that are there when a poller first reads a collection without `since`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// `messages`: each is told as new.
    Messages,
    /// `snapshot`: they are known from then on, and not told.
    Snapshot,
}

/// A list of records that is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// `name`: the member of a page that holds the records.
    pub name: String,
    /// `path`: below the API's URL; absent, the name.
    pub path: String,
    /// `id`: the field that tells records apart.
    pub id: String,
    /// `updated`: the field with the time of a record's last change.
    pub updated: String,
    /// `key`: the first word of its messages: `order` makes `order:new` and `order:update`.
    pub key: String,
    /// `payload`: the member of the payload that holds the record; absent, the key.
    pub payload: String,
    /// `state`: the field that rules look at.
    pub state: String,
    /// `rules`: changes that have messages of their own; the first that fits counts.
    pub rules: Vec<Rule>,
}

/// A change of state with a message of its own, instead of the general one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The former state; absent, any other.
    pub from: Option<String>,
    /// The state now.
    pub to: String,
    /// The key of the message.
    pub message: String,
}

/// What is read where a definition does not say: the changes of which the guides speak.
pub fn shipped() -> Vec<Collection> {
    let collection = |name: &str, id: &str, key: &str| Collection {
        name: name.to_owned(),
        path: name.to_owned(),
        id: id.to_owned(),
        updated: "updated_at".to_owned(),
        key: key.to_owned(),
        payload: key.to_owned(),
        state: "state".to_owned(),
        rules: Vec::new(),
    };
    let canceled = Rule {
        from: Some("complete".to_owned()),
        to: "canceled".to_owned(),
        message: "order:cancel".to_owned(),
    };
    vec![
        Collection { rules: vec![canceled], ..collection("orders", "number", "order") },
        collection("payments", "id", "payment"),
        collection("shipments", "number", "shipment"),
    ]
}
