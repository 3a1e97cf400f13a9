//! From a push to the request at a healthy endpoint while as many others hang; beside the same while none does.

use super::client::{Client, request};
use super::endpoint::{Arrivals, Endpoint, Manner};
use super::hub::PAYLOAD;
use super::lab::{Instance, Lab};
use super::measure::{Measure, Unit};
use super::times::Times;
use serde::Deserialize;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::time::{MissedTickBehavior, interval, sleep};

/// How many endpoints are healthy, and how many are not.
const ENDPOINTS: usize = 10;
/// The pause between two pushes to the healthy ones: 200 in a second. The others get as many.
const PAUSE: Duration = Duration::from_millis(5);
/// Connections, statements and plans are made before anything is measured.
const WARM: Duration = Duration::from_millis(500);
/// After this time, what did not come will not.
const STUCK: Duration = Duration::from_mins(1);

pub(super) async fn measure(lab: &Lab) -> anyhow::Result<Vec<Measure>> {
    let instance = Instance::start(lab, |app| app).await?;
    let arrivals = Arrivals::default();
    let healthy = start(&Manner::Noting(arrivals.clone())).await?;
    let others = start(&Manner::Prompt).await?;
    let hanging = start(&Manner::Hanging).await?;
    define(&instance, "healthy", &healthy).await?;
    define(&instance, "other", &others).await?;

    push(&instance, WARM).await?;
    instance.server.run_until_idle().await?;
    let undisturbed = times(&push(&instance, lab.sizes.latency).await?, &arrivals).await?;
    instance.server.run_until_idle().await?;
    point(&instance, "other", &hanging).await?;
    let disturbed = times(&push(&instance, lab.sizes.latency).await?, &arrivals).await?;
    let hung: usize = hanging.iter().map(|endpoint| endpoint.taken.count()).sum();
    anyhow::ensure!(hung >= ENDPOINTS, "only {hung} requests hang");
    instance.stop().await?;

    let measure = |name: &str, percent: f64| {
        Measure::new(
            format!("half of 20 hang: to a healthy one, {name}"),
            Unit::Milliseconds,
            disturbed.at(percent),
        )
        .beside("while none hangs", undisturbed.at(percent))
    };
    Ok(vec![measure("p50", 50.0), measure("p99", 99.0).with("requests that hung", Unit::Count, hung as f64)])
}

async fn start(manner: &Manner) -> anyhow::Result<Vec<Endpoint>> {
    let mut endpoints = Vec::new();
    for _ in 0..ENDPOINTS {
        endpoints.push(Endpoint::start(manner.clone()).await?);
    }
    Ok(endpoints)
}

/// Makes endpoints, and a mapping to each of the messages with its name.
async fn define(instance: &Instance<'_>, kind: &str, endpoints: &[Endpoint]) -> anyhow::Result<()> {
    point(instance, kind, endpoints).await?;
    for n in 0..endpoints.len() {
        let name = format!("{kind}{n}");
        let mapping = json!({ "endpoint": name, "service": "take", "messages": [format!("order:{name}")] });
        instance.administer("PUT", &format!("/stores/bench/mappings/{name}"), &mapping.to_string()).await?;
    }
    Ok(())
}

/// Says where the endpoints of a kind are. No breaker keeps those that hang from being asked again and again.
async fn point(instance: &Instance<'_>, kind: &str, endpoints: &[Endpoint]) -> anyhow::Result<()> {
    for (n, endpoint) in endpoints.iter().enumerate() {
        let breaker = json!({ "failures": 1000, "cooldown": "1s" });
        let definition = json!({ "url": endpoint.url(), "timeout": "1s", "breaker": breaker });
        instance
            .administer("PUT", &format!("/stores/bench/endpoints/{kind}{n}"), &definition.to_string())
            .await?;
    }
    Ok(())
}

/// Pushes to all, healthy and not, at the steady pace; returns when each push to a healthy one was sent.
async fn push(instance: &Instance<'_>, duration: Duration) -> anyhow::Result<Vec<(String, Instant)>> {
    let (healthy, _) =
        tokio::try_join!(push_kind(instance, "healthy", duration), push_kind(instance, "other", duration))?;
    Ok(healthy)
}

async fn push_kind(
    instance: &Instance<'_>,
    kind: &str,
    duration: Duration,
) -> anyhow::Result<Vec<(String, Instant)>> {
    #[derive(Deserialize)]
    struct Stored {
        message_id: String,
    }
    let requests: Vec<Vec<u8>> = (0..ENDPOINTS)
        .map(|n| {
            let body = format!(r#"{{"message":"order:{kind}{n}","payload":{PAYLOAD}}}"#);
            request("POST", "/stores/bench/messages", instance.admin(), &body)
        })
        .collect();
    let count = usize::try_from(duration.as_millis() / PAUSE.as_millis())?;
    let mut client = Client::connect(instance.address).await?;
    let (mut ticks, mut pushes) = (interval(PAUSE), Vec::with_capacity(count));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for request in requests.iter().cycle().take(count) {
        ticks.tick().await;
        let sent = Instant::now();
        let Stored { message_id } = serde_json::from_slice(client.exchange(request).await?.success()?)?;
        pushes.push((message_id, sent));
    }
    Ok(pushes)
}

/// How long it took from each push to its request at the endpoint, once all have come.
async fn times(pushes: &[(String, Instant)], arrivals: &Arrivals) -> anyhow::Result<Times> {
    let mut times = Times::new();
    for (id, sent) in pushes {
        let came = loop {
            if let Some(came) = arrivals.lock().remove(id) {
                break came;
            }
            anyhow::ensure!(
                sent.elapsed() < STUCK,
                "stuck: a healthy endpoint was not asked within a minute"
            );
            sleep(PAUSE).await;
        };
        times.note(came - *sent);
    }
    Ok(times)
}
