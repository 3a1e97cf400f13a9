//! What routes and handlers both do with queues: find one, hold a message against its schema, delete a
//! message.

use super::catalog::{Catalog, Queue};
use super::push::Inbox;
use super::{name, store};
use crate::db::{self, Database};
use crate::error::{Error, Result};
use crate::worker::{Stopper, store as engine};
use serde_json::value::RawValue;
use std::sync::Arc;
use uuid::Uuid;

/// The queues of this instance.
#[derive(Clone)]
pub struct Access {
    /// The database.
    pub db: Database,
    /// The definitions.
    pub catalog: Arc<Catalog>,
    /// Where pushes go.
    pub inbox: Inbox,
    /// Stops attempts of deleted messages.
    pub stopper: Stopper,
}

impl Access {
    /// The queue of this name. One that another process made a moment ago is found in the database.
    ///
    /// # Errors
    /// 404 when there is none.
    pub async fn queue(&self, name: &str) -> Result<Arc<Queue>> {
        if let Some(queue) = self.catalog.by_name(name) {
            return Ok(queue);
        }
        if name::check(name).is_ok() {
            self.refresh().await?;
        }
        self.catalog.by_name(name).ok_or_else(|| Error::NotFound("there is no such queue".to_owned()))
    }

    /// Learns of every definition that is committed by now.
    ///
    /// # Errors
    /// The database's.
    pub async fn refresh(&self) -> Result<()> {
        let revision = crate::worker::store::revision(&self.db.api).await?;
        self.catalog.refresh(&self.db.api, revision).await?;
        Ok(())
    }

    /// Deletes a message and stops its attempt.
    ///
    /// # Errors
    /// 404 when it is not there.
    pub async fn delete(&self, queue: &Queue, id: Uuid) -> Result<()> {
        let queue = queue.id;
        let running = db::transaction::<_, Error, _>(&self.db.api, move |tx| {
            Box::pin(async move {
                // The lease first: an end on its way is then either deleted too, or finds no message.
                let running = engine::lock_item(&mut *tx, queue, id).await?;
                if !store::messages::delete(&mut *tx, queue, id).await? {
                    return Err(no_message());
                }
                engine::unschedule(tx, id).await?;
                Ok(running)
            })
        })
        .await?;
        if running {
            self.stopper.stop(queue, id).await;
        }
        Ok(())
    }
}

/// Validates a message by the queue's schema.
///
/// # Errors
/// 422 with every violation.
pub async fn check(queue: &Queue, message: &RawValue) -> Result<()> {
    match &queue.schema {
        Some(schema) => schema.validate_text(message).await,
        None => Ok(()),
    }
}

/// 404: the queue has no such message.
pub fn no_message() -> Error {
    Error::NotFound("there is no such message in this queue".to_owned())
}
