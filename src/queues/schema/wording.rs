//! What is wrong with a message, in words: where, which keyword, and never a value that was submitted.

use crate::error::{MAX_VIOLATIONS, Violation};
use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use serde_json::Value;

/// Longest piece of a schema that a message quotes, in characters.
const MAX_QUOTE: usize = 60;

/// The first [`MAX_VIOLATIONS`] violations, in the order in which the validator found them.
pub(super) fn violations<'a>(errors: impl Iterator<Item = ValidationError<'a>>) -> Vec<Violation> {
    let mut found = Vec::new();
    for error in errors {
        let pointer = error.instance_path().as_str();
        match error.kind() {
            // One violation for each property, at the property.
            Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
                found.extend(unexpected.iter().map(|name| {
                    let pointer = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
                    Violation::new(pointer, error.kind().keyword(), "no property of this name is allowed")
                }));
            }
            Kind::PropertyNames { error: inner } => found.push(Violation::new(
                pointer,
                "propertyNames",
                format!("a property's name {}", message(inner.kind())),
            )),
            kind => found.push(Violation::new(pointer, keyword(kind), message(kind))),
        }
        if found.len() >= MAX_VIOLATIONS {
            break;
        }
    }
    found.truncate(MAX_VIOLATIONS);
    found
}

fn keyword(kind: &Kind) -> &str {
    match kind {
        // The crate's own name for a schema that is just `false`.
        Kind::FalseSchema => "false",
        kind => kind.keyword(),
    }
}

/// What is wrong, as the end of a sentence about the value at the pointer.
fn message(kind: &Kind) -> String {
    let count = |limit: u64, noun: &str| format!("{limit} {noun}{}", if limit == 1 { "" } else { "s" });
    match kind {
        Kind::AdditionalItems { limit } => format!("has more than {}", count(*limit as u64, "item")),
        Kind::UnevaluatedItems { .. } => "has items that no part of the schema allows".to_owned(),
        Kind::AnyOf { .. } => "matches none of the schemas in anyOf".to_owned(),
        Kind::OneOfNotValid { .. } => "matches none of the schemas in oneOf".to_owned(),
        Kind::OneOfMultipleValid { .. } => "matches more than one of the schemas in oneOf".to_owned(),
        Kind::Not { .. } => "matches the schema that it must not match".to_owned(),
        Kind::Contains => "has too few or too many items that match the schema in contains".to_owned(),
        Kind::Constant { expected_value } => format!("must be {}", quote(expected_value)),
        Kind::Enum { options } => format!("must be one of {}", quote(options)),
        Kind::Type { kind: TypeKind::Single(kind) } => format!("must be of type {kind}"),
        Kind::Type { kind: TypeKind::Multiple(kinds) } => {
            let kinds: Vec<String> = kinds.iter().map(|kind| kind.to_string()).collect();
            format!("must be of type {}", kinds.join(" or "))
        }
        Kind::Required { property } => format!("must have the property {}", quote(property)),
        Kind::FalseSchema => "no value is allowed here".to_owned(),
        Kind::Format { format } => format!("must be in the format {}", cut(format)),
        Kind::Pattern { pattern } => format!("must match the pattern {}", cut(pattern)),
        Kind::Minimum { limit } => format!("must be at least {limit}"),
        Kind::Maximum { limit } => format!("must be at most {limit}"),
        Kind::ExclusiveMinimum { limit } => format!("must be more than {limit}"),
        Kind::ExclusiveMaximum { limit } => format!("must be less than {limit}"),
        Kind::MultipleOf { multiple_of } => format!("must be a multiple of {multiple_of}"),
        Kind::MinLength { limit } => format!("must have at least {}", count(*limit, "character")),
        Kind::MaxLength { limit } => format!("must have at most {}", count(*limit, "character")),
        Kind::MinItems { limit } => format!("must have at least {}", count(*limit, "item")),
        Kind::MaxItems { limit } => format!("must have at most {}", count(*limit, "item")),
        Kind::MinProperties { limit } if *limit == 1 => "must have at least 1 property".to_owned(),
        Kind::MinProperties { limit } => format!("must have at least {limit} properties"),
        Kind::MaxProperties { limit } if *limit == 1 => "must have at most 1 property".to_owned(),
        Kind::MaxProperties { limit } => format!("must have at most {limit} properties"),
        Kind::UniqueItems => "has the same item twice".to_owned(),
        Kind::ContentEncoding { content_encoding } => format!("must be encoded as {}", cut(content_encoding)),
        Kind::ContentMediaType { content_media_type } => {
            format!("must be of the media type {}", cut(content_media_type))
        }
        Kind::FromUtf8 { .. } => "must hold UTF-8 once decoded".to_owned(),
        Kind::BacktrackLimitExceeded { .. } | Kind::RegexEngineFailure { .. } => {
            "takes the pattern too long to match".to_owned()
        }
        Kind::Referencing(_) => "has a reference that leads nowhere".to_owned(),
        Kind::AdditionalProperties { .. }
        | Kind::UnevaluatedProperties { .. }
        | Kind::PropertyNames { .. }
        | Kind::Custom { .. } => "does not match the schema".to_owned(),
    }
}

/// A part of the schema, as JSON, cut short.
fn quote(value: &Value) -> String {
    cut(&value.to_string())
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
