//! `setTimeout` and its family.

use super::limits;
use rquickjs::function::{Opt, Rest};
use rquickjs::{Coerced, Ctx, Exception, Function, Object, Value};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The timers of one run, in the order in which they fall due.
#[derive(Default)]
pub(super) struct Timers<'js>(RefCell<State<'js>>);

#[derive(Default)]
struct State<'js> {
    /// By due time, and among equals by age.
    queue: BTreeMap<(Instant, u32), Timer<'js>>,
    due: HashMap<u32, Instant>,
    last: u32,
}

#[derive(Clone)]
struct Timer<'js> {
    callback: Function<'js>,
    args: Vec<Value<'js>>,
    every: Option<Duration>,
}

/// What sets a timer: the three functions differ in this only.
#[derive(Clone, Copy)]
enum Kind {
    Once,
    Repeated,
    /// Node's `setImmediate`, which takes no delay.
    Immediate,
}

impl<'js> Timers<'js> {
    /// Puts the functions on the global object.
    pub(super) fn install(self: &Rc<Self>, ctx: &Ctx<'js>, globals: &Object<'js>) -> rquickjs::Result<()> {
        globals.set("setTimeout", self.delayed(ctx, Kind::Once)?)?;
        globals.set("setInterval", self.delayed(ctx, Kind::Repeated)?)?;
        let timers = Rc::clone(self);
        let immediate = move |ctx: Ctx<'js>, callback: Function<'js>, args: Rest<Value<'js>>| {
            timers.set(&ctx, Kind::Immediate, Duration::ZERO, callback, args.0)
        };
        globals.set("setImmediate", Function::new(ctx.clone(), immediate)?.with_name("setImmediate")?)?;
        for name in ["clearTimeout", "clearInterval", "clearImmediate"] {
            let timers = Rc::clone(self);
            let clear = move |id: Opt<Value<'js>>| {
                if let Some(id) = id.0.and_then(|id| id.as_number()) {
                    timers.clear(id);
                }
            };
            globals.set(name, Function::new(ctx.clone(), clear)?.with_name(name)?)?;
        }
        Ok(())
    }

    fn delayed(self: &Rc<Self>, ctx: &Ctx<'js>, kind: Kind) -> rquickjs::Result<Function<'js>> {
        let name = if matches!(kind, Kind::Once) { "setTimeout" } else { "setInterval" };
        let timers = Rc::clone(self);
        let set =
            move |ctx: Ctx<'js>, callback: Function<'js>, ms: Opt<Coerced<f64>>, args: Rest<Value<'js>>| {
                timers.set(&ctx, kind, delay(ms.0.map_or(0.0, |ms| ms.0)), callback, args.0)
            };
        Function::new(ctx.clone(), set)?.with_name(name)
    }

    fn set(
        &self,
        ctx: &Ctx<'js>,
        kind: Kind,
        delay: Duration,
        callback: Function<'js>,
        args: Vec<Value<'js>>,
    ) -> rquickjs::Result<u32> {
        let mut state = self.0.borrow_mut();
        if state.queue.len() >= limits::TIMERS {
            return Err(Exception::throw_range(ctx, &format!("more than {} timers", limits::TIMERS)));
        }
        state.last += 1;
        let (id, due) = (state.last, Instant::now() + delay);
        let every = matches!(kind, Kind::Repeated).then_some(delay);
        state.queue.insert((due, id), Timer { callback, args, every });
        state.due.insert(id, due);
        Ok(id)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number that is no id clears none"
    )]
    fn clear(&self, id: f64) {
        let mut state = self.0.borrow_mut();
        if let Some(due) = state.due.remove(&(id as u32)) {
            state.queue.remove(&(due, id as u32));
        }
    }

    /// When the next timer falls due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.borrow().queue.first_key_value().map(|((due, _), _)| *due)
    }

    /// Calls the first timer that is due, if one is.
    ///
    /// # Errors
    /// When its callback threw.
    pub(super) fn fire(&self) -> rquickjs::Result<bool> {
        let Some(timer) = self.take_due() else { return Ok(false) };
        timer.callback.call::<_, Value>((Rest(timer.args),))?;
        Ok(true)
    }

    fn take_due(&self) -> Option<Timer<'js>> {
        let mut state = self.0.borrow_mut();
        let entry = state.queue.first_entry()?;
        let (due, id) = *entry.key();
        let now = Instant::now();
        if due > now {
            return None;
        }
        let timer = entry.remove();
        if let Some(every) = timer.every {
            state.queue.insert((now + every, id), timer.clone());
            state.due.insert(id, now + every);
        } else {
            state.due.remove(&id);
        }
        Some(timer)
    }

    /// Lets go of every callback.
    pub(super) fn forget(&self) {
        self.0.take();
    }
}

/// As in browsers and Node: at least 1 ms, and what is no number that fits is 1 ms.
fn delay(ms: f64) -> Duration {
    let fits = (1.0..=f64::from(i32::MAX)).contains(&ms);
    Duration::from_secs_f64(if fits { ms / 1000.0 } else { 0.001 })
}
