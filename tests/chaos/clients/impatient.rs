//! Clients that hang up: with half a request sent, before the answer, or in the middle of it.

use crate::api::Client;
use crate::history::{Phase, What};
use crate::world::{Act, World};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Hangs up again and again.
pub(super) async fn run(world: Arc<World>, name: String) {
    let mut client = Client::new(&world, name);
    while world.act() == Act::Chaos {
        hang_up(&mut client).await;
        let pause = client.dice.millis(10, 60);
        world.sleep(pause).await;
    }
}

/// Sends one request and hangs up.
pub(crate) async fn hang_up(client: &mut Client<'_>) {
    let tag = client.word();
    let order = format!("{{\"message\":\"order:new\",\"payload\":{{\"tag\":\"{tag}\"}}}}");
    let (into, method, path, body) = match client.dice.between(1, 6) {
        1 => (Some("remote"), "POST", "/queues/remote/messages".to_owned(), format!("{{\"tag\":\"{tag}\"}}")),
        2 | 3 => (Some("s1"), "POST", "/stores/s1/messages".to_owned(), order),
        4 => (None, "POST", "/queues/remote/claim".to_owned(), String::new()),
        // Reads of several statements, in one transaction.
        _ => (
            None,
            "GET",
            format!("/queues/remote/messages/{}?view=full", uuid::Uuid::now_v7()),
            String::new(),
        ),
    };
    let op = client.world.history.op();
    let push = |phase, into: &str| {
        let (into, tags) = (into.to_owned(), vec![tag.clone()]);
        What::Push { op, phase, into, tags, key: None, ids: Vec::new() }
    };
    if let Some(into) = into {
        client.world.history.note(&client.name, push(Phase::Invoke, into));
    }
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: chaos\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        client.world.api.token("admin"),
        body.len()
    );
    let url = client.url().await;
    let part = if client.dice.percent(10) { client.dice.index(request.len()) } else { request.len() };
    let patience = Duration::from_micros(client.dice.between(0, 9_000));
    drop(send(url.trim_start_matches("http://"), &request.as_bytes()[..part], patience).await);
    if let Some(into) = into {
        client.world.history.note(&client.name, push(Phase::Unknown, into));
    }
}

async fn send(address: &str, request: &[u8], patience: Duration) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request).await?;
    drop(tokio::time::timeout(patience, stream.read_u8()).await);
    Ok(())
}
