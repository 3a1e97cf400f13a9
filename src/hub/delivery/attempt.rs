//! One attempt at a delivery: the service request goes out, its answer becomes a verdict, secrets are blotted out.

use super::headers::headers;
use super::judge::Judge;
use super::linked::Parameter;
use super::outcome::{Attempted, Outcome};
use super::request::{self, Message, Sending};
use super::store::deliveries::{self, Delivery};
use super::verdict::{Failed, Verdict};
use crate::db::Ids;
use crate::flow::circuit::Sign;
use crate::flow::circuits::Circuits;
use crate::http::aside::{LARGE, aside};
use crate::http::outbound::{Answer as Reply, Cause, Failure, Outbound, Request};
use crate::hub::definitions::catalog::Catalog;
use crate::hub::definitions::endpoint::Endpoint;
use crate::hub::definitions::mapping::Mapping;
use crate::hub::key::is_reserved;
use crate::traces::{Context, Tracer};
use crate::worker::Hold;
use std::sync::Arc;
use std::time::{Duration, Instant};
use url::Url;

/// The largest answer that is read.
pub(super) const MAX_ANSWER: usize = 1 << 20;
/// How much of an answer is kept with the attempt.
pub(super) const KEPT: usize = 4 << 10;

/// What every attempt of this process shares.
pub(super) struct Means {
    pub(super) outbound: Outbound,
    pub(super) catalog: Arc<Catalog>,
    pub(super) ids: Arc<Ids>,
    pub(super) circuits: Circuits,
    pub(super) tracer: Tracer,
}

/// Everything that one attempt needs.
pub(super) struct Attempt {
    pub(super) means: Arc<Means>,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) mapping: Arc<Mapping>,
    /// How many mappings its store has.
    pub(super) fanout: usize,
    pub(super) delivery: Delivery,
    pub(super) message: deliveries::Message,
    /// Where the mapping sends.
    pub(super) service: Arc<Url>,
    /// Where to ask on instead, after an asynchronous answer.
    pub(super) continue_url: Option<String>,
    /// What the mapping is sent.
    pub(super) parameters: Arc<Vec<Parameter>>,
    /// How long the rate limit makes it wait.
    pub(super) wait: Duration,
    /// Says whether the claim is still ours.
    pub(super) hold: Hold,
    /// What the endpoint is told of the trace, and what it brings comes of.
    pub(super) trace: Option<Context>,
}

impl Attempt {
    pub(super) async fn run(self) -> Outcome {
        if !self.wait.is_zero() {
            tokio::time::sleep(self.wait).await;
        }
        let failed = |mapping: Option<Arc<Mapping>>, error: String| {
            Outcome::Attempted(Box::new(Attempted { mapping, ..Attempted::failed(error) }))
        };
        let prepared = aside(self.is_slow_to_send(), move || {
            let request = self.request();
            (self, request)
        });
        let Ok((this, request)) = prepared.await else {
            return failed(None, "the request could not be made".to_owned());
        };
        let (url, request) = match request {
            Ok(request) => request,
            Err(error) => return failed(Some(this.mapping), error),
        };
        let (started, sent_at) = (Instant::now(), this.means.ids.now());
        let sent = request.body.clone();
        let reply = this.hold.send(|still| this.means.outbound.send_while(&request, still)).await;
        let took = started.elapsed();
        let is_large = reply.as_ref().is_ok_and(|reply| reply.body.len() > LARGE);
        let judged = aside(is_large, move || this.judge((&url, &sent), &reply, took)).await;
        judged.map_or_else(
            |_| failed(None, "the answer could not be read".to_owned()),
            |attempted| Outcome::Attempted(Box::new(Attempted { sent_at, ..attempted })),
        )
    }

    /// Whether to make and sign its request takes long.
    fn is_slow_to_send(&self) -> bool {
        let parameters: usize = self.parameters.iter().map(|parameter| parameter.value.get().len()).sum();
        self.endpoint.is_slow_to_sign(self.message.payload.get().len().saturating_add(parameters))
    }

    fn request(&self) -> Result<(Arc<Url>, Request), String> {
        let url = match &self.continue_url {
            Some(url) => Arc::new(url.parse().map_err(|_| "the update_url cannot be read".to_owned())?),
            None => Arc::clone(&self.service),
        };
        let (message, endpoint) = (self.message(), &*self.endpoint);
        let now = self.means.ids.now().unwrap_or_default();
        let sending = Sending {
            endpoint,
            mapping: &self.mapping,
            url: &url,
            message,
            delivery: self.delivery.id,
            now,
            trace: self.trace.as_ref(),
        };
        let body = request::body(message, endpoint, &self.parameters);
        let request = Request {
            method: sending.method(),
            url: (*url).clone(),
            headers: headers(&sending, &body)?,
            body,
            timeout: self.mapping.timeout(endpoint),
            max_response: MAX_ANSWER,
        };
        Ok((url, request))
    }

    fn message(&self) -> Message<'_> {
        Message { id: self.delivery.message_id, key: &self.message.key, payload: &self.message.payload }
    }

    /// What the reply comes to, and what of it may be kept.
    fn judge(self, (url, sent): (&Url, &[u8]), reply: &Result<Reply, Failure>, took: Duration) -> Attempted {
        let now = self.means.ids.now().unwrap_or_default();
        let parameters = &*self.parameters;
        let newest = self.means.catalog.endpoint(self.endpoint.id);
        let newest = newest.as_deref();
        let judge = Judge { endpoint: &self.endpoint, mapping: &self.mapping, parameters, newest };
        let (verdict, redactor) = judge.decide((self.message(), sent), url, reply, now);
        let (sign, gone) = match &verdict {
            // One that took it is not to be spared for what it answered.
            Verdict::Failed(failed) if !failed.is_final => (Sign::of(failed.cause), failed.gone),
            _ => (Sign::Well, false),
        };
        if let Verdict::Failed(failed) = &verdict {
            self.tell(failed, took);
        }
        let status = match reply {
            Ok(reply) => Some(reply.status.as_u16()),
            Err(failure) => failure.status.map(|status| status.as_u16()),
        };
        let service = &self.mapping.definition.service;
        let mut change = self.means.circuits.record(self.endpoint.guarded(), service, sign, gone, now);
        change.quiet = is_reserved(&self.message.key);
        let deliveries::Message { key, lineage, .. } = self.message;
        let lineage = lineage.through(self.mapping.id, key);
        Attempted {
            verdict,
            delivery: Some(self.delivery),
            mapping: Some(self.mapping),
            version: Some(self.endpoint.version),
            fanout: self.fanout,
            status,
            took,
            body: reply.as_ref().ok().map(|reply| redactor.beginning(&reply.body, KEPT)),
            lineage: Some(lineage),
            change,
            trace: self.trace,
            sent_at: None,
        }
    }

    /// Says in the log that it failed, with nothing that is to be hidden. It is tried again, or parked: that is another
    /// line.
    fn tell(&self, failed: &Failed, took: Duration) {
        tracing::debug!(
            store = self.endpoint.store,
            endpoint = self.endpoint.name,
            delivery = %self.delivery.id,
            attempt = self.delivery.attempts.saturating_add(1),
            cause = failed.cause.map_or("other", Cause::word),
            error = failed.error,
            ?took,
            "an attempt at a delivery failed"
        );
    }
}
