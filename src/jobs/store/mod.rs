//! All SQL of `job_types`, `jobs`, `broadcasts`, `registrations` and `envelopes`.

pub mod broadcasts;
pub mod depths;
pub mod due;
pub mod envelopes;
pub mod jobs;
pub mod registrations;
pub mod types;
pub mod work;
