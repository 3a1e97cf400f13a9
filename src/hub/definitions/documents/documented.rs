//! The published shapes of endpoints, mappings and parameters: what `/openapi.json` says of them, with each member's
//! meaning, range and default. They are read by hand, to report every violation at once; the tests below hold shapes
//! and readers together.

use serde::{Deserialize, Serialize};
use serde_json::Value;
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
    /// Sent as `X-Hub-Token` and `X-Augury-Token`: visible ASCII characters. `[redacted]` keeps the one that is stored.
    #[schema(min_length = 1, max_length = 2000, example = "x123")]
    pub token: Option<String>,
    /// Secrets of Standard Webhooks: `whsec_` and 24 to 64 bytes in base64, one signature each. `[redacted]` keeps the
    /// one that is stored at that place. The `webhook-id` that they sign is the delivery's id.
    #[schema(max_items = 4, example = json!(["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]))]
    pub signing_secrets: Option<Vec<String>>,
    /// Requests at a time, of one process.
    #[schema(minimum = 1, maximum = 1000, default = 8)]
    pub concurrency: Option<u16>,
    /// How many requests are sent, over all processes; absent, no limit.
    pub rate: Option<EndpointRate>,
    /// How long a request may take: a duration from `1ms` to `1h`.
    #[schema(example = "180s", default = "180s")]
    pub timeout: Option<String>,
    /// When it is left alone.
    pub breaker: Option<EndpointBreaker>,
    /// Whether anything is sent to it.
    #[schema(default = true)]
    pub enabled: Option<bool>,
    /// In the answer to a GET only: how the endpoint does. A PUT ignores it.
    #[schema(read_only)]
    pub state: Option<HashMap<String, Value>>,
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
    #[schema(minimum = 1, maximum = 1000000, default = 5)]
    pub failures: Option<u32>,
    /// How long it is left alone: a duration from `1ms` to `24h`.
    #[schema(example = "30s", default = "30s")]
    pub cooldown: Option<String>,
}

/// A mapping: which messages are sent to which service of an endpoint, and how. `messages` or a `schedule` is required
/// beside `endpoint` and `service`; `null` reads as absent.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MappingDefinition {
    /// The name of the endpoint.
    #[schema(min_length = 1, max_length = 100, pattern = r"^\S(.*\S)?$", example = "warehouse")]
    pub endpoint: String,
    /// The service, as a path below the endpoint's URL.
    #[schema(min_length = 1, max_length = 500, example = "drop_ship")]
    pub service: String,
    /// Keys such as `order:new`, or `order:*` for all that begin so. `hub:*` is what the hub says of itself:
    /// `hub:endpoint_failing`, `hub:endpoint_recovered`, `hub:endpoint_gone`, `hub:delivery_parked`,
    /// `hub:poller_failing`.
    #[schema(max_items = 100, example = json!(["order:new"]))]
    pub messages: Option<Vec<String>>,
    /// Names of the parameters that are sent along.
    #[schema(example = json!(["api_key"]))]
    pub parameters: Option<Vec<String>>,
    /// What a message must be like, beside its key; all must hold.
    #[schema(max_items = 50)]
    pub filters: Option<Vec<MappingFilter>>,
    /// Names and paths, at most 20: messages of the same values are sent once.
    #[schema(example = json!({"order_number": "payload.order.number"}))]
    pub identifiers: Option<HashMap<String, String>>,
    /// How it is sent.
    pub options: Option<MappingOptions>,
    /// When the service is sent a message by itself.
    pub schedule: Option<MappingSchedule>,
    /// Whether it sends; one that does not holds its deliveries.
    #[schema(default = true)]
    pub enabled: Option<bool>,
    /// In the answer to a GET only: how the mapping does. A PUT ignores it.
    #[schema(read_only)]
    pub state: Option<HashMap<String, Value>>,
}

/// What a message must be like for a mapping to take it.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MappingFilter {
    /// Where to look: `message`, `message_id`, or `payload` and names and numbers below it, with dots between; `*` is
    /// every item.
    #[schema(min_length = 1, max_length = 500, example = "payload.order.total")]
    pub path: String,
    /// How to compare.
    pub operator: FilterOperator,
    /// What to compare with; all operators but `present` and `empty` need it. A number or a text for `gt` and `lt`, a
    /// text for `begin` and `end`, a regular expression of at most 1,000 bytes for `match`.
    #[schema(example = "10")]
    pub value: Option<Value>,
    /// Which of several values must be so; absent, `all` for `neq` and `any` for the others.
    pub match_rule: Option<MatchRule>,
}

/// How a filter compares.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FilterOperator {
    /// The same.
    Eq,
    /// Not the same.
    Neq,
    /// Greater.
    Gt,
    /// Less.
    Lt,
    /// Begins with the text.
    Begin,
    /// Has the text, or the item.
    Contains,
    /// Ends in the text.
    End,
    /// There, and not empty.
    Present,
    /// Not there, or empty.
    Empty,
    /// Matches the regular expression.
    Match,
}

/// Which of several values a filter wants.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MatchRule {
    /// Each of them.
    All,
    /// One of them.
    Any,
}

/// How a mapping's messages are sent.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MappingOptions {
    /// Which answers count as received: `strict`, 200 with our `message_id`; `lenient`, any 2xx. Absent, `strict`.
    pub ack: Option<MappingAck>,
    /// Whether a delivery that failed is tried again.
    #[schema(default = true)]
    pub retries_allowed: Option<bool>,
    /// The most attempts; absent, no limit.
    #[schema(minimum = 1, maximum = 1000000)]
    pub max_attempts: Option<u32>,
    /// How old a delivery may grow: a duration from `1s` to 3660 days; absent, no limit.
    #[schema(example = "7days")]
    pub max_age: Option<String>,
    /// The pause before another attempt.
    pub retry: Option<MappingRetry>,
    /// Whether deliveries go one after the other: `false`, `true`, or a path, one after the other of each value. Absent,
    /// `false`.
    #[schema(example = "payload.order.number")]
    pub serial: Option<MappingSerial>,
    /// Keys that answers may bring; absent, any.
    #[schema(max_items = 100, example = json!(["order:*"]))]
    pub allow_responses: Option<Vec<String>>,
    /// How often one chain of answers may bring it the same key; a further time is parked as a loop.
    #[schema(minimum = 1, maximum = 25, default = 1)]
    pub revisit: Option<u16>,
    /// How long a request may take: a duration from `1ms` to `1h`; absent, as the endpoint says.
    #[schema(example = "30s")]
    pub timeout: Option<String>,
    /// Which parameters an answer may set beside new ones: `sent`, those that the service is sent; `any`, also those of
    /// other integrations. Absent, `sent`.
    pub parameters: Option<SettableParameters>,
}

/// Which answers count as received.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MappingAck {
    /// 200 with our `message_id`.
    Strict,
    /// Any 2xx.
    Lenient,
}

/// Which parameters an answer may set beside new ones.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SettableParameters {
    /// Those that the service is sent.
    Sent,
    /// Also those of other integrations.
    Any,
}

/// Whether deliveries go one after the other.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum MappingSerial {
    /// All of them, or none.
    Switch(bool),
    /// Those of the same value at this path.
    By(String),
}

/// The pause before another attempt: it begins at `base` and grows to `cap`.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MappingRetry {
    /// The first pause: a duration from `1ms` to `24h`. Absent, `5s`, or `cap` where that is shorter.
    #[schema(example = "5s")]
    pub base: Option<String>,
    /// The longest pause: a duration from `base` to `7days`. Absent, `1h`, or `base` where that is longer.
    #[schema(example = "1h")]
    pub cap: Option<String>,
}

/// When a service is sent a message by itself: `every`, or `cron` with `timezone`.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MappingSchedule {
    /// The interval: a duration from `1s` to 366 days.
    #[schema(example = "5m")]
    pub every: Option<String>,
    /// A cron expression of five fields.
    #[schema(max_length = 255, example = "0 6 * * *")]
    pub cron: Option<String>,
    /// The time zone of `cron`, by its name. Absent, `UTC`.
    #[schema(example = "Europe/Berlin")]
    pub timezone: Option<String>,
    /// The key of the message.
    #[schema(min_length = 1, example = "orders:poll")]
    pub message: String,
}

/// A parameter: a value that integrations are sent.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ParameterDefinition {
    /// The value. `[redacted]` keeps a password that is stored.
    pub value: ParameterValue,
    /// What the value is. Absent, what its JSON is; `password` is sealed and never shown again.
    pub data_type: Option<ParameterType>,
    /// In the answer to a GET only: when it was last set. A PUT ignores it.
    #[schema(read_only)]
    pub state: Option<HashMap<String, Value>>,
}

/// The value of a parameter.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum ParameterValue {
    /// For string and password, of which the longest has 10,000 bytes.
    Text(String),
    /// For integer and float.
    Number(f64),
    /// For boolean.
    Boolean(bool),
    /// For list.
    List(Vec<Value>),
}

/// What a parameter's value is.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ParameterType {
    /// A text.
    String,
    /// A whole number.
    Integer,
    /// A number.
    Float,
    /// `true` or `false`.
    Boolean,
    /// A list.
    List,
    /// A text that is sealed and never shown again.
    Password,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::http::published::Published;
    use crate::hub::definitions::documents::{PutEndpoint, PutParameter};
    use crate::hub::definitions::mapping::Definition;
    use proptest::prelude::*;

    fn keywords<T>(read: Result<T, Error>) -> Result<(), Vec<String>> {
        match read {
            Ok(_) => Ok(()),
            Err(Error::Invalid(_, found)) => Err(found.into_iter().map(|one| one.keyword).collect()),
            Err(other) => Err(vec![other.to_string()]),
        }
    }

    proptest! {
        #[test]
        fn what_the_published_schema_of_an_endpoint_allows_is_read_and_what_it_refuses_is_not(
            picks in proptest::collection::vec(any::<u32>(), 60),
        ) {
            let beyond = ["url", "token", "pattern", "duration"];
            let published = Published::of::<EndpointDefinition>();
            published.agrees(&picks, &[], &beyond, |document| keywords(PutEndpoint::read(document)))?;
        }

        #[test]
        fn what_the_published_schema_of_a_mapping_allows_is_read_and_what_it_refuses_is_not(
            picks in proptest::collection::vec(any::<u32>(), 120),
        ) {
            // A schedule has one timing; there are messages or a schedule; most operators want a value.
            let between = ["required", "minItems", "oneOf", "dependentRequired"];
            let beyond =
                ["pattern", "duration", "path", "word", "cron", "timezone", "type", "regex", "service", "minimum"];
            let published = Published::of::<MappingDefinition>();
            published.agrees(&picks, &between, &beyond, |document| keywords(Definition::read(document)))?;
        }

        #[test]
        fn what_the_published_schema_of_a_parameter_allows_is_read_and_what_it_refuses_is_not(
            picks in proptest::collection::vec(any::<u32>(), 20),
        ) {
            // The value is of the data type.
            let published = Published::of::<ParameterDefinition>();
            published.agrees(&picks, &["type"], &[], |document| keywords(PutParameter::read(document)))?;
        }
    }
}
