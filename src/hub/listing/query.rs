//! What listings share: how many, after which, and texts that can be asked for.

use super::page::Span;
use crate::db::ids::{floor, within_ids};
use crate::error::{Error, Result};
use chrono::{DateTime, Utc};
use std::str::FromStr;
use uuid::Uuid;

/// Where a page begins, and how long it is at most.
#[derive(Debug)]
pub(in crate::hub) struct Page<C> {
    /// The last item of the page before.
    pub(in crate::hub) after: Option<C>,
    /// One more than the page may have: whether there is another page is seen by it.
    pub(in crate::hub) fetch: i64,
    limit: usize,
}

impl<C: FromStr> Page<C> {
    /// Reads `after` and `limit`.
    ///
    /// # Errors
    /// 400.
    pub(in crate::hub) fn read(after: Option<&str>, limit: Option<i64>) -> Result<Self> {
        let limit = limit.unwrap_or(50);
        if !(1..=500).contains(&limit) {
            return Err(Error::BadRequest("`limit` must lie between 1 and 500".to_owned()));
        }
        let wrong = |_: C::Err| Error::BadRequest("`after` is not one of ours".to_owned());
        let after = after.map(str::parse).transpose().map_err(wrong)?;
        Ok(Self { after, fetch: limit + 1, limit: usize::try_from(limit).unwrap_or(usize::MAX) })
    }

    /// Cuts what was fetched to the page, and returns the cursor of the next one.
    pub(in crate::hub) fn cut<T>(&self, rows: &mut Vec<T>, id: impl Fn(&T) -> C) -> Option<C> {
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        rows.last().filter(|_| more).map(id)
    }
}

impl Page<Uuid> {
    /// The ids that the page may have: made between these moments, and before the page's first.
    pub(in crate::hub) fn span(&self, after: Option<DateTime<Utc>>, before: Option<DateTime<Utc>>) -> Span {
        let from = after.map(|at| floor(within_ids(at))).unwrap_or_default();
        let to = before.map_or(Uuid::max(), |at| floor(within_ids(at)));
        Span { from, to: to.min(self.after.unwrap_or(Uuid::max())), limit: self.fetch }
    }
}

/// A text of the query that must be one of these words.
///
/// # Errors
/// 400.
pub(in crate::hub) fn word(name: &str, value: Option<String>, words: &[&str]) -> Result<Option<String>> {
    match value {
        Some(text) if !words.contains(&text.as_str()) => {
            Err(Error::BadRequest(format!("`{name}` is one of {}", words.join(", "))))
        }
        value => Ok(value),
    }
}
