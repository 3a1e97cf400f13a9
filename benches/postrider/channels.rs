//! `channels`: many subscribers poll jobs that publish all the time, some listen to streams; beside a raw read
//! by key.
//!
//! Subscribers poll at their own pace whatever the server does: a poll that is late for want of an answer to the
//! one before counts from when it should have been sent.

mod polls;
mod publish;
mod streams;

use super::client::{Client, request};
use super::lab::{Instance, Lab};
use super::measure::{Measure, Unit};
use super::times::{PERCENTILES, Times};
use anyhow::ensure;
use postrider::internals::jobs::BUILT_IN;
use postrider::internals::jobs::access_key;
use serde::Deserialize;
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Executor as _};
use std::time::{Duration, Instant};

/// How often a subscriber polls: 10,000 of them 2,500 times a second.
const POLL: Duration = Duration::from_secs(4);
/// How long all goes on before it is measured.
const WARM: Duration = Duration::from_secs(2);
/// The most jobs in one request.
const BATCH: usize = 100;
/// How many raw reads are measured.
const READS: usize = 5_000;

/// A job under load.
struct Job {
    id: i64,
    /// Its worker's.
    lease: String,
    /// Its creator's key: whoever listens to its stream shows it.
    stream_key: String,
    /// The keys of those who poll.
    keys: Vec<String>,
}

/// When what happens counts.
#[derive(Debug, Clone, Copy)]
struct Window {
    from: Instant,
    until: Instant,
}

impl Window {
    fn contains(&self, moment: Instant) -> bool {
        (self.from..self.until).contains(&moment)
    }
}

pub(super) async fn measure(lab: &Lab) -> anyhow::Result<Vec<Measure>> {
    let (count, each, time) = lab.sizes.channels;
    let instance = Instance::start(lab, |app| app).await?;
    let mut jobs = create(&instance, count).await?;
    let mut db = lab.connect(&instance.schema).await?;
    subscribe(&mut db, &mut jobs, each).await?;
    let streams = streams::open(&instance, &jobs).await?;
    let start = Instant::now();
    let window = Window { from: start + WARM, until: start + WARM + time };
    let published = publish::start(&instance, &jobs, start, window).await?;
    let polled = polls::start(&instance, &jobs, start, window).await?;
    tokio::time::sleep_until(window.from.into()).await;
    let cpu = lab.cpu();
    tokio::time::sleep_until(window.until.into()).await;
    let used = lab.cpu().zip(cpu);
    let polled = polls::finish(polled).await?;
    let published = publish::finish(published).await?;
    let streamed = streams::finish(streams, start, window).await?;
    ensure!(polled.messages > 0, "no poll found anything");
    let reads = raw_reads(&mut db).await?;
    db.close().await?;
    instance.stop().await?;

    let wanted = (count * each) as f64 / POLL.as_secs_f64();
    let polls = polled.times.count();
    let mut rate = Measure::new("polls", Unit::PerSecond, polled.answered as f64 / time.as_secs_f64())
        .beside("asked for", wanted)
        .with("published", Unit::PerSecond, published.count() as f64 / time.as_secs_f64())
        .with("messages a poll", Unit::Count, polled.messages as f64 / polls as f64);
    if let Some((now, before)) = used {
        for (name, value) in now.each(&before, usize::try_from(polls)?) {
            rate = rate.with(name, Unit::Microseconds, value);
        }
    }
    let mut measures = vec![rate];
    for (name, percent) in PERCENTILES {
        let poll = Measure::new(format!("a poll, {name}"), Unit::Milliseconds, polled.times.at(percent));
        measures.push(poll.beside("raw read by key, nothing else going on", reads.at(percent)));
    }
    for (name, percent) in PERCENTILES {
        let event =
            Measure::new(format!("publish to stream, {name}"), Unit::Milliseconds, streamed.at(percent));
        measures.push(event.with("answer to the publisher", Unit::Milliseconds, published.at(percent)));
    }
    Ok(measures)
}

/// Creates jobs over HTTP, and takes them as their worker.
async fn create(instance: &Instance<'_>, count: usize) -> anyhow::Result<Vec<Job>> {
    #[derive(Deserialize)]
    struct Created {
        id: i64,
        access_key: String,
    }
    #[derive(Deserialize)]
    struct Claimed {
        id: i64,
        lease: String,
    }
    let mut client = Client::connect(instance.address).await?;
    let mut jobs = Vec::with_capacity(count);
    while jobs.len() < count {
        let batch = (count - jobs.len()).min(BATCH);
        let body = format!("[{}]", vec![r#"{"cardholder_id":1,"job_timeout":86400}"#; batch].join(","));
        let create = request("POST", &format!("/{BUILT_IN}"), instance.admin(), &body);
        let created: Vec<Created> = serde_json::from_slice(client.exchange(&create).await?.success()?)?;
        let claim = request("POST", &format!("/{BUILT_IN}/claim?max={batch}"), instance.admin(), "");
        let claimed: Vec<Claimed> = serde_json::from_slice(client.exchange(&claim).await?.success()?)?;
        for (created, claimed) in created.into_iter().zip(claimed) {
            ensure!(created.id == claimed.id, "the jobs were not taken in their order");
            jobs.push(Job {
                id: created.id,
                lease: claimed.lease,
                stream_key: created.access_key,
                keys: Vec::new(),
            });
        }
    }
    Ok(jobs)
}

/// Registers so many subscribers for each job, past HTTP.
async fn subscribe(db: &mut PgConnection, jobs: &mut [Job], each: usize) -> anyhow::Result<()> {
    for job in jobs {
        let made = (0..each).map(|_| access_key::make()).collect::<Result<Vec<_>, _>>()?;
        let (keys, hashes): (Vec<String>, Vec<Vec<u8>>) = made.into_iter().unzip();
        sqlx::query(
            "INSERT INTO registrations (job_id, subject, key_hash)
            SELECT $1, 'bench', hash FROM unnest($2::bytea[]) AS hash",
        )
        .bind(job.id)
        .bind(hashes)
        .execute(&mut *db)
        .await?;
        job.keys = keys;
    }
    // As autovacuum does within a minute.
    db.execute("ANALYZE jobs; ANALYZE registrations").await?;
    Ok(())
}

/// How long it takes to read a registration with what it has not read, by key, one after the other.
async fn raw_reads(db: &mut PgConnection) -> anyhow::Result<Times> {
    const READ: &str = "
        SELECT r.cursor, b.seq, b.message::text
        FROM registrations AS r
        LEFT JOIN broadcasts AS b ON b.job_id = r.job_id AND b.seq > r.cursor
        WHERE r.job_id = $1 AND r.key_hash = $2
        ORDER BY b.seq
    ";
    let hashes: Vec<(i64, Vec<u8>)> = sqlx::query_as(
        "SELECT job_id, key_hash FROM registrations WHERE via = 'key' ORDER BY random() LIMIT $1",
    )
    .bind(i64::try_from(READS)?)
    .fetch_all(&mut *db)
    .await?;
    let mut times = Times::new();
    for (job, hash) in hashes {
        let asked = Instant::now();
        sqlx::query(READ).bind(job).bind(hash).fetch_all(&mut *db).await?;
        times.note(asked.elapsed());
    }
    Ok(times)
}
