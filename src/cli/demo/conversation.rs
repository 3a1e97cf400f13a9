//! The journey of a job: it is followed in two ways, asks its owner for a code, and ends before all eyes.

use super::client::{Ask, Client};
use super::stream::Stream;
use anyhow::{Context as _, ensure};
use axum::http::Method;
use serde_json::{Value, json};

const JOBS: &str = "/place_card_on_single_site_jobs";
const OWNER: &str = "cardholder_agent";
const AGENT: &str = "customer_agent";
const WORKER: &str = "job_worker";

/// Tells all of it; an error when an answer is not what it should be.
pub(super) async fn tell(client: &Client) -> anyhow::Result<()> {
    let (job, key) = create(client).await?;
    let (mut stream, lease) = take(client, job).await?;
    let worker = Worker { client, job, lease };
    ask(&worker, &mut stream).await?;
    end(&worker, &mut stream, &key).await
}

/// Gives the job's number, and its creator's access key.
async fn create(client: &Client) -> anyhow::Result<(i64, String)> {
    client.say(
        "9. A job",
        "Long work that is done elsewhere: here a card is placed on a site, in a browser far away. Creating a job\n\
         subscribes its creator: the access key opens what is said about it, and is nowhere else.",
    );
    let body =
        json!({ "cardholder_id": 1, "site": "shop.example", "username": "good_email", "password": "tfa" });
    let job = client.show(201, Ask::post(OWNER, JOBS, body)).await?;
    let key = job["access_key"].as_str().context("a job comes with an access key")?;
    Ok((job["id"].as_i64().context("a job has a number")?, key.to_owned()))
}

/// A second subscriber follows by a stream, and a worker takes the job: returns the stream and the lease.
async fn take(client: &Client, job: i64) -> anyhow::Result<(Stream, Value)> {
    client.say(
        "10. A second subscriber",
        "Whoever may follow a job gets a key of its own. This one does not poll: it listens to a stream.",
    );
    let channel = format!("/messages{JOBS}/{job}/broadcasts");
    let registrations = format!("{channel}/registrations");
    let register = Ask { body: None, ..Ask::post(AGENT, &registrations, Value::Null) };
    let registered = client.show(200, register).await?;
    let key = registered["access_key"].as_str().context("a registration has an access key")?;
    let listen = Ask { access_key: Some(key), ..Ask::get(AGENT, &channel) };
    let stream = client.stream(listen).await?;
    client.say("11. A worker takes the job", "Any program may; its lease says that the job is its own.");
    let claim = format!("{JOBS}/claim?wait=20s");
    let claimed = client.show(200, Ask { body: None, ..Ask::post(WORKER, &claim, Value::Null) }).await?;
    ensure!(claimed[0]["id"] == job, "the worker was given another job");
    Ok((stream, claimed[0]["lease"].clone()))
}

/// The worker, with its lease.
struct Worker<'a> {
    client: &'a Client,
    job: i64,
    lease: Value,
}

impl Worker<'_> {
    fn channel(&self, of: &str) -> String {
        format!("/messages{JOBS}/{}/{of}", self.job)
    }

    /// Says how far the job is.
    async fn say(&self, mut status: Value) -> anyhow::Result<()> {
        status["lease"] = self.lease.clone();
        let path = format!("{JOBS}/{}", self.job);
        let put = Ask { method: Method::PUT, ..Ask::post(WORKER, &path, status) };
        self.client.show(200, put).await.map(drop)
    }
}

async fn ask(worker: &Worker<'_>, stream: &mut Stream) -> anyhow::Result<()> {
    let client = worker.client;
    worker.say(json!({ "status": "AUTH", "percent_complete": 10 })).await?;
    stream.show("AUTH").await?;
    client.say("12. The job asks", "The site has sent a code to its user. The worker asks for it ...");
    let (requests, responses) =
        (worker.channel("credential_requests"), worker.channel("credential_responses"));
    let question =
        json!({ "type": "tfa_request", "message": "The site has sent a code.", "lease": worker.lease });
    client.show(201, Ask::post(WORKER, &requests, question)).await?;
    stream.show("PENDING_TFA").await?;
    client.say("    and its owner is asked", "Nobody else sees the question, or can answer it.");
    client.show(404, Ask::get(AGENT, &requests)).await?;
    let asked = client.show(200, Ask::get(OWNER, &requests)).await?;
    let answer = json!({ "type": "tfa_response", "envelope_id": asked["envelope_id"], "message": "1234" });
    client.show(200, Ask::post(OWNER, &responses, answer.clone())).await?;
    stream.show("TFA_CODE_RECEIVED").await?;
    client.say(
        "    once",
        "Of several answers the first counts. It is sealed until the worker reads it, and then gone.",
    );
    client.show(409, Ask::post(OWNER, &responses, answer)).await?;
    let code = client.show(200, Ask::get(WORKER, &responses)).await?;
    ensure!(code["message"] == "1234", "the worker was given another code");
    ensure!(client.show(200, Ask::get(WORKER, &responses)).await?.is_null(), "the code was kept");
    Ok(())
}

async fn end(worker: &Worker<'_>, stream: &mut Stream, key: &str) -> anyhow::Result<()> {
    let client = worker.client;
    client.say("13. The job ends", "Its final message says how.");
    worker.say(json!({ "status": "COMPLETED", "termination_type": "BILLABLE" })).await?;
    stream.show("COMPLETED").await?;
    ensure!(stream.is_over().await?, "the stream goes on after the final message");
    client.say("    and whoever polls sees all of it", "From where this key last read, in order, once.");
    let channel = worker.channel("broadcasts");
    let poll = || Ask { access_key: Some(key), ..Ask::get(OWNER, &channel) };
    let log = client.show(200, poll()).await?;
    let last = log.as_array().and_then(|log| log.last()).context("nothing was said")?;
    ensure!(last["message"]["status"] == "COMPLETED", "the final message is another");
    client.show(200, poll()).await?;
    let path = format!("{JOBS}/{}", worker.job);
    let job = client.show(200, Ask::get(OWNER, &path)).await?;
    ensure!(job["termination_type"] == "BILLABLE", "the job ended in another way");
    Ok(())
}
