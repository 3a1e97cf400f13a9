//! `idmService`: the users of an identity manager.

use super::Args;
use super::answer::{Answer, nothing};
use super::caller::{Caller, Request};
use axum::http::Method;

/// `registerUser(user)`: `POST {base}/users`; `getUser(id)`: `GET {base}/users/{id}`;
/// `updateUser(id, user)`: `PUT {base}/users/{id}`, which answers nothing.
pub(super) async fn call(caller: &Caller<'_>, method: &str, args: &Args) -> Answer {
    match method {
        "registerUser" => {
            let user = args.json(0, "user")?;
            caller
                .json(Request { method: Method::POST, path: &["users"], query: &[], body: Some(user) })
                .await
        }
        "getUser" => {
            let id = args.text(0, "id")?;
            caller.json(Request { method: Method::GET, path: &["users", &id], query: &[], body: None }).await
        }
        "updateUser" => {
            let id = args.text(0, "id")?;
            let user = args.json(1, "user")?;
            let path = ["users", &id];
            caller.send(Request { method: Method::PUT, path: &path, query: &[], body: Some(user) }).await?;
            Ok(nothing())
        }
        _ => Err(caller.unknown(method)),
    }
}
