//! Claim, run, settle.
