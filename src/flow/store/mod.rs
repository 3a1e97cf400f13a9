//! All SQL of `rates`, `series`, `lines` and `line_waits`.

pub mod lines;
pub mod rates;
