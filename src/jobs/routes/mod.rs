//! The job channels over HTTP, at the root of the API.
//!
//! The order of checks: 404 type, 401 token, 403 role, 404 job (not there, or not the caller's), then the
//! body, then what the job's state refuses (409, 410).

mod account;
mod broadcasts;
mod cardholders;
mod claim;
mod create;
pub mod documented;
mod edge;
mod entry;
mod job;
mod once;
mod registrations;
mod requests;
mod responses;
mod session;
mod signed;
mod sites;
mod state;
mod status;
mod stream;
mod view;
mod why;

use crate::error::Error;
use crate::jobs::sdk::signature;
use axum::middleware::from_fn_with_state;
pub use edge::HEADER_PREFIX;
pub use state::Jobs;
use utoipa::OpenApi as _;
use utoipa::openapi::RefOr;
use utoipa::openapi::path::{ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityScheme};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};
use utoipa_axum::routes;

/// The addresses that may wait, as the router has them: see [`crate::http::limits::InFlight`].
pub const LONG_POLLS: [&str; 6] = [
    "/{job_type}/claim",
    "/{job_type}/claim/",
    "/messages/{job_type}/{job_id}/broadcasts",
    "/messages/{job_type}/{job_id}/broadcasts/",
    "/messages/{job_type}/{job_id}/broadcasts/stream",
    "/messages/{job_type}/{job_id}/broadcasts/stream/",
];

/// How the reference groups the routes.
#[derive(utoipa::OpenApi)]
#[openapi(modifiers(&Keys), tags(
    (name = "jobs", description = "Create, list, read and cancel jobs"),
    (name = "job channels", description = "Follow a job, and answer what it asks"),
    (name = "job workers", description = "Take jobs, say how far they are, ask their owners"),
    (name = "sessions", description = "Log in with the vendor's client, whose requests are signed and whose bodies are encrypted"),
))]
struct Groups;

/// How one calls these routes beside the ways of all others.
struct Keys;

impl utoipa::Modify for Keys {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let session =
            ApiKeyValue::with_description(edge::SESSION, "The token, as clients in the field send it");
        let key =
            ApiKeyValue::with_description("access_key", "The access key of a registration, for a stream");
        let components = api.components.get_or_insert_default();
        components.add_security_scheme(edge::SESSION, SecurityScheme::ApiKey(ApiKey::Header(session)));
        components.add_security_scheme("access_key", SecurityScheme::ApiKey(ApiKey::Query(key)));
        let signature = ApiKeyValue::with_description(
            signature::SIGNATURE,
            "HMAC-SHA256 of the request, with `x-cardsavr-authorization` and `x-cardsavr-nonce`, in base64",
        );
        components.add_security_scheme("signature", SecurityScheme::ApiKey(ApiKey::Header(signature)));
    }
}

/// All routes of the job channels.
pub fn router(jobs: Jobs) -> OpenApiRouter {
    let all = [
        routes!(create::create, create::list),
        routes!(job::get, job::put),
        routes!(why::why),
        routes!(claim::claim),
        routes!(registrations::register, registrations::register_by_get),
        routes!(broadcasts::read, broadcasts::say),
        routes!(stream::by_query),
        routes!(requests::ask, requests::read),
        routes!(responses::answer, responses::pick_up),
        routes!(cardholders::of_job),
        routes!(cardholders::of_cardholder),
        routes!(account::replace),
        routes!(sites::list),
        routes!(sites::get),
        routes!(session::log_in),
        routes!(session::refresh),
        routes!(session::end),
    ];
    let mut api = all.into_iter().fold(OpenApiRouter::with_openapi(Groups::openapi()), with_slash);
    describe_trace(api.get_openapi_mut());
    describe_errors(api.get_openapi_mut());
    let api = api.layer(from_fn_with_state(jobs.clone(), edge::around));
    // Where nobody can log in, nobody pays for it.
    let api =
        if jobs.sdk.is_some() { api.layer(from_fn_with_state(jobs.clone(), signed::around)) } else { api };
    api.with_state(jobs)
}

/// Says of each error that clients in the field get it as plain JSON.
fn describe_errors(api: &mut utoipa::openapi::OpenApi) {
    let operations = api.paths.paths.values_mut().flat_map(|item| {
        [&mut item.get, &mut item.put, &mut item.post, &mut item.delete].into_iter().flatten()
    });
    for response in operations.flat_map(|operation| operation.responses.responses.values_mut()) {
        if let RefOr::T(response) = response
            && let Some(problem) = response.content.get("application/problem+json").cloned()
        {
            response.content.insert("application/json".to_owned(), problem);
        }
    }
}

/// Adds to each operation the header that is read around all of them.
fn describe_trace(api: &mut utoipa::openapi::OpenApi) {
    let words = "JSON with `key`: a word that stands in every line of the log about the request";
    let trace = ParameterBuilder::new()
        .name(edge::TRACE)
        .parameter_in(ParameterIn::Header)
        .description(Some(words))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .example(Some(serde_json::json!(r#"{"key":"my_trace"}"#)))
        .build();
    let operations = api.paths.paths.values_mut().flat_map(|item| {
        [&mut item.get, &mut item.put, &mut item.post, &mut item.delete].into_iter().flatten()
    });
    for operation in operations {
        operation.parameters.get_or_insert_default().push(trace.clone().into());
    }
}

/// Adds routes under their address, and under the same with a slash at its end, which is not described. A method
/// they do not answer to is refused here, behind the middleware: where there is no such type, there is nothing.
fn with_slash(
    api: OpenApiRouter<Jobs>,
    (schemas, paths, methods): UtoipaMethodRouter<Jobs>,
) -> OpenApiRouter<Jobs> {
    let addresses: Vec<String> = paths.paths.keys().map(|path| format!("{path}/")).collect();
    let methods = methods.fallback(|| async { Error::MethodNotAllowed });
    let api = api.routes((schemas, paths, methods.clone()));
    addresses.into_iter().fold(api, |api, path| api.route(&path, methods.clone()))
}
