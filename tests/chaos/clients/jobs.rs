//! Who creates jobs, and who works on them: claims, says how far it is, ends; some die in the middle.

use super::followers;
use crate::api::{Client, text};
use crate::history::{Phase, Taken, What};
use crate::world::{Act, LEASE, World};
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// How often somebody tries to create a job.
const TRIES: usize = 8;
/// The most jobs of one creator that are followed at once.
const FOLLOWED: usize = 10;

/// Creates jobs, each with a key, and has each followed.
pub(super) async fn creator(world: Arc<World>, name: String) {
    let mut client = Client::new(&world, name);
    let mut followers = JoinSet::new();
    while world.act() == Act::Chaos {
        while followers.try_join_next().is_some() {}
        if followers.len() < 2 * FOLLOWED {
            let tag = client.word();
            if let Some((job, key)) = create(&mut client, &tag).await {
                followers.spawn(followers::by_key(
                    Arc::clone(&world),
                    format!("{tag}-key"),
                    job,
                    key.clone(),
                ));
                let name = format!("{tag}-place");
                if client.dice.percent(50) {
                    followers.spawn(followers::by_place(Arc::clone(&world), name, job, key));
                } else {
                    followers.spawn(followers::by_stream(Arc::clone(&world), name, job, key));
                }
            }
        }
        let pause = client.dice.millis(300, 1200);
        world.sleep(pause).await;
    }
    followers.join_all().await;
}

async fn create(client: &mut Client<'_>, tag: &str) -> Option<(i64, String)> {
    let key = format!("key-{tag}");
    let push = |op, phase, ids| What::Push {
        op,
        phase,
        into: "jobs".to_owned(),
        tags: vec![tag.to_owned()],
        key: Some(key.clone()),
        ids,
    };
    for _ in 0..TRIES {
        let op = client.world.history.op();
        client.world.history.note(&client.name, push(op, Phase::Invoke, Vec::new()));
        let body = json!({ "cardholder_id": 1, "tag": tag });
        let answer = client.ask(Method::POST, "/chaos_jobs", "owner", |request| {
            request.header("Idempotency-Key", &key).json(&body)
        });
        let answer = answer.await;
        let id = answer.body["id"].as_i64();
        let ids = id.filter(|_| answer.phase == Phase::Ok).map(|id| format!("job/{id}"));
        client.world.history.note(&client.name, push(op, answer.phase, ids.into_iter().collect()));
        if answer.phase == Phase::Ok {
            return Some((id?, text(&answer.body, "access_key")));
        }
        let pause = client.dice.millis(50, 400);
        client.world.sleep(pause).await;
    }
    None
}

/// Works on jobs.
pub(super) async fn worker(world: Arc<World>, name: String) {
    let mut client = Client::new(&world, name);
    while world.act() < Act::Over {
        let op = world.history.op();
        let claim = |phase, taken| What::Claim { op, phase, from: "jobs".to_owned(), max: 1, taken };
        world.history.note(&client.name, claim(Phase::Invoke, Vec::new()));
        let answer = client.ask(Method::POST, "/chaos_jobs/claim?wait=1s", "worker", |request| request).await;
        let taken: Vec<Taken> = answer.body.as_array().map_or(Vec::new(), |all| {
            let read = |each: &Value| Taken {
                id: format!("job/{}", each["id"]),
                tag: text(&each["data"], "tag"),
                lease: text(each, "lease"),
            };
            all.iter().map(read).collect()
        });
        world.history.note(&client.name, claim(answer.phase, taken.clone()));
        if answer.phase != Phase::Ok {
            world.sleep(Duration::from_millis(100)).await;
        }
        for taken in taken {
            work(&mut client, &taken).await;
        }
    }
}

async fn work(client: &mut Client<'_>, taken: &Taken) {
    let world = client.world;
    for _ in 0..client.dice.between(3, 12) {
        if world.act() == Act::Chaos {
            let pause = client.dice.millis(10, 250);
            world.sleep(pause).await;
            match client.dice.between(1, 100) {
                1 => return,
                2 => world.sleep(LEASE + Duration::from_millis(700)).await,
                _ => {}
            }
        }
        if say(client, taken, false).await == Phase::Fail {
            return;
        }
    }
    for _ in 0..10 {
        if say(client, taken, true).await != Phase::Unknown {
            return;
        }
        let pause = client.dice.millis(50, 400);
        world.sleep(pause).await;
    }
}

/// Says something about a job: each time something else, so that it can be told what was heard.
async fn say(client: &mut Client<'_>, Taken { id, lease, .. }: &Taken, last: bool) -> Phase {
    let (op, mark) = (client.world.history.op(), client.word());
    let say = |phase| What::Say { op, phase, job: id.clone(), mark: mark.clone(), last };
    client.world.history.note(&client.name, say(Phase::Invoke));
    let mut body = json!({ "status": "WORKING", "mark": mark, "lease": lease });
    if last {
        body["termination_type"] = json!("BILLABLE");
    }
    let path = format!("/messages/chaos_jobs/{}/broadcasts", id.trim_start_matches("job/"));
    let answer = client.ask(Method::POST, &path, "worker", |request| request.json(&body)).await;
    client.world.history.note(&client.name, say(answer.phase));
    answer.phase
}
