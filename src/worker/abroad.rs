//! What passes between the processes of an instance, by PostgreSQL's notifications after commits: that there is work,
//! that an attempt is to be stopped, that a log has grown. It only saves time; what is there is found by polling too.

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
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
/// The longest name of a channel, in bytes.
const LONGEST_CHANNEL: usize = 63;

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
    pub(super) async fn pass_on(&self, pool: &PgPool, channel: &str, stop: &CancellationToken) {
        while stop.run_until_cancelled(self.bell.notified()).await.is_some() {
            let look = self.look.swap(false, Ordering::AcqRel).then(String::new);
            for payload in look.into_iter().chain(self.take_grown()) {
                if let Err(error) = notify(pool, channel, &payload).await {
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

/// What another process tells, but for "look".
#[derive(Debug, PartialEq)]
pub(super) enum Note {
    /// This item's end is not wanted.
    Stop(Uuid),
    /// These logs have grown to these numbers.
    Grown(Vec<(i64, i64)>),
}

impl Note {
    /// None for what a process of another version may say.
    pub(super) fn read(payload: &str) -> Option<Self> {
        if let Ok(item) = payload.parse() {
            return Some(Self::Stop(item));
        }
        let pairs = payload.split(' ').map(|pair| {
            let (log, newest) = pair.split_once(':')?;
            Some((log.parse().ok()?, newest.parse().ok()?))
        });
        pairs.collect::<Option<_>>().map(Self::Grown)
    }
}

/// The channel of one instance. PostgreSQL cuts a longer name when it listens, and refuses it when it notifies.
pub(super) fn channel(schema: &str) -> String {
    let name = format!("{schema}_postrider");
    if name.len() <= LONGEST_CHANNEL {
        return name;
    }
    // The start for people, the digest for PostgreSQL.
    let start: String = schema.chars().take(20).collect();
    let digest =
        Sha256::digest(schema).iter().take(16).fold(0, |digest, byte| digest << 8 | u128::from(*byte));
    format!("{start}_{digest:032x}_postrider")
}

/// Sends one notification; an empty payload means "look", any other is a [`Note`].
pub(super) async fn notify(pool: &PgPool, channel: &str, payload: &str) -> sqlx::Result<()> {
    sqlx::query!("SELECT pg_notify($1, $2)", channel, payload).execute(pool).await?;
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_schema_has_a_channel_of_its_own_that_postgresql_takes() {
        assert_eq!(channel("postrider"), "postrider_postrider");
        let long = ["a".repeat(53), "a".repeat(54), "a".repeat(62), "a".repeat(62) + "b", "b".repeat(63)];
        let channels: BTreeSet<String> = long.iter().map(|schema| channel(schema)).collect();
        assert_eq!(channels.len(), long.len());
        assert!(channels.iter().all(|channel| channel.len() <= LONGEST_CHANNEL), "{channels:?}");
    }

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
        assert_eq!(Note::read(&item.to_string()), Some(Note::Stop(item)));
        assert_eq!(Note::read("hello"), None);
    }
}
