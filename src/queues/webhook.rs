//! The `http` handler: a message is posted to a URL, and the answer is its end.

use super::catalog::Queue;
use super::outcome::{End, error};
use super::spans;
use super::store::ends::Loaded;
use crate::http::aside::{LARGE, aside};
use crate::http::json_text::{depth, raw};
use crate::http::outbound::{Answer, Cause, Failure, Outbound, Request};
use crate::http::retry_after::retry_after;
use crate::http::signature;
use crate::traces::{Context, Tracer};
use crate::worker::Hold;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use secrecy::SecretString;
use serde::Serialize;
use serde_json::value::RawValue;
use std::time::Instant;
use url::Url;

/// The largest answer, and so the largest result.
const MAX_ANSWER: usize = 1 << 20;

/// A message that is to be posted.
pub(super) struct Post<'a> {
    pub(super) queue: &'a Queue,
    pub(super) url: &'a Url,
    /// Signs the request by Standard Webhooks.
    pub(super) secret: Option<&'a SecretString>,
    pub(super) attempt: u16,
    pub(super) message: &'a Loaded,
    pub(super) tracer: &'a Tracer,
}

impl Post<'_> {
    /// Posts the message: `webhook-id` is its id, the same at every attempt; `now` is the time of the signature, and that
    /// from which a date in `Retry-After` counts. Nothing is sent that is not held any more.
    pub(super) async fn send(self, outbound: &Outbound, now: DateTime<Utc>, hold: &Hold) -> End {
        let trace = self.message.origin.trace.as_ref();
        let begun = self.tracer.ask(trace);
        let request = match self.request(now, begun.as_ref().map(|begun| &begun.context).or(trace)).await {
            Ok(request) => request,
            Err(why) => return End::Fail(error("ConfigurationError", &why)),
        };
        let started = Instant::now();
        let answer = hold.send(|still| outbound.send_while(&request, still)).await;
        if let Some(begun) = begun {
            self.tracer.end(spans::posted(begun, &request, answer.as_ref(), started.elapsed()));
        }
        match answer {
            Ok(answer) => {
                let read = aside(answer.body.len() > LARGE, move || verdict(&answer, now)).await;
                read.unwrap_or_else(|_| End::Fail(error("InvalidResult", "the answer could not be read")))
            }
            Err(failure) if failure.cause == Cause::AddressNotAllowed => {
                End::Fail(unreached("RequestRefused", &failure))
            }
            Err(failure) => End::Retry(unreached("RequestFailed", &failure), None),
        }
    }

    async fn request(&self, now: DateTime<Utc>, trace: Option<&Context>) -> Result<Request, String> {
        let body = Bytes::copy_from_slice(self.message.request.get().as_bytes());
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert("postrider-attempt", HeaderValue::from(self.attempt));
        let most = self.queue.definition.options.terms.max_attempts();
        headers.insert("postrider-max-attempts", HeaderValue::from(most));
        if let Ok(name) = HeaderValue::try_from(&self.queue.name) {
            headers.insert("postrider-queue", name);
        }
        if let Some(trace) = trace {
            trace.send(&mut headers);
        }
        let (id, secret, signed) = (self.message.id.to_string(), self.secret.cloned(), body.clone());
        let signing = aside(body.len() > LARGE, move || {
            let secrets: Vec<&SecretString> = secret.iter().collect();
            signature::sign(&mut headers, &id, now.timestamp(), &signed, &secrets).map(|()| headers)
        });
        let headers = signing.await.map_err(|_| "the request could not be signed".to_owned())??;
        Ok(Request {
            method: Method::POST,
            url: self.url.clone(),
            headers,
            body,
            timeout: self.queue.definition.options.attempt_timeout(),
            max_response: MAX_ANSWER,
        })
    }
}

/// What is stored when there was no answer: why in words, and in the one with which they begin.
fn unreached(name: &str, failure: &Failure) -> Box<RawValue> {
    raw(&serde_json::json!({ "name": name, "message": failure.to_string(), "cause": failure.cause.word() }))
}

/// 2xx with JSON is the result; 4xx is final; anything that may pass is tried again. Who says when it will have time puts
/// the message off.
fn verdict(answer: &Answer, now: DateTime<Utc>) -> End {
    let status = answer.status;
    if status.is_success() {
        return match body(answer) {
            Ok(result) => End::Complete(result),
            Err(why) => End::Fail(error("InvalidResult", why)),
        };
    }
    let redirect = answer.redirect();
    let failed = || {
        let body = body(answer).ok().filter(|body| body.get() != "null");
        raw(&Failed {
            name: "HttpError",
            message: redirect
                .as_ref()
                .map_or_else(|| format!("the handler answered {status}"), ToString::to_string),
            cause: redirect.as_ref().map(|redirect| redirect.cause.word()),
            status: status.as_u16(),
            body: body.as_deref(),
        })
    };
    let passing =
        matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS);
    let after = retry_after(&answer.headers, now);
    let busy = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    // At once is no time: what puts off without a pause would be asked again without an end.
    if busy && after.is_some_and(|after| !after.is_zero()) {
        return End::Later(failed(), after);
    }
    if status.is_server_error() || passing {
        return End::Retry(failed(), after);
    }
    End::Fail(failed())
}

/// What is stored of an answer that is no success; the body as it came.
#[derive(Serialize)]
struct Failed<'a> {
    name: &'static str,
    message: String,
    /// In one word, where the status says less than that.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a RawValue>,
}

/// The body as JSON, by the rules of what is pushed; an empty one is null.
fn body(answer: &Answer) -> Result<Box<RawValue>, &'static str> {
    let not_json = "the answer is not JSON";
    let text = std::str::from_utf8(&answer.body).map_err(|_| not_json)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim();
    if text.is_empty() {
        return Ok(RawValue::NULL.to_owned());
    }
    depth(text).map_err(|_| "the answer nests too deep")?;
    serde_json::from_str::<&RawValue>(text).map(ToOwned::to_owned).map_err(|_| not_json)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(status: u16, body: &'static str, retry_after: Option<&'static str>) -> String {
        let mut headers = HeaderMap::new();
        if let Some(after) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(after));
        }
        let status = StatusCode::from_u16(status).unwrap_or_default();
        let now = "2026-11-06T08:49:37Z".parse().unwrap_or_default();
        match verdict(&Answer { status, headers, body: Bytes::from_static(body.as_bytes()) }, now) {
            End::Complete(result) => format!("complete {result}"),
            End::Fail(_) => "fail".to_owned(),
            End::Retry(_, after) => format!("retry {after:?}"),
            End::Later(_, after) => format!("later {after:?}"),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn the_status_decides() {
        assert_eq!(end(200, r#"{"a":1}"#, None), r#"complete {"a":1}"#);
        assert_eq!(end(200, "\u{feff}1", None), "complete 1");
        assert_eq!(end(204, "", None), "complete null");
        assert_eq!(end(200, "<html>", None), "fail");
        for status in [301, 400, 401, 404, 410, 422] {
            assert_eq!(end(status, "", None), "fail", "{status}");
        }
        for status in [408, 425, 429, 500, 502, 503, 504] {
            assert_eq!(end(status, "", None), "retry None", "{status}");
        }
        assert_eq!(end(500, "", Some("7")), "retry Some(7s)");
        assert_eq!(end(429, "", Some("7")), "later Some(7s)");
        assert_eq!(end(429, "", Some("0")), "retry Some(0ns)");
        assert_eq!(end(503, "", Some("999999")), "later Some(3600s)");
        assert_eq!(end(503, "", Some("Fri Nov  6 08:49:44 2026")), "later Some(7s)");
        assert_eq!(end(503, "", Some("soon")), "retry None");
    }
}
