//! A storefront of the test: it has one collection, and returns it page by page.

use crate::support::scripted::{Asked, Reply, Scripted};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use url::Url;

/// A storefront that lists what changed since a time, in that order.
pub(super) struct Storefront {
    server: Scripted,
    inside: Arc<Mutex<Inside>>,
}

struct Inside {
    collection: &'static str,
    /// The records, in the order of their last change.
    records: Vec<Value>,
    /// Minutes that have passed: each change takes one.
    minute: u32,
    /// What is done about a page instead.
    fails: Option<(usize, Reply)>,
}

impl Storefront {
    /// An empty one.
    pub(super) async fn start(collection: &'static str) -> Self {
        let inside = Arc::new(Mutex::new(Inside { collection, records: Vec::new(), minute: 0, fails: None }));
        let script = Arc::clone(&inside);
        let server = Scripted::start(move |asked| script.lock().answer(asked)).await;
        Self { server, inside }
    }

    pub(super) fn url(&self) -> &str {
        &self.server.url
    }

    /// Makes or changes an order; returns it.
    pub(super) fn order(&self, number: &str, state: &str, total: &str) -> Value {
        let mut inside = self.inside.lock();
        let (hour, minute) = (inside.minute / 60, inside.minute % 60);
        inside.minute += 1;
        let order = json!({
            "number": number, "state": state, "total": total,
            "updated_at": format!("2026-07-01T{hour:02}:{minute:02}:00Z")
        });
        inside.records.retain(|record| record["number"] != number);
        inside.records.push(order.clone());
        order
    }

    /// From now on this page is answered so.
    pub(super) fn fails(&self, page: usize, reply: Reply) {
        self.inside.lock().fails = Some((page, reply));
    }

    /// From now on holds its answers back.
    pub(super) fn holds(&self) {
        let script = Arc::clone(&self.inside);
        self.server.follow(move |asked| script.lock().answer(asked).held());
    }

    /// From now on holds its answer to this page back.
    pub(super) fn holds_page(&self, page: usize) {
        let script = Arc::clone(&self.inside);
        let wanted = format!("page={page}&");
        self.server.follow(move |asked| {
            let reply = script.lock().answer(asked);
            if asked.path.contains(&wanted) { reply.held() } else { reply }
        });
    }

    /// Answers again as it should.
    pub(super) fn recovers(&self) {
        self.inside.lock().fails = None;
        self.server.release();
    }

    /// What it was asked.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.server.asked()
    }
}

impl Inside {
    fn answer(&self, asked: &Asked) -> Reply {
        let url = Url::parse("http://shop").unwrap().join(&asked.path).unwrap();
        let query =
            |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        let number = |name: &str| query(name).unwrap().parse::<usize>().unwrap();
        let (page, size) = (number("page"), number("per_page"));
        if let Some((failing, reply)) = &self.fails
            && (*failing == page || *failing == 1)
        {
            return reply.clone();
        }
        if url.path().rsplit('/').next() != Some(self.collection) {
            return Reply::status(404);
        }
        let since = query("since").unwrap_or_default();
        let records: Vec<&Value> = self
            .records
            .iter()
            .filter(|record| record["updated_at"].as_str().unwrap() >= since.as_str())
            .collect();
        let part: Vec<&&Value> = records.iter().skip((page - 1) * size).take(size).collect();
        // As real storefronts do, it gives the current page as a text.
        let body = json!({
            self.collection: part, "count": part.len(), "current_page": page.to_string(), "pages": records.len().div_ceil(size)
        });
        Reply::Says(200, vec![("content-type", "application/json".to_owned())], body.to_string())
    }
}
