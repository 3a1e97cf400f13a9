//! The published shape of a parameter.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A parameter: a value that integrations are sent.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ParameterDefinition {
    /// The value. `[redacted]` keeps a password that is stored.
    pub value: ParameterValue,
    /// What the value is. Absent, what its JSON is; `password` is sealed and never shown again.
    pub data_type: Option<ParameterType>,
    /// In the answer to a GET only: when it was last set. A PUT ignores it.
    #[serde(default)]
    #[schema(read_only)]
    pub state: ParameterState,
}

/// The value of a parameter.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum ParameterValue {
    /// For string and password, of which the longest has 10,000 bytes.
    #[schema(example = "1234567890")]
    Text(String),
    /// For integer and float.
    Number(f64),
    /// For boolean.
    Boolean(bool),
    /// For list.
    List(Vec<Value>),
}

/// What a parameter's value is.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ParameterType {
    /// A text.
    String,
    /// A whole number.
    Integer,
    /// A number.
    Float,
    /// `true` or `false`.
    Boolean,
    /// A list.
    List,
    /// A text that is sealed and never shown again.
    Password,
}

/// How a parameter does.
#[derive(Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ParameterState {
    /// When it was last put, by hand or by an answer.
    pub updated_at: DateTime<Utc>,
}

#[cfg(test)]
mod tests {
    use super::super::tests::keywords;
    use super::*;
    use crate::http::published::Published;
    use crate::hub::definitions::documents::PutParameter;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_the_published_schema_of_a_parameter_allows_is_read_and_what_it_refuses_is_not(
            picks in proptest::collection::vec(any::<u32>(), 20),
        ) {
            // The value is of the data type.
            let published = Published::of::<ParameterDefinition>();
            published.agrees(&picks, &["type"], &[], |document| keywords(PutParameter::read(document)))?;
        }
    }
}
