//! JavaScript handlers through the queues: what is stored of their ends, their logs, their time, their services.

use crate::support::answer::json;
use crate::support::app::TestApp;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_handler_settles_with_is_what_is_stored() {
    let app = TestApp::start().await;
    let source = "const ends = {
        value: () => ({ a: [1, 'x'] }),
        undefined: () => undefined,
        nothing: async () => {},
        later: () => new Promise(resolve => setTimeout(resolve, 5, 'later')),
        text: () => Promise.reject('a text'),
        object: () => Promise.reject({ code: 7, deep: { er: [null] } }),
        error: () => { const e = new TypeError('bad'); e.code = 42; throw e },
        silent: () => Promise.reject(),
        cycle: () => { const a = {}; a.a = a; return a },
        bigint: () => 1n,
    };
    module.exports = name => ends[name]();";
    app.define_javascript("q", source).await;
    let silent = json!({ "name": "Error", "message": "handler rejected without a reason" });
    let table = [
        ("value", "COMPLETE", json!({ "a": [1, "x"] })),
        ("undefined", "COMPLETE", json!(null)),
        ("nothing", "COMPLETE", json!(null)),
        ("later", "COMPLETE", json!("later")),
        ("text", "ERROR", json!("a text")),
        ("object", "ERROR", json!({ "code": 7, "deep": { "er": [null] } })),
        ("silent", "ERROR", silent),
    ];
    for (name, status, stored) in table {
        let message = app.handled("q", &json!(name)).await;
        let (full, empty) = if status == "ERROR" { ("error", "result") } else { ("result", "error") };
        assert_eq!((&message["status"], &message[full]), (&json!(status), &stored), "{name}");
        assert_eq!(message[empty], json!(null), "{name}");
    }
    let error = app.handled("q", &json!("error")).await["error"].take();
    assert_eq!(
        (&error["name"], &error["message"], &error["code"]),
        (&json!("TypeError"), &json!("bad"), &json!(42))
    );
    assert!(error["stack"].as_str().unwrap().contains("q.js:8"), "{error}");
    for name in ["cycle", "bigint"] {
        let message = app.handled("q", &json!(name)).await;
        assert_eq!(
            (&message["status"], &message["error"]["name"]),
            (&json!("ERROR"), &json!("TypeError")),
            "{name}"
        );
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_request_stays_as_it_was_sent_whatever_passes_through_the_handler() {
    let app = TestApp::start().await;
    app.define_javascript("q", "module.exports = m => m").await;
    let pushed = app.push_text("q", "[12345678901234567890, 1.0, 1e2]").await;
    let id = json(pushed, 201).await["id"].as_str().unwrap().to_owned();
    app.server.run_until_idle().await.unwrap();
    let read = app.get(&format!("/queues/q/messages/{id}")).await.text().await.unwrap();
    assert!(
        read.contains(r#""request":[12345678901234567890, 1.0, 1e2],"result":[12345678901234567000,1,100],"#),
        "{read}"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_handler_prints_is_in_the_admin_view() {
    let app = TestApp::start().await;
    app.define_javascript(
        "q",
        "module.exports = m => { console.log('got', m); console.error(new Error('x').message) }",
    )
    .await;
    let id = app.handled("q", &json!({ "a": 1 })).await["id"].as_str().unwrap().to_owned();
    let full = app.whole_message("q", &id).await;
    let lines: Vec<(&Value, &Value)> =
        full["logs"].as_array().unwrap().iter().map(|line| (&line["level"], &line["text"])).collect();
    assert_eq!(lines, [(&json!("log"), &json!(r#"got {"a":1}"#)), (&json!("error"), &json!("x"))]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_takes_too_long_ends_and_its_neighbours_do_not_wait() {
    let app = TestApp::start().await;
    let hostile = [
        ("loops", "module.exports = () => { for (;;); }"),
        ("waits", "module.exports = () => new Promise(resolve => setTimeout(resolve, 3600000))"),
        (
            "re-arms",
            "module.exports = () => { const again = () => Promise.resolve().then(again); again(); return new Promise(r => setTimeout(r, 3600000)) }",
        ),
        ("sorts", "module.exports = () => Array.prototype.sort.call({ length: 2 ** 53 - 1 })"),
    ];
    app.define_javascript("neighbour", "module.exports = m => m").await;
    let mut ids = Vec::new();
    for (name, source) in hostile {
        let handler = json!({ "kind": "javascript", "source": source });
        app.define(name, json!({ "handler": handler, "options": { "timeout": "1s" } })).await;
        ids.push((name, app.push(name, &json!(1)).await));
    }
    for n in 0..20 {
        let id = app.push("neighbour", &json!(n)).await;
        assert_eq!(app.ended("neighbour", &id).await["result"], n);
    }
    for (name, id) in ids {
        let ended = app.ended(name, &id).await;
        assert_eq!(
            (&ended["status"], &ended["error"]["name"]),
            (&json!("ERROR"), &json!("TimeoutError")),
            "{name}"
        );
        let full = app.whole_message(name, &id).await;
        let time = |key: &str| full[key].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
        // The promise is timeout + 1 s; a busy machine adds its own.
        let took = (time("finished_at") - time("started_at")).as_seconds_f64();
        assert!((1.0..10.0).contains(&took), "{name}: {took} s");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_is_final_unless_the_definition_grants_more_attempts() {
    let app = TestApp::start().await;
    let handler = json!({ "kind": "javascript", "source": "module.exports = m => { console.log('try'); throw 'no ' + m }" });
    app.define("once", json!({ "handler": handler })).await;
    let retry = json!({ "base": "1ms", "cap": "2ms" });
    app.define("thrice", json!({ "handler": handler, "options": { "max_attempts": 3, "retry": retry } }))
        .await;
    for (queue, attempts) in [("once", 1), ("thrice", 3)] {
        let id = app.push(queue, &json!(1)).await;
        assert_eq!(app.ended(queue, &id).await["error"], "no 1");
        let full = app.whole_message(queue, &id).await;
        let history = full["history"].as_array().unwrap();
        assert_eq!((&full["attempts"], history.len()), (&json!(attempts), attempts));
        for (entry, attempt) in history.iter().zip(1..) {
            assert_eq!((&entry["attempt"], &entry["error"]), (&json!(attempt), &json!("no 1")));
            assert_eq!(entry["logs"].as_array().unwrap().len(), 1);
        }
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_uses_its_own_queue_and_those_that_its_role_opens() {
    let app = TestApp::start().await;
    let source = "module.exports = async function (m) {
        if (m.stop) return 'stopped';
        const service = this.messagingService;
        const id = await service.queueMessage(m.queue, { stop: true, text: '\\u0001' });
        const read = await service.getMessage(m.queue, id);
        if (m.keep) return { id, read };
        await service.deleteMessage(m.queue, id);
        return { id, read, gone: await service.getMessage(m.queue, id).catch(e => e.status) };
    }";
    app.define_javascript("q", source).await;
    let schema = json!({ "type": "object", "properties": { "stop": { "type": "string" } } });
    app.define("foreign", json!({})).await;
    app.define("friend", json!({ "roles": { "replace": true, "roles": ["q_writer"] } })).await;
    app.define("open", json!({ "roles": { "needsRole": false } })).await;
    app.define("picky", json!({ "roles": { "roles": ["q_writer"] }, "incoming": { "schema": schema } }))
        .await;

    for queue in ["q", "friend", "open"] {
        let message = app.handled("q", &json!({ "queue": queue })).await;
        let result = &message["result"];
        assert_eq!((&message["status"], &result["gone"]), (&json!("COMPLETE"), &json!(404)), "{message}");
        let id = &result["id"];
        assert_eq!(
            result["read"],
            json!({
                "id": id, "queue": queue, "status": "PENDING", "request": { "stop": true, "text": "\u{1}" },
                "result": null, "error": null
            })
        );
    }
    let kept = app.handled("q", &json!({ "queue": "q", "keep": true })).await;
    let id = kept["result"]["id"].as_str().unwrap();
    assert_eq!(app.ended("q", id).await["result"], "stopped");

    let refusals = [
        ("foreign", Value::Null, "the queue q may not use the queue foreign: its roles must name q_writer"),
        ("nowhere", json!(404), "there is no such queue"),
        ("picky", json!(422), "/stop must be of type string"),
    ];
    for (queue, status, words) in refusals {
        let message = app.handled("q", &json!({ "queue": queue })).await;
        assert_eq!(message["status"], "ERROR", "{message}");
        assert!(message["error"]["message"].as_str().unwrap().contains(words), "{message}");
        assert_eq!(message["error"]["status"], status, "{message}");
    }
    assert_eq!(json(app.get("/queues/foreign/messages").await, 200).await["messages"], json!([]));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_not_configured_says_so() {
    let app = TestApp::start().await;
    let source = "module.exports = function (m) { return this[m.service][m.method]('a', 'GET', {}) }";
    app.define("q", json!({ "client_id": "c", "handler": { "kind": "javascript", "source": source } })).await;
    for (service, method) in [
        ("storageService", "getEntity"),
        ("rulesetService", "callRuleset"),
        ("integrationService", "callIntegration"),
        ("idmService", "getUser"),
        ("authClientProvider", "getAccessToken"),
    ] {
        let message = app.handled("q", &json!({ "service": service, "method": method })).await;
        assert_eq!(
            (&message["status"], &message["error"]["name"]),
            (&json!("ERROR"), &json!("Error")),
            "{message}"
        );
        assert_eq!(message["error"]["message"], format!("{service} is not configured"));
    }
    app.stop().await;
}
