//! All SQL of `job_types`, `jobs`, `job_safes`, `cardholders`, `sdk_sessions`, `job_idempotency_keys`, `broadcasts`,
//! `registrations` and `envelopes`.

pub mod broadcasts;
pub mod cardholders;
pub mod depths;
pub mod due;
pub mod envelopes;
pub mod idempotency;
pub mod jobs;
pub mod jump;
pub mod keys;
pub mod registrations;
pub mod safes;
pub mod sessions;
pub mod types;
pub mod why;
pub mod work;
