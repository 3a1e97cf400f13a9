//! `push`: messages over HTTP, each answered after its commit; beside single INSERTs.

use super::client::Client;
use super::lab::{Instance, Lab};
use super::measure::{Measure, Unit};
use super::raw::Raw;
use super::times::{PERCENTILES, Times};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

pub(super) async fn measure(lab: &Lab) -> anyhow::Result<Vec<Measure>> {
    let instance = Instance::start(lab, |app| app).await?;
    // The document's schema, roles and all; what is pushed waits for a worker that does not come.
    instance.define("myQueue", json!({ "kind": "worker" }), json!({})).await?;
    let raw = Raw::new(lab).await?;
    let mut measures = Vec::new();
    for clients in [1, 16, 64] {
        let (rate, times) = push(&instance, clients, lab.sizes.push).await?;
        let mut measure = Measure::new(format!("over HTTP, connections: {clients}"), Unit::PerSecond, rate)
            .beside("single INSERTs", raw.inserts(clients, lab.sizes.push).await?);
        for (name, percent) in PERCENTILES {
            measure = measure.with(name, Unit::Milliseconds, times.at(percent));
        }
        measures.push(measure);
    }
    raw.drop().await?;
    instance.stop().await?;
    Ok(measures)
}

/// How many pushes were answered in a second, and how long each took.
async fn push(instance: &Instance<'_>, clients: usize, time: Duration) -> anyhow::Result<(f64, Times)> {
    let request = Arc::new(instance.push_request("myQueue"));
    let mut ready = Vec::new();
    for _ in 0..clients {
        let mut client = Client::connect(instance.address).await?;
        client.exchange(&request).await?.success()?;
        ready.push(client);
    }
    let start = Instant::now();
    let until = start + time;
    let mut tasks: JoinSet<anyhow::Result<Times>> = ready
        .into_iter()
        .map(|mut client| {
            let request = Arc::clone(&request);
            async move {
                let mut times = Times::new();
                let mut sent = Instant::now();
                while sent < until {
                    client.exchange(&request).await?.success()?;
                    let answered = Instant::now();
                    times.note(answered - sent);
                    sent = answered;
                }
                Ok(times)
            }
        })
        .collect();
    let mut times = Times::new();
    while let Some(done) = tasks.join_next().await {
        times.add(&done??);
    }
    Ok((times.count() as f64 / start.elapsed().as_secs_f64(), times))
}
