//! What each secret of the hub is sealed for: a sealed secret cannot be opened in another's place.

/// A secret of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose<'a> {
    /// The token of the endpoint of this name.
    Token(&'a str),
    /// The signing secrets of the endpoint of this name, a JSON array of strings.
    SigningSecrets(&'a str),
    /// The secrets of the headers and signatures of the endpoint of this name, as JSON.
    WireSecrets(&'a str),
    /// What the endpoint of this name bore before, a JSON array of strings.
    FormerSecrets(&'a str),
    /// The former values of the parameter of this name, a JSON array of strings, each JSON.
    FormerValues(&'a str),
    /// The value, as JSON, of the parameter of this name.
    Parameter(&'a str),
    /// The token of the poller of this name.
    PollerToken(&'a str),
}

impl Purpose<'_> {
    /// The purpose in the store, as [`crate::seal::Sealer`] wants it.
    pub fn of_store(self, store_id: i32) -> Vec<u8> {
        let (kind, name) = match self {
            Self::Token(name) => ("token", name),
            Self::SigningSecrets(name) => ("signing secrets", name),
            Self::WireSecrets(name) => ("wire secrets", name),
            Self::FormerSecrets(name) => ("former secrets", name),
            Self::FormerValues(name) => ("former values", name),
            Self::Parameter(name) => ("parameter", name),
            Self::PollerToken(name) => ("poller token", name),
        };
        format!("{kind} {store_id} {name}").into_bytes()
    }
}
