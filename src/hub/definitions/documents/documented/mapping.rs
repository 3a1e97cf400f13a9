//! The published shape of a mapping.

use super::signing::HeaderText;
use crate::http::duration::DurationText;
use crate::hub::definitions::documents::names::{MessageKey, MessagePath, MessagePattern, ParameterName};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;

/// A mapping: which messages are sent to which service of an endpoint, and how. `messages` or a `schedule` is required
/// beside `endpoint` and `service`; `null` reads as absent.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MappingDefinition {
    /// The name of the endpoint.
    #[schema(min_length = 1, max_length = 100, pattern = r"^\S(.*\S)?$", example = "warehouse")]
    pub endpoint: String,
    /// The service, as a path below the endpoint's URL; empty for that itself.
    #[schema(max_length = 500, pattern = r##"^[!-"$-\[\]-~]*$"##, example = "drop_ship")]
    pub service: String,
    /// Keys such as `order:new`, or `order:*` and `invoice.*` for all that begin so. `hub:*` is what the hub says of
    /// itself: `hub:endpoint_failing`, `hub:endpoint_recovered`, `hub:endpoint_gone`, `hub:endpoint_disabled`,
    /// `hub:delivery_parked`, `hub:poller_failing`.
    #[schema(max_items = 100, example = json!(["order:new"]))]
    pub messages: Option<Vec<MessagePattern>>,
    /// Names of the parameters that are sent along.
    #[schema(example = json!(["api_key"]))]
    pub parameters: Option<Vec<ParameterName>>,
    /// What a message must be like, beside its key; all must hold.
    #[schema(max_items = 50)]
    pub filters: Option<Vec<MappingFilter>>,
    /// Names and paths, at most 20: messages of the same values are sent once.
    #[schema(example = json!({"order_number": "payload.order.number"}))]
    pub identifiers: Option<HashMap<String, MessagePath>>,
    /// How it is sent.
    pub options: Option<MappingOptions>,
    /// When the service is sent a message by itself.
    pub schedule: Option<MappingSchedule>,
    /// Whether it sends; one that does not holds its deliveries.
    #[schema(default = true)]
    pub enabled: Option<bool>,
    /// In the answer to a GET only: how the mapping does. A PUT ignores it.
    #[serde(default)]
    #[schema(read_only)]
    pub state: MappingState,
}

/// What a message must be like for a mapping to take it.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MappingFilter {
    /// Where to look.
    pub path: MessagePath,
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
    /// Which answers count as received: `strict`, 200 with our `message_id`; `lenient`, any 2xx. Absent, `strict`, and
    /// `lenient` of an endpoint whose `wire` is `raw`.
    pub ack: Option<MappingAck>,
    /// Of the wire `raw`: the method. Absent, POST.
    pub method: Option<MappingMethod>,
    /// Of the wire `raw`: the content type, some type of JSON. Absent, `application/json`.
    #[schema(min_length = 3, max_length = 100, example = "application/json; charset=utf-8")]
    pub content_type: Option<String>,
    /// Headers, at most 20, beside those of the endpoint and in the place of those of the same name.
    #[schema(example = json!({"X-Shopify-Topic": "orders/create"}))]
    pub headers: Option<HashMap<String, HeaderText>>,
    /// Whether a delivery that failed is tried again.
    #[schema(default = true)]
    pub retries_allowed: Option<bool>,
    /// The most attempts; absent, no limit.
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub max_attempts: Option<u32>,
    /// How old a delivery may grow: a duration from `1s` to 3660 days; absent, no limit.
    #[schema(value_type = Option<DurationText>)]
    pub max_age: Option<String>,
    /// The pause before another attempt.
    pub retry: Option<MappingRetry>,
    /// Whether deliveries go one after the other: `false`, `true`, or a path, one after the other of each value. Absent,
    /// `false`.
    pub serial: Option<MappingSerial>,
    /// Keys that answers may bring; absent, any.
    #[schema(max_items = 100, example = json!(["order:*"]))]
    pub allow_responses: Option<Vec<MessagePattern>>,
    /// How often one chain of answers may bring it the same key; a further time is parked as a loop.
    #[schema(minimum = 1, maximum = 25, default = 1)]
    pub revisit: Option<u16>,
    /// How long a request may take: a duration from `1ms` to `1h`; absent, as the endpoint says.
    #[schema(value_type = Option<DurationText>)]
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

/// The method of a request.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum MappingMethod {
    /// POST.
    Post,
    /// PUT.
    Put,
    /// PATCH.
    Patch,
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
    By(MessagePath),
}

/// The pause before another attempt: it begins at `base` and grows to `cap`.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MappingRetry {
    /// The first pause: a duration from `1ms` to `24h`. Absent, `5s`, or `cap` where that is shorter.
    #[schema(value_type = Option<DurationText>)]
    pub base: Option<String>,
    /// The longest pause: a duration from `base` to `7days`. Absent, `1h`, or `base` where that is longer.
    #[schema(value_type = Option<DurationText>)]
    pub cap: Option<String>,
}

/// When a service is sent a message by itself: `every`, or `cron` with `timezone`.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MappingSchedule {
    /// The interval: a duration from `1s` to 366 days.
    #[schema(value_type = Option<DurationText>)]
    pub every: Option<String>,
    /// A cron expression of five fields.
    #[schema(max_length = 255, example = "0 6 * * *")]
    pub cron: Option<String>,
    /// The time zone of `cron`, by its name. Absent, `UTC`.
    #[schema(example = "Europe/Berlin")]
    pub timezone: Option<String>,
    /// The key of the message.
    pub message: MessageKey,
}

/// How a mapping does.
#[derive(Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MappingState {
    /// When its schedule fires next.
    pub next_tick: Option<DateTime<Utc>>,
    /// How many deliveries wait until it is switched on.
    pub held: i64,
    /// Whether the definition of the endpoint of its name makes it (`events`).
    pub of_endpoint: bool,
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
    use crate::hub::definitions::mapping::Definition;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_the_published_schema_of_a_mapping_allows_is_read_and_what_it_refuses_is_not(
            picks in proptest::collection::vec(any::<u32>(), 120),
        ) {
            // A schedule has one timing; there are messages or a schedule; most operators want a value, some a text, one a
            // regular expression.
            let between = ["required", "minItems", "oneOf", "dependentRequired", "type", "regex"];
            let beyond =
                ["pattern", "path", "word", "reserved", "cron", "timezone", "type", "regex", "service", "minimum", "template",
                    "header", "uniqueItems", "content_type"];
            let published = Published::of::<MappingDefinition>();
            published.agrees(&picks, &between, &beyond, |document| keywords(Definition::read(document)))?;
        }
    }
}
