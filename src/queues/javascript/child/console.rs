//! `console`: what a handler prints goes to its message's log.

use super::json::{attempt, lossy, property, stringify};
use super::outbox::Outbox;
use rquickjs::function::Rest;
use rquickjs::{Coerced, Ctx, Function, Object, Value};
use std::sync::Arc;

/// Puts `console` on the global object.
pub(super) fn install<'js>(
    ctx: &Ctx<'js>,
    globals: &Object<'js>,
    outbox: &Arc<Outbox>,
) -> rquickjs::Result<()> {
    let console = Object::new(ctx.clone())?;
    for level in ["log", "info", "warn", "error", "debug"] {
        let outbox = Arc::clone(outbox);
        let print = move |ctx: Ctx<'js>, values: Rest<Value<'js>>| {
            let texts: Vec<String> = values.0.iter().map(|value| text(&ctx, value)).collect();
            outbox.log(level, texts.join(" "));
        };
        console.set(level, Function::new(ctx.clone(), print)?.with_name(level)?)?;
    }
    globals.set("console", console)
}

/// A value as people want to read it: strings bare, errors with their trace, the rest as JSON where JSON
/// knows it.
fn text<'js>(ctx: &Ctx<'js>, value: &Value<'js>) -> String {
    if let Some(string) = value.as_string() {
        return lossy(string);
    }
    if value.is_symbol() {
        return "Symbol()".to_owned();
    }
    if let Some(big) = value.is_big_int().then(|| coerced(ctx, value)).flatten() {
        return format!("{big}n");
    }
    let Some(object) = value.as_object() else { return coerced(ctx, value).unwrap_or_default() };
    if object.is_error() {
        let name = coerced(ctx, value).unwrap_or_else(|| "Error".to_owned());
        let stack = property(ctx, object, "stack").unwrap_or_default();
        return format!("{name}\n{stack}").trim_end().to_owned();
    }
    if object.is_function() {
        return format!("[Function: {}]", property(ctx, object, "name").unwrap_or_default());
    }
    match stringify(ctx, value.clone()) {
        Ok(Some(json)) => json,
        Ok(None) => "undefined".to_owned(),
        Err(thrown) => format!("[cannot become JSON: {}]", coerced(ctx, &thrown).unwrap_or_default()),
    }
}

/// `String(value)`, unless that throws.
fn coerced<'js>(ctx: &Ctx<'js>, value: &Value<'js>) -> Option<String> {
    attempt(ctx, value.get::<Coerced<rquickjs::String>>()).map(|string| lossy(&string.0))
}
