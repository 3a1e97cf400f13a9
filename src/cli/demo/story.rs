//! The journeys of a message, one after the other.

use super::client::{Ask, Client};
use anyhow::Context as _;
use axum::http::Method;
use serde_json::{Value, json};

const MESSAGES: &str = "/queues/myQueue/messages";

/// The handler of the demo: it resolves, logs, and rejects when asked to.
const HANDLER: &str = "module.exports = (message) => new Promise((resolve, reject) => { \
    console.log(`handling ${message.hello}`); \
    message.world === `no` ? reject(new Error(`the world said no`)) : resolve({ result: `value` }); });";

/// Tells all of it; an error when an answer is not what it should be.
pub(super) async fn tell(client: &Client) -> anyhow::Result<()> {
    define(client).await?;
    push(client).await?;
    reject(client).await?;
    later(client).await?;
    once(client).await?;
    many(client).await?;
    remote(client).await
}

async fn define(client: &Client) -> anyhow::Result<()> {
    client.say(
        "1. A queue",
        "Its definition says who may push (the roles one and two), what may be pushed (a JSON Schema), and\n\
         what handles a message: JavaScript, an HTTP endpoint, a remote worker, or Rust.",
    );
    let definition = json!({
        "name": "myQueue",
        "client_id": "my-client",
        "roles": { "needsRole": true, "replace": true, "roles": ["one", "two"] },
        "incoming": { "schema": {
            "type": "object",
            "properties": { "hello": { "type": "string" }, "world": { "type": "string" } },
            "additionalProperties": false,
            "required": ["hello"]
        } },
        "handler": { "kind": "javascript", "source": HANDLER }
    });
    let put = Ask { method: Method::PUT, ..Ask::post("queue_admin", "/queues/myQueue", definition) };
    client.show(201, put).await.map(drop)
}

async fn push(client: &Client) -> anyhow::Result<()> {
    client.say("2. Messages that are refused", "The schema refuses this one, with every violation; a token without a role of the queue is refused too.");
    client.show(422, Ask::post("one", MESSAGES, json!({ "world": 7 }))).await?;
    client.show(403, Ask::post("three", MESSAGES, json!({ "hello": "there" }))).await?;
    client.say("3. A message", "Pushed: the answer comes when it is durable. Handled a moment later.");
    let path = pushed(client, MESSAGES, json!({ "hello": "there", "world": "yes" })).await?;
    client.wait("one", &path).await?;
    client.show(200, Ask::get("one", &path)).await?;
    client.say(
        "   with all that is known of it",
        "Administrators see its attempts and what its handler logged.",
    );
    client.show(200, Ask::get("system_admin", &format!("{path}?view=full"))).await.map(drop)
}

async fn reject(client: &Client) -> anyhow::Result<()> {
    client.say("4. A rejection", "The handler says no: the message ends as ERROR, with the reason.");
    let path = pushed(client, MESSAGES, json!({ "hello": "there", "world": "no" })).await?;
    client.wait("one", &path).await?;
    client.show(200, Ask::get("one", &path)).await.map(drop)
}

async fn later(client: &Client) -> anyhow::Result<()> {
    client.say("5. A message for later", "It waits, PENDING, until its time has come.");
    let path = pushed(client, &format!("{MESSAGES}?delay=1s"), json!({ "hello": "tomorrow" })).await?;
    client.show(200, Ask::get("one", &path)).await?;
    client.wait("one", &path).await?;
    client.show(200, Ask::get("one", &path)).await.map(drop)
}

async fn once(client: &Client) -> anyhow::Result<()> {
    client.say(
        "6. Once, however often it is sent",
        "A client that lost the answer sends it again, with the same key, and gets the same message.",
    );
    let order = |body: Value| Ask { key: Some("order-1"), ..Ask::post("one", MESSAGES, body) };
    let first = client.show(201, order(json!({ "hello": "order 1" }))).await?;
    let again = client.show(200, order(json!({ "hello": "order 1" }))).await?;
    anyhow::ensure!(first["id"] == again["id"], "the key made two messages");
    client.say("   the same key with another message", "is a mistake of the client, and changes nothing.");
    client.show(409, order(json!({ "hello": "order 2" }))).await.map(drop)
}

async fn many(client: &Client) -> anyhow::Result<()> {
    client.say("7. Many at once", "One request, one transaction. Those that the schema allows are stored.");
    let batch = json!([{ "hello": "a" }, { "hello": 2 }, { "hello": "c" }]);
    client.show(201, Ask::post("one", "/queues/myQueue/messages:batch", batch)).await.map(drop)
}

async fn remote(client: &Client) -> anyhow::Result<()> {
    client.say("8. A worker in any language", "It claims messages over HTTP and says how they ended.");
    let put = |path, body| Ask { method: Method::PUT, ..Ask::post("queue_admin", path, body) };
    client.show(201, put("/queues/resize", json!({ "handler": { "kind": "worker" } }))).await?;
    let messages = "/queues/resize/messages";
    let message = client.show(201, Ask::post("resize_writer", messages, json!({ "picture": 7 }))).await?;
    let claim =
        Ask { body: None, ..Ask::post("resize_worker", "/queues/resize/claim?wait=20s", Value::Null) };
    let claimed = client.show(200, claim).await?;
    let id = message["id"].as_str().context("a message has an id")?;
    let complete = format!("{messages}/{id}/complete");
    let end = json!({ "lease": claimed[0]["lease"], "result": { "width": 640 } });
    client.show(204, Ask::post("resize_worker", &complete, end.clone())).await?;
    client.show(200, Ask::get("resize_writer", &format!("{messages}/{id}"))).await?;
    client.say("   a worker whose answer was lost", "says the same again, and learns that it counted.");
    client.show(204, Ask::post("resize_worker", &complete, end.clone())).await?;
    client.say("   a worker that comes too late", "Its lease is over: it changes nothing.");
    let late = json!({ "lease": end["lease"], "result": { "width": 320 } });
    client.show(409, Ask::post("resize_worker", &complete, late)).await.map(drop)
}

/// Pushes to myQueue; returns the path of the message.
async fn pushed(client: &Client, path: &str, message: Value) -> anyhow::Result<String> {
    let answer = client.show(201, Ask::post("one", path, message)).await?;
    Ok(format!("{MESSAGES}/{}", answer["id"].as_str().context("a message has an id")?))
}
