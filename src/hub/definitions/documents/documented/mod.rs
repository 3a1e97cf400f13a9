//! The published shapes of endpoints, mappings and parameters: what `/openapi.json` says of them, with each member's
//! meaning, range and default. They are read by hand, to report every violation at once; the tests here hold shapes
//! and readers together.

mod endpoint;
mod mapping;
mod parameter;
mod signing;

pub use endpoint::{EndpointDefinition, EndpointState};
pub use mapping::{MappingDefinition, MappingState};
pub use parameter::{ParameterDefinition, ParameterState, ParameterValue};

#[cfg(test)]
mod tests {
    use crate::error::Error;

    /// The rules that a document breaks.
    pub(super) fn keywords<T>(read: Result<T, Error>) -> Result<(), Vec<String>> {
        match read {
            Ok(_) => Ok(()),
            Err(Error::Invalid(_, found)) => Err(found.into_iter().map(|one| one.keyword).collect()),
            Err(other) => Err(vec![other.to_string()]),
        }
    }
}
