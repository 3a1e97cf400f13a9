//! Routing: stand-in.

use super::catalog::Catalog;
use super::message::{Draft, State};
use crate::db::Ids;
use sqlx::postgres::PgConnection;
use std::collections::HashMap;
use std::time::Duration;
use uuid::Uuid;

/// What came of it.
#[derive(Debug, Default)]
pub struct Accepted {
    /// Of each message.
    pub states: HashMap<Uuid, State>,
    /// Lanes that got dispatch rows.
    pub ready: Vec<i32>,
    /// When the first scheduled one is due.
    pub soonest: Option<Duration>,
}

/// Stores and routes.
pub async fn accept(
    _tx: &mut PgConnection,
    _catalog: &Catalog,
    _ids: &Ids,
    _drafts: Vec<Draft>,
) -> sqlx::Result<Accepted> {
    Ok(Accepted::default())
}

/// Routes what is pending.
pub async fn route_pending(
    _tx: &mut PgConnection,
    _catalog: &Catalog,
    _ids: &Ids,
    _pending: &[Uuid],
) -> sqlx::Result<Accepted> {
    Ok(Accepted::default())
}
