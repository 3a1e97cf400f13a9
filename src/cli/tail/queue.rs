//! Follows a queue: its messages as they are pushed and as they end, one line each.

use crate::cli::push::queue;
use crate::queues::store::follow;
use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use sqlx::postgres::PgPool;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::Duration;
use uuid::Uuid;

/// How often to look.
const LOOK: Duration = Duration::from_millis(250);
/// Messages in one look.
const PAGE: i64 = 500;
/// An id is made before its message is committed, and by other processes' clocks: a message may come this long
/// after one with a larger id.
const LATE_SECONDS: u128 = 10;
/// The most messages whose end is waited for; beyond it the oldest are given up.
const FOLLOWED: usize = 2_000;

/// Prints the last `lines` messages and their ends, and what comes from then on.
pub(super) async fn follow(pool: &PgPool, name: &str, lines: u32, whole: bool) -> anyhow::Result<()> {
    let queue = queue(pool, name).await?;
    let start = follow::before_newest(pool, queue.id, lines.into()).await?;
    let width = if whole { usize::MAX } else { 160 };
    let tail = Tail { queue: queue.id, width, last: start, seen: BTreeSet::new(), open: BTreeSet::new() };
    tail.follow(pool, start).await
}

struct Tail {
    queue: i32,
    /// The longest that a line's JSON may be, in characters.
    width: usize,
    /// The largest id so far.
    last: Uuid,
    /// Printed, and so young that a look may find them again.
    seen: BTreeSet<Uuid>,
    /// Printed, and not ended.
    open: BTreeSet<Uuid>,
}

impl Tail {
    async fn follow(mut self, pool: &PgPool, start: Uuid) -> anyhow::Result<()> {
        loop {
            let after = start.max(earlier(self.last));
            self.seen = self.seen.split_off(&after);
            let seen: Vec<Uuid> = self.seen.iter().copied().collect();
            let pushed = follow::pushed(pool, self.queue, after, &seen, PAGE).await?;
            let full = i64::try_from(pushed.len()).unwrap_or(PAGE) == PAGE;
            for message in pushed {
                self.print(message.at, message.id, "pushed", &message.request, "")?;
                self.last = self.last.max(message.id);
                self.seen.insert(message.id);
                self.open.insert(message.id);
            }
            while self.open.len() > FOLLOWED {
                self.open.pop_first();
            }
            let open: Vec<Uuid> = self.open.iter().copied().collect();
            for end in follow::ended(pool, self.queue, &open).await? {
                self.print(end.at, end.id, &end.status, &end.end, &format!("  ({:.0} ms)", end.ran_ms))?;
                self.open.remove(&end.id);
            }
            if !full {
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    fn print(
        &self,
        at: DateTime<Utc>,
        id: Uuid,
        what: &str,
        json: &RawValue,
        more: &str,
    ) -> std::io::Result<()> {
        // White space between tokens may be line breaks; a terminal obeys other control characters.
        let mut text: String =
            json.get().chars().take(self.width).map(|c| if c.is_control() { ' ' } else { c }).collect();
        if json.get().len() > text.len() {
            text.push('…');
        }
        writeln!(std::io::stdout(), "{}  {id}  {what:<8}  {text}{more}", at.format("%H:%M:%S%.3f"))
    }
}

/// The smallest id of the moment [`LATE_SECONDS`] before this one.
fn earlier(id: Uuid) -> Uuid {
    let milliseconds = (id.as_u128() >> 80).saturating_sub(LATE_SECONDS * 1000);
    Uuid::from_u128(milliseconds << 80)
}
