//! A secret in a definition, as it was put.

use secrecy::SecretString;

/// A secret as it was put.
#[derive(Debug)]
pub enum PutSecret {
    /// The one that is stored already.
    Stored,
    /// This one.
    New(SecretString),
}
