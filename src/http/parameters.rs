//! Which parameters a query may have: those that the description of the API names, each once, and none with U+0000,
//! which no text of PostgreSQL holds. A misspelt option is refused and never silently without effect.
//!
//! One rule for every route, made from the description that also makes the router, so that no route can forget it.
//! The refusal is found before the handler runs and told once the caller is known: an operation that needs a token
//! answers 401 first.

use crate::error::Unreadable;
use axum::http::Method;
use std::collections::HashMap;
use url::form_urlencoded;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::{OpenApi, RefOr};

/// The longest name that a refusal repeats, in characters.
const LONGEST_NAME: usize = 50;

/// What each operation knows, by its path and method.
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<String, Vec<(Method, Accepted)>>);

#[derive(Debug)]
struct Accepted {
    names: Vec<String>,
    /// Whether it needs no token: anybody may call it, or whoever has a key in the query itself.
    open: bool,
}

/// What is wrong with a query.
#[derive(Debug)]
pub(super) enum Refusal {
    /// To be told at once: the operation needs no token.
    Now(Unreadable),
    /// To be told once the caller is known.
    Later(Unreadable),
}

impl Known {
    /// What `api` says.
    pub(super) fn of(api: &OpenApi) -> Self {
        let paths = api.paths.paths.iter().map(|(path, item)| {
            let operations = [
                (Method::GET, &item.get),
                (Method::PUT, &item.put),
                (Method::POST, &item.post),
                (Method::DELETE, &item.delete),
                (Method::PATCH, &item.patch),
            ];
            let accepted = operations
                .into_iter()
                .filter_map(|(method, operation)| Some((method, Accepted::by(operation.as_ref()?))))
                .collect();
            (path.clone(), accepted)
        });
        Self(paths.collect())
    }

    /// What is wrong with the query of a request to `route`, which is written as the router has it. What the
    /// description does not know, such as the files of `/docs`, is left alone.
    pub(super) fn refuse(&self, route: &str, method: &Method, query: Option<&str>) -> Option<Refusal> {
        let query = query.filter(|query| !query.is_empty())?;
        // A route may be there with a slash at its end too, which is not described.
        let operations = self.0.get(route).or_else(|| self.0.get(route.strip_suffix('/')?))?;
        let method = if method == Method::HEAD { &Method::GET } else { method };
        let (_, accepted) = operations.iter().find(|(known, _)| known == method)?;
        let why = Unreadable(accepted.wrong(query)?);
        Some(if accepted.open { Refusal::Now(why) } else { Refusal::Later(why) })
    }
}

impl Accepted {
    fn by(operation: &Operation) -> Self {
        let names = operation.parameters.iter().flatten().filter_map(|parameter| match parameter {
            RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query => {
                Some(parameter.name.clone())
            }
            _ => None,
        });
        // Who names a way of its own to be called asks for no token: that is what all others ask for.
        Self { names: names.collect(), open: operation.security.is_some() }
    }

    /// Why the query is refused.
    fn wrong(&self, query: &str) -> Option<String> {
        let mut seen: Vec<&str> = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let Some(known) = self.names.iter().find(|known| **known == name) else {
                let short: String = name.chars().take(LONGEST_NAME).collect();
                let known: Vec<String> = self.names.iter().map(|name| format!("`{name}`")).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Some(format!("there is no query parameter `{short}` here; known: {known}"));
            };
            if seen.contains(&known.as_str()) {
                return Some(format!("the query parameter `{known}` is there twice"));
            }
            if value.contains('\0') {
                return Some(format!("`{known}` must not hold the character U+0000"));
            }
            seen.push(known);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(query: &str) -> Option<String> {
        Accepted { names: vec!["delay".to_owned(), "run_at".to_owned()], open: false }.wrong(query)
    }

    #[test]
    fn what_is_known_may_come_once_in_any_order_and_spelling() {
        for fine in ["delay=10s", "run_at=x&delay=", "del%61y=1", "&delay=1&", "delay"] {
            assert_eq!(wrong(fine), None, "{fine}");
        }
    }

    #[test]
    fn no_value_holds_what_no_text_of_the_database_can() {
        for refused in ["delay=%00", "run_at=x&delay=a%00b", "d%65lay=\0"] {
            assert_eq!(
                wrong(refused).as_deref(),
                Some("`delay` must not hold the character U+0000"),
                "{refused}"
            );
        }
    }

    #[test]
    fn what_is_unknown_or_comes_twice_is_named() {
        let unknown = wrong("delay=1&dealy=10s").unwrap_or_default();
        assert_eq!(unknown, "there is no query parameter `dealy` here; known: `delay`, `run_at`");
        assert!(wrong("Delay=1").is_some() && wrong("=1").is_some());
        assert_eq!(wrong("delay=1&delay=1").as_deref(), Some("the query parameter `delay` is there twice"));
        let long = wrong(&"x".repeat(10_000)).unwrap_or_default();
        assert!(long.len() < 200, "{long}");
    }
}
