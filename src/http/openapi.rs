//! The description of every route, made from the declarations that also make the router.
//!
//! A feature declares a route once, above its handler, and hands all of them over with [`routes!`]:
//!
//! ```ignore
//! /// Read one message.
//! #[utoipa::path(
//!     get,
//!     path = "/queues/{queue}/messages/{id}",
//!     tag = "queues",
//!     params(("queue" = inline(QueueName), Path, description = "The queue"), ("id" = Uuid, Path, description = "The message")),
//!     responses((status = OK, description = "The message", body = Message), Problems),
//! )]
//! async fn read(State(state): State<Queues>, Path((queue, id)): Path<(String, Uuid)>) -> Result<Json<Message>> {
//!     Ok(Json(store::read(&state.pool, &queue, id).await?))
//! }
//!
//! pub fn routes() -> OpenApiRouter<AppState> {
//!     OpenApiRouter::new().routes(routes!(read, delete)).routes(routes!(push))
//! }
//! ```
//!
//! `State<Queues>` is taken from the state of the application by `impl FromRef<AppState> for Queues`, so that a
//! feature knows only its own part. Handlers of one path go into one `routes!`. Use [`super::extract::Path`]
//! and [`super::extract::Query`], whose refusals are problem documents. Every route needs a token unless it says
//! `security(())`.

mod document;
mod shapes;

pub(super) use document::Document;
pub use shapes::{both, either, tag};

use crate::error::{Problem, Violation};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{IntoResponses, Modify, OpenApi};
use utoipa_swagger_ui::{Config, SwaggerUi};

pub use utoipa_axum::router::OpenApiRouter;
pub use utoipa_axum::routes;

#[derive(OpenApi)]
#[openapi(
    info(title = "Postrider", description = "Queues, job channels and a delivery hub on PostgreSQL"),
    servers((url = "/", description = "This server")),
    components(schemas(Problem, Violation)),
    modifiers(&Tokens),
    security(("bearer" = []), ("x-access-token" = []))
)]
struct Base;

struct Tokens;

impl Modify for Tokens {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        let header = ApiKey::Header(ApiKeyValue::with_description(
            "x-access-token",
            "The same token; it wins when both headers are present",
        ));
        let components = api.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        components.add_security_scheme("x-access-token", SecurityScheme::ApiKey(header));
    }
}

/// The document before any route is in it: what it is about, how to authenticate, how errors look.
pub(super) fn base() -> utoipa::openapi::OpenApi {
    Base::openapi()
}

/// The refusals that every authenticated route has: list it among the `responses`.
#[derive(Debug, IntoResponses)]
#[expect(dead_code, reason = "it only describes")]
pub enum Problems {
    /// The query, or the body, cannot be read.
    #[response(status = 400, content_type = "application/problem+json",
        example = json!({"type": "about:blank", "title": "Bad Request", "status": 400, "detail": "there is no query parameter `dealy` here; known: `delay`, `run_at`, `priority`"}))]
    BadRequest(Problem),
    /// No token, or one that does not hold.
    #[response(status = 401, content_type = "application/problem+json",
        example = json!({"type": "about:blank", "title": "Unauthorized", "status": 401, "detail": "the token has expired"}))]
    Unauthorized(Problem),
    /// A good token without the right.
    #[response(status = 403, content_type = "application/problem+json",
        example = json!({"type": "about:blank", "title": "Forbidden", "status": 403, "detail": "no role of this token opens this queue"}))]
    Forbidden(Problem),
    /// Not there, or not for this caller to see.
    #[response(status = 404, content_type = "application/problem+json",
        example = json!({"type": "about:blank", "title": "Not Found", "status": 404, "detail": "there is no such queue"}))]
    NotFound(Problem),
    /// This caller asks for too much at a time: try again after `Retry-After` seconds.
    #[response(status = 429, content_type = "application/problem+json", headers(("Retry-After" = u64)),
        example = json!({"type": "about:blank", "title": "Too Many Requests", "status": 429, "detail": "too many requests of this caller are in flight"}))]
    TooManyRequests(Problem),
    /// A failure of the server.
    #[response(status = 500, content_type = "application/problem+json",
        example = json!({"type": "about:blank", "title": "Internal Server Error", "status": 500}))]
    Internal(Problem),
    /// Not now: try again after `Retry-After` seconds.
    #[response(status = 503, content_type = "application/problem+json",
        example = json!({"type": "about:blank", "title": "Service Unavailable", "status": 503, "detail": "the database cannot serve this now"}), headers(("Retry-After" = u64)))]
    Unavailable(Problem),
}

/// The refusal of a route that needs no token.
#[derive(Debug, IntoResponses)]
#[expect(dead_code, reason = "it only describes")]
pub enum OpenProblems {
    /// The query has a parameter that is not known here.
    #[response(status = 400, content_type = "application/problem+json",
        example = json!({"type": "about:blank", "title": "Bad Request", "status": 400, "detail": "there is no query parameter `x` here; known: none"}))]
    BadRequest(Problem),
}

/// The refusals of a route that reads a JSON body, beside [`Problems`].
#[derive(Debug, IntoResponses)]
#[expect(dead_code, reason = "it only describes")]
pub enum BodyProblems {
    /// The body did not arrive in time.
    #[response(status = 408, content_type = "application/problem+json",
        example = json!({"type": "about:blank", "title": "Request Timeout", "status": 408, "detail": "the body did not arrive in time"}))]
    RequestTimeout(Problem),
    /// The body is larger than the limit.
    #[response(status = 413, content_type = "application/problem+json",
        example = json!({"type": "about:blank", "title": "Content Too Large", "status": 413, "detail": "the body is larger than 1048576 bytes"}))]
    TooLarge(Problem),
    /// The body does not call itself JSON.
    #[response(status = 415, content_type = "application/problem+json",
        example = json!({"type": "about:blank", "title": "Unsupported Media Type", "status": 415, "detail": "the body must be JSON: send `content-type: application/json`"}))]
    UnsupportedMediaType(Problem),
    /// The body breaks a rule; every violation is listed.
    #[response(status = 422, content_type = "application/problem+json",
        example = json!({"type": "about:blank", "title": "Unprocessable Entity", "status": 422, "detail": "the definition breaks a rule",
            "errors": [{"pointer": "/options/timeout", "keyword": "duration", "message": "must be a duration as text, such as \"30s\" or \"1h30m\""}]}))]
    Invalid(Problem),
}

/// This document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "operations",
    security(()),
    responses(
        (status = OK, description = "This document (OpenAPI 3.1)", body = std::collections::HashMap<String, serde_json::Value>, example = json!({"openapi": "3.1.0"})),
        OpenProblems,
    )
)]
pub(super) async fn document(State(document): State<Document>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], document.bytes())
}

/// What the pages of `/docs` may do: their own scripts, styles and images, and requests to this server.
const DOCS_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// `/docs`: the document for reading, from files inside the binary.
pub(super) fn docs() -> Router {
    // Without "none", Swagger UI asks a validator on the internet about the document.
    let config = Config::from("/openapi.json").validator_url("none").try_it_out_enabled(true);
    Router::from(SwaggerUi::new("/docs").config(config)).layer(map_response(
        async |mut response: Response| {
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(DOCS_POLICY));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
            response
        },
    ))
}
