//! What goes wrong: a plan that the seed makes, of nemeses that know nothing of each other.

mod clients;
mod database;
mod processes;
mod wire;

use crate::dice::Dice;
use crate::history::Phase;
use crate::world::World;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// One kind of misfortune.
pub(crate) struct Nemesis {
    pub(crate) name: &'static str,
    /// How often it comes, beside the others.
    weight: usize,
    run: fn(Arc<World>, Dice) -> BoxFuture<'static, ()>,
    /// Whether this machine allows it.
    is_possible: fn(&World) -> bool,
}

macro_rules! nemesis {
    ($name:literal, $weight:literal, $run:path) => {
        nemesis!($name, $weight, $run, |_| true)
    };
    ($name:literal, $weight:literal, $run:path, $possible:expr) => {
        Nemesis {
            name: $name,
            weight: $weight,
            run: |world, dice| Box::pin($run(world, dice)),
            is_possible: $possible,
        }
    };
}

/// All of them.
pub(crate) const ALL: [Nemesis; 12] = [
    nemesis!("kill", 4, processes::kill),
    nemesis!("pause", 4, processes::pause),
    nemesis!("roll", 1, processes::roll),
    nemesis!("kill-postgres", 2, database::kill),
    nemesis!("terminate", 3, database::terminate),
    nemesis!("lock", 5, database::lock),
    nemesis!("fill-disk", 1, database::fill, |world| world.place.has_disk()),
    nemesis!("clock", 1, database::clock, |world| world.postgres.has_clock()),
    nemesis!("reset", 4, wire::reset),
    nemesis!("stall", 3, wire::stall),
    nemesis!("lose-answers", 6, wire::lose_answers),
    nemesis!("hang-up", 4, clients::hang_up),
];

/// From the beginning of one to the beginning of the next.
const PAUSES: (u64, u64) = (400, 1800);

/// A plan: what begins when, and with which chance.
fn plan(seed: u64, time: Duration, possible: &[&'static Nemesis]) -> Vec<(Duration, &'static Nemesis, Dice)> {
    let mut dice = Dice::of(seed, "plan");
    let mut draw: Vec<&Nemesis> = Vec::new();
    for nemesis in possible {
        draw.extend(std::iter::repeat_n(*nemesis, nemesis.weight));
    }
    let (mut plan, mut at) = (Vec::new(), Duration::from_secs(2));
    while at < time && !draw.is_empty() {
        let nemesis = draw[dice.index(draw.len())];
        plan.push((at, nemesis, Dice::new(dice.next())));
        at += dice.millis(PAUSES.0, PAUSES.1);
    }
    plan
}

/// The names of those that are wanted and cannot be had here.
pub(crate) fn missing(world: &World, wanted: &[&'static Nemesis]) -> Vec<&'static str> {
    wanted.iter().filter(|nemesis| !(nemesis.is_possible)(world)).map(|nemesis| nemesis.name).collect()
}

/// Runs a plan to its end, and waits until each has undone what it did.
pub(crate) async fn run(world: &Arc<World>, time: Duration, wanted: &[&'static Nemesis]) {
    let possible: Vec<_> = wanted.iter().filter(|nemesis| (nemesis.is_possible)(world)).copied().collect();
    let (begun, mut at_work) = (Instant::now(), JoinSet::new());
    for (at, nemesis, dice) in plan(world.seed, time, &possible) {
        sleep_until(begun + at).await;
        at_work.spawn((nemesis.run)(Arc::clone(world), dice));
    }
    sleep_until(begun + time).await;
    at_work.join_all().await;
    world.proxies.iter().for_each(crate::proxy::Proxy::behave);
    world.postgres.revive().await;
    world.nemesis(Phase::Ok, "all", "is over");
}
