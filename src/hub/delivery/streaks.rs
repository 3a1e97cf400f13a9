//! How often in a row attempts at an endpoint fail that is switched off when they do for too long, gathered before it is
//! written. Of the other endpoints nothing is.

use super::outcome::Attempted;
use super::verdict::Verdict;
use crate::hub::definitions::catalog::Catalog;
use crate::hub::definitions::endpoint::Endpoint;
use crate::hub::definitions::store::failures::{self, Tried};
use sqlx::postgres::PgConnection;
use std::collections::BTreeMap;

/// An endpoint that has failed for long enough to be switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doomed {
    /// The endpoint.
    pub lane: i32,
    /// Whether nobody is to be told of it: its last attempts were about what the hub itself said.
    pub quiet: bool,
}

/// What the attempts of one settlement came to.
#[derive(Default)]
pub(super) struct Streaks(BTreeMap<i32, Streak>);

#[derive(Default)]
struct Streak {
    version: i64,
    succeeded: bool,
    failures: i32,
    error: String,
    quiet: bool,
}

impl Streak {
    fn succeeded(&mut self) {
        *self = Self { version: self.version, succeeded: true, ..Self::default() };
    }
}

impl Streaks {
    /// Notes what an attempt came to.
    pub(super) fn note(&mut self, endpoint: &Endpoint, attempted: &Attempted) {
        let Some(version) = attempted.version.filter(|_| endpoint.definition.disable.is_some()) else {
            return;
        };
        let streak = self.0.entry(endpoint.id).or_default();
        if version < streak.version {
            return;
        }
        if version > streak.version {
            *streak = Streak { version, ..Streak::default() };
        }
        match &attempted.verdict {
            Verdict::Failed(failed) if failed.is_final => streak.succeeded(),
            // It was the endpoint's doing.
            Verdict::Failed(failed) if failed.cause.is_some() => {
                streak.quiet = attempted.change.quiet && (streak.failures == 0 || streak.quiet);
                streak.failures = streak.failures.saturating_add(1);
                streak.error.clone_from(&failed.error);
            }
            Verdict::Failed(_) => {}
            Verdict::Delivered(_) | Verdict::Deferred { .. } => streak.succeeded(),
        }
    }

    /// Writes it; returns the endpoints that are to be switched off.
    pub(super) async fn write(self, tx: &mut PgConnection, catalog: &Catalog) -> sqlx::Result<Vec<Doomed>> {
        if self.0.is_empty() {
            return Ok(Vec::new());
        }
        let tried: Vec<Tried<'_>> = self
            .0
            .iter()
            .map(|(lane, streak)| Tried {
                lane: *lane,
                version: streak.version,
                succeeded: streak.succeeded,
                failures: streak.failures,
                error: &streak.error,
            })
            .collect();
        let mut doomed = Vec::new();
        for failing in failures::count(tx, &tried).await? {
            let disable = catalog.endpoint(failing.lane).and_then(|endpoint| endpoint.definition.disable);
            if disable.is_some_and(|disable| disable.is_due(failing.failures, failing.lasting)) {
                let quiet = self.0.get(&failing.lane).is_some_and(|streak| streak.quiet);
                doomed.push(Doomed { lane: failing.lane, quiet });
            }
        }
        Ok(doomed)
    }
}
