//! Where remote workers wait.

use super::Remote;
use super::handed::Means;
use super::inside::{Answer, Inside};
use super::line::Waiter;
use super::looker::{LONGEST_LOOK, Looker};
use crate::worker::wake::Wake;
use parking_lot::Mutex;
use sqlx::postgres::PgPool;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The room of one process in which remote workers wait for one kind of work.
pub struct WaitingRoom<R: Remote> {
    inside: Arc<Inside<R>>,
}

impl<R: Remote> Clone for WaitingRoom<R> {
    fn clone(&self) -> Self {
        Self { inside: Arc::clone(&self.inside) }
    }
}

impl<R: Remote> WaitingRoom<R> {
    /// A room for what `remote` claims, on the pool of the engine. Nobody is served before [`WaitingRoom::run`].
    pub fn new(remote: R, pool: PgPool, wake: Arc<Wake>, tasks: TaskTracker) -> Self {
        let (remote, ear) = (Arc::new(remote), wake.ear());
        let means = Arc::new(Means { remote, pool, wake, tasks });
        Self { inside: Arc::new(Inside { means, ear, lines: Mutex::default(), askers: Mutex::default() }) }
    }

    /// Serves those who wait until `stop`; then all of them are told at once that there is nothing. `beat` is called
    /// whenever the loop comes round.
    pub fn run<F: Fn() + Send + Sync + 'static>(
        &self,
        stop: CancellationToken,
        beat: F,
    ) -> impl Future<Output = ()> + Send + use<R, F> {
        Looker::new(Arc::clone(&self.inside)).run(stop, beat)
    }

    /// Claims at most `most` items of a lane, waiting for the first of them if there are none. Who hangs up, and so
    /// drops this, leaves the line.
    pub async fn claim(&self, lane: i32, holder: &str, most: i32, wait: Duration) -> Answer<R> {
        self.inside.askers.lock().ask(lane, holder, Instant::now());
        let (reply, mut answer) = oneshot::channel();
        let patient = !wait.is_zero();
        let waiter = Waiter { holder: holder.to_owned(), most, patient, reply };
        let joined = {
            let mut lines = self.inside.lines.lock();
            // The next look may come too late for who waits a moment.
            let Some(joined) = lines.join(lane, waiter, wait < LONGEST_LOOK) else { return Answer::Nothing };
            if joined.is_new {
                self.inside.means.wake.watch(lane, &self.inside.ear);
            }
            joined
        };
        let _place = Place { inside: &self.inside, lane, number: joined.number };
        if joined.look {
            self.inside.ear.ring();
        }
        if !patient {
            return answer.await.unwrap_or(Answer::Nothing);
        }
        if let Ok(answer) = tokio::time::timeout(wait, &mut answer).await {
            return answer.unwrap_or(Answer::Nothing);
        }
        answer.close();
        // It may have come at the last moment.
        answer.try_recv().unwrap_or(Answer::Nothing)
    }
}

/// Somebody's place in a line, left when it is dropped.
struct Place<'a, R: Remote> {
    inside: &'a Inside<R>,
    lane: i32,
    number: u64,
}

impl<R: Remote> Drop for Place<'_, R> {
    fn drop(&mut self) {
        self.inside.lines.lock().leave(self.lane, self.number);
    }
}
