//! How many requests are worked on at one time; those beyond are refused at once instead of queueing.

use super::health;
use crate::error::{Error, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The requests in flight. Those that only wait (long polls) are counted apart: a thousand idle workers leave
/// all room to those who push.
#[derive(Debug, Clone)]
pub struct InFlight {
    working: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    long_polls: &'static [&'static str],
}

/// A place among the requests in flight; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _permit: Option<OwnedSemaphorePermit>,
}

impl InFlight {
    /// Room for `working` requests, and for `waiting` more on the routes in `long_polls`, which are written as
    /// the router has them: `/queues/{queue}/claim`.
    pub fn new(working: usize, waiting: usize, long_polls: &'static [&'static str]) -> Self {
        let semaphore = |places| Arc::new(Semaphore::new(places));
        Self { working: semaphore(working), waiting: semaphore(waiting), long_polls }
    }

    /// A place for a request to `route`.
    ///
    /// # Errors
    /// 503 with `Retry-After` when there is none.
    pub(super) fn admit(&self, route: &str) -> Result<Place> {
        if health::ROUTES.contains(&route) {
            // A full server is the one to look at.
            return Ok(Place { _permit: None });
        }
        let places = if self.long_polls.contains(&route) { &self.waiting } else { &self.working };
        match Arc::clone(places).try_acquire_owned() {
            Ok(permit) => Ok(Place { _permit: Some(permit) }),
            Err(_) => {
                Err(Error::Unavailable("too many requests at a time".to_owned(), Duration::from_secs(1)))
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;
    use axum::http::StatusCode;

    #[test]
    fn each_kind_of_request_has_its_own_room_and_health_needs_none() {
        let in_flight = InFlight::new(1, 1, &["/queues/{queue}/claim"]);
        let push = in_flight.admit("/queues/{queue}/messages").unwrap();
        let refused = in_flight.admit("/queues/{queue}/messages").unwrap_err();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        let _claim = in_flight.admit("/queues/{queue}/claim").unwrap();
        assert!(in_flight.admit("/queues/{queue}/claim").is_err());
        assert!(in_flight.admit("/readyz").is_ok());
        drop(push);
        assert!(in_flight.admit("/queues/{queue}/messages").is_ok());
    }
}
