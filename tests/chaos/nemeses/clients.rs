//! A crowd that hangs up.

use crate::api::Client;
use crate::clients::hang_up as one;
use crate::dice::Dice;
use crate::history::Phase;
use crate::world::World;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Many clients hang up at once.
pub(super) async fn hang_up(world: Arc<World>, mut dice: Dice) {
    let (crowd, name) = (dice.between(10, 40), dice.next());
    world.nemesis(Phase::Invoke, "hang-up", &format!("{crowd} clients"));
    let mut clients = JoinSet::new();
    for number in 0..crowd {
        let world = Arc::clone(&world);
        clients.spawn(async move { one(&mut Client::new(&world, format!("x{name:x}-{number}"))).await });
    }
    clients.join_all().await;
    world.nemesis(Phase::Ok, "hang-up", &format!("{crowd} clients"));
}
