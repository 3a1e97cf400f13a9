//! What is new of one job, or of all jobs of a cardholder, without keys: questions first, then statuses.

use super::broadcasts::{ROOM, full, sent};
use super::documented::{JobNews, JobTypeName};
use super::state::{Jobs, no_job};
use super::view;
use crate::auth::{Authenticated, Caller};
use crate::error::{Error, Result};
use crate::http::extract::Path;
use crate::http::openapi::Problems;
use crate::jobs::follow::BATCH;
use crate::jobs::message::{Message, read_on};
use crate::jobs::roles;
use crate::jobs::store::broadcasts::{self, Broadcast};
use crate::jobs::store::envelopes;
use crate::jobs::store::registrations::{self, Place};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;

/// Reads the pending question of a job, and what was said about it since the last such call.
#[utoipa::path(
    get, path = "/messages/{job_type}/{job_id}", tag = "job channels", operation_id = "read_job_messages",
    params(("job_type" = inline(JobTypeName), Path, description = "The kind of jobs"), ("job_id" = i64, Path, description = "The job's number", minimum = 1, example = 1)),
    responses((status = 200, description = "The question if there is one, then the unread statuses; a `gap` where some are past retention", body = Vec<JobNews>), Problems),
)]
pub(super) async fn of_job(
    Authenticated(caller): Authenticated,
    State(jobs): State<Jobs>,
    Path((name, id)): Path<(String, i64)>,
) -> Result<Response> {
    let job_type = jobs.job_type(&name)?;
    roles::require_agent(&caller)?;
    jobs.own(&job_type, id, &caller).await?;
    let place = registrations::place_in_job(&jobs.db.api, id, &caller.subject).await?.ok_or_else(no_job)?;
    unread(&jobs, &caller, "job", vec![place]).await
}

/// Reads the pending questions of a cardholder's jobs, and what was said about them since the last such call.
/// A cardholder agent reads of the jobs it created.
#[utoipa::path(
    get, path = "/messages/cardholders/{cardholder_id}", tag = "job channels", operation_id = "read_cardholder_messages",
    params(("cardholder_id" = i64, Path, description = "The cardholder", example = 7)),
    responses((status = 200, description = "Questions first, then the unread statuses of each job; a `gap` where some are past retention", body = Vec<JobNews>), Problems),
)]
pub(super) async fn of_cardholder(
    Authenticated(caller): Authenticated,
    State(jobs): State<Jobs>,
    Path(cardholder): Path<i64>,
) -> Result<Response> {
    roles::require_agent(&caller)?;
    let any = roles::follows_any(&caller);
    if !any && !registrations::has_jobs_for(&jobs.db.api, cardholder, &caller.subject).await? {
        return Err(Error::NotFound("there is no such cardholder".to_owned()));
    }
    let places =
        registrations::places_of_cardholder(&jobs.db.api, cardholder, &caller.subject, jobs.retention);
    let mut places = places.await?;
    places.retain(|place| any || roles::owns(&caller, &place.owner));
    unread(&jobs, &caller, "cardholder", places).await
}

/// What these places have not read. Each moves once, whoever polls at the same time; when another poll was
/// first, that one has the messages.
async fn unread(jobs: &Jobs, caller: &Caller, via: &str, places: Vec<Place>) -> Result<Response> {
    let mine: Vec<i64> =
        places.iter().filter(|place| roles::owns(caller, &place.owner)).map(|place| place.job_id).collect();
    let pending = if mine.is_empty() { Vec::new() } else { envelopes::pending(&jobs.db.api, &mine).await? };
    let behind: Vec<(i64, i64)> = places
        .iter()
        .filter(|place| place.cursor != place.newest)
        .map(|place| (place.job_id, place.cursor))
        .collect();
    let mut held = None;
    let mut found: Vec<(Place, Vec<Broadcast>)> = Vec::new();
    if !behind.is_empty() {
        held = timeout(ROOM, jobs.tails.room.enter(&caller.subject)).await.map_err(|_| full())?;
        let next = broadcasts::after_each(&jobs.db.api, &behind, jobs.retention, BATCH).await?;
        let mut next = next.into_iter().peekable();
        for place in places {
            let mut of_job = Vec::new();
            let mut seen = false;
            while let Some((_, broadcast)) = next.next_if(|(job, _)| *job == place.job_id) {
                seen = true;
                of_job.extend(broadcast);
            }
            if seen {
                found.push((place, of_job));
            }
        }
        let moves: Vec<(i64, i64, i64)> = found
            .iter()
            .map(|(place, of_job)| {
                // Of one that has nothing more all was too old, up to its newest.
                let to = of_job.last().map_or(place.newest, |last| last.seq);
                (place.job_id, place.cursor, to)
            })
            .collect();
        let read = registrations::advance_places(&jobs.db.api, &caller.subject, via, &moves).await?;
        found.retain(|(place, _)| read.contains(&place.job_id));
    }
    let messages: Vec<Message> = found
        .into_iter()
        .flat_map(|(place, of_job)| read_on(place.job_id, place.cursor, place.newest, of_job, false))
        .collect();
    let all = view::together(&pending, messages);
    Ok(match held {
        Some(held) => sent(all, held),
        None => Json(all).into_response(),
    })
}
