//! The span of an attempt at a delivery: the request to its endpoint.

use super::attempt::Means;
use super::store::deliveries::{self, Delivery, Origin};
use super::store::ends::Verdict;
use crate::traces::{Kind, Span};
use crate::worker::{Claim, Lines};
use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnection;
use std::time::Duration;

/// An attempt that has ended.
pub(super) struct Sent {
    pub(super) claim: Claim,
    pub(super) delivery: Delivery,
    pub(super) verdict: Verdict,
    /// When the request was sent; where nobody knows, it was claimed.
    pub(super) sent_at: Option<DateTime<Utc>>,
    /// From there to the end of the answer.
    pub(super) took: Duration,
    /// The HTTP status.
    pub(super) status: Option<u16>,
    /// Why it failed, in one word.
    pub(super) cause: Option<&'static str>,
}

impl Sent {
    pub(super) fn of(claim: &Claim, delivery: &Delivery, verdict: Verdict) -> Self {
        let (claim, delivery) = (claim.clone(), delivery.clone());
        Self { claim, delivery, verdict, sent_at: None, took: Duration::ZERO, status: None, cause: None }
    }

    /// Its span. What the endpoint said, and its address, may hold secrets.
    fn span(self, means: &Means, origin: &Origin) -> Option<Span> {
        let Self { claim, delivery, verdict, sent_at, took, status, cause } = self;
        let parent = origin.trace.clone();
        let context = means.tracer.attempt(parent.as_ref(), claim.tried(delivery.message_id))?;
        let endpoint = means.catalog.endpoint(claim.lane);
        let (store, name) =
            endpoint.as_ref().map_or(("", "deleted"), |endpoint| (&*endpoint.store, &*endpoint.name));
        let mapping = means.catalog.mapping(delivery.mapping_id);
        let mut attributes = vec![
            ("messaging.system", "postrider".into()),
            ("messaging.operation.name", "send".into()),
            ("messaging.operation.type", "send".into()),
            ("messaging.destination.name", name.into()),
            ("messaging.message.id", delivery.message_id.to_string().into()),
            ("postrider.store", store.into()),
            ("postrider.message", origin.key.as_str().into()),
            ("postrider.delivery", delivery.id.to_string().into()),
            ("postrider.attempt", delivery.attempts.saturating_add(1).into()),
            ("postrider.outcome", verdict.as_str().into()),
        ];
        attributes.extend(mapping.map(|mapping| ("postrider.mapping", mapping.name.as_str().into())));
        attributes.extend(status.map(|status| ("http.response.status_code", status.into())));
        let failed = matches!(verdict, Verdict::Failed | Verdict::Lost);
        if failed {
            let status = status.filter(|status| *status >= 400).map(|status| status.to_string());
            attributes.push(("error.type", status.as_deref().or(cause).unwrap_or(verdict.as_str()).into()));
        }
        let (started_at, took) = sent_at
            .map_or_else(|| (claim.claimed_at, since(claim.claimed_at, means)), |sent_at| (sent_at, took));
        let name = format!("send {name}");
        Some(Span { name, kind: Kind::Client, context, parent, started_at, took, attributes, failed })
    }
}

fn since(at: DateTime<Utc>, means: &Means) -> Duration {
    means.ids.now().and_then(|now| (now - at).to_std().ok()).unwrap_or_default()
}

/// Has these be exported after the commit.
pub(super) async fn note(
    tx: &mut PgConnection,
    means: &Means,
    sent: Vec<Sent>,
    lines: &mut Lines,
) -> sqlx::Result<()> {
    if sent.is_empty() {
        return Ok(());
    }
    let messages: Vec<_> =
        sent.iter().map(|sent| (sent.delivery.store_id, sent.delivery.message_id)).collect();
    let origins = deliveries::origins(tx, &messages).await?;
    for sent in sent {
        let Some(origin) = origins.get(&sent.delivery.message_id) else { continue };
        if let Some(span) = sent.span(means, origin) {
            let tracer = means.tracer.clone();
            lines.push(move || tracer.end(span));
        }
    }
    Ok(())
}
