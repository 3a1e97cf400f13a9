//! The published shape of an endpoint.

use super::mapping::MappingOptions;
use super::signing::{EndpointHeader, EndpointSignature};
use crate::http::duration::DurationText;
use crate::hub::definitions::documents::names::{MessagePattern, SigningSecret};
use crate::hub::definitions::store::endpoints::ServiceCircuit;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::HashMap;

/// An endpoint: a server that deliveries are sent to. All but `url` may be absent; `null` reads as absent.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointDefinition {
    /// Services are paths below it. By `http` or `https`, without a user name, a password or a fragment.
    #[schema(
        min_length = 1,
        max_length = 2000,
        pattern = "^[Hh][Tt][Tt][Pp][Ss]?:",
        example = "https://warehouse.example.com/hub"
    )]
    pub url: String,
    /// What a request looks like. Absent, `messages`.
    pub wire: Option<EndpointWire>,
    /// Not of the wire `raw`. Sent as `X-Hub-Token` and `X-Augury-Token`: visible ASCII characters. `[redacted]` keeps the one that is stored.
    #[schema(min_length = 1, max_length = 2000, pattern = r"^[!-~]([\t -~]*[!-~])?$", example = "x123")]
    pub token: Option<String>,
    /// Secrets of Standard Webhooks, one signature each. The `webhook-id` that they sign is the delivery's id.
    #[schema(max_items = 4)]
    pub signing_secrets: Option<Vec<SigningSecret>>,
    /// Signatures of other forms, each in a header of its own.
    #[schema(max_items = 4)]
    pub sign: Option<Vec<EndpointSignature>>,
    /// Headers beside those of the hub, at most 20: texts with places, or secrets.
    #[schema(example = json!({"X-GitHub-Event": "{message}", "Authorization": {"secret": "Bearer 0123456789"}}))]
    pub headers: Option<HashMap<String, EndpointHeader>>,
    /// Keys such as `invoice.*`. A mapping of these messages to the URL itself is made, of the endpoint's name; it
    /// changes and goes with the endpoint.
    #[schema(max_items = 100, example = json!(["invoice.*"]))]
    pub events: Option<Vec<MessagePattern>>,
    /// The options of the mapping that `events` makes.
    pub options: Option<MappingOptions>,
    /// Requests at a time, of one process.
    #[schema(minimum = 1, maximum = 1000, default = 8)]
    pub concurrency: Option<u16>,
    /// How many requests are sent, over all processes; absent, no limit.
    pub rate: Option<EndpointRate>,
    /// How long a request may take: a duration from `1ms` to `1h`.
    #[schema(value_type = Option<DurationText>, default = "180s")]
    pub timeout: Option<String>,
    /// When it is left alone.
    pub breaker: Option<EndpointBreaker>,
    /// When it is switched off (`enabled` becomes `false`, and its deliveries wait). Absent, never.
    pub disable: Option<EndpointDisable>,
    /// Whether anything is sent to it.
    #[schema(default = true)]
    pub enabled: Option<bool>,
    /// In the answer to a GET only: how the endpoint does. A PUT ignores it.
    #[serde(default)]
    #[schema(read_only)]
    pub state: EndpointState,
}

/// What a request looks like.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EndpointWire {
    /// A POST of `{"message", "message_id", "store_id", "payload"}` with the hub's own headers.
    Messages,
    /// The payload as it was pushed, to the byte, and no header but those that the definitions name.
    Raw,
}

/// When an endpoint is switched off: once so many attempts in a row have failed, the first of them so long ago. One of
/// the two is required. `hub:endpoint_disabled` tells it.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointDisable {
    /// Failed attempts in a row, over all services and processes. Absent, 1.
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub failures: Option<u32>,
    /// Since the first of them: a duration from `1ms` to 366 days. Absent, no time.
    #[schema(value_type = Option<DurationText>, example = "5d")]
    pub after: Option<String>,
}

/// How many requests an endpoint is sent, over all processes.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointRate {
    /// Requests a second, in the long run.
    #[schema(minimum = 0.001, maximum = 10000.0, example = 10.0)]
    pub per_second: f64,
    /// Requests at once after a pause. Absent, those of one second.
    #[schema(minimum = 1, maximum = 10000)]
    pub burst: Option<u32>,
}

/// When an endpoint is left alone: after so many failures in a row, for the cooldown; then it is tried one delivery at a
/// time. It is the endpoint where it could not be reached, else only the service that failed.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointBreaker {
    /// Failures in a row.
    #[schema(minimum = 1, maximum = 1_000_000, default = 5)]
    pub failures: Option<u32>,
    /// How long it is left alone: a duration from `1ms` to `24h`.
    #[schema(value_type = Option<DurationText>, default = "30s")]
    pub cooldown: Option<String>,
}

/// How an endpoint does.
#[derive(Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EndpointState {
    /// What its `endpoint.json` said when it was imported.
    #[schema(value_type = Option<std::collections::HashMap<String, serde_json::Value>>)]
    pub catalogue: Option<Box<RawValue>>,
    /// Attempts in a row that did not reach it, when its circuit last opened.
    pub failures: i32,
    /// Until when its circuit is open: nothing is sent to it.
    pub open_until: Option<DateTime<Utc>>,
    /// Those of its services that answer badly, or not in time, and are left alone.
    pub services: Vec<ServiceCircuit>,
    /// When it first answered 410.
    pub gone_at: Option<DateTime<Utc>>,
    /// When its failures switched it off (`disable`); null once it was put with `enabled: true`.
    pub disabled_at: Option<DateTime<Utc>>,
    /// Of one with `disable`: since when all attempts have failed; null if the last succeeded.
    pub failing_since: Option<DateTime<Utc>>,
    /// When it was first put.
    pub created_at: DateTime<Utc>,
    /// When it was last put.
    pub updated_at: DateTime<Utc>,
}

#[cfg(test)]
mod tests {
    use super::super::tests::keywords;
    use super::*;
    use crate::http::published::Published;
    use crate::hub::definitions::documents::PutEndpoint;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_the_published_schema_of_an_endpoint_allows_is_read_and_what_it_refuses_is_not(
            picks in proptest::collection::vec(any::<u32>(), 120),
        ) {
            // A token and the wire raw do not go together, nor several secrets without a separator, nor options without
            // events.
            let between = ["wire", "separator", "uniqueItems", "dependentRequired", "minProperties", "minimum"];
            let beyond = ["url", "pattern", "template", "header", "claim", "type", "path", "word", "content_type"];
            let published = Published::of::<EndpointDefinition>();
            published.agrees(&picks, &between, &beyond, |document| keywords(PutEndpoint::read(document)))?;
        }
    }
}
