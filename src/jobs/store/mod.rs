//! All SQL of `job_types`, `jobs`, `job_idempotency_keys`, `broadcasts`, `registrations` and `envelopes`.

pub mod broadcasts;
pub mod depths;
pub mod due;
pub mod envelopes;
pub mod idempotency;
pub mod jobs;
pub mod jump;
pub mod keys;
pub mod registrations;
pub mod types;
pub mod why;
pub mod work;
