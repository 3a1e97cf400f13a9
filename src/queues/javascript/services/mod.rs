//! What a handler may ask of others: seven services, called here in the parent, which alone holds
//! credentials. What crosses to the handler is JSON.
//!
//! `messagingService` is Postrider itself; the others are HTTP services at the addresses of `services.json`
//! ([`Settings`]), called with a token of the queue's client ([`Directory`]).

mod answer;
mod args;
mod caller;
mod directory;
mod http;
mod identity;
mod integration;
mod messaging;
mod ruleset;
mod settings;
mod storage;
mod tokens;

pub use answer::Answer;
pub use directory::Directory;
pub use http::{HttpAnswer, HttpCall, Send};
pub use messaging::Messaging;
pub use settings::{Address, Client, Settings};

use super::protocol::ServiceError;
use crate::traces::Context;
use answer::{not_configured, unknown, value};
use args::Args;
use caller::Caller;
use futures::FutureExt;
use futures::future::BoxFuture;
use secrecy::ExposeSecret;
use serde_json::value::RawValue;
use std::sync::Arc;

/// The services of one handler.
pub trait Services: std::marker::Send + Sync {
    /// Calls a method. `args` is the JSON array of its arguments. The future is dropped when the run ends.
    fn call<'a>(&'a self, service: &'a str, method: &'a str, args: Box<RawValue>) -> BoxFuture<'a, Answer>;
}

/// The services as one queue may use them.
pub struct QueueServices {
    directory: Arc<Directory>,
    client_id: Option<String>,
    messaging: Arc<dyn Messaging>,
    trace: Option<Context>,
}

impl QueueServices {
    /// For a queue with this `client_id`; `messaging` acts under the queue's own rights. The others are told that they
    /// are asked by this span.
    pub fn new(
        directory: Arc<Directory>,
        client_id: Option<String>,
        messaging: Arc<dyn Messaging>,
        trace: Option<Context>,
    ) -> Self {
        Self { directory, client_id, messaging, trace }
    }

    async fn dispatch(&self, service: &str, method: &str, args: &Args) -> Answer {
        let (client, trace) = (self.client_id.as_deref(), self.trace.as_ref());
        let caller = Caller::new(&self.directory, service, client, trace);
        match service {
            "messagingService" => messaging::call(&*self.messaging, method, args).await,
            "storageService" => storage::call(&caller, method, args).await,
            "rulesetService" => ruleset::call(&caller, method, args).await,
            "integrationService" => integration::call(&caller, method, args).await,
            "idmService" => identity::call(&caller, method, args).await,
            "authClientProvider" if method == "getAccessToken" => {
                let token = self.directory.token(self.client_id.as_deref()).await?;
                let token = token.ok_or_else(|| caller.not_configured())?;
                value(&token.expose_secret())
            }
            "serviceProvider" if method == "resolveService" => {
                let name = args.text(0, "name")?;
                let base = self.directory.base(&name).ok_or_else(|| not_configured(&name))?;
                value(&base.as_str())
            }
            _ => Err(unknown(service, method)),
        }
    }
}

impl Services for QueueServices {
    fn call<'a>(&'a self, service: &'a str, method: &'a str, args: Box<RawValue>) -> BoxFuture<'a, Answer> {
        async move { self.dispatch(service, method, &Args::parse(&args)?).await }.boxed()
    }
}
