//! The span of an attempt, and of the request that an attempt is.

use super::store::ends::Ending;
use crate::http::outbound::{Answer, Failure, Request};
use crate::traces::{Begun, Context, Kind, Span};
use crate::worker::Claim;
use std::time::Duration;

/// An attempt that has ended.
pub(super) struct Attempt<'a> {
    pub(super) queue: &'a str,
    pub(super) claim: &'a Claim,
    pub(super) ending: Ending,
    /// Whether its message is in ERROR by it.
    pub(super) was_last: bool,
    /// The name of its error.
    pub(super) error: Option<&'a str>,
    pub(super) took: Duration,
    pub(super) context: Context,
    pub(super) parent: Option<Context>,
}

impl Attempt<'_> {
    /// Its span, from the claim to the end. What its error says beside its name may hold what was pushed.
    pub(super) fn span(self) -> Span {
        let Self { queue, claim, ending, was_last, error, took, context, parent } = self;
        let mut attributes = vec![
            ("messaging.system", "postrider".into()),
            ("messaging.operation.name", "process".into()),
            ("messaging.operation.type", "process".into()),
            ("messaging.destination.name", queue.into()),
            ("messaging.message.id", claim.item.to_string().into()),
            ("postrider.attempt", claim.attempt.into()),
            ("postrider.outcome", ending.word().into()),
        ];
        // One that puts its message off fails only if that has been tried for too long.
        let passes =
            matches!(ending, Ending::Completed | Ending::Snoozed | Ending::GivenBack | Ending::NotStarted);
        let failed = was_last || !passes;
        if failed {
            attributes.push(("error.type", error.unwrap_or(ending.word()).into()));
        }
        Span {
            name: format!("process {queue}"),
            kind: Kind::Consumer,
            context,
            parent,
            started_at: claim.claimed_at,
            took,
            attributes,
            failed,
        }
    }
}

/// The span of the request of an `http` handler. Its path and its query may be secrets.
pub(super) fn posted(
    begun: Begun,
    request: &Request,
    answer: Result<&Answer, &Failure>,
    took: Duration,
) -> Span {
    let mut attributes = vec![("http.request.method", request.method.as_str().into())];
    if let Some(host) = request.url.host_str() {
        attributes.push(("server.address", host.into()));
    }
    if let Some(port) = request.url.port_or_known_default() {
        attributes.push(("server.port", port.into()));
    }
    let failed = match answer {
        Ok(answer) => {
            let status = answer.status;
            attributes.push(("http.response.status_code", status.as_u16().into()));
            let failed = !status.is_success();
            failed.then(|| status.as_u16().to_string())
        }
        Err(failure) => Some(failure.cause.word().to_owned()),
    };
    let has_failed = failed.is_some();
    attributes.extend(failed.map(|why| ("error.type", why.into())));
    Span {
        name: request.method.to_string(),
        kind: Kind::Client,
        context: begun.context,
        parent: begun.parent,
        started_at: begun.started_at,
        took,
        attributes,
        failed: has_failed,
    }
}
