//! Pushes whose idempotency key, or whose value, a transaction uses that has not ended, such as an application's that
//! called `enqueue`: they wait here, and nobody waits for them.
//!
//! Whether such a key was used before, and which message has the value, is known when that transaction ends. Until then no statement of ours waits
//! for it: every now and then some of the keys are tried, each for a moment.

use super::push::request::Request;
use parking_lot::Mutex;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// The most pushes that wait; past it one is refused at once.
const ROOM: usize = 1024;
/// How long one waits.
const LONGEST: Duration = Duration::from_secs(5);
/// How often keys are tried, and how many at a time: each takes a millisecond or two of one connection.
const PAUSE: Duration = Duration::from_millis(50);
const TRIED: usize = 16;

/// A key, or what stands for a value, with its queue.
type Key = (i32, String);

/// The door of the room.
#[derive(Debug, Clone)]
pub(super) struct Room {
    crowd: Arc<Crowd>,
    door: mpsc::UnboundedSender<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    request: Request,
    since: Instant,
}

/// How many wait for each key.
#[derive(Debug, Default)]
struct Crowd(Mutex<HashMap<Key, usize>>);

impl Crowd {
    /// Counts one more, if there is room.
    fn enter(&self, key: Key) -> bool {
        let mut keys = self.0.lock();
        let is_room = keys.values().sum::<usize>() < ROOM;
        if is_room {
            *keys.entry(key).or_default() += 1;
        }
        is_room
    }

    fn leave(&self, key: Key) {
        if let Entry::Occupied(mut waiting) = self.0.lock().entry(key) {
            *waiting.get_mut() -= 1;
            if *waiting.get() == 0 {
                waiting.remove();
            }
        }
    }
}

impl Room {
    /// A room, and those who come in.
    pub(super) fn new() -> (Self, Waiters) {
        let (door, arriving) = mpsc::unbounded_channel();
        let crowd = Arc::default();
        (Self { crowd: Arc::clone(&crowd), door }, Waiters { crowd, arriving, waiting: VecDeque::new() })
    }

    /// Whether somebody waits for the key of this request.
    pub(super) fn knows(&self, request: &Request) -> bool {
        request.waits_for().is_some_and(|key| self.crowd.0.lock().contains_key(&key))
    }

    /// Lets a request wait, or refuses it when there is no room.
    pub(super) fn admit(&self, request: Request) {
        if request.waits_for().is_some_and(|key| self.crowd.enter(key)) {
            // When nobody is behind the door any more, the server is stopping, and the request hears so.
            drop(self.door.send(Waiting { request, since: Instant::now() }));
        } else {
            request.refuse_held();
        }
    }
}

/// Those who wait.
pub(super) struct Waiters {
    crowd: Arc<Crowd>,
    arriving: mpsc::UnboundedReceiver<Waiting>,
    waiting: VecDeque<Waiting>,
}

impl Waiters {
    /// Tries their keys until all doors are gone. `store` stores requests and returns those whose keys are still held.
    pub(super) async fn run<F: Future<Output = Vec<Request>> + Send>(
        mut self,
        store: impl Fn(Vec<Request>) -> F + Send + Sync,
    ) {
        let mut ticks = interval(PAUSE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                arrived = self.arriving.recv() => match arrived {
                    Some(waiting) => self.waiting.push_back(waiting),
                    None => return,
                },
                _ = ticks.tick(), if !self.waiting.is_empty() => self.look(&store).await,
            }
        }
    }

    /// Sends those away who have waited too long, and tries the keys of some of the others.
    async fn look<F: Future<Output = Vec<Request>> + Send>(
        &mut self,
        store: &(impl Fn(Vec<Request>) -> F + Sync),
    ) {
        // One of each key: the others learn from it.
        let (mut tried, mut seen) = (Vec::new(), HashSet::new());
        let mut others = VecDeque::with_capacity(self.waiting.len());
        for waiting in self.waiting.drain(..) {
            if waiting.since.elapsed() >= LONGEST {
                waiting.request.waits_for().into_iter().for_each(|key| self.crowd.leave(key));
                waiting.request.refuse_held();
                continue;
            }
            let is_next =
                tried.len() < TRIED && waiting.request.waits_for().is_some_and(|key| seen.insert(key));
            if is_next { tried.push(waiting) } else { others.push_back(waiting) }
        }
        self.waiting = others;
        let since: HashMap<Key, Instant> =
            tried.iter().filter_map(|one| Some((one.request.waits_for()?, one.since))).collect();
        let still = store(tried.into_iter().map(|one| one.request).collect()).await;
        let still: Vec<Waiting> = still
            .into_iter()
            .filter_map(|request| Some(Waiting { since: *since.get(&request.waits_for()?)?, request }))
            .collect();
        let held: HashSet<Key> = still.iter().filter_map(|one| one.request.waits_for()).collect();
        for key in since.into_keys().filter(|key| !held.contains(key)) {
            self.crowd.leave(key);
        }
        // Behind those that were not tried now.
        self.waiting.extend(still);
    }
}
