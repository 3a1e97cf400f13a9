//! Sends one test message as a mapping would, and says what would come of it.

use crate::auth::Authenticated;
use crate::db;
use crate::error::{Error, Result, Violation};
use crate::http::aside::aside;
use crate::http::body;
use crate::http::extract::Path;
use crate::http::openapi::{BodyProblems, Problems};
use crate::http::outbound::{Answer, Cause, Failure, Request};
use crate::hub::definitions::ask::PATIENCE;
use crate::hub::definitions::documents::names::{DefinitionName, MessageKey, StoreName};
use crate::hub::definitions::endpoint::Endpoint;
use crate::hub::definitions::mapping::{Ack, Mapping};
use crate::hub::delivery::advice::advice;
use crate::hub::delivery::attempt::{KEPT, MAX_ANSWER};
use crate::hub::delivery::headers::headers;
use crate::hub::delivery::judge::Judge;
use crate::hub::delivery::linked::Parameter;
use crate::hub::delivery::redact::Redactor;
use crate::hub::delivery::request::{self, Message, Sending};
use crate::hub::delivery::store::parameters;
use crate::hub::delivery::verdict::Verdict;
use crate::hub::key::{WANTED, is_key};
use crate::hub::roles::Right;
use crate::hub::state::Hub;
use crate::seal::REDACTED;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use std::collections::BTreeMap;
use std::sync::Arc;
use url::Url;
use uuid::Uuid;

/// What marks the request as a test.
const MARK: &str = "x-hub-test";

/// A message to test with.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TestMessage)]
pub(super) struct Test {
    /// Its key. The mapping need not name it.
    #[schema(value_type = MessageKey)]
    message: String,
    /// An object; an empty one if absent.
    #[serde(default = "empty")]
    #[schema(value_type = Object, example = json!({"order": {"number": "R123"}}))]
    payload: Box<RawValue>,
}

fn empty() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).unwrap_or_default()
}

/// What came of a test.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = TestResult)]
pub(super) struct Tested {
    /// What a delivery would come to: `delivered`, `deferred` or `failed`.
    #[schema(example = "failed")]
    verdict: &'static str,
    /// What the mapping counts as success: `strict` or `lenient`.
    #[schema(example = "strict")]
    ack: &'static str,
    /// The HTTP status of the answer, if one began.
    status: Option<u16>,
    /// Why it fails, in one word: the words of an attempt.
    #[schema(example = "not_json")]
    cause: Option<&'static str>,
    /// Why it fails, in a sentence that begins with the word.
    #[schema(example = "not_json: the answer is no JSON")]
    error: Option<String>,
    /// What to change.
    #[schema(example = "have the service answer with JSON")]
    advice: Option<&'static str>,
    /// What was sent.
    request: Sent,
    /// What came back, if all of it did.
    answer: Option<Said>,
}

/// A request as it was sent; the endpoint's token, secret headers and passwords are replaced by `[redacted]`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = TestRequest)]
pub(super) struct Sent {
    /// POST, unless the mapping says otherwise.
    #[schema(example = "POST")]
    method: String,
    /// Where to.
    #[schema(example = "https://warehouse.example.com/hub/drop_ship")]
    url: String,
    /// Its headers, beside those of every request.
    #[schema(example = json!({"x-hub-test": "true"}))]
    headers: BTreeMap<String, String>,
    /// Its body.
    #[schema(example = "{\"message\":\"order:new\",\"payload\":{}}")]
    body: String,
}

/// An answer, with every secret blotted out.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = TestAnswer)]
pub(super) struct Said {
    /// Its headers.
    #[schema(example = json!({"content-type": "text/html"}))]
    headers: BTreeMap<String, String>,
    /// The first 4 KiB of its body.
    #[schema(example = "<html></html>")]
    body: String,
}

/// Sends a test message as a mapping would.
///
/// One real request to its service, with its token, parameters and signature, and the header `X-Hub-Test: true`. Filters,
/// identifiers, `enabled`, limits and circuits do not count. Nothing is stored: no message, no delivery, no attempt, and
/// what the answer brings has no effect. It waits 10 seconds at most, and is not tried again.
#[utoipa::path(
    post, path = "/stores/{store}/mappings/{name}/check", tag = "hub definitions", operation_id = "check_mapping",
    params(("store" = inline(StoreName), Path, description = "The store"), ("name" = inline(DefinitionName), Path, description = "The mapping\'s name")),
    request_body = Test,
    responses((status = 200, description = "What came of it, whatever that is", body = Tested), Problems, BodyProblems),
)]
pub(super) async fn check(
    Authenticated(caller): Authenticated,
    State(hub): State<Hub>,
    Path((store, name)): Path<(String, String)>,
    asked: HeaderMap,
    body: Body,
) -> Result<Json<Tested>> {
    let store = hub.store(&store, &caller, Right::Admin).await?;
    let Test { message: key, payload } = body::read_json(&asked, body, &hub.limits).await?.to_typed()?;
    let wrong = if !is_key(&key) {
        Some(("/message", "pattern", WANTED))
    } else if !payload.get().starts_with('{') {
        Some(("/payload", "type", "must be an object"))
    } else {
        None
    };
    if let Some((pointer, rule, words)) = wrong {
        let violation = Violation::new(pointer, rule, words);
        return Err(Error::Invalid("the test message breaks a rule".to_owned(), vec![violation]));
    }
    let (mapping, endpoint) = hub.mapping(store, &name).await?;
    let parameters = sent_along(&hub, &mapping).await?;
    let (id, delivery, now) = (hub.db.ids.next(), hub.db.ids.next(), hub.now()?);
    let test = Testing { endpoint, mapping, parameters, id, delivery, key, payload, now };
    let made = aside(true, move || test.request().map(|made| (test, made))).await;
    let (test, (request, sent)) = made.map_err(Error::internal)??;
    let reply = hub.outbound.send(&request).await;
    let tested = aside(true, move || test.judge(&request.body, sent, &reply)).await;
    Ok(Json(tested.map_err(Error::internal)?))
}

/// The parameters that the mapping is sent.
async fn sent_along(hub: &Hub, mapping: &Mapping) -> Result<Vec<Parameter>> {
    let named: Vec<(i32, i32, &str)> = mapping
        .definition
        .parameters
        .iter()
        .map(|name| (mapping.id, mapping.store_id, name.as_str()))
        .collect();
    let stored = db::bounded(parameters::linked(&hub.db.api, &named, &[mapping.id])).await?;
    let opened: std::result::Result<Vec<Parameter>, String> =
        stored.into_iter().map(|stored| stored.parameter(hub.sealer.as_deref())).collect();
    opened.map_err(Error::Conflict)
}

/// Parameters as they may be shown.
fn shown(parameters: &[Parameter]) -> Result<Vec<Parameter>> {
    let redacted = to_raw_value(REDACTED).map_err(Error::internal)?;
    let hide = |parameter: &Parameter| {
        let value = if parameter.secret { &redacted } else { &parameter.value };
        Parameter { value: value.clone(), ..parameter.clone() }
    };
    Ok(parameters.iter().map(hide).collect())
}

/// Headers as they may be shown.
fn texts(headers: &HeaderMap, text: impl Fn(&str) -> String) -> BTreeMap<String, String> {
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers {
        let said = if value.is_sensitive() {
            REDACTED.to_owned()
        } else {
            text(&String::from_utf8_lossy(value.as_bytes()))
        };
        let all = texts.entry(name.to_string()).or_default();
        if !all.is_empty() {
            all.push_str(", ");
        }
        all.push_str(&said);
    }
    texts
}

/// A test message on its way.
struct Testing {
    endpoint: Arc<Endpoint>,
    mapping: Arc<Mapping>,
    parameters: Vec<Parameter>,
    id: Uuid,
    delivery: Uuid,
    key: String,
    payload: Box<RawValue>,
    now: DateTime<Utc>,
}

impl Testing {
    fn message(&self) -> Message<'_> {
        Message { id: self.id, key: &self.key, payload: &self.payload }
    }

    fn url(&self) -> Url {
        request::url(&self.endpoint.definition.url, &self.mapping.definition.service)
    }

    /// The request, and what may be shown of it.
    fn request(&self) -> Result<(Request, Sent)> {
        let (message, endpoint, mapping, url) = (self.message(), &*self.endpoint, &*self.mapping, self.url());
        let sending = Sending {
            endpoint,
            mapping,
            url: &url,
            message,
            delivery: self.delivery,
            now: self.now,
            trace: None,
        };
        let body = request::body(message, endpoint, &self.parameters);
        let method = sending.method();
        let mut headers = headers(&sending, &body).map_err(Error::Conflict)?;
        headers.insert(MARK, HeaderValue::from_static("true"));
        let sent = Sent {
            method: method.to_string(),
            url: url.to_string(),
            headers: texts(&headers, ToOwned::to_owned),
            body: String::from_utf8_lossy(&request::body(message, endpoint, &shown(&self.parameters)?))
                .into_owned(),
        };
        let timeout = mapping.timeout(endpoint).min(PATIENCE);
        Ok((Request { method, url, headers, body, timeout, max_response: MAX_ANSWER }, sent))
    }

    fn judge(self, posted: &[u8], sent: Sent, reply: &std::result::Result<Answer, Failure>) -> Tested {
        let (endpoint, mapping, parameters) = (&*self.endpoint, &*self.mapping, &*self.parameters);
        let judge = Judge { endpoint, mapping, parameters, newest: None };
        let (verdict, redactor) = judge.decide((self.message(), posted), &self.url(), reply, self.now);
        let status = match reply {
            Ok(answer) => Some(answer.status),
            Err(failure) => failure.status,
        };
        let cause = verdict.cause();
        let answered = status.is_some_and(|status| status.is_success());
        let (verdict, error) = match verdict {
            Verdict::Delivered(_) => ("delivered", None),
            Verdict::Deferred { .. } => ("deferred", None),
            Verdict::Failed(failed) => ("failed", Some(failed.error)),
        };
        Tested {
            verdict,
            ack: match self.mapping.ack(&self.endpoint) {
                Ack::Strict => "strict",
                Ack::Lenient => "lenient",
            },
            status: status.map(|status| status.as_u16()),
            cause: cause.map(Cause::word),
            error,
            advice: cause.map(|cause| advice(cause, answered)),
            request: sent,
            answer: reply.as_ref().ok().map(|answer| said(answer, &redactor)),
        }
    }
}

fn said(answer: &Answer, redactor: &Redactor) -> Said {
    Said {
        headers: texts(&answer.headers, |text| redactor.text(text).into_owned()),
        body: redactor.beginning(&answer.body, KEPT),
    }
}
