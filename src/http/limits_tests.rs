//! The places among the requests in flight: whose they are, and that each comes back.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use super::*;
use axum::http::StatusCode;
use proptest::prelude::*;

const PUSH: &str = "/queues/{queue}/messages";
const CLAIM: &str = "/queues/{queue}/claim";

fn room(working: usize, waiting: usize, bodies: usize) -> InFlight {
    InFlight::new(Limits { working, waiting, long_polls: &[CLAIM], bodies })
}

fn status<T>(result: Result<T>) -> StatusCode {
    result.map_or_else(|error| error.status(), |_| StatusCode::OK)
}

#[test]
fn each_kind_of_request_has_its_own_room_and_health_needs_none() {
    let in_flight = room(1, 1, 0);
    let push = in_flight.admit(PUSH, None).unwrap();
    assert_eq!(status(in_flight.admit(PUSH, None)), StatusCode::SERVICE_UNAVAILABLE);
    let _claim = in_flight.admit(CLAIM, None).unwrap();
    assert_eq!(status(in_flight.admit(CLAIM, None)), StatusCode::SERVICE_UNAVAILABLE);
    assert!(in_flight.admit("/readyz", Some(b"anybody")).is_ok());
    drop(push);
    assert!(in_flight.admit(PUSH, None).is_ok());
}

#[test]
fn a_caller_has_three_of_four_places_and_the_others_have_the_rest() {
    let in_flight = room(4, 0, 0);
    let greedy: Vec<_> = (0..3).map(|_| in_flight.admit(PUSH, Some(b"greedy")).unwrap()).collect();
    assert_eq!(status(in_flight.admit(PUSH, Some(b"greedy"))), StatusCode::TOO_MANY_REQUESTS);
    let other = in_flight.admit(PUSH, Some(b"other")).unwrap();
    assert_eq!(status(in_flight.admit(PUSH, Some(b"third"))), StatusCode::SERVICE_UNAVAILABLE);
    drop((greedy, other));
    assert!(in_flight.rooms.taken.lock().callers.is_empty(), "who has nothing is forgotten");
}

#[test]
fn who_waits_for_a_body_leaves_the_place_to_others_and_still_counts_as_its_caller_s() {
    let in_flight = room(4, 0, 0);
    let waiting: Vec<_> = (0..3).map(|_| in_flight.admit(PUSH, Some(b"slow")).unwrap()).collect();
    for place in &waiting {
        place.step_out();
    }
    assert_eq!(status(in_flight.admit(PUSH, Some(b"slow"))), StatusCode::TOO_MANY_REQUESTS);
    let others: Vec<_> = (0..4u8).map(|caller| in_flight.admit(PUSH, Some(&[caller])).unwrap()).collect();
    assert_eq!(status(waiting[0].step_in()), StatusCode::SERVICE_UNAVAILABLE);
    drop(others);
    assert_eq!(status(waiting[0].step_in()), StatusCode::OK);
    assert_eq!(status(waiting[0].step_in()), StatusCode::OK, "twice is once");
}

#[test]
fn bodies_have_so_much_memory_and_a_caller_three_quarters_of_it() {
    let in_flight = room(100, 0, 1000);
    let first = in_flight.admit(PUSH, Some(b"greedy")).unwrap();
    first.receive(750).unwrap();
    assert_eq!(status(first.receive(1)), StatusCode::TOO_MANY_REQUESTS);
    let other = in_flight.admit(PUSH, Some(b"other")).unwrap();
    other.receive(250).unwrap();
    assert_eq!(status(other.receive(1)), StatusCode::SERVICE_UNAVAILABLE);
    drop(first);
    other.receive(500).unwrap();
}

proptest! {
    #[test]
    fn whatever_requests_do_everything_comes_back(steps in prop::collection::vec((0u8..6, 0u8..4, 0usize..8), 0..200)) {
        let in_flight = room(5, 2, 100);
        let mut places: Vec<Arc<Place>> = Vec::new();
        for (step, caller, at) in steps {
            let place = places.get(at).cloned();
            match (step, place) {
                (0, _) => places.extend(in_flight.admit(PUSH, Some(&[caller]))),
                (1, _) => places.extend(in_flight.admit(CLAIM, (caller > 0).then_some(&[caller]))),
                (2, Some(place)) => place.step_out(),
                (3, Some(place)) => drop(place.step_in()),
                (4, Some(place)) => drop(place.receive(at * 9)),
                (5, Some(place)) => {
                    drop(place);
                    places.swap_remove(at);
                }
                _ => {}
            }
            let taken = in_flight.rooms.taken.lock();
            prop_assert!(taken.working <= 5 && taken.waiting <= 2 && taken.bodies <= 100);
        }
        drop(places);
        let taken = in_flight.rooms.taken.lock();
        prop_assert_eq!((taken.working, taken.waiting, taken.bodies, taken.callers.len()), (0, 0, 0, 0));
    }
}
