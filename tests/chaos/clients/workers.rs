//! Remote workers: claim, keep, end; some die, and some come back when their time is over.

use crate::api::{Client, text};
use crate::history::{Phase, Taken, What};
use crate::world::{Act, LEASE, World};
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// How often an end is said whose answer did not come.
const TRIES: usize = 5;

pub(super) async fn run(world: Arc<World>, name: String) {
    let mut client = Client::new(&world, name);
    while world.act() < Act::Over {
        let max = client.dice.index(4) + 1;
        let op = world.history.op();
        let claim = |phase, taken| What::Claim { op, phase, from: "remote".to_owned(), max, taken };
        world.history.note(&client.name, claim(Phase::Invoke, Vec::new()));
        let claimed = world.history.now();
        let path = format!("/queues/remote/claim?wait=1s&max={max}");
        let answer = client.ask(Method::POST, &path, "admin", |request| request).await;
        let taken: Vec<Taken> = answer.body.as_array().map_or(Vec::new(), |all| {
            let read = |each: &Value| Taken {
                id: text(each, "id"),
                tag: text(&each["request"], "tag"),
                lease: text(each, "lease"),
            };
            all.iter().map(read).collect()
        });
        world.history.note(&client.name, claim(answer.phase, taken.clone()));
        if answer.phase != Phase::Ok {
            world.sleep(Duration::from_millis(100)).await;
        }
        for taken in taken {
            handle(&mut client, &taken, claimed).await;
        }
    }
}

async fn handle(client: &mut Client<'_>, taken: &Taken, claimed: u64) {
    let world = client.world;
    let calm = world.act() > Act::Chaos;
    match client.dice.between(1, 100) {
        _ if calm => end(client, taken, claimed, true).await,
        1..=3 => {}
        4..=6 => {
            let late = client.dice.millis(300, 1500);
            world.sleep(LEASE + late).await;
            end(client, taken, claimed, true).await;
        }
        7..=12 => {
            for _ in 0..client.dice.between(1, 4) {
                world.sleep(Duration::from_millis(400)).await;
                if !beat(client, taken).await {
                    return;
                }
            }
            end(client, taken, claimed, true).await;
        }
        13..=24 => end(client, taken, claimed, false).await,
        _ => {
            let work = client.dice.millis(0, 20);
            world.sleep(work).await;
            end(client, taken, claimed, true).await;
        }
    }
}

async fn beat(client: &mut Client<'_>, Taken { id, lease, .. }: &Taken) -> bool {
    let op = client.world.history.op();
    let beat = |phase| What::Beat { op, phase, id: id.clone(), lease: lease.clone() };
    client.world.history.note(&client.name, beat(Phase::Invoke));
    let (path, body) = (format!("/queues/remote/messages/{id}/heartbeat"), json!({ "lease": lease }));
    let answer = client.ask(Method::POST, &path, "admin", |request| request.json(&body)).await;
    client.world.history.note(&client.name, beat(answer.phase));
    answer.phase != Phase::Fail
}

/// Says how it ended, until somebody answers.
async fn end(client: &mut Client<'_>, Taken { id, lease, .. }: &Taken, claimed: u64, complete: bool) {
    let mark = client.word();
    let (verb, body) = if complete {
        ("complete", json!({ "lease": lease, "result": { "mark": mark } }))
    } else {
        ("fail", json!({ "lease": lease, "error": { "name": "Chaos", "mark": mark }, "retry": true }))
    };
    for _ in 0..TRIES {
        let op = client.world.history.op();
        let (id, lease, mark) = (id.clone(), lease.clone(), mark.clone());
        let path = format!("/queues/remote/messages/{id}/{verb}");
        let end = |phase| What::End {
            op,
            phase,
            id: id.clone(),
            lease: lease.clone(),
            complete,
            mark: mark.clone(),
            claimed,
        };
        client.world.history.note(&client.name, end(Phase::Invoke));
        let answer = client.ask(Method::POST, &path, "admin", |request| request.json(&body)).await;
        client.world.history.note(&client.name, end(answer.phase));
        if answer.phase != Phase::Unknown {
            return;
        }
        let pause = client.dice.millis(50, 400);
        client.world.sleep(pause).await;
    }
}
