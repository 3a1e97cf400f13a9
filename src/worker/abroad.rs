//! What passes between the processes of an instance, by PostgreSQL's notifications after commits: that there is work,
//! that an attempt is to be stopped, that a log has grown. It only saves time: what is there is found by polling too, and
//! what is to be stopped with the next heartbeat.

use parking_lot::Mutex;
use sqlx::postgres::PgPool;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// At most this often does one process notify the others.
const NOTIFY_PAUSE: Duration = Duration::from_millis(40);
/// The most logs in one notification: PostgreSQL takes less than 8,000 bytes, and a log needs at most 40.
const LOGS: usize = 190;

/// What the other processes are to be told.
#[derive(Debug, Default)]
pub(super) struct Abroad {
    bell: Notify,
    /// Whether they are to look.
    look: AtomicBool,
    /// Logs that have grown here, with their newest numbers, and the other processes do not know.
    grown: Mutex<BTreeMap<i64, i64>>,
    /// How many they are.
    others: AtomicI64,
}

impl Abroad {
    /// So many other processes live.
    pub(super) fn set_others(&self, others: i64) {
        self.others.store(others, Ordering::Relaxed);
    }

    /// Whether there is anybody to tell.
    pub(super) fn is_anybody(&self) -> bool {
        self.others.load(Ordering::Relaxed) > 0
    }

    /// They are to look, whether or not anybody is known.
    pub(super) fn tell_to_look(&self) {
        self.look.store(true, Ordering::Release);
        self.bell.notify_one();
    }

    /// A log has grown to this number.
    pub(super) fn grew(&self, log: i64, newest: i64) {
        if self.is_anybody() {
            self.grown.lock().insert(log, newest);
            self.bell.notify_one();
        }
    }

    /// Passes on what happens here to the other processes, many events in one notification.
    pub(super) async fn pass_on(&self, pool: &PgPool, stop: &CancellationToken) {
        while stop.run_until_cancelled(self.bell.notified()).await.is_some() {
            let look = self.look.swap(false, Ordering::AcqRel).then(String::new);
            for payload in look.into_iter().chain(self.take_grown()) {
                if let Err(error) = notify(pool, &payload).await {
                    tracing::debug!(%error, "cannot notify other processes; they poll");
                }
            }
            stop.run_until_cancelled(tokio::time::sleep(NOTIFY_PAUSE)).await;
        }
    }

    /// What to tell of the logs that have grown, if any has; the rest of very many, the next time.
    fn take_grown(&self) -> Option<String> {
        let mut grown = self.grown.lock();
        let rest = grown.keys().nth(LOGS).copied().map(|first| grown.split_off(&first)).unwrap_or_default();
        let told = std::mem::replace(&mut *grown, rest);
        if !grown.is_empty() {
            self.bell.notify_one();
        }
        let told: Vec<String> = told.iter().map(|(log, newest)| format!("{log}:{newest}")).collect();
        (!told.is_empty()).then(|| told.join(" "))
    }
}

/// What another process tells.
#[derive(Debug, PartialEq)]
pub(super) enum Note {
    /// There may be work.
    Look,
    /// Items of this rank became ready in this lane, and there may be more work: what SQL tells (`ring()` in the migrations).
    Ready(i32, i16),
    /// This item's end is not wanted.
    Stop(Uuid),
    /// These logs have grown to these numbers.
    Grown(Vec<(i64, i64)>),
}

impl Note {
    /// How it is told that nobody wants the end of this item: [`Self::Stop`].
    pub(super) fn stop(item: Uuid) -> String {
        item.to_string()
    }

    /// None for what a process of another version may say.
    pub(super) fn read(payload: &str) -> Option<Self> {
        if payload.is_empty() {
            return Some(Self::Look);
        }
        if let Ok(item) = payload.parse() {
            return Some(Self::Stop(item));
        }
        if let Some((lane, rank)) = payload.split_once('@') {
            return Some(Self::Ready(lane.parse().ok()?, rank.parse().ok()?));
        }
        let pairs = payload.split(' ').map(|pair| {
            let (log, newest) = pair.split_once(':')?;
            Some((log.parse().ok()?, newest.parse().ok()?))
        });
        pairs.collect::<Option<_>>().map(Self::Grown)
    }
}

/// The channel on which the processes of this instance notify each other.
pub(super) async fn channel(pool: &PgPool) -> sqlx::Result<String> {
    sqlx::query_scalar!(r#"SELECT bell_channel() AS "channel!""#).fetch_one(pool).await
}

/// Sends one notification, which [`Note::read`] understands.
pub(super) async fn notify(pool: &PgPool, payload: &str) -> sqlx::Result<()> {
    sqlx::query!("SELECT pg_notify(bell_channel(), $1)", payload).execute(pool).await?;
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_logs_is_understood_and_fits() {
        let abroad = Abroad::default();
        abroad.grew(1, 1);
        assert_eq!(abroad.take_grown(), None, "there is nobody to tell");
        abroad.set_others(1);
        abroad.grew(1, 1);
        abroad.grew(1, 2);
        assert_eq!(Note::read(&abroad.take_grown().unwrap()), Some(Note::Grown(vec![(1, 2)])));
        assert_eq!(abroad.take_grown(), None);
        for log in 0..300 {
            abroad.grew(i64::MAX - log, i64::MAX);
        }
        let told = [abroad.take_grown().unwrap(), abroad.take_grown().unwrap()];
        assert!(told.iter().all(|told| told.len() < 8000), "{}", told[0].len());
        let logs = told.iter().map(|told| match Note::read(told) {
            Some(Note::Grown(logs)) => logs.len(),
            other => panic!("{other:?}"),
        });
        assert_eq!(logs.sum::<usize>(), 300);
        let item = Uuid::from_u128(7);
        assert_eq!(Note::read(&Note::stop(item)), Some(Note::Stop(item)));
        assert_eq!(Note::read(""), Some(Note::Look));
        assert_eq!(Note::read("12@-100"), Some(Note::Ready(12, -100)));
        for unknown in ["hello", "@", "1@", "1@70000", "1@1 2@1"] {
            assert_eq!(Note::read(unknown), None, "{unknown}");
        }
    }
}
