//! Puts schedules in place: one, or the whole set of a queue.

use super::entry::{Entry, MOST};
use super::schedule::Schedule;
use crate::error::{Error, Result};
use crate::flow::store::schedules as moments;
use crate::http::json_text::to_value;
use crate::http::reader::Reader;
use crate::queues::store::schedules::{self, KIND, Row};
use sqlx::postgres::PgConnection;
use std::collections::HashMap;

/// What a stored document says; `None` if it was put by another version of Postrider, and cannot be used by this one.
pub fn stored(row: &Row) -> Option<Schedule> {
    let (mut schedule, mut violations) = (None, Vec::new());
    let document = to_value(row.definition.get())?;
    Reader::within(&document, String::new(), &mut violations, |reader| schedule = Schedule::read(reader));
    schedule.filter(|_| violations.is_empty())
}

/// Puts a schedule of a queue; says whether it is new. One that stays what it was goes on. The caller has counted the
/// change, and so holds others back.
///
/// # Errors
/// 409 when the queue has too many; the database's.
pub async fn one(tx: &mut PgConnection, queue_id: i32, queue: &str, entry: &Entry) -> Result<bool> {
    let former = schedules::of_queue(&mut *tx, queue_id).await?;
    let is_new = former.iter().all(|row| row.name != entry.name);
    if is_new && former.len() >= MOST {
        return Err(Error::Conflict(format!("a queue has at most {MOST} schedules")));
    }
    place(tx, queue_id, queue, std::slice::from_ref(entry), &former).await?;
    Ok(is_new)
}

/// Puts the whole set of a queue's schedules: what is not in it goes. The caller has counted the change.
///
/// # Errors
/// The database's.
pub async fn all(tx: &mut PgConnection, queue_id: i32, queue: &str, entries: &[Entry]) -> Result<()> {
    let former = schedules::of_queue(&mut *tx, queue_id).await?;
    let stays = |row: &&Row| entries.iter().any(|entry| entry.name == row.name);
    let gone: Vec<i32> = former.iter().filter(|row| !stays(row)).map(|row| row.id).collect();
    schedules::delete(&mut *tx, &gone).await?;
    place(tx, queue_id, queue, entries, &former).await
}

/// Whether a queue's schedules are these, to the letter.
///
/// # Errors
/// The database's.
pub async fn are(tx: &mut PgConnection, queue_id: i32, entries: &[Entry]) -> sqlx::Result<bool> {
    let there = schedules::of_queue(tx, queue_id).await?;
    let there: HashMap<&str, &str> =
        there.iter().map(|row| (row.name.as_str(), row.definition.get())).collect();
    let is_there = |entry: &Entry| there.get(entry.name.as_str()) == Some(&entry.definition.get());
    Ok(there.len() == entries.len() && entries.iter().all(is_there))
}

async fn place(
    tx: &mut PgConnection,
    queue_id: i32,
    queue: &str,
    entries: &[Entry],
    former: &[Row],
) -> Result<()> {
    let now = schedules::now(&mut *tx).await?;
    let ids = schedules::put(&mut *tx, queue_id, entries).await?;
    let former: HashMap<&str, Schedule> =
        former.iter().filter_map(|row| Some((row.name.as_str(), stored(row)?))).collect();
    let put = |entry: &Entry| {
        let goes_on = former.get(entry.name.as_str()).is_some_and(|former| entry.schedule.goes_on(former));
        let owner = *ids.get(&entry.name)?;
        Some(moments::Put { owner, first: entry.schedule.first(queue, &entry.name, now), goes_on })
    };
    moments::put(tx, KIND, &entries.iter().filter_map(put).collect::<Vec<_>>()).await?;
    Ok(())
}
