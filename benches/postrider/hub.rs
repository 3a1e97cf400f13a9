//! `hub`: deliveries to an endpoint that answers at once, each attempt recorded and committed; beside as many
//! requests with the same headers and a body as long, by the same HTTP client, with no database behind them. And
//! what others notice of endpoints that hang.

use super::endpoint::{Endpoint, Manner};
use super::hanging;
use super::lab::{Instance, Lab};
use super::measure::{Measure, Unit};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use bytes::Bytes;
use postrider::internals::http::{Outbound, Request};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use url::Url;

/// How many requests are under way at once.
const AT_ONCE: usize = 256;
/// What the guide's order may look like.
pub(super) const PAYLOAD: &str = r#"{"order":{"number":"R154085346","status":"complete","currency":"USD","totals":{"item":99.95,"adjustment":15,"tax":5,"shipping":0,"payment":114.95,"order":114.95}}}"#;

pub(super) async fn measure(lab: &Lab) -> anyhow::Result<Vec<Measure>> {
    let count = lab.sizes.hub;
    let endpoint = Endpoint::start(Manner::Prompt).await?;
    let instance = Instance::start(lab, |app| app).await?;
    let define = |enabled: bool| {
        json!({ "url": endpoint.url(), "concurrency": AT_ONCE, "enabled": enabled }).to_string()
    };
    instance.administer("PUT", "/stores/bench/endpoints/prompt", &define(false)).await?;
    let mapping = json!({ "endpoint": "prompt", "service": "take", "messages": ["order:new"] });
    instance.administer("PUT", "/stores/bench/mappings/all", &mapping.to_string()).await?;
    publish(&instance, count).await?;

    let (before, cpu) = (instance.wal().await?, lab.cpu());
    let start = Instant::now();
    instance.administer("PUT", "/stores/bench/endpoints/prompt", &define(true)).await?;
    endpoint.taken.reaches(count).await?;
    instance.server.run_until_idle().await?;
    let rate = count as f64 / start.elapsed().as_secs_f64();
    let (after, used) = (instance.wal().await?, lab.cpu());
    let ended = "SELECT count(*) FROM deliveries JOIN delivery_attempts USING (id) WHERE status = 'COMPLETE'";
    let ended: i64 = sqlx::query_scalar(ended).fetch_one(&instance.server.db.api).await?;
    anyhow::ensure!(usize::try_from(ended)? == count, "{ended} of {count} deliveries are complete");
    instance.stop().await?;

    let delivered = endpoint.received();
    let plain = plain(&endpoint, count).await?;
    let asked = endpoint.received();
    anyhow::ensure!(
        asked == delivered,
        "{asked} bytes of plain requests are no measure of {delivered} of deliveries"
    );
    let mut measure = Measure::new("deliveries, 256 at once", Unit::PerSecond, rate)
        .beside("plain requests", plain)
        .with("WAL of a delivery", Unit::Bytes, (after - before) / count as f64);
    if let (Some(before), Some(used)) = (cpu, used) {
        for (part, micros) in used.each(&before, count) {
            measure = measure.with(part, Unit::Microseconds, micros);
        }
    }
    let mut measures = vec![measure];
    measures.extend(hanging::measure(lab).await?);
    Ok(measures)
}

/// Stores messages as an application does by SQL, and waits until they are routed.
async fn publish(instance: &Instance<'_>, count: usize) -> anyhow::Result<()> {
    let publish = "SELECT publish('bench', 'order:new', $1::json) FROM generate_series(1, $2)";
    sqlx::query(publish)
        .bind(PAYLOAD)
        .bind(i32::try_from(count)?)
        .execute(&mut instance.connect().await?)
        .await?;
    instance.server.run_until_idle().await?;
    Ok(())
}

/// The body of a service request, as long as one of the hub.
fn body() -> String {
    let id = uuid::Uuid::now_v7();
    let payload = PAYLOAD.trim_end_matches('}');
    format!(
        r#"{{"message":"order:new","message_id":"{id}","store_id":"bench","payload":{payload}}}}},"parameters":[]}}}}"#
    )
}

/// The headers of a service request.
fn headers() -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(12);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert("x-hub-store", HeaderValue::from_static("bench"));
    headers.insert("x-hub-timestamp", HeaderValue::from_static("1800000000"));
    headers.insert("webhook-id", HeaderValue::from_static("0198c0de-0000-7000-8000-000000000001"));
    headers.insert("webhook-timestamp", HeaderValue::from_static("1800000000"));
    headers
}

/// How many requests in a second the hub's HTTP client sends and has answered.
async fn plain(endpoint: &Endpoint, count: usize) -> anyhow::Result<f64> {
    let outbound = Outbound::new(vec!["127.0.0.0/8".parse().map_err(anyhow::Error::msg)?])?;
    let (body, left) = (Bytes::from(body()), Arc::new(AtomicUsize::new(count)));
    let url: Url = format!("{}/take", endpoint.url()).parse()?;
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (outbound, body, left, url) = (outbound.clone(), body.clone(), Arc::clone(&left), url.clone());
        tasks.spawn(async move {
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
            {
                let request = Request {
                    method: Method::POST,
                    url: url.clone(),
                    headers: headers(),
                    body: body.clone(),
                    timeout: Duration::from_secs(10),
                    max_response: 1 << 20,
                };
                anyhow::ensure!(outbound.send(&request).await?.status.is_success());
            }
            Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}
