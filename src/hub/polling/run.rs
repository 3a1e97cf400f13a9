//! One run of a poller: every collection, page by page. What a page brings is told before the next is asked for.
//!
//! The bookmark moves when a collection was read to its end. A page tells nothing of the order of those behind it: a
//! bookmark that moved with every page would leave records out for ever when a run stops between two of them.

use super::definition::{Collection, History};
use super::fetch::{self, Failure};
use super::mark;
use super::pollers::Poller;
use super::tell::{Teller, Told, Untold};
use super::walk::{Read, Step, Walk};
use crate::db::Ids;
use crate::http::outbound::Outbound;
use crate::worker::{Claim, Hold};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// How a run ended. What it told is stored already.
#[derive(Debug)]
pub struct Outcome {
    /// The poller as it ran; absent when its worker was lost.
    pub(super) poller: Option<Arc<Poller>>,
    /// What was left out, in coarse words.
    pub(super) remarks: Vec<String>,
    /// What went wrong, in coarse words.
    pub(super) errors: Vec<String>,
    /// How long the storefront wants to be left alone at least.
    pub(super) after: Duration,
    /// Whether its worker was told to stop before it was done: again at once, as if it had not begun.
    pub(super) given_back: bool,
}

impl Outcome {
    pub(super) fn failed(error: &str) -> Self {
        Self { errors: vec![error.to_owned()], ..Self::of(None) }
    }

    pub(super) fn given_back() -> Self {
        Self { given_back: true, ..Self::of(None) }
    }

    fn of(poller: Option<Arc<Poller>>) -> Self {
        Self { poller, remarks: Vec::new(), errors: Vec::new(), after: Duration::ZERO, given_back: false }
    }
}

/// A run that is about to begin.
pub(super) struct Run {
    pub(super) outbound: Outbound,
    pub(super) ids: Arc<Ids>,
    pub(super) hold: Hold,
    pub(super) teller: Arc<Teller>,
    pub(super) claim: Claim,
    pub(super) poller: Arc<Poller>,
    /// Up to where each collection was read before.
    pub(super) bookmarks: HashMap<String, String>,
}

/// Why a collection was not read to its end.
enum Stop {
    /// Something went wrong with it.
    Failed(Failure),
    /// The run is over.
    Over,
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<String> for Stop {
    fn from(why: String) -> Self {
        Self::Failed(why.into())
    }
}

impl Run {
    /// Reads every collection; one that fails does not stand in the way of the others.
    pub(super) async fn read(self) -> Outcome {
        let mut outcome = Outcome::of(Some(Arc::clone(&self.poller)));
        for (place, collection) in self.poller.definition.collections.iter().enumerate() {
            match self.collection(place, collection).await {
                Ok((read, refused)) => {
                    if read.moved {
                        let words = "it changed all the time while it was read: the next run reads it again";
                        outcome.remarks.push(format!("{}: {words}", collection.name));
                    }
                    let left_out = [(read.unusable, "used"), (refused, "stored")];
                    outcome.remarks.extend(left_out.into_iter().filter(|(count, _)| *count > 0).map(
                        |(count, what)| {
                            format!("{}: {count} records cannot be {what} and were left out", collection.name)
                        },
                    ));
                }
                Err(Stop::Failed(failure)) => {
                    outcome.errors.push(format!("{}: {}", collection.name, failure.why));
                    outcome.after = outcome.after.max(failure.after);
                }
                // Whoever ended it has seen to what follows.
                Err(Stop::Over) => break,
            }
        }
        outcome
    }

    /// Reads a collection from its bookmark on; returns what is to be said of it, and how many records the database
    /// refused.
    async fn collection(&self, place: usize, collection: &Collection) -> Result<(Read, usize), Stop> {
        let definition = &self.poller.definition;
        let known = self.bookmarks.get(&collection.name).map(String::as_str);
        let bookmark = known.filter(|mark| *mark != mark::NOWHERE);
        // What comes between two pages of the first pass shifts the rest: told rather than lost.
        let is_history =
            known.is_none() && definition.since.is_none() && definition.history == History::Snapshot;
        let begin =
            bookmark.map(|mark| mark::since(mark, definition.overlap)).or_else(|| definition.since.clone());
        let (mut walk, mut refused) = (Walk::new(bookmark, &definition.paging), 0);
        loop {
            self.hold.holds().await;
            let (asked, is_silent) = (walk.place(), is_history && walk.is_first_pass());
            let page =
                fetch::page(&self.outbound, &self.ids, &self.poller, collection, begin.as_deref(), &asked)
                    .await?;
            let step = walk.add(&page);
            let mark = match &step {
                Ok(Step::Done(read)) => read.bookmark.clone(),
                _ => None,
            };
            let is_over = is_silent && matches!(step, Ok(Step::Again | Step::Done(_)));
            let mark = mark.or_else(|| is_over.then(|| mark::NOWHERE.to_owned()));
            // Also of a page after which the walk cannot go on.
            let told = Told { records: &page.records, bookmark: mark, is_silent };
            let failed = self.tell(place, told).await?;
            match step? {
                Step::Next => refused += failed,
                // What it refused in the former pass it refuses in this one.
                Step::Again => refused = 0,
                Step::Done(read) => return Ok((read, refused + failed)),
            }
        }
    }

    async fn tell(&self, place: usize, told: Told<'_>) -> Result<usize, Stop> {
        self.teller.tell(&self.claim, &self.poller, place, told).await.map_err(|why| match why {
            Untold::Over => Stop::Over,
            Untold::TooSlow => "the database takes too long for one of its records".to_owned().into(),
        })
    }
}
