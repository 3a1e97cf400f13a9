//! What is told of jobs that end: one that fails is a line of the log, that somebody should read; each that ran is a span.

use super::store::jobs::Job;
use crate::traces::{Context, Kind, Span, Tracer, Tried};
use chrono::{DateTime, Utc};
use std::time::Duration;
use uuid::Uuid;

/// How a job ended.
#[derive(Debug, Clone, Default)]
pub struct Ended {
    /// Its number.
    pub job: i64,
    /// The name of its type, unless that is gone.
    pub kind: Option<String>,
    /// Which attempt that was, where it is known.
    pub attempt: Option<i16>,
    /// Its termination type.
    pub end: Option<String>,
    /// Its last status.
    pub status: Option<String>,
    /// From its start to its end, where that is known.
    pub took: Option<Duration>,
    /// Whether its cancellation was asked for.
    pub cancelled: bool,
    /// The request that created it.
    pub request_id: Option<String>,
    /// The span that created it.
    pub trace: Option<Context>,
    /// Its run, if a worker had taken it.
    pub run: Option<Run>,
}

/// How a job ran.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Its name in the engine, and the claim; its own name again where there was none.
    pub tried: Tried,
    /// When its worker took it.
    pub started_at: DateTime<Utc>,
}

impl Run {
    /// The run of a job that has not ended yet.
    pub fn of(item: Uuid, lease: Option<Uuid>, started_at: Option<DateTime<Utc>>) -> Option<Self> {
        let tried = Tried { message: item, item, lease: lease.unwrap_or(item) };
        started_at.map(|started_at| Self { tried, started_at })
    }
}

impl Ended {
    /// The end of a job as its row has it.
    pub fn of(kind: &str, job: &Job) -> Self {
        let took = job.started_at.zip(job.completed_at).and_then(|(from, to)| (to - from).to_std().ok());
        Self {
            job: job.id,
            kind: Some(kind.to_owned()),
            attempt: None,
            end: job.termination_type.clone(),
            status: Some(job.status.clone()),
            took,
            cancelled: job.cancelled,
            request_id: job.request_id.clone(),
            trace: job.trace.as_deref().and_then(Context::of_stored),
            run: Run::of(job.item, job.lease, job.started_at),
        }
    }

    /// Whether somebody should know. One that was cancelled ended as it was asked to.
    fn is_bad(&self) -> bool {
        let is_bad = |end: &str| !matches!(end, "BILLABLE" | "NEVER_STARTED");
        !self.cancelled && self.end.as_deref().is_some_and(is_bad)
    }

    /// Tells of its end, after the commit.
    pub fn tell(&self, tracer: &Tracer) {
        if let Some(span) = self.span(tracer) {
            tracer.end(span);
        }
        if !self.is_bad() {
            return;
        }
        let Self { job, attempt, took, .. } = self;
        let kind = self.kind.as_deref().unwrap_or("deleted");
        let (error, cause) = (self.end.as_deref(), self.status.as_deref());
        let (request_id, took) = (self.request_id.as_deref(), took.map(tracing::field::debug));
        let trace_id = match &self.run {
            Some(run) => tracer.trace_id(self.trace.as_ref(), run.tried.message),
            None => self.trace.as_ref().map(Context::trace_id),
        };
        let trace_id = trace_id.as_deref();
        tracing::warn!(
            job_type = kind,
            job,
            attempt,
            error,
            cause,
            took,
            request_id,
            trace_id,
            "a job ended badly"
        );
    }

    /// Its span, from when its worker took it to its end, or to the loss of its worker.
    fn span(&self, tracer: &Tracer) -> Option<Span> {
        let (run, ended_at) = (self.run?, tracer.now()?);
        let is_lost = self.end.is_none() && self.attempt.is_some();
        let outcome = self.end.as_deref().or(is_lost.then_some("lost"))?;
        let context = tracer.attempt(self.trace.as_ref(), run.tried)?;
        let kind = self.kind.as_deref().unwrap_or("deleted");
        let mut attributes = vec![
            ("messaging.system", "postrider".into()),
            ("messaging.operation.name", "process".into()),
            ("messaging.operation.type", "process".into()),
            ("messaging.destination.name", kind.into()),
            ("messaging.message.id", self.job.to_string().into()),
            ("postrider.outcome", outcome.into()),
        ];
        attributes.extend(self.attempt.map(|attempt| ("postrider.attempt", attempt.into())));
        let failed = self.is_bad() || is_lost;
        if failed {
            attributes.push(("error.type", outcome.into()));
        }
        Some(Span {
            name: format!("process {kind}"),
            kind: Kind::Consumer,
            context,
            parent: self.trace.clone(),
            started_at: run.started_at,
            took: (ended_at - run.started_at).to_std().unwrap_or_default(),
            attributes,
            failed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_and_what_was_cancelled_are_no_failures() {
        let ended = |end: &str, cancelled| Ended { end: Some(end.to_owned()), cancelled, ..Ended::default() };
        assert!(ended("PROCESS_FAILURE", false).is_bad() && ended("USER_DATA_FAILURE", false).is_bad());
        assert!(!ended("BILLABLE", false).is_bad() && !ended("NEVER_STARTED", false).is_bad());
        assert!(!ended("USER_DATA_FAILURE", true).is_bad() && !Ended::default().is_bad());
    }
}
