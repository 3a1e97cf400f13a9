//! The queues over HTTP: each route is declared once, with its description.
//!
//! The order of checks is the same everywhere: 401 token, 404 queue, 403 role, then the body (413, 415,
//! 400), then the schema (422).

mod admin;
mod batch;
mod claim;
mod definitions;
mod heartbeat;
mod items;
mod messages;
mod remote;
mod schedules;
mod state;
mod view;
mod why;

pub use state::{Parts, Queues};
pub use view::Message;

use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How the reference groups the routes.
#[derive(utoipa::OpenApi)]
#[openapi(tags(
    (name = "queue messages", description = "Push, read and delete messages"),
    (name = "queue definitions", description = "What a queue takes, and what handles it"),
    (name = "queue schedules", description = "Which messages are pushed by themselves, and when"),
    (name = "queue workers", description = "Claim, keep and end messages from any program: the handler `worker`"),
    (name = "queue administration", description = "List, pause, run again"),
))]
struct Groups;

/// All routes of the queues.
pub fn routes() -> OpenApiRouter<Queues> {
    OpenApiRouter::with_openapi(Groups::openapi())
        .routes(routes!(messages::push, admin::list))
        .routes(routes!(batch::push_batch))
        .routes(routes!(messages::get, messages::delete))
        .routes(routes!(why::why))
        .routes(routes!(definitions::list_queues))
        .routes(routes!(definitions::put_queue, definitions::get_queue, definitions::delete_queue))
        .routes(routes!(definitions::put_handler))
        .routes(routes!(schedules::list, schedules::put_all))
        .routes(routes!(schedules::put, schedules::get, schedules::delete))
        .routes(routes!(schedules::run))
        .routes(routes!(admin::pause))
        .routes(routes!(admin::resume))
        .routes(routes!(admin::retry))
        .routes(routes!(admin::retry_many))
        .routes(routes!(claim::claim))
        .routes(routes!(heartbeat::heartbeat))
        .routes(routes!(remote::complete))
        .routes(routes!(remote::fail))
}
