//! How handlers of each kind steer what follows their failure, and what a definition says of it.

use super::remote::{call, claim, start};
use crate::support::answer::{refusal, text};
use crate::support::app::TestApp;
use postrider::{Failure, Message};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;
use uuid::Uuid;

/// Seconds between two moments that a view of a message shows.
fn between(from: &Value, to: &Value) -> i64 {
    let time = |value: &Value| chrono::DateTime::parse_from_rfc3339(value.as_str().unwrap()).unwrap();
    (time(to) - time(from)).num_seconds()
}

/// The endings of a message's history, oldest first, each with the number of its attempt.
fn endings(full: &Value) -> Vec<(String, i64)> {
    let history = full["history"].as_array().unwrap();
    let one =
        |entry: &Value| (entry["ending"].as_str().unwrap().to_owned(), entry["attempt"].as_i64().unwrap());
    history.iter().map(one).collect()
}

fn all(ending: &str, attempts: &[i64]) -> Vec<(String, i64)> {
    attempts.iter().map(|attempt| (ending.to_owned(), *attempt)).collect()
}

/// Puts off what it sees for the first three times.
async fn busy(message: Message) -> Result<Value, Failure> {
    static SEEN: Mutex<Option<HashMap<Uuid, u32>>> = Mutex::new(None);
    let times = {
        let mut seen = SEEN.lock().unwrap();
        let times = seen.get_or_insert_default().entry(message.id).or_default();
        *times += 1;
        *times
    };
    if times <= 3 {
        return Err(Failure::later(Duration::from_millis(1)));
    }
    Ok(json!([message.attempt, message.max_attempts, message.is_last()]))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_native_handler_puts_off_does_not_count_and_what_it_calls_final_is() {
    let hopeless = |_: Message| async { Err::<Value, _>(Failure::Final(json!("hopeless"))) };
    let app = TestApp::with(&[], |app| app.handler("busy", busy).handler("hopeless", hopeless)).await;
    let native = |name: &str| json!({ "kind": "native", "name": name });
    app.define("put-off-natively", json!({ "handler": native("busy"), "options": { "max_attempts": 1 } }))
        .await;
    let id = app.push("put-off-natively", &json!(1)).await;
    assert_eq!(app.ended("put-off-natively", &id).await["result"], json!([1, 1, true]));
    let full = app.whole_message("put-off-natively", &id).await;
    assert_eq!(full["attempts"], 1);
    assert_eq!(endings(&full)[..3], all("snoozed", &[1, 1, 1]));
    let words = "put off by its handler for 1ms";
    assert_eq!(full["history"][0]["error"], json!({ "name": "Later", "message": words }));

    app.define("h", json!({ "handler": native("hopeless"), "options": { "max_attempts": 9 } })).await;
    let message = app.handled("h", &json!(1)).await;
    assert_eq!((&message["status"], &message["error"]), (&json!("ERROR"), &json!("hopeless")));
    assert_eq!(app.whole_message("h", message["id"].as_str().unwrap()).await["attempts"], 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_says_how_it_goes_on_by_its_second_argument() {
    let app = TestApp::start().await;
    let source = "
        module.exports = async (what, context) => {
            const { attempt, maxAttempts, last } = context;
            switch (what) {
                case 'told': return { attempt, maxAttempts, last };
                case 'final': return context.final(new TypeError('never'));
                case 'bare': context.final();
                case 'retry': if (attempt < 3) context.retry('not yet', '1ms'); return attempt;
                case 'backoff': if (attempt < 3) context.retry(new Error('not yet')); return attempt;
                case 'caught': try { context.later('1h') } catch {} return 'went on';
                case 'another': try { context.retry('a', '1ms') } catch { throw 'b' }
                case 'passed on': try { context.retry({ a: 1 }, '1ms') } catch (e) { if (last) return e; throw e }
                case 'promise': return Promise.reject(1).catch(e => context.final(e));
                case 'timer': setTimeout(() => context.final('late'), 1); return new Promise(() => {});
                case 'soon': context.later('soon');
                case 'never': context.retry('x', 5);
            }
        };
    ";
    let options = json!({ "max_attempts": 3, "retry": { "kind": "fixed", "base": "1ms" } });
    let handler = json!({ "kind": "javascript", "source": source });
    app.define("q", json!({ "handler": handler, "options": options })).await;
    let told = json!({ "attempt": 1, "maxAttempts": 3, "last": false });
    let silent = json!({ "name": "Error", "message": "handler rejected without a reason" });
    let table = [
        ("told", "COMPLETE", told, 1),
        ("bare", "ERROR", silent, 1),
        ("retry", "COMPLETE", json!(3), 3),
        ("backoff", "COMPLETE", json!(3), 3),
        ("caught", "COMPLETE", json!("went on"), 1),
        // What it throws in the end is a rejection like any other, and tried again as such.
        ("another", "ERROR", json!("b"), 3),
        ("passed on", "COMPLETE", json!({ "a": 1 }), 3),
        ("promise", "ERROR", json!(1), 1),
        ("timer", "ERROR", json!("late"), 1),
    ];
    for (what, status, stored, attempts) in table {
        let id = app.push("q", &json!(what)).await;
        let message = app.ended("q", &id).await;
        let key = if status == "ERROR" { "error" } else { "result" };
        assert_eq!((&message["status"], &message[key]), (&json!(status), &stored), "{what}");
        assert_eq!(app.whole_message("q", &id).await["attempts"], attempts, "{what}");
    }
    let id = app.push("q", &json!("final")).await;
    let error = app.ended("q", &id).await["error"].take();
    assert_eq!((&error["name"], &error["message"]), (&json!("TypeError"), &json!("never")));
    let full = app.whole_message("q", &id).await;
    assert_eq!(endings(&full), all("failed", &[1]));
    for what in ["soon", "never"] {
        let error = app.handled("q", &json!(what)).await["error"].take();
        let words = "the time must be a duration as text, such as \"10s\", ten years at most";
        assert_eq!((&error["name"], &error["message"]), (&json!("TypeError"), &json!(words)), "{what}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_javascript_puts_off_is_put_off_for_as_long_as_max_age_says() {
    let app = TestApp::start().await;
    let handler =
        json!({ "kind": "javascript", "source": "module.exports = (m, context) => context.later('20ms')" });
    let options = json!({ "max_attempts": 1, "retry": { "max_age": "150ms" } });
    app.define("q", json!({ "handler": handler, "options": options })).await;
    let id = app.push("q", &json!(1)).await;
    let message = app.ended("q", &id).await;
    assert_eq!((&message["status"], &message["error"]["name"]), (&json!("ERROR"), &json!("Later")));
    let full = app.whole_message("q", &id).await;
    let history = full["history"].as_array().unwrap();
    let (first, last) = (&history[0], &history[history.len() - 1]);
    assert!(history.len() > 1 && history.iter().all(|entry| entry["ending"] == "snoozed"), "{full}");
    assert!(between(&first["started_at"], &last["started_at"]) < 1, "{full}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_puts_a_message_off_without_a_count() {
    let app = start(json!({ "max_attempts": 2, "retry": { "after": ["1h", "2h"] } })).await;
    let id = app.push("q", &json!(1)).await;
    for _ in 0..3 {
        let claimed = &claim(&app, "?wait=30s").await[0];
        let told = (&claimed["attempt"], &claimed["max_attempts"], &claimed["last"]);
        assert_eq!(told, (&json!(1), &json!(2), &json!(false)));
        let off = json!({ "error": "busy", "retry": "0s", "counts": false });
        text(call(&app, claimed, "fail", off.clone()).await, 204).await;
        text(call(&app, claimed, "fail", off).await, 204).await;
    }
    let claimed = &claim(&app, "?wait=30s").await[0];
    let refused = refusal(call(&app, claimed, "fail", json!({ "counts": false })).await, 422).await;
    assert_eq!(refused["errors"][0]["pointer"], "/counts");
    // By the definition's own pause, and still without a count.
    text(call(&app, claimed, "fail", json!({ "retry": true, "counts": false })).await, 204).await;
    let full = app.whole_message("q", &id).await;
    assert_eq!((&full["status"], &full["attempts"]), (&json!("PENDING"), &json!(0)));
    assert_eq!(endings(&full), all("snoozed", &[1, 1, 1, 1]));
    assert_eq!(between(&full["history"][3]["finished_at"], &full["run_at"]), 3600);
    app.elapse(Duration::from_hours(1)).await;
    let claimed = &claim(&app, "?wait=30s").await[0];
    text(call(&app, claimed, "fail", json!({ "retry": true })).await, 204).await;
    app.elapse(Duration::from_hours(1)).await;
    let claimed = &claim(&app, "?wait=30s").await[0];
    assert_eq!((&claimed["attempt"], &claimed["last"]), (&json!(2), &json!(true)));
    text(call(&app, claimed, "fail", json!({ "error": "no", "retry": true })).await, 204).await;
    assert_eq!(app.message("q", &id).await["error"], "no");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_of_an_error_decides_whether_and_when_it_is_tried_again() {
    let app = TestApp::start().await;
    let source =
        "module.exports = (name, { attempt }) => { if (attempt < 4) throw { name }; return attempt }";
    let by = json!({
        "NotFound": "final",
        "RateLimited": { "max_attempts": 9, "after": ["1ms"] },
        "Slow": { "max_attempts": 9, "base": "1h" },
    });
    let retry = json!({ "kind": "fixed", "base": "1ms", "by": by });
    let handler = json!({ "kind": "javascript", "source": source });
    app.define("q", json!({ "handler": handler, "options": { "max_attempts": 2, "retry": retry } })).await;
    for (name, status, attempts) in
        [("NotFound", "ERROR", 1), ("RateLimited", "COMPLETE", 4), ("Else", "ERROR", 2)]
    {
        let id = app.push("q", &json!(name)).await;
        assert_eq!(app.ended("q", &id).await["status"], status, "{name}");
        assert_eq!(app.whole_message("q", &id).await["attempts"], attempts, "{name}");
    }
    let id = app.push("q", &json!("Slow")).await;
    app.server.run_until_idle().await.unwrap();
    let full = app.whole_message("q", &id).await;
    assert_eq!((&full["status"], &full["attempts"]), (&json!("PENDING"), &json!(1)), "{full}");
    assert_eq!(between(&full["history"][0]["finished_at"], &full["run_at"]), 3600);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_long_a_message_is_tried_counts_from_its_first_attempt_and_anew_when_it_is_run_by_hand() {
    let app = start(json!({ "max_attempts": 9, "retry": { "max_age": "1h" } })).await;
    let mut db = app.connect().await;
    let id = app.push("q", &json!(1)).await;
    let again = json!({ "error": "no", "retry": "0s" });
    for by_hand in [false, true] {
        if by_hand {
            text(app.post(&format!("/queues/q/messages/{id}/retry"), &json!(null)).await, 200).await;
        }
        // Put off and tried, all of it within the hour.
        for counts in [false, true] {
            let claimed = &claim(&app, "?wait=30s").await[0];
            let said = json!({ "error": "no", "retry": "0s", "counts": counts });
            text(call(&app, claimed, "fail", said).await, 204).await;
            assert_eq!(app.message("q", &id).await["status"], "PENDING", "{by_hand}");
        }
        let passes = "UPDATE attempts SET started_at = started_at - interval '1 hour'";
        sqlx::query(passes).execute(&mut db).await.unwrap();
        let claimed = &claim(&app, "?wait=30s").await[0];
        assert_eq!(claimed["attempt"], 2);
        text(call(&app, claimed, "fail", again.clone()).await, 204).await;
        assert_eq!(app.message("q", &id).await["status"], "ERROR", "{by_hand}");
    }
    app.stop().await;
}
