//! A walk over the pages of a collection: whether another page is asked for, and up to where everything was seen.
//!
//! While it goes on, the storefront changes: a record that leaves the list, or moves in it, shifts the others, one of
//! them over the edge of a page and out of sight. So a list of several pages is read until two passes saw the same
//! sequence of records. What one of them brings is told in any case; the bookmark moves only then, to the latest time
//! of the first of the two: whatever changed behind its back bears a later one.
//!
//! Of a list in order of its changes, in which something always moves, the part in front of the first difference is
//! sure: the bookmark moves up to there.

use super::mark::compare;
use super::page::Page;
use super::paging::{Paging, Place};
use super::pass::Pass;

/// Pages and records of one pass, at most.
const MAX_PAGES: u64 = 100_000;
const MAX_RECORDS: u64 = 2_000_000;
/// Passes of one run, at most.
const MAX_PASSES: u8 = 4;
/// How often a list that moves does not show the same page once more.
const MAX_STALE: u8 = 2;

/// What was read of a collection.
#[derive(Debug, PartialEq, Eq)]
pub struct Read {
    /// The bookmark from now, if there is another.
    pub bookmark: Option<String>,
    /// Whether it moved all the time, so that the next run reads it again.
    pub moved: bool,
    /// How many records could not be used.
    pub unusable: usize,
}

/// Whether to ask for another page.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The next.
    Next,
    /// The first, once more.
    Again,
    /// None.
    Done(Read),
}

/// A walk from a bookmark on.
#[derive(Debug)]
pub(super) struct Walk {
    bookmark: Option<String>,
    paging: Paging,
    /// What the last page named as the next.
    next: Option<String>,
    passes: u8,
    former: Option<Pass>,
    pass: Pass,
    /// Up to where two passes saw the same.
    sure: Option<String>,
}

impl Walk {
    pub(super) fn new(bookmark: Option<&str>, paging: &Paging) -> Self {
        let (bookmark, paging) = (bookmark.map(str::to_owned), paging.clone());
        Self { bookmark, paging, next: None, passes: 1, former: None, pass: Pass::default(), sure: None }
    }

    /// The page that is to be asked for.
    pub(super) fn place(&self) -> Place {
        match (&self.next, self.pass.pages) {
            (_, 0) => Place::First,
            (Some(next), _) => Place::Next(next.clone()),
            (None, pages) => Place::Number(pages + 1),
        }
    }

    /// Whether this is the first time that the list is read in this run.
    pub(super) fn is_first_pass(&self) -> bool {
        self.passes == 1
    }

    /// Takes the page.
    ///
    /// # Errors
    /// The list has no end, as far as anybody can tell.
    pub(super) fn add(&mut self, page: &Page) -> Result<Step, String> {
        self.pass.take(page, self.former.as_ref());
        if let Some(former) = self.former.as_ref().filter(|former| self.pass.agrees(former)) {
            let bookmark = former.latest.clone();
            return Ok(self.done(bookmark, false));
        }
        self.next.clone_from(&page.next);
        let is_last = if self.paging.is_followed() {
            page.next.is_none()
        } else {
            !self.paging.has_pages()
                || page.length == 0
                // A storefront that does not count its pages may also cap their size: only an empty one is the last.
                || page.pages.is_some_and(|pages| self.pass.pages >= pages)
        };
        if is_last {
            return Ok(self.pass_over());
        }
        if self.pass.stale >= MAX_STALE {
            let words = "it answers other pages with the same records again, as if it did not know";
            return Err(format!(
                "{words} `{}`; see `paging`: a list without pages is of the kind none",
                self.paging.parameter()
            ));
        }
        if self.pass.pages >= MAX_PAGES || self.pass.records >= MAX_RECORDS {
            return Err(format!(
                "it has more than {MAX_PAGES} pages or {MAX_RECORDS} records: begin later (`since`)"
            ));
        }
        Ok(Step::Next)
    }

    fn pass_over(&mut self) -> Step {
        let pass = &self.pass;
        let is_later = |mark: &String| self.bookmark.as_ref().is_none_or(|old| compare(mark, old).is_gt());
        if !pass.latest.as_ref().is_some_and(is_later) {
            // There is nothing to decide.
            return self.done(None, false);
        }
        if self.passes == 1 && pass.pages == 1 && pass.is_steady {
            // One answer: nothing can have moved.
            let bookmark = pass.latest.clone();
            return self.done(bookmark, false);
        }
        if let Some(sure) = self.former.as_ref().and_then(|former| pass.sure(former)) {
            self.sure = Some(sure);
        }
        if self.passes == MAX_PASSES {
            let bookmark = self.sure.clone();
            return self.done(bookmark, true);
        }
        self.passes += 1;
        self.former = Some(std::mem::take(&mut self.pass));
        Step::Again
    }

    fn done(&self, bookmark: Option<String>, moved: bool) -> Step {
        let is_later = |mark: &String| self.bookmark.as_ref().is_none_or(|old| compare(mark, old).is_gt());
        Step::Done(Read { bookmark: bookmark.filter(is_later), moved, unusable: self.pass.unusable })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::super::page::Record;
    use super::*;
    use serde_json::value::RawValue;

    /// A page of records, each an id and the time of its last change.
    fn page(records: &[(&str, u8)], pages: Option<u64>) -> Page {
        let record = |(id, time): &(&str, u8)| Record {
            id: (*id).to_owned(),
            updated: Some(time.to_string()),
            raw: RawValue::from_string("{}".to_owned()).unwrap(),
        };
        Page {
            records: records.iter().map(record).collect(),
            length: records.len(),
            pages,
            total: None,
            next: None,
            has_next_member: false,
        }
    }

    fn numbered() -> Paging {
        Paging::Number { parameter: "page".to_owned(), size: "per_page".to_owned() }
    }

    /// What these passes over two pages come to: the bookmark, and whether it moved.
    fn walk(former: Option<&str>, passes: &[[&[(&str, u8)]; 2]]) -> (Option<String>, bool) {
        let mut walk = Walk::new(former, &numbered());
        for [first, second] in passes {
            for records in [first, second] {
                if let Step::Done(read) = walk.add(&page(records, Some(2))).unwrap() {
                    return (read.bookmark, read.moved);
                }
            }
        }
        panic!("it goes on");
    }

    #[expect(clippy::unnecessary_wraps, reason = "it stands where there may be none")]
    fn mark(mark: &str) -> Option<String> {
        Some(mark.to_owned())
    }

    #[test]
    fn one_page_is_enough_and_of_several_two_passes_must_agree() {
        let mut one = Walk::new(None, &numbered());
        let read = Read { bookmark: mark("2"), moved: false, unusable: 0 };
        assert_eq!(one.add(&page(&[("a", 1), ("b", 2)], Some(1))), Ok(Step::Done(read)));
        let pass: [&[_]; 2] = [&[("a", 7), ("b", 5)], &[("c", 6)]];
        assert_eq!(walk(None, &[pass, pass]), (mark("7"), false));
        assert_eq!(walk(Some("7"), &[pass]), (None, false), "nothing is later");
        // a was deleted after the first page: c came in its place, unseen.
        let shifted: [&[_]; 2] = [&[("a", 7), ("b", 5)], &[("d", 8)]];
        let after: [&[_]; 2] = [&[("b", 5), ("c", 6)], &[("d", 8)]];
        assert_eq!(walk(None, &[shifted, after, after]), (mark("8"), false));
    }

    #[test]
    fn a_list_that_always_moves_is_sure_up_to_there_if_it_is_in_order() {
        let pass = |last: &'static [(&'static str, u8)]| -> [&'static [(&'static str, u8)]; 2] {
            [&[("a", 1), ("b", 2), ("c", 3)], last]
        };
        let passes = [pass(&[("d", 4)]), pass(&[("e", 5)]), pass(&[("f", 6)]), pass(&[("g", 7)])];
        assert_eq!(walk(None, &passes), (mark("2"), true), "c's time may be another's too");
        let passes = [pass(&[("d", 0)]), pass(&[("e", 5)]), pass(&[("f", 0)]), pass(&[("g", 7)])];
        assert_eq!(walk(None, &passes), (None, true), "in no order nothing is");
    }

    #[test]
    fn what_came_twice_or_is_counted_otherwise_is_no_agreement() {
        let twice: [&[_]; 2] = [&[("a", 1), ("b", 2)], &[("b", 2)]];
        assert_eq!(walk(None, &[twice, twice, twice, twice]).0, mark("1"));
        let mut walk = Walk::new(None, &numbered());
        for _ in 0..3 {
            assert_eq!(walk.add(&Page { total: Some(4), ..page(&[("a", 2)], Some(2)) }), Ok(Step::Next));
            assert_eq!(walk.add(&Page { total: Some(3), ..page(&[("b", 1)], Some(2)) }), Ok(Step::Again));
        }
    }

    #[test]
    fn the_same_page_again_and_again_is_an_error_and_no_page_is_none() {
        let mut walk = Walk::new(None, &numbered());
        assert_eq!(walk.add(&page(&[("a", 1)], None)), Ok(Step::Next));
        assert_eq!(walk.add(&page(&[("a", 1)], None)), Ok(Step::Next));
        assert!(walk.add(&page(&[("a", 1)], None)).unwrap_err().contains("the same records again"));
        let mut walk = Walk::new(None, &Paging::None);
        let read = Read { bookmark: mark("1"), moved: false, unusable: 0 };
        assert_eq!(walk.add(&page(&[("a", 1)], None)), Ok(Step::Done(read)));
        let read = Read { bookmark: None, moved: false, unusable: 0 };
        assert_eq!(Walk::new(None, &numbered()).add(&page(&[], Some(9))), Ok(Step::Done(read)));
    }
}
