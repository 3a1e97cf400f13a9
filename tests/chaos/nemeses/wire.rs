//! A network between servers and database that hangs up, stands still, and swallows answers.

use crate::dice::Dice;
use crate::history::Phase;
use crate::world::World;
use std::sync::Arc;
use tokio::time::sleep;

/// Hangs up on everything that one server says, and perhaps again when it comes back.
pub(super) async fn reset(world: Arc<World>, mut dice: Dice) {
    let one = dice.index(world.proxies.len());
    for _ in 0..dice.between(1, 4) {
        world.nemesis(Phase::Ok, "reset", &world.nodes[one].name);
        world.proxies[one].reset();
        sleep(dice.millis(0, 200)).await;
    }
}

/// Lets nothing through for some seconds.
pub(super) async fn stall(world: Arc<World>, mut dice: Dice) {
    let one = dice.index(world.proxies.len());
    world.nemesis(Phase::Invoke, "stall", &world.nodes[one].name);
    world.proxies[one].stall(true);
    sleep(dice.millis(500, 5000)).await;
    world.proxies[one].stall(false);
    world.nemesis(Phase::Ok, "stall", &world.nodes[one].name);
}

/// Loses the answers to commits and statements that have taken effect.
pub(super) async fn lose_answers(world: Arc<World>, mut dice: Dice) {
    let one = dice.index(world.proxies.len());
    let (commits, statements) = (dice.index(5) + 1, dice.index(5));
    let before = world.proxies[one].lost();
    world.nemesis(Phase::Invoke, "lose-answers", &world.nodes[one].name);
    world.proxies[one].lose_answers(commits, statements);
    sleep(dice.millis(300, 2500)).await;
    world.proxies[one].lose_answers(0, 0);
    let lost = world.proxies[one].lost() - before;
    world.nemesis(Phase::Ok, "lose-answers", &format!("{lost} of {}", world.nodes[one].name));
}
