//! A page of another origin in a real browser, behind a real proxy, which each do as they do by default: it polls, waits,
//! and streams by `fetch` and by `EventSource`, while the server comes and goes. What it does with `EventSource` is what
//! `docs/browsers.md` has.

use super::{JOBS, channel};
use crate::faults::{connect, url_of};
use crate::support::app::{SECRET, database};
use crate::support::chromium::Chromium;
use crate::support::nginx::Nginx;
use crate::support::serve::Serve;
use crate::support::{eventually, free_address, not_checked};
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::{get, post};
use parking_lot::Mutex;
use postrider::config::Jwt;
use postrider::internals::auth;
use reqwest::Method;
use rustix::process::Signal;
use secrecy::SecretString;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// The four ways to follow a job.
const READERS: [&str; 4] = ["poll", "wait", "fetch", "events"];

/// The example of the page about browsers, as it stands there.
fn example() -> &'static str {
    let (_, section) = include_str!("../../docs/browsers.md").split_once("# From a browser\n").unwrap();
    let (_, example) = section.split_once("```js\n").unwrap();
    example.split_once("```\n").unwrap().0
}

/// Where the page comes from, and what it reports.
struct Site {
    origin: String,
    listener: TcpListener,
    state: Arc<Mutex<Value>>,
}

impl Site {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        Self { origin, listener, state: Arc::default() }
    }

    /// Serves the page with what it is to follow, and takes its reports, until the set is dropped.
    fn serve(self, settings: &Value) -> (JoinSet<()>, Arc<Mutex<Value>>) {
        let settings = format!("const {{ base, type, id, accessKey, token }} = {settings};");
        let (reported, state) = (Arc::clone(&self.state), self.state);
        let script = |text: String| get(async || ([(CONTENT_TYPE, "text/javascript")], text));
        let page = get(async || ([(CONTENT_TYPE, "text/html; charset=utf-8")], include_str!("page.html")));
        let report = post(async move |body: String| *reported.lock() = serde_json::from_str(&body).unwrap());
        let router = Router::new().route("/", page).route("/report", report);
        let router =
            router.route("/settings.js", script(settings)).route("/readme.js", script(example().to_owned()));
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(self.listener, router).await.unwrap() });
        (server, state)
    }
}

/// The token of the job's owner.
fn ann() -> String {
    let roles = ["cardholder_agent".to_owned()];
    auth::sign(&SecretString::from(SECRET), &Jwt::default(), "ann", &roles, Duration::from_hours(1)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_is_told_everything_once_and_in_order_while_servers_come_and_go() {
    if !Chromium::is_installed() || !Nginx::is_installed() {
        not_checked("a page in a browser behind a proxy: chromium or nginx is not installed");
        return;
    }
    let (database, address, site) = (database().await, free_address(), Site::new().await);
    let (url, listen, origin) = (url_of(&database), address.to_string(), site.origin.clone());
    let start = async || {
        let settings = [
            ("POSTRIDER_LISTEN", listen.as_str()),
            ("POSTRIDER_ALLOW_ORIGINS", &origin),
            ("POSTRIDER_SECRET_KEY", "a key of at least 32 characters!"),
        ];
        Serve::on(&url, &settings).await
    };
    let mut serve = start().await;
    let nginx = Nginx::before(address).await;
    let token = ann();
    let job = reqwest::Client::new().post(format!("{}{JOBS}", serve.url)).bearer_auth(&token);
    let job: Value = job.json(&json!({ "cardholder_id": 7 })).send().await.unwrap().json().await.unwrap();
    let id = job["id"].as_i64().unwrap();
    let settings = json!({
        "base": format!("http://{}", nginx.address),
        "type": JOBS.trim_start_matches('/'),
        "id": id,
        "accessKey": job["access_key"],
        "token": token,
    });
    let say = async |serve: &Serve, status: Value| {
        let path = format!("{}/broadcasts", channel(id));
        let said = serve.request(Method::POST, &path).json(&status).send().await.unwrap();
        assert_eq!(said.status(), 201);
    };
    // Applications go on while no server is there.
    let mut db = connect(&database).await;
    let mut say_in_sql = async |status: Value| {
        let statement = sqlx::query("SELECT broadcast($1, $2)").bind(id).bind(status);
        statement.execute(&mut db).await.unwrap();
    };

    // Nothing is said until the streams have begun.
    let (_server, reported) = site.serve(&settings);
    let _browser = Chromium::open(&origin);
    let state = || reported.lock().clone();
    let many = |of: &Value| READERS.map(|reader| of[reader].as_i64().unwrap_or_default());
    eventually("streams begin", async || {
        let first = &state()["first"];
        first["fetch"].is_number() && first["events"].is_number()
    })
    .await;
    let first = &state()["first"];
    // A proxy that waits for more passes nothing on for half a minute.
    assert!(first["fetch"].as_f64() < Some(10_000.0) && first["events"].as_f64() < Some(10_000.0), "{first}");

    // It is told to stop, and it is killed; nobody is there until every reader has noticed.
    for (n, signal) in [(0, Signal::TERM), (5, Signal::KILL)] {
        for n in n + 1..n + 5 {
            say(&serve, json!({ "status": format!("S{n}") })).await;
        }
        eventually("the stream goes on", async || !state()["told"]["events"][n].is_null()).await;
        let before = many(&state()["failed"]);
        serve.signal(signal);
        serve.end().await;
        say_in_sql(json!({ "status": format!("S{}", n + 5) })).await;
        eventually("every reader is refused", async || {
            many(&state()["failed"]).iter().zip(before).all(|(now, before)| *now > before)
        })
        .await;
        serve = start().await;
    }
    let refused = |line: &String| line.contains("/broadcasts/stream?") && line.contains("\" 502 ");
    assert!(nginx.log().iter().any(refused), "{:#?}", nginx.log());
    say(&serve, json!({ "status": "END", "termination_type": "BILLABLE" })).await;
    let mut all: Vec<Value> = (1..=10).map(|n| json!(["job_status", n, format!("S{n}")])).collect();
    all.push(json!(["job_status", 11, "END"]));
    let all = json!({ "poll": all, "wait": all, "fetch": all, "events": all });
    eventually("all is told", async || READERS.iter().all(|reader| !state()["told"][reader][10].is_null()))
        .await;

    // Who follows it once more finds that nothing comes, and leaves it at that.
    eventually("it has asked again", async || state()["asked"].as_array().unwrap().contains(&json!(204)))
        .await;
    let reports = state()["reports"].as_i64();
    eventually("it has had time to go on", async || state()["reports"].as_i64() > reports.map(|n| n + 10))
        .await;
    let state = state();
    assert_eq!(state["told"], all);
    assert_eq!(state["sources"].as_i64(), state["before"].as_i64().map(|before| before + 1), "{state}");
}
