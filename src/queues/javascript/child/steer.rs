//! The second argument of a handler: which attempt this is, and three ways to end it.

use super::{End, json};
use crate::http::duration;
use crate::queues::when::LONGEST_DELAY;
use rquickjs::function::Opt;
use rquickjs::{Ctx, Error, Exception, Function, Object, Value};
use std::cell::RefCell;
use std::rc::Rc;

/// What the handler said of its end.
#[derive(Default)]
pub(super) struct Steer<'js> {
    /// What was thrown last by one of the three, and which. It counts if it is what the handler rejects with.
    said: RefCell<Option<(Value<'js>, How)>>,
}

#[derive(Clone, Copy)]
enum How {
    Final,
    Retry(Option<u64>),
    Later(u64),
}

impl<'js> Steer<'js> {
    /// The argument. Each of its functions throws: nothing after it runs, and what it throws may be caught.
    pub(super) fn context(
        self: &Rc<Self>,
        ctx: &Ctx<'js>,
        attempt: u16,
        max_attempts: u16,
    ) -> rquickjs::Result<Object<'js>> {
        let context = Object::new(ctx.clone())?;
        context.set("attempt", attempt)?;
        context.set("maxAttempts", max_attempts)?;
        context.set("last", attempt >= max_attempts)?;
        let steer = Rc::clone(self);
        let last = move |ctx: Ctx<'js>, error: Opt<Value<'js>>| -> rquickjs::Result<()> {
            Err(steer.throw(&ctx, error.0, How::Final))
        };
        context.set("final", Function::new(ctx.clone(), last)?.with_name("final")?)?;
        let steer = Rc::clone(self);
        let retry =
            move |ctx: Ctx<'js>, error: Opt<Value<'js>>, after: Opt<Value<'js>>| -> rquickjs::Result<()> {
                let after = after.0.filter(|after| !after.is_undefined());
                let after = after.map(|after| milliseconds(&ctx, &after)).transpose()?;
                Err(steer.throw(&ctx, error.0, How::Retry(after)))
            };
        context.set("retry", Function::new(ctx.clone(), retry)?.with_name("retry")?)?;
        let steer = Rc::clone(self);
        let later = move |ctx: Ctx<'js>, after: Opt<Value<'js>>| -> rquickjs::Result<()> {
            let text = after.0.unwrap_or_else(|| Value::new_undefined(ctx.clone()));
            let after = milliseconds(&ctx, &text)?;
            let words = text.as_string().map(json::lossy).unwrap_or_default();
            let error = Exception::from_message(ctx.clone(), &format!("put off by its handler for {words}"))?;
            error.as_object().set("name", "Later")?;
            Err(steer.throw(&ctx, Some(error.into_object().into_value()), How::Later(after)))
        };
        context.set("later", Function::new(ctx.clone(), later)?.with_name("later")?)?;
        Ok(context)
    }

    fn throw(&self, ctx: &Ctx<'js>, error: Option<Value<'js>>, how: How) -> Error {
        let error = error.unwrap_or_else(|| Value::new_undefined(ctx.clone()));
        *self.said.borrow_mut() = Some((error.clone(), how));
        ctx.throw(error)
    }

    /// The end of a handler that threw, or whose promise was rejected.
    pub(super) fn failed(&self, ctx: &Ctx<'js>, failure: &Error) -> End {
        if !matches!(failure, Error::Exception) {
            return End::Rejected(json::failure(ctx, failure));
        }
        let reason = ctx.catch();
        let how = self.said.borrow().as_ref().filter(|(said, _)| *said == reason).map(|(_, how)| *how);
        let error = json::error(ctx, reason);
        match how {
            None => End::Rejected(error),
            Some(How::Final) => End::Final(error),
            Some(How::Retry(after)) => End::Retry(error, after),
            Some(How::Later(after)) => End::Later(error, after),
        }
    }

    /// Lets go of what was thrown.
    pub(super) fn forget(&self) {
        self.said.take();
    }
}

fn milliseconds<'js>(ctx: &Ctx<'js>, text: &Value<'js>) -> rquickjs::Result<u64> {
    let read = text.as_string().and_then(|text| duration::read(&json::lossy(text)));
    let read =
        read.filter(|after| *after <= LONGEST_DELAY).and_then(|after| u64::try_from(after.as_millis()).ok());
    read.ok_or_else(|| {
        Exception::throw_type(ctx, "the time must be a duration as text, such as \"10s\", ten years at most")
    })
}
