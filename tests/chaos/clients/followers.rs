//! Who follows a job: with the cursor of a key, from a place of its own, or as a stream.

use crate::api::{Client, text};
use crate::history::{GAP, How, Phase, What};
use crate::world::{Act, World};
use futures::StreamExt as _;
use reqwest::Method;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// The header of an access key.
const KEY: &str = "cardsavr-messaging-access-key";
/// How long a stream may say nothing at all: longer than it may be silent.
const SILENCE: Duration = Duration::from_secs(20);

/// What one read brought.
struct Got {
    phase: Phase,
    /// Each message's number, if it is told, and its mark.
    messages: Vec<(Option<i64>, String)>,
    last: bool,
}

/// Notes a read and its result.
fn note(
    client: &Client<'_>,
    op: u64,
    phase: Phase,
    job: i64,
    how: How,
    after: i64,
    got: &[(Option<i64>, String)],
) {
    let read = What::Read { op, phase, job: format!("job/{job}"), how, after, got: got.to_vec() };
    client.world.history.note(&client.name, read);
}

fn mark(message: &Value) -> (Option<i64>, String) {
    let mark = if message["type"] == "gap" { GAP.to_owned() } else { text(&message["message"], "mark") };
    (message["seq"].as_i64(), mark)
}

async fn read(client: &mut Client<'_>, job: i64, key: &str, how: How, after: i64) -> Got {
    let op = client.world.history.op();
    note(client, op, Phase::Invoke, job, how, after, &[]);
    let query = match how {
        How::After => format!("?after={after}&wait=1"),
        How::Cursor => "?wait=1".to_owned(),
    };
    let path = format!("/messages/chaos_jobs/{job}/broadcasts{query}");
    let answer = client.ask(Method::GET, &path, "owner", |request| request.header(KEY, key)).await;
    let all = answer.body.as_array().filter(|_| answer.phase == Phase::Ok).cloned().unwrap_or_default();
    let last = all.iter().any(|message| message["message"]["termination_type"].is_string());
    let messages: Vec<_> = all.iter().map(mark).collect();
    note(client, op, answer.phase, job, how, after, &messages);
    Got { phase: answer.phase, messages, last }
}

/// Whether the job has ended and there is nothing more to come.
async fn is_over(client: &mut Client<'_>, job: i64) -> bool {
    if client.world.act() == Act::Chaos {
        return false;
    }
    let answer = client.ask(Method::GET, &format!("/chaos_jobs/{job}"), "owner", |request| request).await;
    answer.body["termination_type"].is_string()
}

/// Polls with a key, whose cursor moves; now and then looks back with the same key, which must not move it.
pub(super) async fn by_key(world: Arc<World>, name: String, job: i64, key: String) {
    let mut client = Client::new(&world, name);
    while world.act() < Act::Over {
        if client.dice.percent(30) {
            let after = i64::try_from(client.dice.between(0, 5)).unwrap_or(0);
            read(&mut client, job, &key, How::After, after).await;
        }
        // Before the read: what was over then is read whole.
        let over = is_over(&mut client, job).await;
        let got = read(&mut client, job, &key, How::Cursor, 0).await;
        if got.last || got.phase == Phase::Fail || (over && got.phase == Phase::Ok && got.messages.is_empty())
        {
            return;
        }
        let pause = client.dice.millis(20, 300);
        world.sleep(pause).await;
    }
}

/// Polls from a place that it keeps itself.
pub(super) async fn by_place(world: Arc<World>, name: String, job: i64, key: String) {
    let (mut client, mut after) = (Client::new(&world, name), 0);
    while world.act() < Act::Over {
        let got = read(&mut client, job, &key, How::After, after).await;
        after = got.messages.iter().filter_map(|(seq, _)| *seq).fold(after, i64::max);
        if got.last || got.phase == Phase::Fail {
            return;
        }
        let pause = client.dice.millis(20, 200);
        world.sleep(pause).await;
    }
}

/// Follows a stream, and comes back to it where it was cut off.
pub(super) async fn by_stream(world: Arc<World>, name: String, job: i64, key: String) {
    let (mut client, mut after) = (Client::new(&world, name), 0);
    while world.act() < Act::Over {
        if stream(&mut client, job, &key, &mut after).await {
            return;
        }
        let pause = client.dice.millis(50, 400);
        world.sleep(pause).await;
    }
}

/// Reads a stream until it ends; says whether nothing follows.
async fn stream(client: &mut Client<'_>, job: i64, key: &str, after: &mut i64) -> bool {
    let url = format!("{}/messages/chaos_jobs/{job}/broadcasts", client.url().await);
    let request = client.world.api.send(Method::GET, &url, "owner").header(KEY, key);
    let request = request.header("Accept", "text/event-stream").header("Last-Event-ID", after.to_string());
    let Ok(Ok(answer)) = tokio::time::timeout(SILENCE, request.send()).await else { return false };
    if answer.status() == 204 || answer.status().is_client_error() {
        return true;
    }
    let (mut body, mut rest) = (answer.bytes_stream(), String::new());
    while let Ok(Some(Ok(bytes))) = tokio::time::timeout(SILENCE, body.next()).await {
        rest.push_str(&String::from_utf8_lossy(&bytes));
        while let Some((event, more)) =
            rest.split_once("\n\n").map(|(event, more)| (event.to_owned(), more.to_owned()))
        {
            rest = more;
            let data = event.lines().find_map(|line| line.strip_prefix("data:"));
            let Some(message) = data.and_then(|data| serde_json::from_str::<Value>(data).ok()) else {
                continue;
            };
            let (op, got) = (client.world.history.op(), mark(&message));
            note(client, op, Phase::Ok, job, How::After, *after, std::slice::from_ref(&got));
            *after = got.0.unwrap_or(*after);
            if message["message"]["termination_type"].is_string() {
                return true;
            }
        }
        if client.world.act() == Act::Over {
            return true;
        }
    }
    false
}
