//! A server that is told to stop: it finishes what runs, takes nothing more, and ends in order.

use super::{connect, new_database, posts_to, unfinished, url_of};
use crate::support::endpoint::Endpoint;
use crate::support::eventually;
use crate::support::serve::Serve;
use rustix::process::Signal;
use serde_json::json;

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
