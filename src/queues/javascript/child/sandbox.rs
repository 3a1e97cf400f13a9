//! The world a handler finds itself in: a language, a console, timers, the services, and nothing else.

use super::console;
use super::limits;
use super::outbox::Outbox;
use super::services::Calls;
use super::steer::Steer;
use super::timers::Timers;
use rquickjs::context::{EvalOptions, intrinsic};
use rquickjs::function::This;
use rquickjs::{Context, Ctx, Exception, Function, Object, Runtime, Value};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// What the language brings along; without `performance`, `DOMException` and the like.
type Language = (
    intrinsic::Date,
    intrinsic::Eval,
    intrinsic::RegExpCompiler,
    intrinsic::RegExp,
    intrinsic::Json,
    intrinsic::Proxy,
    intrinsic::MapSet,
    intrinsic::TypedArrays,
    intrinsic::Promise,
    intrinsic::WeakRef,
);

/// What the functions of the world share with the loop that runs it.
#[derive(Default)]
pub(super) struct Host<'js> {
    pub(super) timers: Rc<Timers<'js>>,
    pub(super) calls: Rc<Calls<'js>>,
    pub(super) steer: Rc<Steer<'js>>,
}

impl Drop for Host<'_> {
    /// The functions in the heap hold the host, and the host holds functions of the heap: the second half of
    /// the circle is cut here, or the runtime could not be freed.
    fn drop(&mut self) {
        self.timers.forget();
        self.calls.forget();
        self.steer.forget();
    }
}

/// An engine that stops by itself at the deadline, wherever QuickJS looks.
pub(super) fn engine(deadline: Instant) -> rquickjs::Result<(Runtime, Context)> {
    let runtime = Runtime::new()?;
    runtime.set_memory_limit(limits::HEAP);
    runtime.set_max_stack_size(limits::STACK);
    runtime.set_interrupt_handler(Some(Box::new(move || Instant::now() >= deadline)));
    let context = Context::custom::<Language>(&runtime)?;
    Ok((runtime, context))
}

/// Furnishes the global object; returns the handler's `this`.
pub(super) fn furnish<'js>(
    ctx: &Ctx<'js>,
    host: &Host<'js>,
    outbox: &Arc<Outbox>,
) -> rquickjs::Result<Object<'js>> {
    let globals = ctx.globals();
    console::install(ctx, &globals, outbox)?;
    host.timers.install(ctx, &globals)?;
    host.calls.install(ctx, &globals)
}

/// Loads a CommonJS module and returns its `module.exports`.
pub(super) fn load<'js>(ctx: &Ctx<'js>, name: &str, source: &str) -> rquickjs::Result<Value<'js>> {
    let mut options = EvalOptions::default();
    options.strict = false;
    options.filename = Some(name.replace('\0', "?"));
    if source.contains('\0') {
        return Err(Exception::throw_syntax(ctx, "the source contains a NUL character"));
    }
    let factory: Function = ctx.eval_with_options(wrap(source), options)?;

    let exports = Object::new(ctx.clone())?;
    let module = Object::new(ctx.clone())?;
    module.set("exports", exports.clone())?;
    let require = |ctx: Ctx<'js>, name: Value<'js>| -> rquickjs::Result<()> {
        let name = name.as_string().and_then(|name| name.to_string().ok()).unwrap_or_default();
        Err(Exception::throw_message(
            &ctx,
            &format!("require('{name}'): a handler is one file and has no modules"),
        ))
    };
    let require = Function::new(ctx.clone(), require)?.with_name("require")?;
    factory.call::<_, Value>((This(exports.clone()), exports, require, module.clone()))?;
    module.get("exports")
}

/// The source as the body of a function, on its own lines. A line comment at its end must not swallow the
/// closing bracket.
fn wrap(source: &str) -> String {
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    // The line of a `#!` stays as a comment, so that line numbers hold.
    let comment = if source.starts_with("#!") { "//" } else { "" };
    format!("(function (exports, require, module) {{{comment}{source}\n}})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_wrapped_without_moving_its_lines() {
        let head = "(function (exports, require, module) {";
        assert_eq!(wrap("a // b"), format!("{head}a // b\n}})"));
        assert_eq!(wrap("\u{feff}#!/usr/bin/env node\na"), format!("{head}//#!/usr/bin/env node\na\n}})"));
    }
}
