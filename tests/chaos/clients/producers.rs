//! Applications that push over HTTP: one message at a time or many, with keys or without, into queues and the store.

use crate::api::{Answer, Client, text};
use crate::history::{Phase, What};
use crate::world::{Act, World};
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::Arc;

/// How often somebody with a key tries.
const TRIES: usize = 6;

/// Pushes single messages into the queues; half of them with a key, which are said again until they are known.
pub(super) async fn singles(world: Arc<World>, name: String) {
    let mut client = Client::new(&world, name);
    while world.act() == Act::Chaos {
        let tag = client.word();
        let queue = if client.dice.percent(50) { "remote" } else { "posts" };
        let path = format!("/queues/{queue}/messages");
        let key = client.dice.percent(50).then(|| format!("key-{tag}"));
        push(&mut client, queue, &path, &tag, key, &json!({ "tag": tag }), "id").await;
        let pause = client.dice.millis(10, 90);
        world.sleep(pause).await;
    }
}

/// Pushes into the store: orders of which each brings two children, and orders that stand in a line of this client.
pub(super) async fn hub(world: Arc<World>, name: String) {
    let mut client = Client::new(&world, name);
    while world.act() == Act::Chaos {
        let tag = client.word();
        let is_line = client.dice.percent(40);
        let message = if is_line { "order:line" } else { "order:new" };
        let line = is_line.then(|| format!("line-{}", client.name));
        // Those of a line all have keys, so that each is known to be there before the next is pushed.
        let key = (is_line || client.dice.percent(50)).then(|| format!("key-{tag}"));
        let body = json!({ "message": message, "payload": { "tag": tag, "line": line } });
        push(&mut client, "s1", "/stores/s1/messages", &tag, key, &body, "message_id").await;
        let pause = client.dice.millis(60, 250);
        world.sleep(pause).await;
    }
}

async fn push(
    client: &mut Client<'_>,
    into: &str,
    path: &str,
    tag: &str,
    key: Option<String>,
    body: &Value,
    id: &str,
) {
    let tries = if key.is_some() { TRIES } else { 1 };
    for _ in 0..tries {
        let op = client.world.history.op();
        note(client, op, Phase::Invoke, into, tag, key.clone(), Vec::new());
        let header = key.clone();
        let answer = client.ask(Method::POST, path, "admin", |request| match header {
            Some(key) => request.header("Idempotency-Key", key).json(body),
            None => request.json(body),
        });
        let Answer { phase, body, .. } = answer.await;
        let ids = if phase == Phase::Ok { vec![text(&body, id)] } else { Vec::new() };
        note(client, op, phase, into, tag, key.clone(), ids);
        // Who was told has it repeated now and then: an answer may be lost on the client's side of the wire too.
        if phase != Phase::Unknown && !client.dice.percent(10) {
            return;
        }
        let pause = client.dice.millis(20, 400);
        client.world.sleep(pause).await;
    }
}

fn note(
    client: &Client<'_>,
    op: u64,
    phase: Phase,
    into: &str,
    tag: &str,
    key: Option<String>,
    ids: Vec<String>,
) {
    let (into, tags) = (into.to_owned(), vec![tag.to_owned()]);
    client.world.history.note(&client.name, What::Push { op, phase, into, tags, key, ids });
}

/// Pushes many at once.
pub(super) async fn batches(world: Arc<World>, name: String) {
    let mut client = Client::new(&world, name);
    while world.act() == Act::Chaos {
        let tags: Vec<String> = (0..client.dice.between(2, 20)).map(|_| client.word()).collect();
        let into = if client.dice.percent(50) { "remote" } else { "posts" };
        let (op, body) =
            (world.history.op(), json!(tags.iter().map(|tag| json!({ "tag": tag })).collect::<Vec<_>>()));
        let push =
            |phase, ids| What::Push { op, phase, into: into.to_owned(), tags: tags.clone(), key: None, ids };
        world.history.note(&client.name, push(Phase::Invoke, Vec::new()));
        let path = format!("/queues/{into}/messages:batch");
        let answer = client.ask(Method::POST, &path, "admin", |request| request.json(&body)).await;
        let ids = answer.body.as_array().filter(|_| answer.phase == Phase::Ok).cloned().unwrap_or_default();
        world
            .history
            .note(&client.name, push(answer.phase, ids.iter().map(|each| text(each, "id")).collect()));
        let pause = client.dice.millis(200, 900);
        world.sleep(pause).await;
    }
}
