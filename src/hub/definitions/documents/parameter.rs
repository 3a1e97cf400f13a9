//! The definition of a parameter: `{value, data_type?}`.

use crate::error::Result;
pub use crate::http::reader::is_word as is_name;
use crate::hub::definitions::documents::{REDACTED, read};

use crate::http::reader::Reader;
use secrecy::SecretString;
use serde_json::Value;

/// The longest password, in bytes.
const LONGEST_PASSWORD: usize = 10_000;

/// A parameter as it was put.
#[derive(Debug)]
pub enum PutParameter {
    /// A value that may be shown, and its type.
    Plain(&'static str),
    /// A password.
    Password(SecretString),
    /// The password that is stored already.
    Stored,
}

impl PutParameter {
    /// Reads a parameter. Its value stays in `document`, at `/value`.
    ///
    /// # Errors
    /// 422 with every violation; they do not repeat what was put.
    pub fn read(document: &Value) -> Result<Self> {
        read(document, take)
    }
}

/// The data type of a value of which none is said.
pub fn type_of(value: &Value) -> Option<&'static str> {
    match value {
        Value::String(_) => Some("string"),
        Value::Number(number) => Some(if number.is_f64() { "float" } else { "integer" }),
        Value::Bool(_) => Some("boolean"),
        Value::Array(_) => Some("list"),
        Value::Null | Value::Object(_) => None,
    }
}

fn take(reader: &mut Reader<'_>) -> Option<PutParameter> {
    let value = reader.required("value", Reader::take);
    let data_type = match reader.take("data_type") {
        None => value.and_then(type_of),
        Some(named) => {
            let known = ["string", "integer", "float", "boolean", "list", "password"];
            let found = known.into_iter().find(|known| named.as_str() == Some(*known));
            if found.is_none() {
                let words = "must be one of string, integer, float, boolean, list and password";
                reader.note("/data_type", "enum", words);
                return None;
            }
            found
        }
    };
    let value = value?;
    match (data_type, value) {
        (Some("password"), Value::String(text)) if text == REDACTED => Some(PutParameter::Stored),
        (_, value) if is_stand_in(value) => {
            let words = "is the stand-in of a password, which the data type password keeps";
            reader.note("/value", "secret", words);
            None
        }
        (Some("password"), Value::String(text)) if (1..=LONGEST_PASSWORD).contains(&text.len()) => {
            Some(PutParameter::Password(SecretString::from(text.as_str())))
        }
        (Some(data_type), value) if is_of(data_type, value) => Some(PutParameter::Plain(data_type)),
        (Some(data_type), _) => {
            reader.note("/value", "type", format!("must be of the data type {data_type}"));
            None
        }
        (None, _) => {
            reader.note("/value", "type", "must be a text, a number, a boolean or a list");
            None
        }
    }
}

fn is_stand_in(value: &Value) -> bool {
    match value {
        Value::String(text) => text == REDACTED,
        Value::Array(values) => values.iter().any(is_stand_in),
        _ => false,
    }
}

fn is_of(data_type: &str, value: &Value) -> bool {
    match data_type {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "float" => value.is_number(),
        "boolean" => value.is_boolean(),
        "list" => value.is_array(),
        _ => false,
    }
}
