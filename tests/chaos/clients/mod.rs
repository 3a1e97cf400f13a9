//! Who uses the servers.

mod endpoints;
mod followers;
mod impatient;
mod jobs;
mod observer;
mod producers;
mod sql;
mod workers;

pub(crate) use endpoints::Endpoints;
pub(crate) use impatient::hang_up;

use crate::world::World;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Starts everybody.
pub(crate) fn start(world: &Arc<World>) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    for number in 1..=3 {
        clients.spawn(producers::singles(Arc::clone(world), format!("p{number}")));
        clients.spawn(producers::hub(Arc::clone(world), format!("h{number}")));
    }
    clients.spawn(producers::batches(Arc::clone(world), "b1".to_owned()));
    for number in 1..=2 {
        clients.spawn(impatient::run(Arc::clone(world), format!("i{number}")));
        clients.spawn(sql::enqueue(Arc::clone(world), format!("s{number}")));
        clients.spawn(jobs::creator(Arc::clone(world), format!("c{number}")));
    }
    for number in 1..=4 {
        clients.spawn(workers::run(Arc::clone(world), format!("w{number}")));
        clients.spawn(jobs::worker(Arc::clone(world), format!("j{number}")));
    }
    clients.spawn(sql::broadcast(Arc::clone(world), "a1".to_owned()));
    clients.spawn(observer::run(Arc::clone(world)));
    clients
}
