//! The journey of an order: an endpoint fails, is asked again, and its answer is routed on.

use super::client::{Ask, Client};
use super::endpoint::Endpoint;
use anyhow::{Context as _, ensure};
use axum::http::Method;
use serde_json::{Value, json};

const STORE: &str = "/stores/demo";
const ADMIN: &str = "hub_admin";

/// Tells all of it; an error when an answer is not what it should be.
pub(super) async fn tell(client: &Client) -> anyhow::Result<()> {
    let endpoint = Endpoint::start().await?;
    define(client, &endpoint).await?;
    let order = push(client).await?;
    let capture = answered(client, &order).await?;
    routed_on(client, &capture).await
}

async fn put(client: &Client, path: &str, body: Value) -> anyhow::Result<()> {
    let path = format!("{STORE}/{path}");
    let put = Ask { method: Method::PUT, ..Ask::post(ADMIN, &path, body) };
    client.show(201, put).await.map(drop)
}

async fn define(client: &Client, endpoint: &Endpoint) -> anyhow::Result<()> {
    client.say(
        "14. A store of the hub",
        "An endpoint is a server that takes messages; a mapping says which messages go to which of its services,\n\
         with which parameters. A password is sealed, and sent to the services that need it alone.",
    );
    put(client, "endpoints/warehouse", json!({ "url": endpoint.url, "token": "x123" })).await?;
    put(client, "parameters/api_key", json!({ "value": "1234567890", "data_type": "password" })).await?;
    let ship = json!({
        "endpoint": "warehouse", "service": "drop_ship", "messages": ["order:new"], "parameters": ["api_key"],
        "identifiers": { "order_number": "payload.order.number" },
        "options": { "retry": { "base": "500ms", "cap": "1s" } },
    });
    put(client, "mappings/ship", ship).await?;
    let capture = json!({ "endpoint": "warehouse", "service": "capture_payment", "messages": ["payment:*"] });
    put(client, "mappings/capture", capture).await
}

/// Gives the path of the order's message.
async fn push(client: &Client) -> anyhow::Result<String> {
    client.say(
        "15. An order goes out",
        "The answer comes when the message and its delivery are durable. The endpoint is down; it is asked again,\n\
         a little later each time, until it takes the message.",
    );
    let order = json!({ "message": "order:new", "payload": { "order": { "number": "R154085346", "total": 114.95 } } });
    let stored = client.show(201, Ask::post("hub_writer", &format!("{STORE}/messages"), order)).await?;
    let id = stored["message_id"].as_str().context("a message has an id")?;
    Ok(format!("{STORE}/messages/{id}"))
}

/// Waits for the delivery and shows what came of it; returns the path of the message that its answer brought.
async fn answered(client: &Client, order: &str) -> anyhow::Result<String> {
    let message = client.wait_for(ADMIN, order, is_delivered).await?;
    client.say("16. Three attempts", "Each is kept, with its time and what the endpoint answered.");
    let delivery = message["deliveries"][0]["id"].as_str().context("a delivery has an id")?;
    let attempts = format!("{STORE}/deliveries/{delivery}/attempts");
    client.show(200, Ask::get("hub_reader", &attempts)).await?;
    client.say(
        "17. What the answer brought",
        "A line in the log for people, and two messages, which were stored in the transaction that ended the delivery.",
    );
    let message = client.show(200, Ask::get("hub_reader", order)).await?;
    let children = message["children"].as_array().context("a message has children")?;
    for child in children {
        let path = format!("{STORE}/messages/{}", child.as_str().unwrap_or_default());
        let (_, child) = client.look(ADMIN, &path).await?;
        if child["message"] == "payment:capture" {
            return Ok(path);
        }
    }
    anyhow::bail!("the answer brought no payment:capture")
}

async fn routed_on(client: &Client, capture: &str) -> anyhow::Result<()> {
    client.wait_for(ADMIN, capture, is_delivered).await?;
    client
        .say("18. Routed on", "The answer of one service went to another, which the first knows nothing of.");
    let message = client.show(200, Ask::get("hub_reader", capture)).await?;
    ensure!(message["state"] == "routed", "the payment was not routed");
    Ok(())
}

fn is_delivered(message: &Value) -> bool {
    message["deliveries"][0]["status"] == "COMPLETE"
}
