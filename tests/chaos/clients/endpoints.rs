//! What messages are posted to: an endpoint that mostly takes them, and sometimes fails, hangs, hangs up, or answers
//! when nobody waits any more.

use crate::api::text;
use crate::dice::Dice;
use crate::history::What;
use crate::world::{Act, World};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Longer than the servers wait.
const HANGS: Duration = Duration::from_millis(2600);

struct Inside {
    /// Known once the servers are.
    world: OnceLock<Arc<World>>,
    dice: Mutex<Dice>,
}

/// The endpoints of a run; they end when this is dropped.
pub(crate) struct Endpoints {
    pub(crate) url: String,
    inside: Arc<Inside>,
    _server: JoinSet<()>,
}

impl Endpoints {
    pub(crate) async fn start(seed: u64) -> Self {
        let inside =
            Arc::new(Inside { world: OnceLock::new(), dice: Mutex::new(Dice::of(seed, "endpoints")) });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(take).with_state(Arc::clone(&inside));
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, inside, _server: server }
    }

    /// Notes what comes in the history of this run.
    pub(crate) fn belong_to(&self, world: &Arc<World>) {
        _ = self.inside.world.set(Arc::clone(world));
    }
}

async fn take(
    State(inside): State<Arc<Inside>>,
    uri: Uri,
    headers: axum::http::HeaderMap,
    body: String,
) -> Response {
    let Some(world) = inside.world.get() else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    let service = uri.path().rsplit('/').next().unwrap_or_default().to_owned();
    let document: Value = serde_json::from_str(&body).unwrap_or_default();
    let (id, content) = match service.as_str() {
        "posts" => (
            headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned(),
            document,
        ),
        _ => (text(&document, "message_id"), document["payload"].clone()),
    };
    let tag = text(&content, "tag");
    let line = content["line"].as_str().map(str::to_owned);
    let item = if service == "posts" { id.clone() } else { format!("{id}/{service}") };
    world.history.note("endpoint", What::Start { id: item, tag: tag.clone(), line });
    let (mood, late) = {
        let mut dice = inside.dice.lock();
        (dice.between(1, 100), dice.millis(100, 1200))
    };
    match mood {
        _ if world.act() > Act::Chaos => {}
        1..=3 => tokio::time::sleep(HANGS).await,
        4..=12 => tokio::time::sleep(late).await,
        13..=22 => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        23..=26 => return hang_up(),
        _ => {}
    }
    let children =
        |place: usize| json!({ "message": "child:made", "payload": { "tag": format!("{tag}/{place}") } });
    let answer = match service.as_str() {
        "posts" => json!({ "mark": tag }),
        "fan" => json!({ "message_id": id, "messages": [children(0), children(1)] }),
        _ => json!({ "message_id": id }),
    };
    axum::Json(answer).into_response()
}

/// An answer that ends in the middle of its body.
fn hang_up() -> Response {
    let parts = [Ok(Bytes::from_static(b"{\"mess")), Err(std::io::Error::other("hangs up"))];
    Body::from_stream(futures::stream::iter(parts)).into_response()
}
