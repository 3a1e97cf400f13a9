//! A server that is told to stop: it finishes what runs, takes nothing more, and ends in order.

use super::{connect, new_database, posts_to, unfinished, url_of};
use crate::support::endpoint::Endpoint;
use crate::support::eventually;
use crate::support::serve::Serve;
use rustix::process::Signal;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_lets_the_running_message_finish_and_leaves_the_others() {
    let database = new_database().await;
    let endpoint = Endpoint::start(str::to_owned).await;
    let mut serve = Serve::on(&url_of(&database), &[]).await;
    let mut definition = posts_to(&endpoint.url);
    definition["options"]["concurrency"] = json!(1);
    serve.define("q", &definition).await;
    endpoint.hold();
    let running = serve.push("q", &json!("runs")).await;
    eventually("it runs", async || endpoint.held() == 1).await;
    serve.push("q", &json!("waits")).await;
    serve.signal(Signal::TERM);
    eventually("it takes no more requests", async || serve.is_ready().await.is_none()).await;
    endpoint.release();
    assert!(serve.end().await.success());
    let mut db = connect(&database).await;
    let ends = super::outcomes(&mut db).await;
    assert_eq!(ends.len(), 1);
    assert_eq!(ends[&running], ("COMPLETE".to_owned(), 1));
    assert_eq!(unfinished(&mut db).await, 1, "what had not begun waits");
    let left = "SELECT (SELECT count(*) FROM leases) + (SELECT count(*) FROM workers)";
    assert_eq!(sqlx::query_scalar::<_, i64>(left).fetch_one(&mut db).await.unwrap(), 0);
}

/// The number of an attempt and the name of its error, of each in a message's history.
fn history(message: &Value) -> Vec<(i64, Option<&str>)> {
    let entry = |entry: &'_ Value| entry["attempt"].as_i64().unwrap();
    let entries = message["history"].as_array().unwrap();
    entries.iter().map(|one| (entry(one), one["error"]["name"].as_str())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn deploys_beside_a_handler_that_hangs_count_no_attempt_and_the_next_process_runs_it_at_once() {
    let database = new_database().await;
    let url = url_of(&database);
    let endpoint = Endpoint::start(str::to_owned).await;
    // A lease that does not run out in the time of this test.
    let settings = [("POSTRIDER_GRACE", "200ms"), ("POSTRIDER_LEASE", "1h")];
    let mut serve = Serve::on(&url, &settings).await;
    let mut ids = Vec::new();
    endpoint.hold();
    for most in 1..=3 {
        let (name, mut definition) = (format!("q{most}"), posts_to(&endpoint.url));
        definition["options"]["max_attempts"] = json!(most);
        serve.define(&name, &definition).await;
        ids.push((name.clone(), serve.push(&name, &json!("hangs")).await));
    }
    let mut db = connect(&database).await;
    for deploy in 1..=3 {
        eventually("they run", async || endpoint.runs().values().sum::<usize>() == 3 * deploy).await;
        serve.signal(Signal::TERM);
        assert!(serve.end().await.success());
        let left = "SELECT (SELECT count(*) FROM leases) + (SELECT count(*) FROM workers)";
        assert_eq!(sqlx::query_scalar::<_, i64>(left).fetch_one(&mut db).await.unwrap(), 0);
        let back = "SELECT count(*) FROM dispatch WHERE attempt = 0";
        assert_eq!(sqlx::query_scalar::<_, i64>(back).fetch_one(&mut db).await.unwrap(), 3);
        serve = Serve::on(&url, &settings).await;
    }
    eventually("they run once more", async || endpoint.runs().values().sum::<usize>() == 12).await;
    let message = serve.message("q1", &ids[0].1).await;
    assert_eq!((&message["status"], &message["attempts"]), (&json!("INPROGRESS"), &json!(1)), "{message}");
    endpoint.release();
    for (queue, id) in &ids {
        let message = serve.complete(queue, id).await;
        assert_eq!(message["attempts"], 1, "{message}");
        let back = (1, Some("GivenBack"));
        assert_eq!(history(&message), [back, back, back, (1, None)], "{message}");
    }
}
