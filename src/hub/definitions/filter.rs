//! Filters: what a message must be like, beside its key, for a mapping to take it.

mod compare;

pub use super::path::Path;

use super::path;
use crate::http::reader::Reader;
use compare::{is_empty, order, same, text_of};
use regex::{Regex, RegexBuilder};
use serde_json::Value;
use std::cmp::Ordering;

/// The most filters of a mapping.
const MOST: usize = 50;
/// The longest pattern, in bytes, and the largest program that it may become. What a pattern costs is at most the
/// product of that and of the length of the text.
const LONGEST_PATTERN: usize = 1000;
const LARGEST_PROGRAM: usize = 256 << 10;
/// How much text the patterns of one mapping look at in one message, in bytes; beyond it nothing matches.
const MOST_TEXT: usize = 32 << 10;

/// The filters of a mapping, all of which must hold.
#[derive(Debug, Clone, Default)]
pub struct Filters(Vec<Filter>);

#[derive(Debug, Clone)]
struct Filter {
    path: Path,
    test: Test,
    rule: Rule,
}

/// What a value must be.
#[derive(Debug, Clone)]
enum Test {
    Eq(Value),
    Neq(Value),
    Gt(Value),
    Lt(Value),
    Begin(String),
    Contains(Value),
    End(String),
    Present,
    Empty,
    Match(Regex),
}

/// Which of several values must be so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    All,
    Any,
}

impl Filters {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `message`, `{message, message_id, payload}`, is as all of them want it.
    pub fn hold(&self, message: &Value) -> bool {
        let mut left = MOST_TEXT;
        self.0.iter().all(|filter| filter.holds(message, &mut left))
    }

    /// Reads the member `filters`; what breaks a rule is noted.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        let mut filters = Vec::new();
        reader.objects("filters", MOST, |reader| filters.extend(Filter::read(reader)));
        Self(filters)
    }
}

impl Filter {
    /// Where there is nothing, only `empty` and `neq` hold.
    fn holds(&self, message: &Value, left: &mut usize) -> bool {
        let values = self.path.values(message);
        if values.is_empty() {
            return matches!(self.test, Test::Empty | Test::Neq(_));
        }
        let mut values = values.into_iter();
        match self.rule {
            Rule::All => values.all(|value| self.test.holds(value, left)),
            Rule::Any => values.any(|value| self.test.holds(value, left)),
        }
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let path = reader.required("path", Reader::text).and_then(|text| {
            let path = Path::read(text);
            if path.is_none() {
                reader.note("/path", "path", path::WANTED);
            }
            path
        });
        let test = Test::read(reader);
        let rule = match reader.take("match_rule").map(Value::as_str) {
            // Not to be equal to any of them is what people mean by neq.
            None => Some(if matches!(test, Some(Test::Neq(_))) { Rule::All } else { Rule::Any }),
            Some(Some("all")) => Some(Rule::All),
            Some(Some("any")) => Some(Rule::Any),
            Some(_) => {
                reader.note("/match_rule", "enum", "must be all or any");
                None
            }
        };
        Some(Self { path: path?, test: test?, rule: rule? })
    }
}

impl Test {
    fn holds(&self, value: &Value, left: &mut usize) -> bool {
        match self {
            Self::Eq(wanted) => same(value, wanted),
            Self::Neq(wanted) => !same(value, wanted),
            Self::Gt(bound) => order(value, bound) == Some(Ordering::Greater),
            Self::Lt(bound) => order(value, bound) == Some(Ordering::Less),
            Self::Begin(text) => text_of(value).is_some_and(|value| value.starts_with(text.as_str())),
            Self::End(text) => text_of(value).is_some_and(|value| value.ends_with(text.as_str())),
            Self::Contains(wanted) => match value {
                Value::Array(items) => items.iter().any(|item| same(item, wanted)),
                value => match (text_of(value), text_of(wanted)) {
                    (Some(value), Some(wanted)) => value.contains(wanted.as_ref()),
                    _ => false,
                },
            },
            Self::Present => !is_empty(value),
            Self::Empty => is_empty(value),
            Self::Match(regex) => text_of(value).is_some_and(|value| {
                let within = value.len() <= *left;
                *left = left.saturating_sub(value.len());
                within && regex.is_match(&value)
            }),
        }
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let operator = reader.required("operator", Reader::text);
        let value = reader.take_or_null("value");
        let operator = operator?;
        if matches!(operator, "present" | "empty") {
            return Some(if operator == "present" { Self::Present } else { Self::Empty });
        }
        let known = ["eq", "neq", "gt", "lt", "begin", "contains", "end", "match"];
        if !known.contains(&operator) {
            let words = "must be one of eq, neq, gt, lt, begin, contains, end, present, empty and match";
            reader.note("/operator", "enum", words);
            return None;
        }
        let Some(value) = value else {
            reader.note("", "required", "must have the property \"value\"");
            return None;
        };
        let text = value.as_str().filter(|text| !text.is_empty());
        let read = match operator {
            "eq" => Ok(Self::Eq(value.clone())),
            "neq" => Ok(Self::Neq(value.clone())),
            "gt" | "lt" if !value.is_number() && text.is_none() => {
                Err("must be a number, or a text".to_owned())
            }
            "gt" => Ok(Self::Gt(value.clone())),
            "lt" => Ok(Self::Lt(value.clone())),
            "contains" => Ok(Self::Contains(value.clone())),
            _ => match (operator, text) {
                (_, None) => Err("must be a text that is not empty".to_owned()),
                ("begin", Some(text)) => Ok(Self::Begin(text.to_owned())),
                ("end", Some(text)) => Ok(Self::End(text.to_owned())),
                (_, Some(pattern)) => compiled(pattern).map(Self::Match),
            },
        };
        read.map_err(|why| reader.note("/value", if operator == "match" { "regex" } else { "type" }, why))
            .ok()
    }
}

/// The pattern, which runs in linear time.
fn compiled(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > LONGEST_PATTERN {
        return Err(format!("must have at most {LONGEST_PATTERN} characters"));
    }
    let regex = RegexBuilder::new(pattern).size_limit(LARGEST_PROGRAM).nest_limit(50).build();
    regex.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "is too large a regular expression".to_owned(),
        _ => "must be a regular expression, without look-around and back references".to_owned(),
    })
}

#[cfg(test)]
mod tests;
