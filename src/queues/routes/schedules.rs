//! Schedules of a queue over HTTP. They are code, as its definition is: for administrators only.

use super::messages::{again, held, location, pending};
use super::state::Queues;
use super::view::Message;
use crate::auth::Authenticated;
use crate::db;
use crate::error::{Error, Problem, Result, is_held};
use crate::flow::store::schedules as moments;
use crate::http::body;
use crate::http::extract::Path;
use crate::http::idempotency::{self, IdempotencyKey, Key};
use crate::http::openapi::{BodyProblems, Problems};
use crate::http::request_id;
use crate::http::state_member::{status_of_put, with_state};
use crate::queues::access::check;
use crate::queues::identity::Identity;
use crate::queues::metrics;
use crate::queues::name::QueueName;
use crate::queues::push::identified;
use crate::queues::schedules::documented::{QueueSchedule, ScheduleName, ScheduleSet, ScheduleState};
use crate::queues::schedules::schedule::Overlap;
use crate::queues::schedules::{entry, put as place};
use crate::queues::store::definitions;
use crate::queues::store::pushes::{self, Claim, Push};
use crate::queues::store::schedules::{self, KIND, ToRun, View};
use crate::queues::uniqueness::{self, Told, Verdict};
use crate::worker::store::bump;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::postgres::PgConnection;
use std::time::Duration;

/// How long a run by hand waits for an idempotency key that a transaction uses which has not ended.
const PATIENCE: Duration = Duration::from_millis(500);

/// A schedule of a queue, and how it does.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ListedSchedule {
    /// Its name.
    #[schema(example = "nightly")]
    name: String,
    /// The schedule as it was put.
    #[schema(value_type = QueueSchedule)]
    definition: Box<RawValue>,
    #[serde(flatten)]
    state: ScheduleState,
}

impl From<View> for ListedSchedule {
    fn from(view: View) -> Self {
        let View { name, definition, next_run, last_run, last_message } = view;
        Self { name, definition: definition.0, state: ScheduleState { next_run, last_run, last_message } }
    }
}

fn no_queue() -> Error {
    Error::NotFound("there is no such queue".to_owned())
}

fn no_schedule() -> Error {
    Error::NotFound("this queue has no such schedule".to_owned())
}

/// Lists the schedules of a queue.
#[utoipa::path(
    get, path = "/queues/{queue}/schedules", tag = "queue schedules", operation_id = "list_schedules",
    params(("queue" = inline(QueueName), Path, description = "The queue's name")),
    responses((status = 200, description = "By name", body = Vec<ListedSchedule>), Problems),
)]
pub(super) async fn list(
    Authenticated(caller): Authenticated,
    State(queues): State<Queues>,
    Path(queue): Path<String>,
) -> Result<Json<Vec<ListedSchedule>>> {
    let queue = queues.queue_for_admin(&queue, &caller).await?;
    let views = schedules::views(&queues.access.db.api, queue.id, None).await?;
    Ok(Json(views.into_iter().map(ListedSchedule::from).collect()))
}

/// Puts the whole set of a queue's schedules.
///
/// What is not in it goes; what stays as it was goes on.
#[utoipa::path(
    put, path = "/queues/{queue}/schedules", tag = "queue schedules", operation_id = "put_schedules",
    params(("queue" = inline(QueueName), Path, description = "The queue's name")),
    request_body(content = ScheduleSet, content_type = "application/json"),
    responses((status = 200, description = "The set, by name", body = Vec<ListedSchedule>), Problems, BodyProblems),
)]
pub(super) async fn put_all(
    Authenticated(caller): Authenticated,
    State(queues): State<Queues>,
    Path(queue): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Vec<ListedSchedule>>> {
    let queue = queues.queue_for_admin(&queue, &caller).await?;
    let body = body::read_json(&headers, body, &queues.limits).await?;
    let entries = entry::read_body(&body.raw)?;
    entry::check(queue.schema.as_ref(), &entries, Some("/schedules")).await?;
    let name = queue.name.clone();
    let views = db::transaction::<_, Error, _>(&queues.access.db.api, move |tx| {
        Box::pin(async move {
            bump(&mut *tx).await?;
            let id = definitions::id(&mut *tx, &name).await?.ok_or_else(no_queue)?;
            place::all(&mut *tx, id, &name, &entries).await?;
            Ok(schedules::views(tx, id, None).await?)
        })
    })
    .await?;
    queues.changed().await?;
    Ok(Json(views.into_iter().map(ListedSchedule::from).collect()))
}

/// Makes a schedule, or redefines it. One that fires at the moments at which it did goes on.
#[utoipa::path(
    put, path = "/queues/{queue}/schedules/{name}", tag = "queue schedules", operation_id = "put_schedule",
    params(("queue" = inline(QueueName), Path, description = "The queue's name"), ("name" = inline(ScheduleName), Path, description = "The schedule's name")),
    request_body(content = QueueSchedule, content_type = "application/json"),
    responses(
        (status = 200, description = "Redefined: the schedule", body = QueueSchedule),
        (status = 201, description = "Made: the schedule", body = QueueSchedule),
        (status = 409, description = "The queue has 1,000 schedules", body = Problem, content_type = "application/problem+json"),
        Problems, BodyProblems,
    ),
)]
pub(super) async fn put(
    Authenticated(caller): Authenticated,
    State(queues): State<Queues>,
    Path((queue, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Box<RawValue>>)> {
    let queue = queues.queue_for_admin(&queue, &caller).await?;
    let body = body::read_json(&headers, body, &queues.limits).await?;
    let entry = entry::read(&name, &body.raw)?;
    entry::check(queue.schema.as_ref(), std::slice::from_ref(&entry), None).await?;
    let (queue, document) = (queue.name.clone(), entry.definition.clone());
    let made = db::transaction::<_, Error, _>(&queues.access.db.api, move |tx| {
        Box::pin(async move {
            bump(&mut *tx).await?;
            let id = definitions::id(&mut *tx, &queue).await?.ok_or_else(no_queue)?;
            place::one(tx, id, &queue, &entry).await
        })
    })
    .await?;
    queues.changed().await?;
    Ok((status_of_put(made), Json(document)))
}

/// Reads a schedule, and beside it `state`, what a listing says of how it does. A PUT ignores that.
#[utoipa::path(
    get, path = "/queues/{queue}/schedules/{name}", tag = "queue schedules", operation_id = "get_schedule",
    params(("queue" = inline(QueueName), Path, description = "The queue's name"), ("name" = inline(ScheduleName), Path, description = "The schedule's name")),
    responses((status = 200, description = "The schedule as it was put", body = QueueSchedule), Problems),
)]
pub(super) async fn get(
    Authenticated(caller): Authenticated,
    State(queues): State<Queues>,
    Path((queue, name)): Path<(String, String)>,
) -> Result<Json<Box<RawValue>>> {
    let queue = queues.queue_for_admin(&queue, &caller).await?;
    let name = Some(name).filter(|name| entry::is_name(name)).ok_or_else(no_schedule)?;
    let views = schedules::views(&queues.access.db.api, queue.id, Some(&name)).await?;
    let ListedSchedule { definition, state, .. } = views.into_iter().next().ok_or_else(no_schedule)?.into();
    Ok(Json(with_state(&definition, &state)))
}

/// Deletes a schedule. The messages that it pushed stay.
#[utoipa::path(
    delete, path = "/queues/{queue}/schedules/{name}", tag = "queue schedules", operation_id = "delete_schedule",
    params(("queue" = inline(QueueName), Path, description = "The queue's name"), ("name" = inline(ScheduleName), Path, description = "The schedule's name")),
    responses((status = 204, description = "Deleted"), Problems),
)]
pub(super) async fn delete(
    Authenticated(caller): Authenticated,
    State(queues): State<Queues>,
    Path((queue, name)): Path<(String, String)>,
) -> Result<StatusCode> {
    let queue = queues.queue_for_admin(&queue, &caller).await?;
    let name = Some(name).filter(|name| entry::is_name(name)).ok_or_else(no_schedule)?;
    db::transaction::<_, Error, _>(&queues.access.db.api, move |tx| {
        Box::pin(async move {
            bump(&mut *tx).await?;
            let there = schedules::to_run(&mut *tx, queue.id, &name).await?.ok_or_else(no_schedule)?;
            Ok(schedules::delete(tx, &[there.row.id]).await?)
        })
    })
    .await?;
    queues.changed().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Pushes the message of a schedule now, whether it is switched on or not. Its moments stay as they are.
#[utoipa::path(
    post, path = "/queues/{queue}/schedules/{name}/run", tag = "queue schedules", operation_id = "run_schedule",
    params(("queue" = inline(QueueName), Path, description = "The queue's name"), ("name" = inline(ScheduleName), Path, description = "The schedule's name"),
        ("Idempotency-Key" = inline(Option<IdempotencyKey>), Header, description = "As for a push: the same key again makes no second message")),
    responses(
        (status = 201, description = "Stored; `Location` ends in the id", body = Message),
        (status = 200, description = "This idempotency key was used before: the message that it made; or another message holds the value that is unique: that message, which may have taken over this one's body", body = Message),
        (status = 409, description = "Another message holds the value that is unique, which `held_by` names; or `overlap` is `skip`, and the message before has not ended; or the key was used for something else", body = Problem, content_type = "application/problem+json"),
        (status = 410, description = "The message that this idempotency key made is deleted", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The queue's schema does not allow the message any more", body = Problem, content_type = "application/problem+json"),
        Problems,
    ),
)]
pub(super) async fn run(
    Authenticated(caller): Authenticated,
    State(queues): State<Queues>,
    Path((queue, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response> {
    let mut queue = queues.queue_for_admin(&queue, &caller).await?;
    let name = Some(name).filter(|name| entry::is_name(name)).ok_or_else(no_schedule)?;
    let key = Key::read(&headers, &format!("run schedule {name}"), RawValue::NULL)?;
    let db = &queues.access.db.api;
    if let Some(key) = &key
        && let Some(answer) = again(&queues, &queue, key).await?
    {
        return Ok(answer);
    }
    loop {
        let schedule = schedules::to_run(db, queue.id, &name).await?.ok_or_else(no_schedule)?;
        check(&queue, &schedule.message).await?;
        let (id, rank) = (queues.access.db.ids.next(), -queue.definition.options.priority);
        let request = schedule.message.clone();
        let claim = key.clone().map(|key| Claim::Leads { key, answer: None });
        let (delay, origin) = (Duration::ZERO, request_id::kept(&headers));
        let unique = Identity::default().value(queue.definition.options.unique.as_ref(), &request)?;
        let own_key = None;
        let push = Push { queue_id: queue.id, id, request, rank, delay, key: claim, own_key, unique, origin };
        let message = pending(&queue, id, None, schedule.message.clone());
        let ran = db::transaction::<_, Error, _>(db, move |tx| Box::pin(run_in(tx, schedule, push)));
        match (ran.await?, &key) {
            (Ran::Pushed, _) => {
                queues.wake.ready(queue.id, rank);
                metrics::pushed(&queue, 1);
                let location = location(&queue.name, id)?;
                return Ok(
                    (StatusCode::CREATED, [(header::LOCATION, location)], Json(message)).into_response()
                );
            }
            (Ran::Held(told), _) => {
                queues.wake.ready(queue.id, rank);
                metrics::told(&queue, &[told.what]);
                if let Some(answer) = held(&queues, &queue, &told, key.as_ref()).await? {
                    return Ok(answer);
                }
            }
            (Ran::Before, Some(key)) => {
                if let Some(answer) = again(&queues, &queue, key).await? {
                    return Ok(answer);
                }
            }
            (Ran::Before, None) => {
                return Err(Error::internal(anyhow::anyhow!("a push without a key was not stored")));
            }
            // Perhaps with the queue's definition.
            (Ran::Changed, _) => {
                queues.access.refresh().await?;
                queue = queues.queue_for_admin(&queue.name, &caller).await?;
            }
        }
    }
}

/// What became of a run by hand.
enum Ran {
    /// Its message is pushed.
    Pushed,
    /// Another message holds its value.
    Held(Told),
    /// Its idempotency key was used before.
    Before,
    /// The schedule was put again since it was read: what it says now is to be judged first.
    Changed,
}

/// Pushes the message of a schedule, which was read and judged before.
async fn run_in(tx: &mut PgConnection, schedule: ToRun, push: Push) -> Result<Ran> {
    let (id, queue_id) = (schedule.row.id, push.queue_id);
    // Its row is locked: no moment fires meanwhile, nobody puts it, and no other run by hand goes on.
    let last = moments::lock(&mut *tx, KIND, id).await?;
    // The key comes before all that may be said against a second message: there will be none.
    if let Some(Claim::Leads { key, .. }) = &push.key
        && pushes::former(&mut *tx, queue_id, &key.key).await?.is_some()
    {
        return Ok(Ran::Before);
    }
    let last = last.ok_or_else(no_schedule)?;
    let now = schedules::to_run(&mut *tx, queue_id, &schedule.row.name).await?.ok_or_else(no_schedule)?;
    if now.row.definition.get() != schedule.row.definition.get() {
        return Ok(Ran::Changed);
    }
    let skips = place::stored(&schedule.row).is_some_and(|schedule| schedule.overlap == Overlap::Skip);
    if let Some(last) = last.filter(|_| skips)
        && schedules::is_unfinished(&mut *tx, queue_id, last).await?
    {
        let words = "the message before has not ended, and this schedule skips what would overlap with it";
        return Err(Error::Conflict(words.to_owned()));
    }
    let message = push.id;
    let stored = if push.is_identified() {
        let one = identified::one(&mut *tx, push, PATIENCE).await;
        one.map_err(|error| if is_held(&error) { uniqueness::held() } else { error.into() })?
    } else {
        pushes::push_apart(&mut *tx, &[&push], PATIENCE).await?
    };
    if stored.missing.contains(&queue_id) {
        return Err(no_queue());
    }
    if stored.held.contains(&message) {
        return Err(idempotency::held());
    }
    if let Some(told) = stored.told.get(&message) {
        if told.what == Verdict::Replaced {
            moments::note_by_hand(tx, KIND, id, told.message).await?;
        }
        return Ok(Ran::Held(*told));
    }
    if !stored.stored.contains(&message) {
        return Ok(Ran::Before);
    }
    moments::note_by_hand(tx, KIND, id, message).await?;
    Ok(Ran::Pushed)
}
