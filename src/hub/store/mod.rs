//! All SQL of the hub's tables.
