//! What is counted of each kind of jobs, for Prometheus.
//!
//! Counted is what this process did. What SQL says of jobs is in their logs, and in the reports.

use crate::http::metrics::install;
use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};
use std::ops::Deref;
use std::sync::{Once, OnceLock};
use std::time::Duration;

/// Jobs that this process created, by `job_type`.
const CREATED: &str = "postrider_jobs_created_total";
/// Jobs that this process ended, by `job_type` and `termination_type`.
const ENDED: &str = "postrider_jobs_ended_total";
/// Messages that this process wrote to the logs of jobs, by `job_type`.
const BROADCASTS: &str = "postrider_broadcasts_total";
/// Polls of logs, long ones too, by `job_type`.
const POLLS: &str = "postrider_broadcast_polls_total";
/// Streams that are open in this process, by `job_type`.
const STREAMS: &str = "postrider_broadcast_streams";
/// Questions of jobs, by `job_type` and `event`: asked, answered or expired.
const QUESTIONS: &str = "postrider_job_questions_total";
/// From a question to its answer, in seconds of the database's time, by `job_type`.
const ANSWER_TIME: &str = "postrider_job_answer_seconds";
/// Jobs that wait for a worker, by `job_type`, over all processes; a million stands for more.
const WAITING: &str = "postrider_jobs_waiting";
/// Jobs that a worker has taken and that have not ended, by `job_type`, over all processes.
const RUNNING: &str = "postrider_jobs_running";

/// The ways in which a job ends.
const ENDS: [&str; 5] =
    ["BILLABLE", "USER_DATA_FAILURE", "SITE_INTERACTION_FAILURE", "PROCESS_FAILURE", "NEVER_STARTED"];

/// The series of one kind of jobs, which are there from their first use.
#[derive(Debug)]
pub struct Series {
    job_type: String,
    used: OnceLock<Used>,
}

/// Those of one that was used.
#[derive(Debug)]
pub struct Used {
    pub(super) created: Counter,
    ended: [Counter; ENDS.len()],
    broadcasts: Counter,
    pub(super) polls: Counter,
    streams: Gauge,
    pub(super) asked: Counter,
    answered: Counter,
    pub(super) expired: Counter,
    answer_time: Histogram,
    waiting: Gauge,
    running: Gauge,
}

impl Series {
    /// The series of the kind of this name.
    pub(super) fn of(job_type: &str) -> Self {
        Self { job_type: job_type.to_owned(), used: OnceLock::new() }
    }

    /// Sets the gauges, unless it was never used and is not now.
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
    pub(super) fn set(&self, waiting: i64, running: i64) {
        if waiting + running > 0 || self.used.get().is_some() {
            self.waiting.set(waiting as f64);
            self.running.set(running as f64);
        }
    }
}

impl Deref for Series {
    type Target = Used;

    fn deref(&self) -> &Used {
        self.used.get_or_init(|| Used::of(&self.job_type))
    }
}

impl Used {
    fn of(job_type: &str) -> Self {
        describe();
        let name = || job_type.to_owned();
        let questions = |event: &'static str| counter!(QUESTIONS, "job_type" => name(), "event" => event);
        Self {
            created: counter!(CREATED, "job_type" => name()),
            ended: ENDS.map(|end| counter!(ENDED, "job_type" => name(), "termination_type" => end)),
            broadcasts: counter!(BROADCASTS, "job_type" => name()),
            polls: counter!(POLLS, "job_type" => name()),
            streams: gauge!(STREAMS, "job_type" => name()),
            asked: questions("asked"),
            answered: questions("answered"),
            expired: questions("expired"),
            answer_time: histogram!(ANSWER_TIME, "job_type" => name()),
            waiting: gauge!(WAITING, "job_type" => name()),
            running: gauge!(RUNNING, "job_type" => name()),
        }
    }

    /// Counts a message of a log, which ended its job so, if it did.
    pub(super) fn said(&self, termination_type: Option<&str>) {
        self.broadcasts.increment(1);
        let end = ENDS.iter().position(|end| Some(*end) == termination_type);
        if let Some(counter) = end.and_then(|end| self.ended.get(end)) {
            counter.increment(1);
        }
    }

    /// Counts an answer, which took so long.
    pub(super) fn answer(&self, took: Duration) {
        self.answered.increment(1);
        self.answer_time.record(took);
    }

    /// Counts a stream as open until what this returns is dropped.
    pub(super) fn stream(&self) -> Open {
        self.streams.increment(1.0);
        Open(self.streams.clone())
    }
}

/// An open stream.
pub(super) struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

fn describe() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        install();
        describe_counter!(CREATED, Unit::Count, "Jobs created by this process");
        describe_counter!(ENDED, Unit::Count, "Jobs ended by this process");
        describe_counter!(BROADCASTS, Unit::Count, "Messages written to the logs of jobs by this process");
        describe_counter!(POLLS, Unit::Count, "Polls of the logs of jobs");
        describe_gauge!(STREAMS, Unit::Count, "Open streams of the logs of jobs");
        describe_counter!(QUESTIONS, Unit::Count, "Questions of jobs: asked, answered, expired");
        describe_histogram!(ANSWER_TIME, Unit::Seconds, "Time from a question to its answer");
        describe_gauge!(WAITING, Unit::Count, "Jobs that wait for a worker; a million stands for more");
        describe_gauge!(RUNNING, Unit::Count, "Jobs that a worker has taken and that have not ended");
    });
}
