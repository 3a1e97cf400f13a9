//! Who calls, and what they may do: an access token becomes a [`Caller`] with roles, or a 401.
//!
//! ```text
//! headers ──token_from──▶ token ──Verifier──▶ Caller ──require──▶ () or 403
//!                                   │
//!             key (secret, PEM) or issuer (JWKS)   decides the algorithm; the token never does
//! ```
//! A route takes [`Authenticated`] before its body and asks [`Caller::require`] for the roles it needs.
//! Which of the [roles](role) those are is the business of the feature.

pub mod role;

mod caller;
mod claims;
mod development;
mod extract;
mod issuer;
mod key;
mod ring;
mod seen;
mod sign;
mod verifier;

#[cfg(test)]
mod tests;

pub use caller::Caller;
pub use development::development_secret;
pub use extract::{Admitted, Authenticated, AuthenticatedUntil, token_from};
pub use issuer::Fetch;
pub use sign::sign;
pub use verifier::Verifier;

use crate::error::Error;

fn unauthorized(detail: impl Into<String>) -> Error {
    Error::Unauthorized(detail.into())
}
