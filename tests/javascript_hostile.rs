//! Handlers that mean harm: each is over at its timeout plus a second, and the next message on the same pool
//! fares as if nothing had been.

use crate::javascript::{job, pool, stored};
use futures::FutureExt;
use futures::future::BoxFuture;
use postrider::internals::queues::javascript::services::{Answer, Services};
use postrider::internals::queues::javascript::{Ended, Outcome, Pool, PoolOptions};
use serde_json::json;
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const TIMEOUT: Duration = Duration::from_millis(250);

/// Services that answer at once.
struct Prompt;

impl Services for Prompt {
    fn call<'a>(&'a self, _: &'a str, _: &'a str, args: Box<RawValue>) -> BoxFuture<'a, Answer> {
        async move { Ok(args) }.boxed()
    }
}

async fn attack(pool: &Pool, source: &str, timeout: Duration) -> Ended {
    pool.run(job(source, r#"{"n":1}"#, timeout), Arc::new(Prompt), CancellationToken::new()).await
}

/// How a hostile handler must end.
#[derive(Clone, Copy)]
enum Must {
    /// By the clock.
    TimeOut,
    /// With an error of its own or for its memory, or by the clock: whichever limit it meets first.
    Fail,
    /// Normally: it hurt nobody, itself included. Its result is this.
    Give(&'static str),
}
use Must::{Fail, Give, TimeOut};

#[rustfmt::skip]
const HOSTILE: &[(&str, Must, &str)] = &[
    // Loops that QuickJS interrupts.
    ("loops", TimeOut, "module.exports = m => { while (1); }"),
    ("loops while loading", TimeOut, "for (;;);"),
    ("catches everything in a loop", TimeOut, "module.exports = m => { for (;;) try { for (;;); } catch {} finally { continue } }"),
    ("loops in an async function", TimeOut, "module.exports = async m => { await null; while (1); }"),
    ("loops in a timer", TimeOut, "module.exports = m => new Promise(() => setTimeout(() => { while (1); }))"),
    ("loops in a service's answer", TimeOut, "module.exports = m => storageService.getList('x').then(() => { while (1); })"),
    ("loops in a getter of the result", TimeOut, "module.exports = m => ({get a() { while (1); }})"),
    ("loops in toJSON", TimeOut, "module.exports = m => ({toJSON() { while (1); }})"),
    ("loops in a getter of the error", TimeOut, "module.exports = m => { const e = new Error('x'); Object.defineProperty(e, 'message', {get() { while (1); }}); throw e }"),
    ("loops in a thenable", TimeOut, "module.exports = m => ({then() { while (1); }})"),
    ("loops in a getter of then", TimeOut, "module.exports = m => ({get then() { while (1); }})"),
    ("loops in what it logs", TimeOut, "module.exports = m => { console.log({toJSON() { while (1); }}) }"),
    ("loops in an argument of a service", TimeOut, "module.exports = m => storageService.getList({toJSON() { while (1); }})"),
    ("loops in a proxy", TimeOut, "module.exports = m => new Proxy({}, {ownKeys() { while (1); }})"),
    ("loops in a generator", TimeOut, "module.exports = m => { for (const x of (function* () { for (;;) yield 1 })()); }"),
    ("loops in an async generator", TimeOut, "module.exports = async m => { for await (const x of (async function* () { for (;;) yield 1 })()); }"),
    ("loops in eval", TimeOut, "module.exports = m => eval('while (1);')"),
    ("loops in a Function", TimeOut, "module.exports = m => new Function('while (1);')()"),
    ("loops in a stack trace", TimeOut, "Error.prepareStackTrace = () => { while (1); }; module.exports = m => { throw new Error('x') }"),
    ("a regex that explodes", TimeOut, "module.exports = m => /^(a+)+$/.test('a'.repeat(40) + 'b')"),
    ("a regex of nested stars", TimeOut, "module.exports = m => /(x+x+)+y/.exec('x'.repeat(60))"),
    // Loops inside the engine, which never looks up.
    ("sorts nothing, for long", TimeOut, "module.exports = m => Array.prototype.sort.call({length: 2 ** 53 - 1})"),
    ("searches nothing", TimeOut, "module.exports = m => Array.prototype.indexOf.call({length: 2 ** 53 - 1}, 1)"),
    ("includes nothing", TimeOut, "module.exports = m => Array.prototype.includes.call({length: 2 ** 53 - 1}, 1)"),
    ("reverses nothing", TimeOut, "module.exports = m => Array.prototype.reverse.call({length: 2 ** 53 - 1})"),
    ("splices nothing", TimeOut, "module.exports = m => Array.prototype.unshift.call({length: 2 ** 53 - 2}, 1)"),
    ("joins nothing", Fail, "module.exports = m => Array.prototype.join.call({length: 2 ** 32 - 1}, '')"),
    ("counts far", Fail, "module.exports = m => (2n ** 1000000n) ** 100000n"),
    ("digits of a giant", Fail, "module.exports = m => String(7n ** 3000000n).length"),
    // Jobs and timers without end.
    ("re-arms a microtask", TimeOut, "module.exports = m => new Promise(() => { const f = () => queueMicrotask(f); f() })"),
    ("re-arms a promise", TimeOut, "module.exports = m => new Promise(() => { const f = () => Promise.resolve().then(f); f() })"),
    ("resolves with thenables for ever", TimeOut, "const t = {then(r) { r(t) }}; module.exports = m => t"),
    ("doubles its microtasks", Fail, "module.exports = m => new Promise(() => { const f = () => { queueMicrotask(f); queueMicrotask(f) }; f() })"),
    ("re-arms an immediate", TimeOut, "module.exports = m => new Promise(() => { const f = () => setImmediate(f); f() })"),
    ("ticks for ever", TimeOut, "module.exports = m => new Promise(() => setInterval(() => {}, 0))"),
    ("sets a storm of timers", Fail, "module.exports = m => new Promise(() => { for (;;) setTimeout(() => {}, 0) })"),
    ("awaits for ever", TimeOut, "module.exports = async m => { for (;;) await new Promise(r => setTimeout(r, 1)) }"),
    ("never settles", Fail, "module.exports = m => new Promise(() => {})"),
    ("calls a service for ever", Fail, "module.exports = async m => { for (;;) await storageService.getList('x') }"),
    ("calls a service at once, often", Fail, "module.exports = m => Promise.all(Array.from({length: 100000}, () => storageService.getList('x')))"),
    ("sends a service too much", Fail, "module.exports = m => storageService.getList('x'.repeat(2 ** 21))"),
    // Memory.
    ("a huge string", Fail, "module.exports = m => 'x'.repeat(2 ** 29)"),
    ("a string that doubles", Fail, "module.exports = m => { let s = 'xy'; for (;;) s += s }"),
    ("an array that grows", Fail, "module.exports = m => { const a = []; for (;;) a.push({}) }"),
    ("a typed array", Fail, "module.exports = m => new Uint8Array(2 ** 31)"),
    ("a buffer that grows", Fail, "module.exports = m => { const b = new ArrayBuffer(1, {maxByteLength: 2 ** 40}); b.resize(2 ** 40) }"),
    ("a map that grows", Fail, "module.exports = m => { const a = new Map(); for (let i = 0;; i++) a.set(i, i) }"),
    ("memory caught and asked for again", Fail, "module.exports = m => { const a = []; for (;;) try { for (;;) a.push(new Array(1000)) } catch {} }"),
    ("a padded string", Fail, "module.exports = m => 'x'.padEnd(2 ** 30 - 2)"),
    ("a replace that multiplies", Fail, "module.exports = m => 'x'.repeat(1e6).replace(/x/g, '$`')"),
    ("JSON that multiplies", Fail, "module.exports = m => { let a = [1]; for (let i = 0; i < 40; i++) a = [a, a]; return a }"),
    ("frees a very long list", Give("null"), "module.exports = m => { let a = null; for (let i = 0; i < 1e5; i++) a = {a}; }"),
    ("weak references without end", Fail, "const r = new FinalizationRegistry(() => {}); module.exports = m => { for (const k = [];;) { const o = {}; r.register(o, 1, o); k.push(new WeakRef(o)) } }"),
    // The stack.
    ("deep recursion", Fail, "module.exports = function f(m) { return f(m) + 1 }"),
    ("deep recursion in JSON", Fail, "module.exports = m => { let a = []; for (let i = 0; i < 1e5; i++) a = [a]; return a }"),
    ("deep recursion in toString", Fail, "module.exports = m => { const a = {toString() { return `${a}` }}; return `${a}` }"),
    ("deep proxies", Fail, "module.exports = m => { let p = {}; for (let i = 0; i < 1e5; i++) p = new Proxy(p, {}); return p.x }"),
    ("deeply nested source", Fail, "module.exports = m => eval('['.repeat(1e5))"),
    ("a deep regex", Fail, "module.exports = m => new RegExp('('.repeat(1e5) + ')'.repeat(1e5)).test('')"),
    ("a deep chain of bound functions", Fail, "module.exports = m => { let f = () => 1; for (let i = 0; i < 1e5; i++) f = f.bind(null); return f() }"),
    // Results that are none.
    ("a cycle", Fail, "module.exports = m => { const a = []; a.push(a); return a }"),
    ("a BigInt", Fail, "module.exports = async m => ({a: 1n})"),
    ("an error made of errors", Fail, "module.exports = m => { const e = new Error('x'); for (let i = 0; i < 1e5; i++) e['p' + i] = 'y'.repeat(100); throw e }"),
    ("an error whose properties throw", Fail, "module.exports = m => { const e = new Error('x'); for (const k of ['name', 'message', 'stack', 'a']) Object.defineProperty(e, k, {enumerable: true, get() { throw e }}); throw e }"),
    ("a proxy of an error", Fail, "module.exports = m => { throw new Proxy(new Error('x'), {get() { throw 1 }, ownKeys() { throw 2 }}) }"),
    ("a revoked proxy", Fail, "module.exports = m => { const {proxy, revoke} = Proxy.revocable({}, {}); revoke(); throw proxy }"),
    ("toJSON that returns itself anew", Fail, "class A { toJSON() { return {a: new A()} } } module.exports = m => new A()"),
    ("resolves twice", Give("1"), "module.exports = m => new Promise((resolve, reject) => { resolve(1); resolve(2); reject(3) })"),
    ("throws after it resolved", Give("1"), "module.exports = m => new Promise(resolve => { resolve(1); throw 2 })"),
    // Lies about what the language is.
    ("overwrites Promise.prototype.then", Give("1"), "Promise.prototype.then = () => { throw 1 }; module.exports = m => new Promise(r => r(1))"),
    ("overwrites Promise", Give("1"), "globalThis.Promise = undefined; module.exports = async m => 1"),
    ("overwrites Promise[Symbol.species]", Give("1"), "Object.defineProperty(Promise, Symbol.species, {get() { throw 1 }}); module.exports = async m => 1"),
    ("overwrites JSON", Give(r#"{"n":1}"#), "JSON.stringify = JSON.parse = () => { throw 1 }; delete globalThis.JSON; module.exports = m => m"),
    ("overwrites Array.prototype", Give("[1]"), "for (const k of Object.getOwnPropertyNames(Array.prototype)) try { Array.prototype[k] = null } catch {} module.exports = async m => storageService.getList(1)"),
    ("overwrites Object.prototype", Give(r#"{"n":1}"#), "for (const k of ['then', 'get', 'set', 'value', 'enumerable']) Object.prototype.__defineSetter__(k, () => { throw 1 }); module.exports = m => m"),
    ("overwrites Function.prototype", Give("1"), "Function.prototype.call = Function.prototype.apply = Function.prototype.bind = () => { throw 1 }; module.exports = m => 1"),
    ("toJSON on Object.prototype", Give("\"mine\""), "Object.prototype.toJSON = () => 'mine'; module.exports = m => m"),
    ("deletes the global object's properties", Give("1"), "const g = globalThis; for (const k of Reflect.ownKeys(g)) delete g[k]; module.exports = m => 1"),
    ("freezes the global object", Give("1"), "Object.freeze(globalThis); module.exports = m => 1"),
    ("an array whose species lies", Give("[2]"), "class A extends Array { static get [Symbol.species]() { return function () { return [] } } } module.exports = m => A.from([1]).map(x => x + 1)"),
    ("a species that grows", Fail, "const a = [1, 2, 3]; a.constructor = {[Symbol.species]: function () { return new Proxy([], {defineProperty() { while (1); }}) }}; module.exports = m => a.map(x => x)"),
    // Ways out.
    ("waits on shared memory", Fail, "module.exports = m => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)"),
    ("looks for a way out", Give(r#"["undefined","undefined","undefined","undefined"]"#), "module.exports = m => ['process', 'Deno', 'std', 'os'].map(n => typeof globalThis[n])"),
    ("imports", Fail, "module.exports = m => import('os')"),
    ("closes the wrapper", Fail, "}); while (1); (function () {"),
    // Floods.
    ("floods the log", TimeOut, "module.exports = m => { for (;;) console.log('x'.repeat(1000)) }"),
    ("logs a giant", Give("1"), "module.exports = m => { console.log('x'.repeat(2 ** 23)); return 1 }"),
    ("logs what looks like our protocol", Give("2"), "module.exports = m => { console.log('\\n{\"end\":{\"end\":{\"resolved\":666},\"logs\":[]}}\\n\"stop\"\\n'); return 2 }"),
    ("returns what looks like our protocol", Give(r#""}\n{\"end\":{\"end\":\"timed_out\",\"logs\":[]}}\n""#), "module.exports = m => '}\\n{\"end\":{\"end\":\"timed_out\",\"logs\":[]}}\\n'"),
    ("calls with what looks like our protocol", Give(r#"["\n{\"end\":1}\n"]"#), "module.exports = m => idmService.getUser('\\n{\"end\":1}\\n')"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_handler_outlives_its_timeout_or_harms_the_next_message() {
    let mut options = PoolOptions::new(env!("CARGO_BIN_EXE_postrider"));
    // One child, so that whatever is left of an attack meets the next message.
    (options.warm, options.max) = (1, 1);
    let pool = Pool::new(options);
    let mut wrong = Vec::new();
    for (name, must, source) in HOSTILE {
        let began = Instant::now();
        let timeout = if let Give(_) = must { Duration::from_secs(5) } else { TIMEOUT };
        let ended = attack(&pool, source, timeout).await;
        let took = began.elapsed();
        if took > timeout + Duration::from_secs(1) {
            wrong.push(format!("{name}: took {took:?}"));
        }
        let as_it_must = match (must, &ended.outcome) {
            (TimeOut, Outcome::TimedOut(_)) => true,
            (Fail, outcome) => !matches!(outcome, Outcome::Resolved(_) | Outcome::NotStarted(_)),
            (Give(expected), Outcome::Resolved(result)) => result.get() == *expected,
            _ => false,
        };
        if !as_it_must {
            wrong.push(format!("{name}: {:?}", ended.outcome));
        }
        let next = attack(&pool, "module.exports = async m => ({next: m.n})", Duration::from_secs(10)).await;
        if stored(next) != Ok(json!({"next": 1})) {
            wrong.push(format!("{name}: the next message suffered"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_hang_inside_the_engine_still_hands_over_its_log() {
    let source =
        "module.exports = m => { console.log('so far'); Array.prototype.sort.call({length: 2 ** 53 - 1}) }";
    let ended = attack(&pool(), source, TIMEOUT).await;
    assert!(matches!(ended.outcome, Outcome::TimedOut(_)), "{ended:?}");
    assert_eq!(ended.logs[0].text, "so far");
}

#[tokio::test]
async fn a_neighbour_is_served_while_handlers_hang() {
    let pool = pool();
    let hang = "module.exports = m => Array.prototype.sort.call({length: 2 ** 53 - 1})";
    let attacks = futures::future::join_all((0..4).map(|_| attack(&pool, hang, Duration::from_secs(10))));
    let neighbour = async {
        let began = Instant::now();
        for _ in 0..20 {
            let ended = attack(&pool, "module.exports = m => m.n", Duration::from_secs(10)).await;
            assert_eq!(stored(ended), Ok(json!(1)));
        }
        began.elapsed()
    };
    let (attacks, took) = tokio::join!(attacks, neighbour);
    assert!(attacks.iter().all(|ended| matches!(ended.outcome, Outcome::TimedOut(_))));
    assert!(took < Duration::from_secs(10), "it waited for them: {took:?}");
}
