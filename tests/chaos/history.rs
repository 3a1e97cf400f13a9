//! What everybody did and saw, one event after another: written down as it happens, one line of JSON each.

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// How far an operation is. `Unknown`: it may have happened, or happen yet; nobody was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    Invoke,
    Ok,
    Fail,
    Unknown,
}

/// An event, and when it happened: in microseconds since the beginning.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) at: u64,
    pub(crate) by: String,
    #[serde(flatten)]
    pub(crate) what: What,
}

/// A claimed item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Taken {
    pub(crate) id: String,
    pub(crate) tag: String,
    pub(crate) lease: String,
}

/// An attempt that did not end its message, as the history of the message shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Past {
    pub(crate) lease: String,
    pub(crate) mark: String,
}

/// The mark of a gap: messages that are past retention, of which a run has none, or a place beyond the end.
pub(crate) const GAP: &str = "a gap";

/// How a follower reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum How {
    /// From a place that it keeps itself.
    After,
    /// From the cursor of its key, which moves.
    Cursor,
}

/// What happened. A *tag* names what a client meant to store, once for ever; an *id* is what the server calls it;
/// a *mark* is something that a client said.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(crate) enum What {
    /// Messages are handed in: over HTTP, or in SQL.
    Push { op: u64, phase: Phase, into: String, tags: Vec<String>, key: Option<String>, ids: Vec<String> },
    /// A worker asks for work.
    Claim { op: u64, phase: Phase, from: String, max: usize, taken: Vec<Taken> },
    /// A worker says that it lives.
    Beat { op: u64, phase: Phase, id: String, lease: String },
    /// An endpoint is sent an item. Of a line only the head is sent.
    Start { id: String, tag: String, line: Option<String> },
    /// A worker ends an attempt that it claimed with a request of `claimed`.
    End { op: u64, phase: Phase, id: String, lease: String, complete: bool, mark: String, claimed: u64 },
    /// Somebody says something about a job.
    Say { op: u64, phase: Phase, job: String, mark: String, last: bool },
    /// A follower reads; each message with its number, if it is told.
    Read { op: u64, phase: Phase, job: String, how: How, after: i64, got: Vec<(Option<i64>, String)> },
    /// These items are seen to have ended: their ends are committed.
    Ended { ids: Vec<String> },
    /// A nemesis does something (`invoke`), or has done it.
    Nemesis { phase: Phase, name: String, detail: String },
    /// The nemeses are over and everybody is up again; whether everything came to rest in time.
    Rest { idle: bool, seconds: u64 },
    /// At the end: a message of a queue.
    LastMessage {
        into: String,
        id: String,
        tag: String,
        status: String,
        lease: Option<String>,
        mark: Option<String>,
        past: Vec<Past>,
    },
    /// At the end: a message of the store. A child came of an answer.
    LastHubMessage { id: String, tag: String, child: bool },
    /// At the end: a delivery, how often it was delivered, and the tags of what its answer was to bring.
    LastDelivery { id: String, tag: String, status: String, delivered: i64, brings: Vec<String> },
    /// At the end: a job and its log, by number.
    LastJob { id: String, tag: String, finished: bool, log: Vec<(i64, String)> },
    /// At the end: rows that should have gone.
    Left { table: String, rows: i64 },
}

/// Where events go.
pub(crate) struct History {
    begun: Instant,
    ops: AtomicU64,
    inside: Mutex<(Vec<Event>, BufWriter<File>)>,
}

impl History {
    /// A history in a file of `directory`.
    pub(crate) fn new(directory: &Path) -> Self {
        let file = BufWriter::new(File::create(directory.join("history.jsonl")).unwrap());
        Self { begun: Instant::now(), ops: AtomicU64::new(0), inside: Mutex::new((Vec::new(), file)) }
    }

    /// A number for an operation, and the moment.
    pub(crate) fn op(&self) -> u64 {
        self.ops.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub(crate) fn note(&self, by: &str, what: What) {
        let mut inside = self.inside.lock();
        // Under the lock, so that the order of events is the order of their times.
        let event = Event { at: self.now(), by: by.to_owned(), what };
        let line = serde_json::to_string(&event).unwrap();
        writeln!(inside.1, "{line}").unwrap();
        inside.0.push(event);
    }

    /// All of it so far.
    pub(crate) fn events(&self) -> Vec<Event> {
        let mut inside = self.inside.lock();
        inside.1.flush().unwrap();
        inside.0.clone()
    }
}

/// Reads a history that was kept.
pub(crate) fn read(directory: &Path) -> Vec<Event> {
    let file = File::open(directory.join("history.jsonl")).unwrap();
    let lines = BufReader::new(file).lines().map_while(Result::ok);
    lines.filter_map(|line| serde_json::from_str(&line).ok()).collect()
}
