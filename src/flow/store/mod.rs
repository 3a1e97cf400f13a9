//! All SQL of `rates`, `series`, `lines`, `line_waits`, `circuits`, `circuit_parts`, `schedules` and `ticks`.

pub mod circuits;
pub mod lines;
pub mod parts;
pub mod rates;
pub mod schedules;
