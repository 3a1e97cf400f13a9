//! All SQL of `rates`.

pub mod rates;
