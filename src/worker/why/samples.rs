//! Facts of the engine for tests of what follows from them.

use crate::worker::store::why::{Ahead, Held, Process, Taken, TakenBy};
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

/// The moment of the tests, and so many seconds later.
pub fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap_or_default() + TimeDelta::seconds(seconds)
}

/// A claim of a minute ago, heard of now.
pub fn held(is_silent: bool) -> Held {
    Held {
        lease: Uuid::from_u128(1),
        holder: Some("host:1".to_owned()),
        claimed_at: at(-60),
        renewed_at: at(0),
        ends_at: at(15),
        deadline: Some(at(30)),
        attempt: 2,
        is_silent,
    }
}

/// A process that lives and runs these.
pub fn process(number: u128, runs: &[&str]) -> Process {
    Process {
        id: Uuid::from_u128(number),
        name: format!("host:{number}"),
        runs: runs.iter().map(|word| (*word).to_owned()).collect(),
        round_at: at(-1),
        is_behind: false,
    }
}

/// What these processes run of a lane: so many each.
pub fn taken(by: &[(u128, i64)]) -> Taken {
    let of = |(process, count): &(u128, i64)| {
        let name = Some(format!("host:{process}"));
        let items: Vec<Uuid> =
            (0..*count).map(|n| Uuid::from_u128(process * 1000 + u128::from(n.unsigned_abs()))).collect();
        let since = (0..*count).map(|n| at(n - 100)).collect();
        TakenBy::new(Some(Uuid::from_u128(*process)), name.as_deref(), *count, items, since)
    };
    Taken::of(by.iter().map(of).collect())
}

/// The first in its lane.
pub fn first() -> Ahead {
    Ahead { place: Some(1), higher: 0, looked_at: 1 }
}
