//! The endpoint of the demo: fails twice, then ships the order and asks for its payment to be captured.

use anyhow::Context as _;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// How often the shipping service fails before it works.
const FAILURES: usize = 2;

/// A server on this machine; it ends when it is dropped.
pub(super) struct Endpoint {
    pub(super) url: String,
    _server: JoinSet<()>,
}

impl Endpoint {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port for the demo's endpoint")?;
        let url = format!("http://{}", listener.local_addr()?);
        let router = Router::new()
            .route("/drop_ship", post(drop_ship))
            .route("/capture_payment", post(capture_payment))
            .with_state(Arc::default());
        let mut server = JoinSet::new();
        server.spawn(async move { _ = axum::serve(listener, router).await });
        Ok(Self { url, _server: server })
    }
}

async fn drop_ship(State(asked): State<Arc<AtomicUsize>>, Json(request): Json<Value>) -> Response {
    let order = &request["payload"]["order"];
    if asked.fetch_add(1, Ordering::SeqCst) < FAILURES {
        println!("   the endpoint: POST /drop_ship of {} → 503", order["number"]);
        return (StatusCode::SERVICE_UNAVAILABLE, "down for maintenance").into_response();
    }
    println!("   the endpoint: POST /drop_ship of {} → 200", order["number"]);
    let shipped =
        json!({ "subject": "Shipment transmitted", "description": "#R154085346 transmitted successfully." });
    let payment =
        json!({ "payment": { "order": order["number"], "amount": order["total"], "currency": "USD" } });
    let messages = json!([
        { "message": "notification:info", "payload": shipped },
        { "message": "payment:capture", "payload": payment },
    ]);
    Json(json!({ "message_id": request["message_id"], "messages": messages })).into_response()
}

async fn capture_payment(Json(request): Json<Value>) -> Json<Value> {
    println!("   the endpoint: POST /capture_payment of {} → 200", request["payload"]["payment"]["amount"]);
    Json(json!({ "message_id": request["message_id"] }))
}
