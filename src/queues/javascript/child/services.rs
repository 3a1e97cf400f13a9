//! The seven services, as a handler sees them: every method asks the parent and returns a promise.

use super::Event;
use super::json::stringify;
use super::limits;
use super::outbox::Outbox;
use crate::queues::javascript::protocol::ServiceError;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rquickjs::function::Rest;
use rquickjs::{Array, Ctx, Exception, Function, Object, Value};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Every service with the methods that the parent serves.
const SERVICES: [(&str, &[&str]); 7] = [
    ("authClientProvider", &["getAccessToken"]),
    ("idmService", &["registerUser", "getUser", "updateUser"]),
    ("integrationService", &["callIntegration"]),
    ("messagingService", &["queueMessage", "getMessage", "deleteMessage"]),
    ("rulesetService", &["callRuleset"]),
    ("serviceProvider", &["resolveService"]),
    (
        "storageService",
        &[
            "getList",
            "getEntity",
            "createEntity",
            "updateEntity",
            "patchEntity",
            "deleteEntity",
            "detailCollection",
        ],
    ),
];

/// A token that ends sooner than this is as good as expired: it has to live through the call it is for.
const TOKEN_MARGIN: Duration = Duration::from_mins(1);

/// Never given twice in the life of a process, so that an answer that comes late meets no other call.
static NEXT_CALL: AtomicU64 = AtomicU64::new(1);

/// The calls of one run.
#[derive(Default)]
pub(super) struct Calls<'js> {
    made: Cell<usize>,
    /// `resolve` and `reject` of each call that waits for its answer.
    open: RefCell<HashMap<u64, (Function<'js>, Function<'js>)>>,
}

impl<'js> Calls<'js> {
    /// Puts the services on the global object, and returns the object that is to be the handler's `this`.
    pub(super) fn install(
        self: &Rc<Self>,
        ctx: &Ctx<'js>,
        globals: &Object<'js>,
    ) -> rquickjs::Result<Object<'js>> {
        let this = Object::new(ctx.clone())?;
        for (name, methods) in SERVICES {
            let service = Object::new(ctx.clone())?;
            for &method in methods {
                let calls = Rc::clone(self);
                let call =
                    move |ctx: Ctx<'js>, args: Rest<Value<'js>>| calls.call(&ctx, name, method, args.0);
                service.set(method, Function::new(ctx.clone(), call)?)?;
            }
            if name == "authClientProvider" {
                service.set("tokenExpired", Function::new(ctx.clone(), |token: String| expired(&token))?)?;
            }
            this.set(name, service.clone())?;
            globals.set(name, service)?;
        }
        Ok(this)
    }

    fn call(
        &self,
        ctx: &Ctx<'js>,
        service: &'static str,
        method: &'static str,
        args: Vec<Value<'js>>,
    ) -> rquickjs::Result<Value<'js>> {
        let (promise, resolve, reject) = ctx.promise()?;
        match self.ask(ctx, service, method, args) {
            Ok(id) => {
                self.open.borrow_mut().insert(id, (resolve, reject));
            }
            Err(reason) => reject.call::<_, ()>((reason,))?,
        }
        Ok(promise.into_value())
    }

    /// Sends a call to the parent; what it cannot send is the reason to reject.
    fn ask(
        &self,
        ctx: &Ctx<'js>,
        service: &'static str,
        method: &'static str,
        args: Vec<Value<'js>>,
    ) -> Result<u64, Value<'js>> {
        let refuse = |message: &str| failure(ctx, &ServiceError::new(message));
        self.made.set(self.made.get() + 1);
        if self.made.get() > limits::CALLS {
            return Err(refuse(&format!("more than {} calls of services", limits::CALLS)));
        }
        let array = Array::new(ctx.clone()).and_then(|array| {
            args.into_iter().enumerate().try_for_each(|(i, arg)| array.set(i, arg))?;
            Ok(array)
        });
        let array = array.map_err(|_| ctx.catch())?;
        let args = stringify(ctx, array.into_value())?.unwrap_or_else(|| "[]".to_owned());
        if args.len() > limits::ARGUMENTS {
            return Err(refuse(&format!("the arguments are larger than {} bytes", limits::ARGUMENTS)));
        }
        let args = RawValue::from_string(args).map_err(|_| refuse("the arguments are not JSON"))?;
        let id = NEXT_CALL.fetch_add(1, Ordering::Relaxed);
        let event = Event::Call { id, service: service.to_owned(), method: method.to_owned(), args };
        Outbox::send(&event).map_err(|_| refuse("nobody is there to serve it"))?;
        Ok(id)
    }

    /// Whether an answer may still come.
    pub(super) fn waiting(&self) -> bool {
        !self.open.borrow().is_empty()
    }

    /// Settles the promise of a call; an answer that nobody waits for is dropped.
    ///
    /// # Errors
    /// When the memory of the handler does not hold the answer.
    pub(super) fn settle(
        &self,
        ctx: &Ctx<'js>,
        id: u64,
        answer: Result<&RawValue, &ServiceError>,
    ) -> rquickjs::Result<()> {
        let Some((resolve, reject)) = self.open.borrow_mut().remove(&id) else { return Ok(()) };
        match answer {
            Ok(value) => {
                let value = ctx.json_parse(value.get())?;
                resolve.call::<_, ()>((value,))
            }
            Err(error) => reject.call::<_, ()>((failure(ctx, error),)),
        }
    }

    /// Lets go of every promise.
    pub(super) fn forget(&self) {
        self.open.take();
    }
}

/// A refusal as an `Error`.
fn failure<'js>(ctx: &Ctx<'js>, error: &ServiceError) -> Value<'js> {
    let made = Exception::from_message(ctx.clone(), &error.message).and_then(|exception| {
        if let Some(status) = error.status {
            exception.as_object().set("status", status)?;
        }
        Ok(exception.into_object().into_value())
    });
    made.unwrap_or_else(|_| ctx.catch())
}

/// Whether a JWT has expired, or will within a minute; so has a text that is none. One without an end never
/// does. The signature is the business of the service that the token is for.
fn expired(token: &str) -> bool {
    #[derive(Deserialize)]
    struct Claims {
        exp: Option<f64>,
    }
    let claims =
        token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok());
    let claims: Option<Claims> = claims.and_then(|json| serde_json::from_slice(&json).ok());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    claims.is_none_or(|claims| claims.exp.is_some_and(|exp| exp <= (now + TOKEN_MARGIN).as_secs_f64()))
}
