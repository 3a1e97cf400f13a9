//! What a JavaScript handler sees, and what is stored of how it ends.

use futures::FutureExt;
use futures::future::BoxFuture;
use postrider::internals::queues::javascript::services::{Answer, Services};
use postrider::internals::queues::javascript::{Ended, Job, Pool, PoolOptions, ServiceError};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A pool whose children are the binary under test.
pub(crate) fn pool() -> Pool {
    Pool::new(PoolOptions::new(env!("CARGO_BIN_EXE_postrider")))
}

pub(crate) fn job(source: &str, message: &str, timeout: Duration) -> Job {
    Job {
        traceparent: None,
        source: source.into(),
        handler_name: "q.js".to_owned(),
        message: RawValue::from_string(message.to_owned()).expect("a test's message is JSON"),
        timeout,
        attempt: 1,
        max_attempts: 1,
    }
}

/// Runs a handler with services that do not exist.
pub(crate) async fn run(pool: &Pool, source: &str, message: &str) -> Ended {
    pool.run(job(source, message, Duration::from_secs(10)), Arc::new(Script), CancellationToken::new()).await
}

/// What is stored, as JSON.
pub(crate) fn stored(ended: Ended) -> Result<Value, Value> {
    let json = |raw: Box<RawValue>| serde_json::from_str(raw.get()).expect("what is stored is JSON");
    ended.outcome.into_stored().map(json).map_err(json)
}

/// Services that answer with their call; some refuse, some never answer.
pub(crate) struct Script;

impl Services for Script {
    fn call<'a>(&'a self, service: &'a str, method: &'a str, args: Box<RawValue>) -> BoxFuture<'a, Answer> {
        async move {
            match method {
                "getUser" => Err(ServiceError { message: "no such user".to_owned(), status: Some(404) }),
                "getList" => std::future::pending().await,
                _ => Ok(RawValue::from_string(format!(r#"{{"{service}.{method}":{args}}}"#))
                    .expect("it is written as JSON")),
            }
        }
        .boxed()
    }
}

#[tokio::test]
async fn the_handler_of_the_documentation_ends_with_its_result() {
    let pool = pool();
    let source = "
        module.exports = function(message) {
            return new Promise((resolve, reject) => {
                console.log(message);
                return resolve({
                    result : \"value\"
                });
            });
        };";
    let ended = run(&pool, source, r#"{"hello":"there"}"#).await;
    assert_eq!(ended.logs.len(), 1);
    assert_eq!(ended.logs[0].text, r#"{"hello":"there"}"#);
    assert_eq!(ended.logs[0].level, "log");
    assert_eq!(stored(ended), Ok(json!({"result": "value"})));
}

#[tokio::test]
async fn every_way_to_end_is_stored_as_promised() {
    let pool = pool();
    let without_reason = json!({"name": "Error", "message": "handler rejected without a reason"});
    let table = [
        // Results.
        ("m => 5", Ok(json!(5))),
        ("m => m.a", Ok(json!([1, "x", null]))),
        ("m => {}", Ok(Value::Null)),
        ("m => null", Ok(Value::Null)),
        ("m => false", Ok(json!(false))),
        ("async m => undefined", Ok(Value::Null)),
        ("m => () => 1", Ok(Value::Null)),
        ("m => Symbol('s')", Ok(Value::Null)),
        ("m => ({then: (resolve) => resolve('thenable')})", Ok(json!("thenable"))),
        ("async m => ({toJSON: () => 'mine'})", Ok(json!("mine"))),
        ("m => new Date(0)", Ok(json!("1970-01-01T00:00:00.000Z"))),
        ("m => [NaN, Infinity, -0, undefined]", Ok(json!([null, null, 0, null]))),
        // Rejections, kept verbatim.
        ("m => Promise.reject('text')", Err(json!("text"))),
        ("m => Promise.reject({code: 7, deep: {er: true}})", Err(json!({"code": 7, "deep": {"er": true}}))),
        ("m => Promise.reject(0)", Err(json!(0))),
        ("m => { throw 'thrown' }", Err(json!("thrown"))),
        ("m => Promise.reject()", Err(without_reason.clone())),
        ("m => Promise.reject(null)", Err(without_reason.clone())),
        ("m => { throw undefined }", Err(without_reason)),
    ];
    for (source, expected) in table {
        let ended = run(&pool, &format!("module.exports = {source}"), r#"{"a":[1,"x",null]}"#).await;
        assert_eq!(stored(ended), expected, "{source}");
    }
}

#[tokio::test]
async fn an_error_is_stored_with_its_name_message_stack_and_own_properties() {
    let pool = pool();
    let source = "class Refused extends Error { constructor(m) { super(m); this.name = 'Refused'; } }
        module.exports = async function pay() {
            const e = new Refused('no money');
            e.code = 402;
            e.detail = {missing: 1.5};
            e.self = e;
            throw e;
        }";
    let error = stored(run(&pool, source, "1").await).expect_err("it throws");
    assert_eq!(error["name"], "Refused");
    assert_eq!(error["message"], "no money");
    assert_eq!(error["code"], 402);
    assert_eq!(error["detail"], json!({"missing": 1.5}));
    assert_eq!(error.get("self"), None, "a cycle has no JSON");
    let stack = error["stack"].as_str().expect("a stack");
    assert!(stack.contains("pay (q.js:3:"), "{stack}");
}

#[tokio::test]
async fn what_cannot_be_stored_is_an_error_that_says_so() {
    let pool = pool();
    let table = [
        ("m => { const a = {}; a.a = a; return a }", "TypeError", "circular"),
        ("m => 1n", "TypeError", "BigInt"),
        ("m => 'x'.repeat(2 ** 20)", "RangeError", "larger than 1048576 bytes"),
        ("m => Promise.reject('x'.repeat(2 ** 20))", "RangeError", "larger than 1048576 bytes"),
        ("m => { let a = []; for (let i = 0; i < 200; i++) a = [a]; return a }", "RangeError", "128 levels"),
        ("m => new Promise(() => {})", "TimeoutError", "never settle"),
        (
            "m => { globalThis.a = []; for (;;) a.push('x'.repeat(1000) + a.length) }",
            "MemoryLimitError",
            "64 MiB",
        ),
        (
            "m => { globalThis.a = []; for (;;) a.push(new Array(1000).fill(0)) }",
            "MemoryLimitError",
            "64 MiB",
        ),
        ("m => 'x'.repeat(1e6).replace(/x/g, '$`')", "MemoryLimitError", "64 MiB"),
        ("m => { const f = () => f() + 1; return f() }", "RangeError", "call stack"),
    ];
    for (source, name, message) in table {
        let error = stored(run(&pool, &format!("module.exports = {source}"), "1").await).expect_err(source);
        assert_eq!(error["name"], name, "{source}: {error}");
        assert!(error["message"].as_str().is_some_and(|text| text.contains(message)), "{source}: {error}");
    }
}

#[tokio::test]
async fn numbers_pass_through_doubles_and_text_through_unchanged() {
    let pool = pool();
    let echo = "module.exports = m => m";
    for (sent, stored) in [
        ("9007199254740993", "9007199254740992"),
        ("1e400", "null"),
        ("1.0", "1"),
        (r#""\u0000""#, r#""\u0000""#),
        (r#""\ud800""#, r#""\ud800""#),
        ("\"\u{1f600}é\u{2028}\"", "\"\u{1f600}é\u{2028}\""),
        ("{\n  \"b\": 1,\r\n  \"a\": {\"__proto__\": 2}\n}", r#"{"b":1,"a":{"__proto__":2}}"#),
        ("[]", "[]"),
        ("null", "null"),
    ] {
        let result = run(&pool, echo, sent).await.outcome.into_stored().expect("an echo");
        assert_eq!(result.get(), stored, "{sent}");
    }
}

#[tokio::test]
async fn the_module_is_common_js_and_nothing_can_be_required() {
    let pool = pool();
    let table = [
        ("\u{feff}#!/usr/bin/env node\nmodule.exports = m => 1 // no line break at the end", Ok(json!(1))),
        ("undeclared = 1; module.exports = m => undeclared", Ok(json!(1))),
        ("module.exports = function () { return arguments.length }", Ok(json!(2))),
        (
            "module.exports = m => [typeof process, typeof require, typeof fetch, typeof std]",
            Ok(json!(["undefined", "function", "undefined", "undefined"])),
        ),
        ("module.exports = m => this === exports", Ok(json!(true))),
        ("const f = m => 2; return void (module.exports = f)", Ok(json!(2))),
        (
            "module.exports = m => { try { require('fs') } catch (e) { return e.message } }",
            Ok(json!("require('fs'): a handler is one file and has no modules")),
        ),
        ("globalThis.n = (globalThis.n || 0) + 1; module.exports = m => n", Ok(json!(1))),
        ("module.exports = m => import('fs').catch(() => 'refused')", Ok(json!("refused"))),
        ("module.exports = m => new Date(2026, 6, 1).getTimezoneOffset()", Ok(json!(0))),
    ];
    for (source, expected) in table {
        assert_eq!(stored(run(&pool, source, "1").await), expected, "{source}");
    }
}

#[tokio::test]
async fn the_console_becomes_the_log_of_the_message() {
    let pool = pool();
    let source = "module.exports = m => {
        console.log('text', 1.5, null, undefined, true, [1, {a: 'b'}], 12n);
        console.info(function named() {}, new TypeError('bad'));
        console.warn({a: 1n}); console.error('\\ud800'); console.debug();
        for (let i = 0; i < 5000; i++) console.log('flood');
    }";
    let ended = run(&pool, source, "1").await;
    let line = |at: usize| (&*ended.logs[at].level, &*ended.logs[at].text);
    assert_eq!(line(0), ("log", "text 1.5 null undefined true [1,{\"a\":\"b\"}] 12n"));
    assert_eq!(line(1).0, "info");
    assert!(line(1).1.starts_with("[Function: named] TypeError: bad\n    at "), "{}", line(1).1);
    assert_eq!(line(2).0, "warn");
    assert_eq!(line(3), ("error", "\u{fffd}\u{fffd}\u{fffd}"));
    assert_eq!(line(4), ("debug", ""));
    assert_eq!(ended.logs.len(), 1000);
    assert_eq!(line(999), ("warn", "the log is full; what follows is not kept"));
}

#[tokio::test]
async fn timers_fire_in_order_and_can_be_cleared() {
    let pool = pool();
    let source = "module.exports = async m => {
        const seen = [];
        setTimeout(() => seen.push('never'), 1e9);
        clearTimeout(setTimeout(() => seen.push('cleared'), 1));
        setTimeout((a, b) => seen.push(a + b), 20, 'ti', 'mer');
        setImmediate(() => seen.push('immediate'));
        queueMicrotask(() => seen.push('microtask'));
        await new Promise(done => {
            let ticks = 0;
            const id = setInterval(() => { if (++ticks === 3) { clearInterval(id); seen.push('ticks'); done(); } }, 15);
        });
        return seen;
    }";
    assert_eq!(
        stored(run(&pool, source, "1").await),
        Ok(json!(["microtask", "immediate", "timer", "ticks"]))
    );
    let thrown = stored(
        run(&pool, "module.exports = m => new Promise(() => setTimeout(() => { throw 'late' }))", "1").await,
    );
    assert_eq!(thrown, Err(json!("late")));
}

#[tokio::test]
async fn a_forgotten_rejection_is_why_a_handler_never_settles() {
    let pool = pool();
    let source = "module.exports = m => new Promise(resolve => {
        this.x; idmService.getUser(1).then(resolve);
    })";
    let error = stored(run(&pool, source, "1").await).expect_err("nothing resolves it");
    assert_eq!(error["message"], "no such user");
}

#[tokio::test]
async fn this_carries_the_seven_services_and_so_do_the_globals() {
    let pool = pool();
    let source = "module.exports = async function (m) {
        const keys = Reflect.ownKeys(this);
        const same = keys.every(key => this[key] === globalThis[key]);
        const answer = await this.storageService.createEntity('people', {name: 'Ada', n: undefined});
        let refused;
        try { await idmService.getUser(4) } catch (e) { refused = [e instanceof Error, e.message, e.status] }
        const both = await Promise.all([rulesetService.callRuleset('r', {}), messagingService.queueMessage('q', m)]);
        return {keys, same, answer, refused, both};
    }";
    let result = stored(run(&pool, source, r#"{"k":1}"#).await).expect("it resolves");
    assert_eq!(
        result["keys"],
        json!([
            "authClientProvider",
            "idmService",
            "integrationService",
            "messagingService",
            "rulesetService",
            "serviceProvider",
            "storageService"
        ])
    );
    assert_eq!(result["same"], true);
    assert_eq!(result["answer"], json!({"storageService.createEntity": ["people", {"name": "Ada"}]}));
    assert_eq!(result["refused"], json!([true, "no such user", 404]));
    assert_eq!(result["both"][1], json!({"messagingService.queueMessage": ["q", {"k": 1}]}));
}

#[tokio::test]
async fn a_token_is_expired_a_minute_before_its_end() {
    let pool = pool();
    let source = "module.exports = m => m.map(seconds => {
        const exp = Math.floor(Date.now() / 1000) + seconds;
        const text = JSON.stringify({exp}), alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
        let bits = '', out = '';
        for (const c of text) bits += c.charCodeAt(0).toString(2).padStart(8, '0');
        for (let i = 0; i < bits.length; i += 6) out += alphabet[parseInt(bits.slice(i, i + 6).padEnd(6, '0'), 2)];
        return authClientProvider.tokenExpired(`e30.${out}.sig`);
    }).concat(authClientProvider.tokenExpired('no token'), authClientProvider.tokenExpired('e30.e30.sig'))";
    assert_eq!(stored(run(&pool, source, "[-5, 50, 70]").await), Ok(json!([true, true, false, true, false])));
}
