//! Servers that die, stand still, and are replaced.

use crate::dice::Dice;
use crate::history::Phase;
use crate::world::{LEASE, World};
use rustix::process::Signal;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How long a server may take to end when it is told to.
const PATIENCE: Duration = Duration::from_secs(40);

/// Kills one, some time from now: restarts take about as long, so that some are killed as they start.
pub(super) async fn kill(world: Arc<World>, mut dice: Dice) {
    let node = &world.nodes[dice.index(world.nodes.len())];
    sleep(dice.millis(0, 1500)).await;
    world.nemesis(Phase::Ok, "kill", &node.name);
    node.signal(Signal::KILL);
}

/// Stops one for longer than its lease.
pub(super) async fn pause(world: Arc<World>, mut dice: Dice) {
    let node = &world.nodes[dice.index(world.nodes.len())];
    world.nemesis(Phase::Invoke, "pause", &node.name);
    node.signal(Signal::STOP);
    sleep(LEASE + dice.millis(100, 3000)).await;
    node.signal(Signal::CONT);
    world.nemesis(Phase::Ok, "pause", &node.name);
}

/// Has all of them replaced, one after another, as a deployment does.
pub(super) async fn roll(world: Arc<World>, _dice: Dice) {
    for node in &world.nodes {
        world.nemesis(Phase::Invoke, "roll", &node.name);
        let starts = node.starts();
        node.signal(Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        let replaced = || node.starts() > starts && node.url().is_some();
        while !replaced() && Instant::now() < deadline {
            sleep(Duration::from_millis(50)).await;
        }
        world.nemesis(if replaced() { Phase::Ok } else { Phase::Unknown }, "roll", &node.name);
    }
}
