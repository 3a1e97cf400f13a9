//! The published shape of a poller's definition: what `/openapi.json` says of it, with each member's meaning, range and
//! default. [`super::document`] reads it by hand, to report every violation at once; the test below holds the two
//! together.

use crate::http::duration::DurationText;
use crate::http::openapi::tag;
use crate::hub::definitions::documents::names::MessageKey;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::Object;

/// A poller: what is read from a storefront, and when. `api` is required, and `every` or `cron`; `null` reads as absent.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PollerDefinition {
    /// The base URL of the storefront; it is asked `GET {api}/{path}?since=…&page=…&per_page=…`.
    #[schema(
        min_length = 1,
        max_length = 2000,
        pattern = "^[Hh][Tt][Tt][Pp][Ss]?:",
        example = "https://shop.example.com/api"
    )]
    pub api: String,
    /// What the storefront is shown: visible ASCII characters. `[redacted]` keeps the one that is stored.
    #[schema(min_length = 1, max_length = 2000, pattern = r"^[!-~]([\t -~]*[!-~])?$", example = "x123")]
    pub token: Option<String>,
    /// The header in which the token is sent.
    #[schema(
        min_length = 1,
        pattern = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$",
        example = "X-Spree-Token",
        default = "X-Spree-Token"
    )]
    pub token_header: Option<String>,
    /// The interval: a duration from `1s` to 366 days.
    #[schema(value_type = Option<DurationText>)]
    pub every: Option<String>,
    /// A cron expression of five fields, in the place of `every`.
    #[schema(max_length = 255, example = "0 6 * * *")]
    pub cron: Option<String>,
    /// The time zone of `cron`, by its name. Absent, `UTC`.
    #[schema(example = "Europe/Berlin")]
    pub timezone: Option<String>,
    /// How many things a page has.
    #[schema(minimum = 1, maximum = 1000, default = 100)]
    pub page_size: Option<u16>,
    /// How the pages of a list are asked for. Absent, by number.
    pub paging: Option<PollerPaging>,
    /// How far before the last change that it knows a run begins, for what was committed late: a duration up to 30 days,
    /// or a number where changes are numbered. Absent, `5m`.
    pub overlap: Option<PollerOverlap>,
    /// Whether what is there at the first run without `since` is told (`messages`), or only known from then on
    /// (`snapshot`). Absent, `messages`.
    pub history: Option<PollerHistory>,
    /// Where the first run begins. Absent, with everything.
    #[schema(min_length = 1, example = "2026-01-01")]
    pub since: Option<String>,
    /// What is read. Absent: orders, payments and shipments.
    #[schema(min_items = 1, max_items = 50)]
    pub collections: Option<Vec<PollerCollection>>,
    /// How long a page may take: a duration from `1s` to `10m`.
    #[schema(value_type = Option<DurationText>, default = "30s")]
    pub timeout: Option<String>,
    /// Whether it runs by itself.
    #[schema(default = true)]
    pub enabled: Option<bool>,
    /// In the answer to a GET only: how the poller does. A PUT ignores it.
    #[serde(default)]
    #[schema(read_only)]
    pub state: PollerState,
}

/// How a poller does.
#[derive(Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PollerState {
    /// When it runs next by itself; null while it is switched off.
    pub next_run: Option<DateTime<Utc>>,
    /// Whether a run waits or goes on.
    pub queued: bool,
    /// Runs that failed since the last that did not.
    pub failures: i32,
    /// When a run was last done.
    pub last_run: Option<DateTime<Utc>>,
    /// Why the last run failed, or what it left out; null when there is nothing to say.
    #[schema(example = "refused: the server accepts no connection")]
    pub last_error: Option<String>,
}

/// How the pages of a list are asked for, by its `kind`.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum PollerPaging {
    /// By number.
    Number(NumberPaging),
    /// By what the answer before named.
    Cursor(CursorPaging),
    /// By the address that the answer before named.
    Link(LinkPaging),
    /// Not at all.
    None(NoPaging),
}

/// Pages are asked for by number.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NumberPaging {
    /// `page`.
    #[schema(schema_with = page_kind)]
    pub kind: String,
    /// Where the number is sent.
    #[schema(min_length = 1, max_length = 100, pattern = r"^\S(.*\S)?$", example = "page", default = "page")]
    pub parameter: Option<String>,
    /// Where `page_size` is sent.
    #[schema(
        min_length = 1,
        max_length = 100,
        pattern = r"^\S(.*\S)?$",
        example = "per_page",
        default = "per_page"
    )]
    pub size: Option<String>,
}

/// Pages are asked for by what the answer before named.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CursorPaging {
    /// `cursor`.
    #[schema(schema_with = cursor_kind)]
    pub kind: String,
    /// Where the cursor is sent.
    #[schema(
        min_length = 1,
        max_length = 100,
        pattern = r"^\S(.*\S)?$",
        example = "cursor",
        default = "cursor"
    )]
    pub parameter: Option<String>,
    /// Where `page_size` is sent.
    #[schema(
        min_length = 1,
        max_length = 100,
        pattern = r"^\S(.*\S)?$",
        example = "per_page",
        default = "per_page"
    )]
    pub size: Option<String>,
    /// The member of an answer that names it, or a path to one; null or absent on the last page.
    #[schema(
        min_length = 1,
        max_length = 100,
        pattern = r"^\S(.*\S)?$",
        example = "next_cursor",
        default = "next_cursor"
    )]
    pub next: Option<String>,
}

/// Pages are asked for by the address that the answer before named.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkPaging {
    /// `link`.
    #[schema(schema_with = link_kind)]
    pub kind: String,
    /// Where `page_size` is sent.
    #[schema(
        min_length = 1,
        max_length = 100,
        pattern = r"^\S(.*\S)?$",
        example = "per_page",
        default = "per_page"
    )]
    pub size: Option<String>,
    /// The member of an answer that names it, or a path to one. Absent, the header `Link: <…>; rel="next"` does.
    #[schema(min_length = 1, max_length = 100, pattern = r"^\S(.*\S)?$", example = "next")]
    pub next: Option<String>,
}

/// One answer holds everything.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NoPaging {
    /// `none`.
    #[schema(schema_with = none_kind)]
    pub kind: String,
}

/// How far before the last change that it knows a run begins.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum PollerOverlap {
    /// A duration.
    Time(DurationText),
    /// Where changes are numbered.
    Number(u32),
}

/// What becomes of what is there at the first run without `since`.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PollerHistory {
    /// It is told.
    Messages,
    /// It is only known from then on.
    Snapshot,
}

/// A list that is read, and the messages that its changes make.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PollerCollection {
    /// Its name, which no other collection has.
    #[schema(min_length = 1, max_length = 100, pattern = r"^\S(.*\S)?$", example = "orders")]
    pub name: String,
    /// Its path below `api`, without a query. Absent, its name.
    #[schema(min_length = 1, example = "orders")]
    pub path: Option<String>,
    /// The member of a thing that identifies it.
    #[schema(min_length = 1, max_length = 100, pattern = r"^\S(.*\S)?$", example = "id", default = "id")]
    pub id: Option<String>,
    /// The member of a thing that says when it changed.
    #[schema(
        min_length = 1,
        max_length = 100,
        pattern = r"^\S(.*\S)?$",
        example = "updated_at",
        default = "updated_at"
    )]
    pub updated: Option<String>,
    /// The member of a thing that says how it stands.
    #[schema(
        min_length = 1,
        max_length = 100,
        pattern = r"^\S(.*\S)?$",
        example = "state",
        default = "state"
    )]
    pub state: Option<String>,
    /// The first word of its messages, such as `order`.
    #[schema(min_length = 1, max_length = 100, pattern = r"^\S(.*\S)?$", example = "order")]
    pub key: String,
    /// The member of a message that holds the thing. Absent, as `key`.
    #[schema(min_length = 1, max_length = 100, pattern = r"^\S(.*\S)?$", example = "order")]
    pub payload: Option<String>,
    /// Messages for changes of its state.
    #[schema(max_items = 50)]
    pub rules: Option<Vec<PollerRule>>,
}

/// The message for a change of a thing's state.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PollerRule {
    /// The state before. Absent, any.
    #[schema(min_length = 1, max_length = 100, pattern = r"^\S(.*\S)?$", example = "complete")]
    pub from: Option<String>,
    /// The state now.
    #[schema(min_length = 1, max_length = 100, pattern = r"^\S(.*\S)?$", example = "canceled")]
    pub to: String,
    /// The key of the message.
    pub message: MessageKey,
}

fn page_kind() -> Object {
    tag("page")
}

fn cursor_kind() -> Object {
    tag("cursor")
}

fn link_kind() -> Object {
    tag("link")
}

fn none_kind() -> Object {
    tag("none")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::http::published::Published;
    use crate::hub::polling::document::PutPoller;
    use proptest::prelude::*;
    use serde_json::Value;

    proptest! {
        #[test]
        fn what_the_published_schema_of_a_poller_allows_is_read_and_what_it_refuses_is_not(
            picks in proptest::collection::vec(any::<u32>(), 120),
        ) {
            // It has one timing; no two collections have one name.
            let between = ["required", "oneOf", "dependentRequired", "uniqueItems", "minItems"];
            let beyond = ["url", "pattern", "cron", "timezone", "word", "reserved"];
            let read = |document: &Value| match PutPoller::read(document) {
                Ok(_) => Ok(()),
                Err(Error::Invalid(_, found)) => Err(found.into_iter().map(|one| one.keyword).collect()),
                Err(other) => Err(vec![other.to_string()]),
            };
            Published::of::<PollerDefinition>().agrees(&picks, &between, &beyond, read)?;
        }
    }
}
