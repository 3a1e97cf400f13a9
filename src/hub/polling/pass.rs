//! One pass over the pages of a collection: the sequence of its records as one number, and whether anything showed that
//! the list moved meanwhile. Two passes that saw the same sequence missed nothing between two pages.

use super::mark::compare;
use super::page::Page;
use sha2::{Digest as _, Sha256};
use std::collections::HashSet;

/// The most steps that a trail has: every second one is dropped where there would be more.
const STEPS: usize = 512;

/// The sequence so far, as one number.
type Sequence = [u8; 32];

/// Steps of a pass, every `stride` records: the sequence up to there, and the time of the record.
#[derive(Debug)]
struct Trail {
    stride: u64,
    steps: Vec<(Sequence, Option<String>)>,
}

/// How far a pass was like the former one.
#[derive(Debug, Default)]
struct Likeness {
    /// Steps of the former pass that this one took too, while it took all of them.
    matched: usize,
    /// Whether it has left the former one's trail.
    parted: bool,
    /// Whether it began with all of the former one.
    whole: bool,
}

/// What a pass saw so far.
#[derive(Debug)]
pub(super) struct Pass {
    /// Pages that came.
    pub(super) pages: u64,
    /// Records that came.
    pub(super) records: u64,
    /// How many could not be used.
    pub(super) unusable: usize,
    /// The latest time of a change.
    pub(super) latest: Option<String>,
    /// Whether every record was changed after the one in front of it, or at the same time.
    pub(super) is_ordered: bool,
    /// Whether no record came twice, and every page counted the same records and pages.
    pub(super) is_steady: bool,
    /// How often in a row a page was the one before it, once more.
    pub(super) stale: u8,
    /// The ids of the last page.
    page: Sequence,
    sequence: Sequence,
    last: Option<String>,
    seen: HashSet<u64>,
    /// What the pages count: pages, and records.
    counted: Option<(Option<u64>, Option<u64>)>,
    trail: Trail,
    likeness: Likeness,
}

impl Default for Pass {
    fn default() -> Self {
        Self {
            pages: 0,
            records: 0,
            unusable: 0,
            latest: None,
            is_ordered: true,
            is_steady: true,
            stale: 0,
            page: Sequence::default(),
            sequence: Sequence::default(),
            last: None,
            seen: HashSet::new(),
            counted: None,
            trail: Trail { stride: 1, steps: Vec::new() },
            likeness: Likeness::default(),
        }
    }
}

impl Pass {
    /// Takes the next page; compares it with the `former` pass.
    pub(super) fn take(&mut self, page: &Page, former: Option<&Pass>) {
        self.pages += 1;
        self.unusable += page.length - page.records.len();
        let counts = (page.pages, page.total);
        self.is_steady &= *self.counted.get_or_insert(counts) == counts;
        let ids = page
            .records
            .iter()
            .fold(Sha256::new(), |ids, record| ids.chain_update(&record.id).chain_update([0]));
        let ids = Sequence::from(ids.finalize());
        self.stale = if ids == self.page { self.stale.saturating_add(1) } else { 0 };
        self.page = ids;
        for record in &page.records {
            self.see(&record.id, record.updated.as_deref(), former);
        }
    }

    fn see(&mut self, id: &str, updated: Option<&str>, former: Option<&Pass>) {
        let mut sha = Sha256::new();
        sha.update(self.sequence);
        sha.update(id.as_bytes());
        self.sequence = sha.finalize().into();
        let digest = Sha256::digest(id.as_bytes());
        let short = digest.iter().take(8).fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
        self.is_steady &= self.seen.insert(short);
        self.records += 1;
        match (&self.last, updated) {
            (_, None) => self.is_ordered = false,
            (Some(last), Some(updated)) => self.is_ordered &= compare(updated, last).is_ge(),
            (None, Some(_)) => {}
        }
        self.last = updated.map(str::to_owned);
        if let Some(updated) = updated
            && self.latest.as_ref().is_none_or(|latest| compare(updated, latest).is_gt())
        {
            self.latest = Some(updated.to_owned());
        }
        if let Some(former) = former {
            self.follow(former);
        }
        if self.is_steady && self.records.is_multiple_of(self.trail.stride) {
            self.trail.push(self.sequence, self.last.clone());
        }
    }

    /// Whether it began with all of the former pass, and nothing moved in either.
    pub(super) fn agrees(&self, former: &Pass) -> bool {
        self.likeness.whole && self.is_steady && former.is_steady
    }

    /// Looks whether this record was the same in the former pass.
    fn follow(&mut self, former: &Pass) {
        if self.records == former.records {
            self.likeness.whole = self.sequence == former.sequence;
        }
        if !self.likeness.parted && self.records.is_multiple_of(former.trail.stride) {
            let is_same =
                former.trail.steps.get(self.likeness.matched).is_some_and(|step| step.0 == self.sequence);
            self.likeness.parted = !is_same;
            self.likeness.matched += usize::from(is_same);
        }
    }

    /// Up to which time both this and the former pass saw everything, in a list in order of changes: what lies in
    /// front of the place where they part. Not the time at that place itself: another record may bear it.
    pub(super) fn sure(&self, former: &Pass) -> Option<String> {
        if !(self.is_ordered && former.is_ordered) {
            return None;
        }
        let alike = former.trail.steps.get(..self.likeness.matched)?;
        let last = alike.last()?.1.as_deref()?;
        alike
            .iter()
            .rev()
            .filter_map(|step| step.1.as_deref())
            .find(|mark| compare(mark, last).is_lt())
            .map(str::to_owned)
    }
}

impl Trail {
    fn push(&mut self, sequence: Sequence, mark: Option<String>) {
        self.steps.push((sequence, mark));
        if self.steps.len() == STEPS {
            let mut place = 0;
            self.steps.retain(|_| {
                place += 1;
                place % 2 == 0
            });
            self.stride *= 2;
        }
    }
}
