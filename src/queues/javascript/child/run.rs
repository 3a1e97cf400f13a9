//! One message through one handler: load, call, and turn the loop until the promise settles.

use super::inbox::{Arrival, Inbox};
use super::limits;
use super::memory::Memory;
use super::outbox::Outbox;
use super::sandbox::{self, Host};
use super::{End, Order, json};
use rquickjs::function::This;
use rquickjs::promise::PromiseState;
use rquickjs::{Ctx, Promise, Runtime, Value};
use serde_json::value::RawValue;
use std::cell::RefCell;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// A handler, a message and a deadline.
pub(super) struct Run<'a> {
    pub(super) source: &'a str,
    pub(super) name: &'a str,
    /// Nothing: only see whether the handler loads.
    pub(super) message: Option<&'a RawValue>,
    /// The trace context of the attempt, which the handler finds as `this.traceparent`, and in its second argument.
    pub(super) traceparent: Option<&'a str>,
    pub(super) attempt: u16,
    pub(super) max_attempts: u16,
    pub(super) memory: &'a Memory,
    pub(super) deadline: Instant,
}

/// Where a run has led to.
pub(super) enum Step {
    /// It is over.
    Ended(End),
    /// The parent has gone.
    Orphaned,
}

/// The last rejection that nobody has caught, told apart by its promise.
type Uncaught = Rc<RefCell<Option<(u64, Box<RawValue>)>>>;

impl Run<'_> {
    /// Runs it in an engine of its own, which is gone when this returns.
    pub(super) fn execute(&self, inbox: &Inbox, outbox: &Arc<Outbox>) -> Step {
        let Ok((runtime, context)) = sandbox::engine(self.deadline) else {
            return Step::Ended(End::Rejected(json::out_of_memory()));
        };
        let uncaught = watch_rejections(&runtime);
        let step = context.with(|ctx| {
            let host = Host::default();
            match self.start(&ctx, &host, outbox) {
                Ok(Some(value)) => self.turn(&ctx, &host, value, inbox, &uncaught),
                Ok(None) => Step::Ended(End::Resolved(RawValue::NULL.to_owned())),
                Err(error) => Step::Ended(host.steer.failed(&ctx, &error)),
            }
        });
        // Whatever came out of it after the deadline came out of an engine that was being interrupted.
        match step {
            Step::Ended(_) if self.is_late() => Step::Ended(End::TimedOut),
            // QuickJS throws `null` when there is no memory left for an error.
            Step::Ended(End::Rejected(error))
                if error.get() == json::WITHOUT_REASON && self.memory.has_held(limits::HEAP) =>
            {
                Step::Ended(End::Rejected(json::out_of_memory()))
            }
            step => step,
        }
    }

    /// Loads the handler and calls it.
    fn start<'js>(
        &self,
        ctx: &Ctx<'js>,
        host: &Host<'js>,
        outbox: &Arc<Outbox>,
    ) -> rquickjs::Result<Option<Value<'js>>> {
        let this = sandbox::furnish(ctx, host, outbox)?;
        let exports = sandbox::load(ctx, self.name, self.source)?;
        let Some(handler) = exports.into_function() else {
            return Err(rquickjs::Exception::throw_type(ctx, "module.exports is not a function"));
        };
        let Some(message) = self.message else { return Ok(None) };
        let message = ctx.json_parse(message.get())?;
        let context = host.steer.context(ctx, self.attempt, self.max_attempts)?;
        if let Some(traceparent) = self.traceparent {
            this.set("traceparent", traceparent)?;
            context.set("traceparent", traceparent)?;
        }
        handler.call((This(this), message, context)).map(Some)
    }

    /// Runs jobs, timers and answers until `value`, if it is a promise or can be followed like one, settles.
    fn turn<'js>(
        &self,
        ctx: &Ctx<'js>,
        host: &Host<'js>,
        value: Value<'js>,
        inbox: &Inbox,
        uncaught: &Uncaught,
    ) -> Step {
        let promise = match follow(ctx, value) {
            Ok(promise) => promise,
            Err(error) => return Step::Ended(End::Rejected(json::failure(ctx, &error))),
        };
        loop {
            while ctx.execute_pending_job() {
                if self.is_late() {
                    return Step::Ended(End::TimedOut);
                }
            }
            if promise.state() != PromiseState::Pending {
                return Step::Ended(settled(ctx, host, &promise));
            }
            if self.is_late() {
                return Step::Ended(End::TimedOut);
            }
            let wake = match host.timers.next() {
                Some(due) => due.min(self.deadline),
                None if host.calls.waiting() => self.deadline,
                None => return Step::Ended(End::Rejected(stuck(uncaught))),
            };
            let done = match inbox.wait_until(wake) {
                Arrival::Order(Order::Return { id, value }) => host.calls.settle(ctx, id, Ok(&value)),
                Arrival::Order(Order::Refuse { id, error }) => host.calls.settle(ctx, id, Err(&error)),
                Arrival::Order(Order::Run { .. } | Order::Stop) | Arrival::Closed => return Step::Orphaned,
                Arrival::Nothing => host.timers.fire().map(drop),
            };
            if let Err(error) = done {
                // Nobody is left to catch what a timer throws; it ends the run as it would end a program.
                return Step::Ended(host.steer.failed(ctx, &error));
            }
        }
    }

    fn is_late(&self) -> bool {
        Instant::now() >= self.deadline
    }
}

/// The value as a promise. One of the engine's own is looked at from outside, so that a handler that replaced
/// `Promise.prototype.then` is still heard; anything else goes the way of `Promise.resolve`.
fn follow<'js>(ctx: &Ctx<'js>, value: Value<'js>) -> rquickjs::Result<Promise<'js>> {
    match value.try_into_promise() {
        Ok(promise) => Ok(promise),
        Err(value) => {
            let (promise, resolve, _) = ctx.promise()?;
            resolve.call::<_, ()>((value,))?;
            Ok(promise)
        }
    }
}

fn settled<'js>(ctx: &Ctx<'js>, host: &Host<'js>, promise: &Promise<'js>) -> End {
    match promise.result::<Value>() {
        Some(Ok(value)) => match json::result(ctx, value) {
            Ok(result) => End::Resolved(result),
            Err(error) => End::Rejected(error),
        },
        Some(Err(error)) => host.steer.failed(ctx, &error),
        None => unreachable!("it has settled"),
    }
}

/// Nothing is left that could settle the promise. Waiting for the deadline would only keep others waiting. If
/// a rejection went uncaught, that is why.
fn stuck(uncaught: &Uncaught) -> Box<RawValue> {
    let cause = uncaught.take().map(|(_, error)| error);
    cause.unwrap_or_else(|| {
        json::named(
            "TimeoutError",
            "the handler's promise would never settle: no job, timer or service call was left",
        )
    })
}

fn watch_rejections(runtime: &Runtime) -> Uncaught {
    let uncaught = Uncaught::default();
    let seen = Rc::clone(&uncaught);
    runtime.set_host_promise_rejection_tracker(Some(Box::new(move |ctx, promise, reason, handled| {
        let promise = BuildHasherDefault::<DefaultHasher>::default().hash_one(&promise);
        if !handled {
            let error = json::error(&ctx, reason);
            *seen.borrow_mut() = Some((promise, error));
        } else if seen.borrow().as_ref().is_some_and(|(last, _)| *last == promise) {
            *seen.borrow_mut() = None;
        }
    })));
    uncaught
}
