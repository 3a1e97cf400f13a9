//! Workers that wait for jobs.

use super::{JOBS, ann, ok, worker};
use crate::support::app::TestApp;
use crate::support::hang_up::HangsUp;
use futures::FutureExt as _;
use serde_json::json;
use sqlx::Executor as _;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_wait_for_one_job_one_gets_it_and_the_other_goes_on_waiting() {
    let app = TestApp::start().await;
    let (one, other) = (worker(&app), worker(&app));
    let waiting = futures::future::select(one.claim().boxed(), other.claim().boxed());
    let ann = ann(&app);
    let (waiting, (id, _)) = tokio::join!(waiting, ann.create());
    let ((claimed, _), other) = waiting.factor_first();
    assert_eq!(claimed, id);
    let ((claimed, _), (id, _)) = tokio::join!(other, ann.create());
    assert_eq!(claimed, id);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_somebody_took_who_has_hung_up_was_not_taken() {
    let app = TestApp::start().await;
    let (id, _) = ann(&app).create().await;
    // No claim can end before this lock does.
    let mut db = app.connect().await;
    db.execute("BEGIN; LOCK TABLE jobs IN SHARE MODE").await.unwrap();
    let gone = HangsUp::asks(&app, &["job_worker"], &format!("{JOBS}/claim?wait=60s")).await;
    gone.once_blocked(&app, "jobs").await;
    db.execute("COMMIT").await.unwrap();
    let worker = worker(&app);
    let (claimed, lease) = tokio::time::timeout(Duration::from_secs(20), worker.claim()).await.unwrap();
    assert_eq!(claimed, id);
    let attempts: Vec<i16> =
        sqlx::query_scalar("SELECT attempts[1] FROM leases").fetch_all(&mut db).await.unwrap();
    assert_eq!(attempts, [1]);
    let said = json!({ "percent_complete": 50, "lease": lease });
    ok(worker.put(&format!("{JOBS}/{id}"), &said).await).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_row_an_application_holds_keeps_no_other_from_its_worker() {
    let app = TestApp::start().await;
    let (held, _) = ann(&app).create().await;
    let mut application = app.connect().await;
    let said = format!("BEGIN; SELECT broadcast({held}, '\"soon\"')");
    application.execute(sqlx::AssertSqlSafe(said)).await.unwrap();
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(ann(&app).create().await.0);
    }
    let began = Instant::now();
    for other in others {
        let (claimed, _) = worker(&app).claim().await;
        assert_eq!(claimed, other);
    }
    // The lock's own time-out would be 5 s for each.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    application.execute("COMMIT").await.unwrap();
    let (claimed, _) = worker(&app).claim().await;
    assert_eq!(claimed, held);
    let attempts = "SELECT attempts[1] FROM leases WHERE id = (SELECT lease FROM jobs WHERE id = $1)";
    let attempt: i16 = sqlx::query_scalar(attempts).bind(held).fetch_one(&mut application).await.unwrap();
    assert_eq!(attempt, 1, "what nobody received does not count");
    app.stop().await;
}
