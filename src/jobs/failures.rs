//! What the log says of jobs that fail: one line, that somebody should read.

use super::store::jobs::Job;
use std::time::Duration;

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
        }
    }

    /// Whether somebody should know. One that was cancelled ended as it was asked to.
    fn is_bad(&self) -> bool {
        let is_bad = |end: &str| !matches!(end, "BILLABLE" | "NEVER_STARTED");
        !self.cancelled && self.end.as_deref().is_some_and(is_bad)
    }

    /// Writes the line of a job that failed; after the commit of its end.
    pub fn tell(&self) {
        if !self.is_bad() {
            return;
        }
        let Self { job, attempt, took, .. } = self;
        let kind = self.kind.as_deref().unwrap_or("deleted");
        let (error, cause) = (self.end.as_deref(), self.status.as_deref());
        let (request_id, took) = (self.request_id.as_deref(), took.map(tracing::field::debug));
        tracing::warn!(job_type = kind, job, attempt, error, cause, took, request_id, "a job ended badly");
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
