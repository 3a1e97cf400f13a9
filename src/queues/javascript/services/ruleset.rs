//! `rulesetService`: rules decided elsewhere.

use super::Args;
use super::answer::Answer;
use super::caller::{Caller, Request};
use axum::http::Method;

/// `callRuleset(name, facts)`: `POST {base}/{name}` with the facts; its JSON is the decision.
pub(super) async fn call(caller: &Caller<'_>, method: &str, args: &Args) -> Answer {
    if method != "callRuleset" {
        return Err(caller.unknown(method));
    }
    let name = args.text(0, "name")?;
    let facts = args.json(1, "facts")?;
    caller.json(Request { method: Method::POST, path: &[&name], query: &[], body: Some(facts) }).await
}
