//! A walk over the pages of a collection: when it is over, and up to where everything was seen.
//!
//! While it goes on, the storefront changes: a record that is changed moves to the end of a list in order of
//! changes, and the ones behind it move up, one of them over the edge of a page and out of sight. It shows by
//! the record coming a second time. The bookmark then stays where the order was last sure, and the next run reads
//! on from there.

use super::page::{Page, Record};
use chrono::{DateTime, FixedOffset, SecondsFormat, TimeDelta};
use std::cmp::Ordering;
use std::collections::HashMap;

/// What one run reads of a collection at most: pages, records, bytes.
pub(super) const MAX_PAGES: u64 = 500;
const MAX_RECORDS: usize = 10_000;
const MAX_BYTES: usize = 32 << 20;
/// How far before its bookmark a run begins: a change that the storefront committed late bears an earlier time.
/// What is read twice has not changed, so nothing is told twice.
const OVERLAP: TimeDelta = TimeDelta::minutes(1);

/// What was read of a collection.
#[derive(Debug)]
pub struct Read {
    /// The bookmark from now, if there is another.
    pub bookmark: Option<String>,
    /// Whether there is more to be read at once.
    pub more: bool,
    /// How many records could not be used.
    pub unusable: usize,
}

/// Whether to ask for another page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Next,
    /// That was the last page.
    Done,
    /// There may be more pages, but not in this run.
    Full,
}

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// The records that came, each with the time that it had when it last came.
    seen: HashMap<String, Option<String>>,
    page: u64,
    bytes: usize,
    unusable: usize,
    /// Whether a record came that was changed before the one in front of it.
    disordered: bool,
    /// The time of the last record that came for the first time.
    last: Option<String>,
    latest: Option<String>,
    /// The earliest former time of a record that came again, changed.
    moved: Option<String>,
}

impl Walk {
    /// Takes the next page.
    pub(super) fn add(&mut self, page: &Page) -> Step {
        self.page += 1;
        let unusable = page.length - page.records.len();
        let mut is_new = self.page == 1;
        for record in &page.records {
            is_new |= self.see(record);
        }
        // A page that brings nothing new may be one that was seen before.
        self.unusable += if is_new { unusable } else { 0 };
        let is_last = match page.pages {
            Some(pages) => self.page >= pages,
            // A storefront that does not count its pages may also cap their size: only an empty page is surely
            // the last, or one that brings nothing, since the storefront knows no pages at all.
            None => !is_new,
        };
        if is_last || page.length == 0 {
            Step::Done
        } else if self.page >= MAX_PAGES || self.seen.len() >= MAX_RECORDS || self.bytes >= MAX_BYTES {
            Step::Full
        } else {
            Step::Next
        }
    }

    /// Notes a record; says whether it came for the first time.
    fn see(&mut self, record: &Record) -> bool {
        self.bytes += record.raw.get().len();
        if let Some(updated) = &record.updated {
            keep(&mut self.latest, updated, Ordering::Greater);
        }
        if let Some(seen) = self.seen.get_mut(&record.id) {
            let before = std::mem::replace(seen, record.updated.clone());
            if let Some(updated) = before.filter(|before| Some(before) != record.updated.as_ref()) {
                keep(&mut self.moved, &updated, Ordering::Less);
            }
            return false;
        }
        match (&self.last, &record.updated) {
            (Some(last), Some(updated)) => self.disordered |= compare(updated, last).is_lt(),
            (None, Some(_)) => {}
            (_, None) => self.disordered = true,
        }
        self.last.clone_from(&record.updated);
        self.seen.insert(record.id.clone(), record.updated.clone());
        true
    }

    /// What was read. `former` is the bookmark that it began with.
    ///
    /// # Errors
    /// It was not all, and nothing tells where to go on.
    pub(super) fn end(self, former: Option<&str>, step: Step) -> Result<Read, String> {
        let more = step == Step::Full;
        if more && self.disordered {
            let words = "there is more than one run reads, and it does not come in order of its changes";
            return Err(format!("{words}: begin later (`since`)"));
        }
        let sure = match self.moved {
            Some(_) if self.disordered => None,
            Some(moved) => Some(moved),
            None => self.latest,
        };
        let bookmark = sure.filter(|sure| former.is_none_or(|former| compare(sure, former).is_gt()));
        if more && bookmark.is_none() {
            return Err("there is more than one run reads that was changed at one moment".to_owned());
        }
        Ok(Read { bookmark, more, unusable: self.unusable })
    }
}

/// What is sent as `since` for a bookmark: a little before it, if it is a time.
pub(super) fn since(bookmark: &str) -> String {
    time(bookmark).and_then(|time| time.checked_sub_signed(OVERLAP)).map_or_else(
        || bookmark.to_owned(),
        |time| time.to_utc().to_rfc3339_opts(SecondsFormat::AutoSi, true),
    )
}

/// Puts `found` in the place of `kept` if it lies that way of it.
fn keep(kept: &mut Option<String>, found: &str, way: Ordering) {
    if kept.as_ref().is_none_or(|kept| compare(found, kept) == way) {
        *kept = Some(found.to_owned());
    }
}

/// As times if both are, else as numbers, else as texts.
fn compare(one: &str, other: &str) -> Ordering {
    if let (Some(one), Some(other)) = (time(one), time(other)) {
        return one.cmp(&other);
    }
    match (one.parse::<f64>(), other.parse::<f64>()) {
        (Ok(one), Ok(other)) => one.total_cmp(&other),
        _ => one.cmp(other),
    }
}

fn time(text: &str) -> Option<DateTime<FixedOffset>> {
    DateTime::parse_from_rfc3339(text).ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;
    use serde_json::value::RawValue;

    /// A page of records, each an id and the minute of its last change.
    fn page(records: &[(&str, u8)], pages: Option<u64>) -> Page {
        let record = |(id, minute): &(&str, u8)| Record {
            id: (*id).to_owned(),
            updated: Some(format!("2026-07-01T12:{minute:02}:00Z")),
            raw: RawValue::from_string(format!(r#"{{"m":{minute}}}"#)).unwrap(),
        };
        Page { records: records.iter().map(record).collect(), length: records.len(), pages }
    }

    /// Walks over pages as far as it would go; gives the minute of the bookmark, and whether there is more.
    fn walk(pages: &[Page], former: Option<&str>, full: bool) -> Result<(Option<String>, bool), String> {
        let mut walk = Walk::default();
        let mut step = Step::Next;
        for page in pages {
            assert_eq!(step, Step::Next);
            step = walk.add(page);
        }
        let read = walk.end(former, if full { Step::Full } else { step })?;
        Ok((read.bookmark.map(|bookmark| bookmark[14..16].to_owned()), read.more))
    }

    fn minute(minute: &str) -> (Option<String>, bool) {
        (Some(minute.to_owned()), false)
    }

    #[test]
    fn it_ends_with_the_last_page_an_empty_one_or_one_that_brings_nothing() {
        let mut walk = Walk::default();
        assert_eq!(walk.add(&page(&[("a", 1)], Some(2))), Step::Next);
        assert_eq!(walk.add(&page(&[("b", 2)], Some(2))), Step::Done);
        let mut walk = Walk::default();
        assert_eq!(walk.add(&page(&[("a", 1)], None)), Step::Next);
        assert_eq!(walk.add(&page(&[("a", 1)], None)), Step::Done, "it knows no pages");
        assert_eq!(Walk::default().add(&page(&[], None)), Step::Done);
        assert_eq!(Walk::default().add(&page(&[], Some(9))), Step::Done);
        let mut walk = Walk::default();
        for _ in 1..MAX_PAGES {
            assert_eq!(walk.add(&page(&[("a", 1)], Some(u64::MAX))), Step::Next);
        }
        assert_eq!(walk.add(&page(&[("a", 1)], Some(u64::MAX))), Step::Full);
    }

    #[test]
    fn the_bookmark_is_the_latest_change_and_never_goes_back() {
        let pages = || [page(&[("a", 7), ("b", 5)], Some(2)), page(&[("c", 6)], Some(2))];
        assert_eq!(walk(&pages(), None, false).unwrap(), minute("07"));
        assert_eq!(walk(&pages(), Some("2026-07-01T14:06:30+02:00"), false).unwrap(), minute("07"));
        assert_eq!(walk(&pages(), Some("2026-07-01T12:07:00.000Z"), false).unwrap(), (None, false));
        assert_eq!(walk(&[page(&[], None)], None, false).unwrap(), (None, false));
    }

    #[test]
    fn a_record_that_moved_holds_the_bookmark_where_the_order_was_sure() {
        // b is changed after the first page was read: d slips onto it unseen.
        let pages =
            [page(&[("a", 1), ("b", 2)], Some(3)), page(&[("e", 5)], Some(3)), page(&[("b", 9)], Some(3))];
        assert_eq!(walk(&pages, None, false).unwrap(), minute("02"));
        let disordered = [page(&[("a", 3), ("b", 2)], Some(2)), page(&[("b", 9)], Some(2))];
        assert_eq!(walk(&disordered, None, false).unwrap(), (None, false));
        // The newest first: what comes again is the same.
        let pushed = [page(&[("c", 3), ("b", 2)], Some(2)), page(&[("b", 2), ("a", 1)], Some(2))];
        assert_eq!(walk(&pushed, None, false).unwrap(), minute("03"));
    }

    #[test]
    fn a_run_that_is_full_goes_on_where_the_order_tells_where() {
        let ordered = [page(&[("a", 1), ("b", 2)], Some(9))];
        assert_eq!(walk(&ordered, None, true).unwrap(), (Some("02".to_owned()), true));
        assert!(walk(&ordered, Some("2026-07-01T12:02:00Z"), true).unwrap_err().contains("at one moment"));
        let disordered = [page(&[("a", 2), ("b", 1)], Some(9))];
        assert!(walk(&disordered, None, true).unwrap_err().contains("order"));
    }

    #[test]
    fn what_cannot_be_used_is_counted() {
        let mut walk = Walk::default();
        walk.add(&Page { length: 5, ..page(&[("a", 1), ("b", 2)], Some(2)) });
        let step = walk.add(&page(&[("a", 3)], Some(2)));
        assert_eq!(walk.end(None, step).unwrap().unusable, 3);
    }

    #[test]
    fn a_run_begins_a_little_before_its_bookmark() {
        assert_eq!(since("2026-07-01T12:00:30.250+02:00"), "2026-07-01T09:59:30.250Z");
        assert_eq!(since("2026-07-01T12:00:30Z"), "2026-07-01T11:59:30Z");
        assert_eq!(since("1234"), "1234");
        assert!(compare("9", "10").is_lt() && compare("b", "a").is_gt());
    }
}
