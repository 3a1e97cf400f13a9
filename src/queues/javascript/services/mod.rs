//! What a handler may ask of others: seven services, called by the parent, which alone holds credentials.

use super::protocol::ServiceError;
use futures::future::BoxFuture;
use serde_json::value::RawValue;

/// The answer to a call.
pub type Answer = Result<Box<RawValue>, ServiceError>;

/// The services of one handler.
pub trait Services: Send + Sync {
    /// Calls a method. `args` is the JSON array of its arguments. The call is dropped when the run ends.
    fn call<'a>(&'a self, service: &'a str, method: &'a str, args: Box<RawValue>) -> BoxFuture<'a, Answer>;
}
