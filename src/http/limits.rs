//! How many requests are worked on at one time; those beyond are refused at once instead of queueing.
//!
//! A request has a place from its head to the beginning of its answer, but not while its body is awaited: a body
//! costs its sender nothing to hold back. Whoever calls may have `SHARE` of the places, requests whose body is on
//! its way included, and as much of the memory for bodies, so that no caller shuts the others out. Callers are told
//! apart by the token they send, good or not; one without a token is refused before anything is read.

use super::health;
use crate::error::{Error, Result};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::Duration;

/// What one caller may have of everything: three of four.
const SHARE: (usize, usize) = (3, 4);

/// How much there is for requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests that are worked on at a time.
    pub working: usize,
    /// Beside them, requests on `long_polls`, which only wait: a thousand idle workers leave all room to those who
    /// push.
    pub waiting: usize,
    /// The routes that may wait, written as the router has them: `/queues/{queue}/claim`.
    pub long_polls: &'static [&'static str],
    /// Bytes of bodies in memory, over all requests.
    pub bodies: usize,
}

/// The requests in flight.
#[derive(Debug, Clone)]
pub struct InFlight {
    rooms: Arc<Rooms>,
}

#[derive(Debug)]
struct Rooms {
    limits: Limits,
    hasher: RandomState,
    taken: Mutex<Taken>,
}

/// What is in use.
#[derive(Debug, Default)]
struct Taken {
    working: usize,
    waiting: usize,
    bodies: usize,
    callers: HashMap<u64, Held>,
}

/// What one caller uses.
#[derive(Debug, Default)]
struct Held {
    /// With those whose body is on its way.
    working: usize,
    waiting: usize,
    bodies: usize,
}

impl InFlight {
    /// Room for so much.
    pub fn new(limits: Limits) -> Self {
        Self { rooms: Arc::new(Rooms { limits, hasher: RandomState::new(), taken: Mutex::default() }) }
    }

    /// A place for a request to `route` by whoever sends this token.
    ///
    /// # Errors
    /// 503 with `Retry-After` when there is none, 429 when this caller has all that one may have.
    pub(super) fn admit(&self, route: &str, sent: Option<&[u8]>) -> Result<Arc<Place>> {
        let rooms = &self.rooms;
        let kind = match route {
            // A full server is the one to look at.
            route if health::ROUTES.contains(&route) => Kind::Free,
            route if rooms.limits.long_polls.contains(&route) => Kind::Waiting,
            _ => Kind::Working,
        };
        let caller = sent.map(|token| rooms.hasher.hash_one(token));
        {
            let mut taken = rooms.taken.lock();
            if let Some(caller) = caller {
                let held = taken.callers.entry(caller).or_default();
                if kind.of_caller(held).is_some_and(|held| *held >= share(kind.limit(&rooms.limits))) {
                    return Err(greedy());
                }
            }
            if kind.taken(&mut taken).is_some_and(|taken| *taken >= kind.limit(&rooms.limits)) {
                taken.forget_idle(caller);
                return Err(full());
            }
            kind.taken(&mut taken).into_iter().for_each(|taken| *taken += 1);
            let held = caller.and_then(|caller| taken.callers.get_mut(&caller));
            held.and_then(|held| kind.of_caller(held)).into_iter().for_each(|held| *held += 1);
        }
        let state = Mutex::new(State { is_inside: true, bytes: 0 });
        Ok(Arc::new(Place { rooms: Arc::clone(rooms), kind, caller, state }))
    }
}

/// What a request needs a place for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Working,
    Waiting,
    Free,
}

impl Kind {
    fn limit(self, limits: &Limits) -> usize {
        match self {
            Self::Working => limits.working,
            Self::Waiting => limits.waiting,
            Self::Free => usize::MAX,
        }
    }

    fn taken(self, taken: &mut Taken) -> Option<&mut usize> {
        match self {
            Self::Working => Some(&mut taken.working),
            Self::Waiting => Some(&mut taken.waiting),
            Self::Free => None,
        }
    }

    fn of_caller(self, held: &mut Held) -> Option<&mut usize> {
        match self {
            Self::Working => Some(&mut held.working),
            Self::Waiting => Some(&mut held.waiting),
            Self::Free => None,
        }
    }
}

impl Taken {
    /// Forgets a caller that uses nothing.
    fn forget_idle(&mut self, caller: Option<u64>) {
        if let Some(Entry::Occupied(held)) = caller.map(|caller| self.callers.entry(caller))
            && matches!(held.get(), Held { working: 0, waiting: 0, bodies: 0 })
        {
            held.remove();
        }
    }
}

/// A request's place and the memory of its body; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    rooms: Arc<Rooms>,
    kind: Kind,
    caller: Option<u64>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Whether it has its place: not while its body is awaited.
    is_inside: bool,
    /// Of its body.
    bytes: usize,
}

impl Place {
    /// Gives the place to others for as long as the body does not come.
    pub(super) fn step_out(&self) {
        let mut state = self.state.lock();
        if std::mem::take(&mut state.is_inside) {
            self.kind.taken(&mut self.rooms.taken.lock()).into_iter().for_each(|taken| *taken -= 1);
        }
    }

    /// Takes a place again.
    ///
    /// # Errors
    /// 503 with `Retry-After` when there is none.
    pub(super) fn step_in(&self) -> Result<()> {
        let mut state = self.state.lock();
        if state.is_inside {
            return Ok(());
        }
        let mut taken = self.rooms.taken.lock();
        if let Some(taken) = self.kind.taken(&mut taken) {
            if *taken >= self.kind.limit(&self.rooms.limits) {
                return Err(full());
            }
            *taken += 1;
        }
        state.is_inside = true;
        Ok(())
    }

    /// Takes memory for so many bytes more of the body.
    ///
    /// # Errors
    /// 503 with `Retry-After` when there is none, 429 when this caller has all that one may have.
    pub(super) fn receive(&self, bytes: usize) -> Result<()> {
        let most = self.rooms.limits.bodies;
        let mut state = self.state.lock();
        let mut taken = self.rooms.taken.lock();
        if taken.bodies + bytes > most {
            return Err(full());
        }
        if let Some(held) = self.caller.and_then(|caller| taken.callers.get_mut(&caller)) {
            if held.bodies + bytes > share(most) {
                return Err(greedy());
            }
            held.bodies += bytes;
        }
        taken.bodies += bytes;
        state.bytes += bytes;
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let State { is_inside, bytes } = *self.state.get_mut();
        let mut taken = self.rooms.taken.lock();
        taken.bodies -= bytes;
        if is_inside {
            self.kind.taken(&mut taken).into_iter().for_each(|taken| *taken -= 1);
        }
        if let Some(held) = self.caller.and_then(|caller| taken.callers.get_mut(&caller)) {
            held.bodies -= bytes;
            self.kind.of_caller(held).into_iter().for_each(|held| *held -= 1);
        }
        taken.forget_idle(self.caller);
    }
}

/// What one caller may have; at least one place.
fn share(all: usize) -> usize {
    (all / SHARE.1 * SHARE.0 + all % SHARE.1 * SHARE.0 / SHARE.1).max(1)
}

fn full() -> Error {
    Error::Unavailable("too many requests at a time".to_owned(), Duration::from_secs(1))
}

fn greedy() -> Error {
    Error::TooManyRequests("this caller has too many requests at a time".to_owned(), Duration::from_secs(1))
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
