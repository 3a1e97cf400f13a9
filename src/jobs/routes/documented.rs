//! The published shapes of what is told about jobs: what `/openapi.json` says of them, with each member's meaning, range
//! and default. What is not described is the job type's own: it is stored, or passed on, as it stands.

use crate::http::duration::DurationText;
use crate::http::openapi::{both, either};
use crate::jobs::message::Message;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, OneOfBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

/// The name of a kind of jobs: `place_card_on_single_site_jobs`, or that of a file `<name>.jobs.json`.
#[expect(dead_code, reason = "only described: no route reads it as a whole")]
#[derive(Debug, utoipa::ToSchema)]
#[schema(
    min_length = 1,
    max_length = 100,
    pattern = "^[a-z][a-z0-9_]*$",
    example = "place_card_on_single_site_jobs"
)]
pub struct JobTypeName(pub String);

/// One job to be created, or an array of 1 to 100.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "it only describes")]
pub enum NewJobs {
    /// One.
    One(NewJob),
    /// 1 to 100.
    Many(NewJobArray),
}

/// Jobs to be created.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(min_items = 1, max_items = 100)]
pub struct NewJobArray(pub Vec<NewJob>);

/// A job to be created. Further members are what its worker needs to know, as those of `data` are.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NewJob {
    /// The person whom it is for: a whole number, as a number or as a text. Needed unless `cardholder` names it.
    #[schema(schema_with = cardholder_id, required = false)]
    pub cardholder_id: Option<Value>,
    /// The person whom it is for, by the name that its creator uses; it gets a number. It is the worker's to know, too.
    #[schema(example = json!({"cuid": "customer-42"}))]
    pub cardholder: Option<HashMap<String, Value>>,
    /// The account that it is about. Its `account_link`, an object of strings, is sealed, and nobody but the worker reads it;
    /// of the rest, `merchant_site_id` is shown.
    #[schema(example = json!({"merchant_site_id": 3, "account_link": {"username": "good_email", "password": "secret"}}))]
    pub account: Option<HashMap<String, Value>>,
    /// How long its worker may take: seconds, or a duration from `1s` to `30days`. Absent, as the job type says.
    pub job_timeout: Option<Seconds>,
    /// How long a question waits for its answer: seconds, or a duration from `1s` to `30days`. Absent, as the job type
    /// says.
    pub credential_timeout: Option<Seconds>,
    /// What its worker needs to know. It is sealed.
    #[schema(example = json!({"site": "shop.example.com"}))]
    pub data: Option<HashMap<String, Value>>,
    /// What its worker needs to know, too.
    #[serde(flatten)]
    pub further: HashMap<String, Value>,
}

fn cardholder_id() -> RefOr<Schema> {
    let number = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(Some(0));
    let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[0-9]{1,18}$"));
    let either = OneOfBuilder::new()
        .item(number)
        .item(text)
        .description(Some("The person whom it is for: a whole number, as a number or as a text."))
        .examples([Value::from(7)]);
    Schema::from(either.build()).into()
}

/// A time in whole seconds.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum Seconds {
    /// A number of seconds.
    Number(NumberOfSeconds),
    /// A duration with its unit.
    Text(DurationText),
}

/// A number of seconds, up to 30 days.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(minimum = 1, maximum = 2_592_000, example = 300)]
pub struct NumberOfSeconds(pub u32);

/// What is said of a job. With `termination_type` it ends. Further members are passed on as they stand.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct JobChange {
    /// How it stands: a word of the worker's; of its creator, `CANCEL_REQUESTED` or `REQUESTED`.
    #[schema(min_length = 1, max_length = 100, example = "CANCEL_REQUESTED")]
    pub status: Option<String>,
    /// About how much is done.
    #[schema(minimum = 0, maximum = 100, example = 40)]
    pub percent_complete: Option<f64>,
    /// What the worker says in words.
    #[schema(min_length = 1, max_length = 10000, example = "Signing in")]
    pub status_message: Option<String>,
    /// How it ended.
    pub termination_type: Option<JobEnd>,
    /// The worker's lease, which may be in the header `x-postrider-lease` too.
    #[schema(example = "0193e0b4-7a5c-7d3e-8f4a-2b9c1d0e5f6a")]
    pub lease: Option<Uuid>,
    /// Of its creator, and then alone: what its worker is to have, in the place of what there was.
    pub account: Option<AccountLink>,
    /// Passed on.
    #[serde(flatten)]
    pub further: HashMap<String, Value>,
}

/// What the creator of a job hands over for its worker alone.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountLink {
    /// The credentials.
    #[schema(value_type = HashMap<String, String>, example = json!({"username": "good_email", "password": "secret"}))]
    pub account_link: Box<serde_json::value::RawValue>,
}

/// How a worker ends a job.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum JobEnd {
    /// It is done.
    Billable,
    /// What the person told does not do.
    UserDataFailure,
    /// The site did not do what it should.
    SiteInteractionFailure,
    /// The worker failed.
    ProcessFailure,
}

/// A question to the creator of a job. Further members are what the creator is to see.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CredentialRequest {
    /// What is asked for: `tfa_request`, `credential_request` or a word of yours.
    #[serde(rename = "type")]
    #[schema(min_length = 1, max_length = 100, example = "tfa_request")]
    pub kind: String,
    /// The worker's lease, which may be in the header `x-postrider-lease` too.
    #[schema(example = "0193e0b4-7a5c-7d3e-8f4a-2b9c1d0e5f6a")]
    pub lease: Option<Uuid>,
    /// What the creator is to see.
    #[serde(flatten)]
    pub further: HashMap<String, Value>,
}

/// A question as the creator of a job sees it. Further members are what the worker sent with it.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Question {
    /// What is asked for.
    #[serde(rename = "type")]
    #[schema(example = "tfa_request")]
    pub kind: String,
    /// The job.
    #[schema(example = 1)]
    pub job_id: i64,
    /// By this the answer names it.
    pub envelope_id: Uuid,
    /// What the worker sent with it.
    #[serde(flatten)]
    pub further: HashMap<String, Value>,
}

/// What is new of a job: a question, or something that was said.
#[derive(Debug)]
pub enum JobNews {}

impl PartialSchema for JobNews {
    fn schema() -> RefOr<Schema> {
        either::<Question, Message>()
    }
}

impl ToSchema for JobNews {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        both::<Question, Message>(schemas);
    }
}
