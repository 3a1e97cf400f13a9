//! Tells pushes whose values, or keys, other transactions are taking from those that only came with them.

use super::identified::Waits;
use super::request::{Request, refuse_all};
use super::{Loop, PATIENCE};
use crate::error::is_held;
use tokio::sync::mpsc;

/// The most requests that are told apart in one transaction: the others of it are answered when it ends, and each value
/// that is held is waited for meanwhile.
const AT_ONCE: usize = 32;

impl Loop {
    /// Stores what can be stored, and has the rest wait in its room, until nothing comes any more.
    pub(super) async fn sift(self, mut doubted: mpsc::UnboundedReceiver<Vec<Request>>) {
        while let Some(requests) = doubted.recv().await {
            let is_single = |request: &Request| request.pushes.len() == 1 && !request.is_atomic();
            let (mut singles, many): (Vec<Request>, Vec<Request>) = requests.into_iter().partition(is_single);
            while !singles.is_empty() {
                let rest = singles.split_off(AT_ONCE.min(singles.len()));
                self.tell_apart(singles).await;
                singles = rest;
            }
            self.admit(self.one_by_one(many).await);
        }
    }

    async fn tell_apart(&self, mut requests: Vec<Request>) {
        // What was found out of others meanwhile.
        if let Some(room) = &self.room {
            self.admit(requests.extract_if(.., |request| room.knows(request)).collect());
        }
        if requests.is_empty() {
            return;
        }
        match self.write(&requests, false, Waits { patience: PATIENCE, apart: true }).await {
            Ok(stored) => {
                let is_held =
                    |request: &Request| request.pushes.iter().any(|push| stored.held.contains(&push.id));
                let (held, done) = requests.into_iter().partition(is_held);
                self.stored(done, &stored);
                self.admit(held);
            }
            Err(_) => self.admit(self.one_by_one(requests).await),
        }
    }

    fn admit(&self, held: Vec<Request>) {
        for request in held {
            match &self.room {
                Some(room) => room.admit(request),
                None => request.refuse_held(),
            }
        }
    }

    /// Stores requests each by itself; returns those whose values are held.
    pub(super) async fn one_by_one(&self, requests: Vec<Request>) -> Vec<Request> {
        let mut held = Vec::new();
        for request in requests {
            let one = [request];
            match self.write(&one, false, Waits { patience: PATIENCE, apart: false }).await {
                Ok(stored) => self.stored(one.into(), &stored),
                Err(error) if is_held(&error) => held.extend(one),
                Err(error) => refuse_all(one.into(), error),
            }
        }
        held
    }
}
