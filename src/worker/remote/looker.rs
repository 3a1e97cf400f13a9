//! The loop of a waiting room: looks for all who wait, claims for all of them, hands out.

use super::askers;
use super::inside::{Answer, Inside, answer};
use super::line::Wish;
use super::{Remote, Standing, Terms, Took};
use crate::db::{self, bounded};
use crate::error::is_transient;
#[cfg(feature = "planted-bugs")]
use crate::planted::claim_remote;
use crate::worker::marks::{Marks, Place, START};
#[cfg(not(feature = "planted-bugs"))]
use crate::worker::store::claim_remote;
use crate::worker::store::{self, Asked, Given};
use crate::worker::{Again, Claim};
use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The pause between two looks grows from the first to the last while nothing is handed out.
const BUSY_LOOK: Duration = Duration::from_millis(250);
/// What nobody told of is found within this time.
pub(super) const LONGEST_LOOK: Duration = Duration::from_millis(2500);
/// A lane is looked at for so many looks after the last of its workers has left.
const PATIENCE: u32 = 2;
/// The pause before a lane is tried again that another process claims from at this moment.
const LOCKED: Duration = Duration::from_millis(5);
/// A lane that was locked for so long is asked for no more before something tells of it again, a look at the latest:
/// who locks it stands still.
const LONG_LOCKED: Duration = Duration::from_millis(500);

/// The pause before an item is tried again that somebody else holds at this moment.
const BUSY_ITEM: Duration = Duration::from_secs(1);
/// A claim that takes longer asks for too much at once: large messages.
const SLOW: Duration = Duration::from_millis(100);

/// What the loop knows.
pub(super) struct Looker<R: Remote> {
    inside: Arc<Inside<R>>,
    marks: Marks,
    next_look: Instant,
    pause: Duration,
    failures: u32,
    /// In how many more claims lanes are asked one by one, to find the one that fails.
    alone: usize,
    /// Of each lane that was locked when it was asked for last: since when it was so each time, and when that was.
    locked: HashMap<i32, (Instant, Instant)>,
}

/// What one claim came to.
struct Claimed<I> {
    given: Vec<Given>,
    items: HashMap<Uuid, I>,
    /// Lanes that another process was claiming from.
    locked: Vec<i32>,
}

impl<R: Remote> Looker<R> {
    pub(super) fn new(inside: Arc<Inside<R>>) -> Self {
        let now = Instant::now();
        let (marks, locked) = (Marks::new(now), HashMap::new());
        Self { inside, marks, next_look: now, pause: BUSY_LOOK, failures: 0, alone: 0, locked }
    }

    pub(super) async fn run(mut self, stop: CancellationToken, beat: impl Fn() + Send + Sync) {
        let inside = Arc::clone(&self.inside);
        while !stop.is_cancelled() {
            beat();
            let round = {
                let mut round = pin!(self.round());
                tokio::select! {
                    biased;
                    done = round.as_mut() => done,
                    // Nobody waits for the end of this one; what it has claimed by then goes back.
                    () = stop.cancelled() => {
                        inside.send_home();
                        round.await
                    }
                }
            };
            match round {
                Ok(more) => {
                    self.failures = 0;
                    if !more {
                        stop.run_until_cancelled(self.rest()).await;
                    }
                }
                Err(error) => {
                    self.failures += 1;
                    tracing::warn!(%error, failures = self.failures, "cannot claim for remote workers; trying again");
                    let pause = Duration::from_millis(50 * (1 << self.failures.min(5)));
                    stop.run_until_cancelled(tokio::time::sleep(pause)).await;
                }
            }
        }
        inside.send_home();
    }

    /// One round: does what there is to do, and says whether there may be more.
    async fn round(&mut self) -> Result<bool, Arc<sqlx::Error>> {
        let heard = self.inside.ear.take();
        for (lane, rank) in heard.ready {
            self.marks.made(lane, rank);
            self.inside.lines.lock().ready(lane);
        }
        if heard.look || Instant::now() >= self.next_look {
            self.look().await?;
        }
        let more = self.claim().await;
        self.note_askers();
        more
    }

    /// Has it noted who asks, now and then; nobody waits for that.
    fn note_askers(&self) {
        let now = Instant::now();
        let news = {
            let (lines, mut askers) = (self.inside.lines.lock(), self.inside.askers.lock());
            lines.who_wait().for_each(|(lane, holder)| askers.ask(lane, holder, now));
            askers.news(now)
        };
        if !news.is_empty() {
            let means = &self.inside.means;
            means.tasks.spawn(askers::note(means.pool.clone(), news));
        }
    }

    /// Looks into all lanes that somebody waits for, in one statement that writes nothing.
    async fn look(&mut self) -> Result<(), Arc<sqlx::Error>> {
        let now = Instant::now();
        self.next_look = now + self.pause.mul_f64(rand::random_range(0.9..=1.1));
        self.pause = self.pause.mul_f64(1.5).min(LONGEST_LOOK);
        let (mut lanes, gone) = self.inside.watched(PATIENCE);
        lanes.retain(|lane| {
            let is_closed = self.inside.means.remote.standing(*lane) == Standing::Closed;
            if is_closed {
                self.inside.dissolve(*lane, || Answer::Closed);
            }
            !is_closed
        });
        self.locked.retain(|lane, _| lanes.contains(lane));
        if gone {
            self.marks.retain(|lane| self.inside.means.remote.standing(lane) != Standing::Closed);
        }
        if lanes.is_empty() {
            return Ok(());
        }
        let sweep = self.marks.sweep_is_due(now);
        let from: Vec<(i32, Place)> =
            lanes.iter().map(|lane| (*lane, if sweep { START } else { self.marks.of(*lane) })).collect();
        let ready = bounded(store::ready(&self.inside.means.pool, &from)).await.map_err(|error| {
            let error = Arc::new(error);
            for lane in &lanes {
                self.inside.dissolve(*lane, || Answer::Failed(Arc::clone(&error)));
            }
            error
        })?;
        if sweep {
            self.marks.swept(Instant::now(), now.elapsed());
        }
        let mut waiting = self.inside.lines.lock();
        for lane in ready {
            waiting.ready(lane);
        }
        Ok(())
    }

    /// Claims for those who stand first in the lanes that may have something, and hands out.
    async fn claim(&mut self) -> Result<bool, Arc<sqlx::Error>> {
        let now = Instant::now();
        let sweep = self.marks.sweep_is_due(now);
        let lanes = if self.alone == 0 { usize::MAX } else { 1 };
        self.alone = self.alone.saturating_sub(1);
        let (wishes, before) = self.inside.lines.lock().wishes(sweep, lanes);
        if wishes.is_empty() {
            return Ok(false);
        }
        let open = wishes.into_iter().filter_map(|wish| {
            let terms = self.terms(wish.lane, before)?;
            Some((wish, terms))
        });
        let open: Vec<(Wish, Terms)> = open.collect();
        if open.is_empty() {
            return Ok(true);
        }
        let asked: Vec<Asked> = open
            .iter()
            .map(|(wish, terms)| Asked {
                lane: wish.lane,
                from: if sweep { START } else { self.marks.of(wish.lane) },
                terms: terms.clone(),
                shares: wish.shares.iter().map(|(_, holder, most)| (holder.clone(), *most)).collect(),
            })
            .collect();
        let Claimed { given, mut items, locked } = match claim(&self.inside, asked).await {
            Ok(claimed) => claimed,
            Err(error) => return self.failed(error, &open),
        };
        if sweep {
            self.marks.swept(Instant::now(), now.elapsed());
        }
        let is_slow = now.elapsed() > SLOW;
        if !given.is_empty() {
            self.pause = self.pause.min(BUSY_LOOK);
        }
        let mut by_lane: HashMap<i32, Vec<Given>> = HashMap::new();
        for given in given {
            self.marks.taken(given.claim.lane, (given.claim.rank, given.seq));
            by_lane.entry(given.claim.lane).or_default().push(given);
        }
        for (wish, terms) in open {
            let until = now + terms.timeout.map_or(terms.lease, |timeout| terms.lease.min(timeout));
            let given = by_lane.remove(&wish.lane).unwrap_or_default();
            let is_filled = i32::try_from(given.len()).is_ok_and(|found| found >= wish.room());
            self.inside.hand_out(&wish, given, until, &mut items);
            let is_locked = locked.contains(&wish.lane);
            let is_long_locked = is_locked && self.is_long_locked(wish.lane, now);
            if !is_locked {
                self.locked.remove(&wish.lane);
            }
            let mut waiting = self.inside.lines.lock();
            if is_long_locked {
                let nothing = waiting.refuse(wish.lane, before);
                drop(waiting);
                answer(nothing, || Answer::Nothing);
                self.pause = self.pause.min(BUSY_LOOK);
                self.next_look = self.next_look.min(Instant::now() + BUSY_LOOK);
            } else if is_locked {
                waiting.ready(wish.lane);
            } else if is_filled {
                waiting.filled(wish.lane, is_slow);
            } else {
                let nothing = waiting.emptied(wish.lane, sweep, before);
                drop(waiting);
                answer(nothing, || Answer::Nothing);
            }
        }
        if !locked.is_empty() {
            tokio::time::sleep(LOCKED.mul_f64(rand::random_range(0.5..=1.5))).await;
        }
        Ok(true)
    }

    /// Whether this lane, which is locked now, was so each time it was asked for, for long.
    fn is_long_locked(&mut self, lane: i32, now: Instant) -> bool {
        let since = match self.locked.get(&lane) {
            Some((since, last)) if now.duration_since(*last) <= LONG_LOCKED => *since,
            _ => now,
        };
        self.locked.insert(lane, (since, now));
        now.duration_since(since) > LONG_LOCKED
    }

    /// A claim of these lanes failed. What one lane did to it must not be done to the others: they are tried one by one.
    fn failed(&mut self, error: sqlx::Error, open: &[(Wish, Terms)]) -> Result<bool, Arc<sqlx::Error>> {
        let error = Arc::new(error);
        if open.len() > 1 && !is_transient(&error) {
            self.alone = open.len();
            let mut waiting = self.inside.lines.lock();
            for (wish, _) in open {
                waiting.ready(wish.lane);
            }
            return Ok(true);
        }
        for (wish, _) in open {
            self.inside.dissolve(wish.lane, || Answer::Failed(Arc::clone(&error)));
        }
        Err(error)
    }

    /// On which terms to claim from a lane; if it is not open, those who do not wait, or all, are told so.
    fn terms(&self, lane: i32, before: u64) -> Option<Terms> {
        match self.inside.means.remote.standing(lane) {
            Standing::Open(terms) => return Some(terms),
            Standing::Paused => {
                let nothing = self.inside.lines.lock().refuse(lane, before);
                answer(nothing, || Answer::Nothing);
            }
            Standing::Closed => self.inside.dissolve(lane, || Answer::Closed),
        }
        None
    }

    /// Sleeps until something rings or it is time to look.
    async fn rest(&self) {
        let mut until = Instant::now() + LONGEST_LOOK;
        {
            let lines = self.inside.lines.lock();
            if lines.is_any() {
                until = until.min(self.next_look);
            }
            if lines.awaits_sweep() {
                until = until.min(self.marks.next_sweep());
            }
        }
        drop(tokio::time::timeout_at(until.into(), self.inside.ear.rung()).await);
    }
}

/// One transaction for all lanes. Lanes with a limit are locked before their leases are counted.
async fn claim<R: Remote>(inside: &Inside<R>, mut asked: Vec<Asked>) -> sqlx::Result<Claimed<R::Item>> {
    let remote = Arc::clone(&inside.means.remote);
    db::transaction(&inside.means.pool, move |tx| {
        Box::pin(async move {
            let is_limited = |asked: &Asked| asked.terms.concurrency.is_some();
            let limited: Vec<(i32, Place)> = asked
                .iter()
                .filter(|asked| is_limited(asked))
                .map(|asked| (asked.lane, asked.from))
                .collect();
            let mut locked = Vec::new();
            if !limited.is_empty() {
                let lanes: HashMap<i32, bool> =
                    store::lock_lanes(&mut *tx, &limited).await?.into_iter().collect();
                asked.retain(|asked| !is_limited(asked) || lanes.get(&asked.lane).is_some_and(|mine| *mine));
                locked = lanes.into_iter().filter(|(_, mine)| !mine).map(|(lane, _)| lane).collect();
            }
            let given = if asked.is_empty() { Vec::new() } else { claim_remote(&mut *tx, &asked).await? };
            let claims: Vec<Claim> = given.iter().map(|given| given.claim.clone()).collect();
            if claims.is_empty() {
                return Ok(Claimed { given, items: HashMap::new(), locked });
            }
            let Took { items, busy } = remote.take(&mut *tx, &claims).await?;
            let items: HashMap<Uuid, R::Item> = items.into_iter().collect();
            let left: Vec<Uuid> =
                claims.iter().map(|claim| claim.lease).filter(|lease| !items.contains_key(lease)).collect();
            if !left.is_empty() {
                store::fence(&mut *tx, &left, &[]).await?;
                let busy = claims.into_iter().filter(|claim| busy.contains(&claim.lease));
                let again: Vec<Again> = busy.map(|claim| claim.not_counted(BUSY_ITEM)).collect();
                store::put_back(tx, &again).await?;
            }
            Ok(Claimed { given, items, locked })
        })
    })
    .await
}
