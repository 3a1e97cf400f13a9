//! Quick jump: one field that takes any id or name, and says where it is.

use crate::auth::{Authenticated, Caller, Verifier};
use crate::error::{Error, Result};
use crate::http::extract::Query;
use crate::http::openapi::{OpenApiRouter, Problems, routes};
use crate::http::place::{Place, Wanted};
use crate::hub::state::Hub;
use crate::jobs::routes::Jobs;
use crate::queues::routes::Queues;
use crate::{hub, jobs, queues};
use axum::Json;
use axum::extract::{FromRef, State};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The longest text that is looked for, in characters: an idempotency key has no more.
const LONGEST: usize = 255;

/// What every feature is asked with.
#[derive(Clone)]
struct Jump {
    queues: Queues,
    jobs: Jobs,
    hub: Hub,
}

impl FromRef<Jump> for Arc<Verifier> {
    fn from_ref(jump: &Jump) -> Self {
        Arc::clone(&jump.queues.verifier)
    }
}

/// The route, over all features.
pub(super) fn routes(queues: &Queues, jobs: &Jobs, hub: &Hub) -> OpenApiRouter {
    let state = Jump { queues: queues.clone(), jobs: jobs.clone(), hub: hub.clone() };
    OpenApiRouter::new().routes(routes!(jump)).with_state(state)
}

/// What is looked for.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Asked {
    /// An id, a number or a name, whole and in its spelling; 1 to 255 characters.
    #[param(
        required = true,
        min_length = 1,
        max_length = 255,
        example = "0193e0b4-7a5c-7d3e-8f4a-2b9c1d0e5f6a"
    )]
    q: Option<String>,
}

/// Where it is.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Places {
    /// Every place that the caller may read, ids in front; none when there is nothing of this id or name.
    places: Vec<Place>,
}

/// Says where something is: a message, a delivery, a message of the hub or a job by its id; whatever a lease holds; what a
/// push or a creation made with an idempotency key; a queue, store, endpoint, mapping, poller or kind of jobs by its name.
/// Only places that the caller may read.
#[utoipa::path(
    get, path = "/jump", tag = "operations", operation_id = "jump",
    params(Asked),
    responses((status = 200, description = "The places", body = Places), Problems),
)]
async fn jump(
    Authenticated(caller): Authenticated,
    State(jump): State<Jump>,
    query: Result<Query<Asked>>,
) -> Result<Json<Places>> {
    let text = query.as_ref().ok().and_then(|Query(asked)| asked.q.as_deref()).unwrap_or_default();
    let is_good = (1..=LONGEST).contains(&text.trim().chars().count());
    let wanted = Wanted::new(if is_good { text } else { "" });
    // First, so that whoever may read nothing is told that, whatever it asks.
    let places = find(&jump, &caller, &wanted).await?;
    query?;
    if !is_good {
        return Err(Error::BadRequest(format!("`q` must have 1 to {LONGEST} characters")));
    }
    Ok(Json(Places { places }))
}

/// Where it is, in every feature of which the caller may read something.
async fn find(jump: &Jump, caller: &Caller, wanted: &Wanted) -> Result<Vec<Place>> {
    let pool = &jump.hub.db.api;
    let found = [
        queues::jump::jump(&jump.queues.access, caller, wanted).await?,
        hub::jump::jump(pool, caller, wanted).await?,
        jobs::jump::jump(pool, &jump.jobs.types, caller, wanted).await?,
    ];
    if found.iter().all(Option::is_none) {
        return Err(Error::Forbidden("no role of this token lets it read anything".to_owned()));
    }
    let mut places: Vec<Place> = found.into_iter().flatten().flatten().collect();
    places.sort();
    places.dedup();
    Ok(places)
}
