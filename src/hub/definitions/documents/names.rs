//! What may stand in the addresses and members of the hub, as `/openapi.json` says it.

use serde::{Deserialize, Serialize};

/// The name of a store.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$", example = "shop")]
pub struct StoreName(pub String);

/// The name of an endpoint, a mapping or a poller.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$", example = "warehouse")]
pub struct DefinitionName(pub String);

/// The name of a parameter.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(min_length = 1, max_length = 100, pattern = r"^\S(.*\S)?$", example = "api_key")]
pub struct ParameterName(pub String);

/// The key of a message: words of letters, digits, `_` and `-`, with colons or dots between. Those that begin with
/// `hub:` are the hub's own.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(max_length = 255, pattern = "^[A-Za-z0-9_-]+([.:][A-Za-z0-9_-]+)*$", example = "order:new")]
pub struct MessageKey(pub String);

/// The key of a message, or the beginning of some: `order:new`, or `order:*` and `invoice.*` for all that begin so.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(max_length = 255, pattern = r"^[A-Za-z0-9_-]+([.:][A-Za-z0-9_-]+)*([.:]\*)?$", example = "order:*")]
pub struct MessagePattern(pub String);

/// A place in a message: `message`, `message_id`, or `payload` and names and numbers below it, with dots between; `*` is
/// every item.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(
    max_length = 500,
    pattern = r"^(message|message_id|payload(\.[^.]+){0,31})$",
    example = "payload.order.number"
)]
pub struct MessagePath(pub String);

/// A secret of Standard Webhooks: `whsec_` and 24 to 64 bytes in base64; or `[redacted]` for the one that is stored at
/// this place.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(
    pattern = r"^(whsec_[A-Za-z0-9+/]{32,88}={0,2}|\[redacted\])$",
    example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
)]
pub struct SigningSecret(pub String);
