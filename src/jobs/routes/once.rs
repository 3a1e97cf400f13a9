//! A worker's or agent's write under an idempotency key: said again, it is answered as the first time, and nothing
//! happens a second time.
//!
//! The key is looked at before the job is: an end that was counted under the same key is the first answer, not the
//! 409 of a job that is finished.

use crate::auth::Caller;
use crate::error::Result;
use crate::http::idempotency;
use crate::jobs::job_type::JobType;
use crate::jobs::store::idempotency::{self as store, Key, Known};
use axum::http::HeaderMap;
use serde_json::value::RawValue;
use sqlx::postgres::PgConnection;

/// What became of a write.
pub(super) enum Once<T> {
    /// It was done now, and is answered so.
    Now(T, Box<RawValue>),
    /// It was done before, and answered so.
    Before(Box<RawValue>),
}

/// The key of a write of this caller, `what` it does to which job included: the same body about another job is
/// something else.
pub(super) fn key(
    headers: &HeaderMap,
    caller: &Caller,
    job_type: &JobType,
    (what, id): (&str, i64),
    body: &RawValue,
) -> Result<Option<Key>> {
    let key = idempotency::Key::read(headers, &format!("{what} {id}"), body)?;
    Ok(key.map(|key| Key { type_id: job_type.id, owner: caller.subject.clone(), key }))
}

/// What a request with this key was answered before; none when it is new, and then claimed.
pub(super) async fn first_answer(tx: &mut PgConnection, key: Option<&Key>) -> Result<Option<Box<RawValue>>> {
    let Some(key) = key else { return Ok(None) };
    match store::take(tx, key).await? {
        Known::Fresh => Ok(None),
        Known::Before(former) => {
            key.key.compare(&former.digest)?;
            former.answer.map(|answer| Some(answer.0)).ok_or_else(idempotency::another_body)
        }
    }
}

/// Keeps what a claimed key is answered.
pub(super) async fn keep(tx: &mut PgConnection, key: Option<&Key>, answer: &RawValue) -> Result<()> {
    if let Some(key) = key {
        store::keep_answer(tx, key, answer).await?;
    }
    Ok(())
}
