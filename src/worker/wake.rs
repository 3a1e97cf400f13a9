//! Tells the claim loop that there is work: here at once, in other processes by a notification after the
//! commit. Both only save time; what is there is found by polling too.

use super::Settled;
use crate::db::{Database, session};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use sqlx::postgres::{PgListener, PgPool};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// At most this often does one process notify the others.
const NOTIFY_PAUSE: Duration = Duration::from_millis(40);
/// The most logs in one notification: PostgreSQL takes less than 8,000 bytes, and a log needs at most 40.
const LOGS: usize = 190;

/// The longest name of a channel, in bytes.
const LONGEST_CHANNEL: usize = 63;

/// What happened since the claim loop last looked.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Lanes in which something became ready, with its lowest rank.
    pub(super) ready: HashMap<i32, i16>,
    /// Lanes in which a look at the database found something.
    pub(super) found: Vec<i32>,
    /// Whether definitions are others now.
    pub(super) changed: bool,
}

fn note_ready(ready: &mut HashMap<i32, i16>, lane: i32, rank: i16) {
    ready.entry(lane).and_modify(|lowest| *lowest = rank.min(*lowest)).or_insert(rank);
}

/// What a waiting room has heard since it last asked.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Lanes in which something became ready, with its lowest rank.
    pub(super) ready: HashMap<i32, i16>,
    /// Whether to look at the database without waiting.
    pub(super) look: bool,
}

/// What one waiting room of remote workers hears by.
#[derive(Debug, Default)]
pub(super) struct Ear {
    heard: Mutex<Heard>,
    bell: Notify,
}

impl Ear {
    fn ready(&self, lane: i32, rank: i16) {
        note_ready(&mut self.heard.lock().ready, lane, rank);
        self.ring();
    }

    fn look(&self) {
        self.heard.lock().look = true;
        self.ring();
    }

    pub(super) fn ring(&self) {
        self.bell.notify_one();
    }

    pub(super) fn take(&self) -> Heard {
        std::mem::take(&mut *self.heard.lock())
    }

    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }
}

/// The waiting rooms of this process, and which of them hears of a lane.
#[derive(Debug, Default)]
struct Rooms {
    ears: Vec<Arc<Ear>>,
    watched: HashMap<i32, Arc<Ear>>,
}

/// The bell of one process. Cheap to ring.
#[derive(Debug, Default)]
pub struct Wake {
    news: Mutex<News>,
    bell: Notify,
    /// Rings when the database is to be looked at without waiting.
    looks: Notify,
    /// Whether claims found something since the last look.
    busy: AtomicBool,
    /// When the next scheduled item is due, as far as is known.
    due: Mutex<Option<Instant>>,
    /// Rings when that comes nearer.
    dues: Notify,
    abroad: Notify,
    /// Whether the other processes are to look.
    look_abroad: AtomicBool,
    /// Logs that have grown here, with their newest numbers, and the other processes do not know.
    grown: Mutex<BTreeMap<i64, i64>>,
    others: AtomicI64,
    starving: AtomicBool,
    /// Where remote workers wait.
    rooms: Mutex<Rooms>,
}

impl Wake {
    /// Items of `rank` became ready in `lane`; called after their commit.
    pub fn ready(&self, lane: i32, rank: i16) {
        note_ready(&mut self.news.lock().ready, lane, rank);
        self.bell.notify_one();
        if let Some(ear) = self.rooms.lock().watched.get(&lane) {
            ear.ready(lane, rank);
        }
        if self.others.load(Ordering::Relaxed) > 0 {
            self.tell_to_look();
        }
    }

    /// A log that others may follow has grown to this number; called after its commit.
    pub fn grew(&self, log: i64, newest: i64) {
        if self.others.load(Ordering::Relaxed) > 0 {
            self.grown.lock().insert(log, newest);
            self.abroad.notify_one();
        }
    }

    /// A lane has room again for what remote workers may hold; called after the commit that made it.
    pub fn freed(&self, lane: i32) {
        // Nothing was made: no mark moves back.
        self.ready(lane, i16::MAX);
    }

    /// The ear of one more waiting room.
    pub(super) fn ear(&self) -> Arc<Ear> {
        let ear = Arc::<Ear>::default();
        self.rooms.lock().ears.push(Arc::clone(&ear));
        ear
    }

    /// From now on this ear hears what becomes ready in `lane`.
    pub(super) fn watch(&self, lane: i32, ear: &Arc<Ear>) {
        self.rooms.lock().watched.insert(lane, Arc::clone(ear));
    }

    /// Nobody waits for `lane` any more.
    pub(super) fn unwatch(&self, lane: i32) {
        self.rooms.lock().watched.remove(&lane);
    }

    /// Something was scheduled that becomes due after this time; called after its commit.
    pub fn due_after(&self, after: Duration) {
        let at = Instant::now() + after;
        let mut due = self.due.lock();
        if due.is_none_or(|due| at < due) {
            *due = Some(at);
            self.dues.notify_one();
        }
    }

    /// When the next scheduled item is due, as far as is known.
    pub(super) fn due(&self) -> Option<Instant> {
        *self.due.lock()
    }

    /// What is due is taken up: what becomes due from here on is told anew.
    pub(super) fn take_due(&self) {
        *self.due.lock() = None;
    }

    /// Returns when something is due sooner than was known.
    pub(super) async fn sooner(&self) {
        self.dues.notified().await;
    }

    /// What a settlement made is there; called after its commit.
    pub(super) fn settled(&self, settled: &Settled) {
        for again in &settled.again {
            if again.after.is_zero() {
                self.ready(again.lane, again.rank);
            } else {
                self.due_after(again.after);
            }
        }
        for lane in &settled.woken {
            self.ready(*lane, 0);
        }
        if let Some(after) = settled.soonest {
            self.due_after(after);
        }
    }

    /// Definitions changed, or another process has news: look at the database now.
    pub fn look(&self) {
        self.looks.notify_one();
        self.bell.notify_one();
        self.rooms.lock().ears.iter().for_each(|ear| ear.look());
    }

    /// Returns when the database is to be looked at without waiting.
    pub(super) async fn look_asked(&self) {
        self.looks.notified().await;
    }

    /// A look found something in these lanes.
    pub(super) fn found(&self, lanes: Vec<i32>) {
        if !lanes.is_empty() {
            self.news.lock().found.extend(lanes);
            self.bell.notify_one();
        }
    }

    /// Definitions are others now: lanes came, went, or changed.
    pub(super) fn changed(&self) {
        self.news.lock().changed = true;
        self.bell.notify_one();
        self.rooms.lock().ears.iter().for_each(|ear| ear.look());
    }

    /// Claims found something.
    pub(super) fn set_busy(&self) {
        self.busy.store(true, Ordering::Relaxed);
    }

    /// Whether claims found something since this was last asked.
    pub(super) fn take_busy(&self) -> bool {
        self.busy.swap(false, Ordering::Relaxed)
    }

    /// As [`Wake::look`], and the other processes too.
    pub fn look_everywhere(&self) {
        self.look();
        self.tell_to_look();
    }

    fn tell_to_look(&self) {
        self.look_abroad.store(true, Ordering::Release);
        self.abroad.notify_one();
    }

    /// What the claim loop waits for is there.
    pub(super) fn ring(&self) {
        self.bell.notify_one();
    }

    /// Room was made for one more item.
    pub(super) fn room(&self) {
        if self.starving.load(Ordering::Relaxed) {
            self.bell.notify_one();
        }
    }

    pub(super) fn set_starving(&self, starving: bool) {
        self.starving.store(starving, Ordering::Relaxed);
    }

    pub(super) fn set_others(&self, others: i64) {
        self.others.store(others, Ordering::Relaxed);
    }

    pub(super) fn take(&self) -> News {
        std::mem::take(&mut *self.news.lock())
    }

    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Passes on what happens here to the other processes, many events in one notification.
    pub(super) async fn notify_others(&self, pool: &PgPool, channel: &str, stop: &CancellationToken) {
        while stop.run_until_cancelled(self.abroad.notified()).await.is_some() {
            let look = self.look_abroad.swap(false, Ordering::AcqRel).then(String::new);
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
            self.abroad.notify_one();
        }
        let told: Vec<String> = told.iter().map(|(log, newest)| format!("{log}:{newest}")).collect();
        (!told.is_empty()).then(|| told.join(" "))
    }

    /// Hears the other processes, where a session is ours alone. Behind a transaction-mode pooler nothing is heard,
    /// and polling does it all.
    pub(super) async fn listen(
        &self,
        db: &Database,
        channel: &str,
        heard: impl Fn(Note),
        stop: &CancellationToken,
    ) {
        let pool = db.listen.as_ref().unwrap_or(&db.worker);
        let mut pause = Duration::from_millis(250);
        let mut told = false;
        while !stop.is_cancelled() {
            let listening = async {
                // Looked at again for each connection: what stands in between may be another by now.
                if session::is_shared(pool).await? {
                    return Ok(true);
                }
                let mut listener = PgListener::connect_with(pool).await?;
                listener.eager_reconnect(false);
                listener.listen(channel).await?;
                // What came before the connection was there, the next look finds.
                self.look();
                while let Some(note) = listener.try_recv().await? {
                    if note.payload().is_empty() {
                        self.look();
                    } else {
                        _ = Note::read(note.payload()).map(&heard);
                    }
                }
                Ok(false)
            };
            let Some(ended) = stop.run_until_cancelled(listening).await else { return };
            let ended: sqlx::Result<bool> = ended;
            match ended {
                Ok(true) if !told => {
                    told = true;
                    tracing::warn!(
                        setting = db.listen.as_ref().map_or("DATABASE_URL", |_| "POSTRIDER_LISTEN_URL"),
                        "a pooler shares sessions between connections: other processes are not heard, and their \
                         news is found by polling; POSTRIDER_LISTEN_URL names a direct connection for that"
                    );
                }
                Ok(true) => {}
                Ok(false) => tracing::debug!("the connection that listens has ended; polling goes on"),
                Err(error) => tracing::debug!(%error, "cannot listen for other processes; polling goes on"),
            }
            stop.run_until_cancelled(tokio::time::sleep(pause)).await;
            pause = (pause * 2).min(Duration::from_secs(30));
        }
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
    fn read(payload: &str) -> Option<Self> {
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
        let wake = Wake::default();
        wake.grew(1, 1);
        assert_eq!(wake.take_grown(), None, "there is nobody to tell");
        wake.set_others(1);
        wake.grew(1, 1);
        wake.grew(1, 2);
        assert_eq!(Note::read(&wake.take_grown().unwrap()), Some(Note::Grown(vec![(1, 2)])));
        assert_eq!(wake.take_grown(), None);
        for log in 0..300 {
            wake.grew(i64::MAX - log, i64::MAX);
        }
        let told = [wake.take_grown().unwrap(), wake.take_grown().unwrap()];
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
