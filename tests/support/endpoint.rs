//! What an `http` handler posts to: a server of the test, which counts what comes and answers when it may.

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// A server that answers every message with JSON; it ends when it is dropped.
pub(crate) struct Endpoint {
    pub(crate) url: String,
    inside: Arc<Inside>,
    _server: JoinSet<()>,
}

#[derive(Default)]
struct Inside {
    /// How often each message came, by its id.
    runs: Mutex<HashMap<String, usize>>,
    held: AtomicUsize,
    holds: AtomicBool,
    released: Notify,
}

/// A request that is held.
struct Held<'a>(&'a Inside);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Endpoint {
    /// Answers each message with what `answer` makes of its body.
    pub(crate) async fn start(answer: impl Fn(&str) -> String + Clone + Send + Sync + 'static) -> Self {
        let inside = Arc::<Inside>::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let handle = move |State(inside): State<Arc<Inside>>, headers: HeaderMap, body: String| async move {
            let id = headers["webhook-id"].to_str().unwrap().to_owned();
            *inside.runs.lock().entry(id).or_insert(0) += 1;
            inside.pass().await;
            answer(&body)
        };
        let router = Router::new().fallback(handle).with_state(Arc::clone(&inside));
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, inside, _server: server }
    }

    /// From now on answers nobody.
    pub(crate) fn hold(&self) {
        self.inside.holds.store(true, Ordering::SeqCst);
    }

    /// Answers everybody again.
    pub(crate) fn release(&self) {
        self.inside.holds.store(false, Ordering::SeqCst);
        self.inside.released.notify_waiters();
    }

    /// How many wait for their answer.
    pub(crate) fn held(&self) -> usize {
        self.inside.held.load(Ordering::SeqCst)
    }

    /// How often each message came, by its id.
    pub(crate) fn runs(&self) -> HashMap<String, usize> {
        self.inside.runs.lock().clone()
    }
}

impl Inside {
    async fn pass(&self) {
        self.held.fetch_add(1, Ordering::SeqCst);
        let _held = Held(self);
        loop {
            let released = self.released.notified();
            if !self.holds.load(Ordering::SeqCst) {
                return;
            }
            released.await;
        }
    }
}
