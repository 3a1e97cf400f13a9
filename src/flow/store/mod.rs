//! All SQL of `rates`, `series`, `lines`, `line_waits`, `circuits` and `circuit_parts`.

pub mod circuits;
pub mod lines;
pub mod parts;
pub mod rates;
