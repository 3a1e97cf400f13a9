//! How the vendor's client (npm `@strivve/strivve-sdk`) speaks: in sessions, with encrypted bodies and signed requests.
//!
//! ```text
//!             K0, the integrator's key                     K1, the session's key
//!  login ─▶ signature · body · password's proof ─▶ session ─▶ signature · body ─▶ (username, role)
//! ```
//! What is here knows no routes: [`signature`] and [`body`] are of bytes, [`keys`] makes the keys, [`file`](mod@file) says
//! who there is, and [`sessions`] keeps who has logged in. The layer that puts them together is `routes::signed`.
//!
//! A signature is no protection from a request that is sent again: nonces repeat, since all calls of a millisecond share
//! one, and clocks differ. That is the part of TLS, as is that nobody reads along.

pub mod body;
pub mod file;
pub mod keys;
pub mod sessions;
pub mod signature;

pub use file::Sdk;
