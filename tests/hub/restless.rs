//! A storefront that changes while it is read: between two answers records come, go, move and are committed late, and
//! the list itself is put into another order. Until it rests.

use crate::support::scripted::{Asked, Reply, Scripted};
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::seq::{IndexedMutRandom as _, IndexedRandom as _, SliceRandom as _};
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use url::Url;

/// How it hands out its pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paging {
    /// `?page=2`; it says how many pages there are, and how many records all of them hold.
    Counted,
    /// `?page=2`; it says how many pages there are, and counts only the records of this one, as Spree does.
    Spree,
    /// `?page=2` of a bare list, which says nothing.
    Bare,
    /// `?after=…`, named by the answer before; a cursor is a place in the list as it is then.
    Cursor,
    /// The whole address of the next page, in a header.
    Link,
}

pub(super) const PAGINGS: [Paging; 5] =
    [Paging::Counted, Paging::Spree, Paging::Bare, Paging::Cursor, Paging::Link];

/// How it writes the time of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    /// `2026-07-01T12:00:00Z`.
    Zulu,
    /// `2026-07-01T12:00:00-05:00`.
    Offset,
    /// `2026-07-01 12:00:00`.
    Zoneless,
    /// Seconds since 1970.
    Epoch,
    /// No time at all but a number that grows, beyond what a double holds.
    Sequence,
}

pub(super) const CLOCKS: [Clock; 5] =
    [Clock::Zulu, Clock::Offset, Clock::Zoneless, Clock::Epoch, Clock::Sequence];

/// What `since` means to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Since {
    After,
    From,
}

/// In which order it lists its records.
#[derive(Debug, Clone, Copy)]
enum Order {
    Id,
    Oldest,
    Newest,
    /// By a number that is drawn.
    Drawn,
}

const ORDERS: [Order; 4] = [Order::Id, Order::Oldest, Order::Newest, Order::Drawn];
/// Seconds (or numbers) by which a change is committed late at most: within the poller's overlap.
const LATE: i64 = 240;
const BEGIN: &str = "2026-07-01T00:00:00Z";
/// The first number of a sequence: neighbours are one to a double.
const FIRST: i64 = 9_007_199_254_740_993_000;

pub(super) struct Restless {
    server: Scripted,
    inside: Arc<Mutex<Inside>>,
}

#[derive(Debug, Clone)]
struct Row {
    id: u32,
    version: u32,
    /// When it was changed, in seconds.
    mark: i64,
    drawn: u32,
}

struct Inside {
    paging: Paging,
    clock: Clock,
    since: Since,
    order: Order,
    rows: Vec<Row>,
    now: i64,
    next_id: u32,
    random: StdRng,
    /// How probably it changes after an answer, and how often it still may.
    restless: f64,
    left: u32,
}

impl Restless {
    pub(super) async fn start(paging: Paging, clock: Clock, since: Since, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let order = *ORDERS.choose(&mut random).unwrap();
        let restless = *[0.1, 0.4, 0.9].choose(&mut random).unwrap();
        let mut inside = Inside {
            paging,
            clock,
            since,
            order,
            rows: Vec::new(),
            now: 0,
            next_id: 0,
            random,
            restless,
            left: 40,
        };
        for _ in 0..inside.random.random_range(0..12) {
            inside.insert(0);
        }
        let inside = Arc::new(Mutex::new(inside));
        let script = Arc::clone(&inside);
        let server = Scripted::start(move |asked| script.lock().answer(asked)).await;
        Self { server, inside }
    }

    /// The definition of a poller of it, whose messages begin with this word.
    pub(super) fn definition(&self, key: &str, page_size: u8) -> Value {
        let inside = self.inside.lock();
        let overlap = if inside.clock == Clock::Sequence { json!(300) } else { json!("5m") };
        let paging = match inside.paging {
            Paging::Counted | Paging::Spree | Paging::Bare => json!({ "kind": "page" }),
            Paging::Cursor => {
                json!({ "kind": "cursor", "parameter": "after", "size": "limit", "next": "meta.next" })
            }
            Paging::Link => json!({ "kind": "link", "size": "limit" }),
        };
        json!({
            "api": self.server.url, "every": "1h", "page_size": page_size, "overlap": overlap, "paging": paging,
            "collections": [{ "name": "records", "updated": "changed", "key": key, "payload": "record" }]
        })
    }

    /// Whether it may still change.
    pub(super) fn is_restless(&self) -> bool {
        self.inside.lock().left > 0
    }

    /// From now on it does not change any more.
    pub(super) fn rests(&self) {
        self.inside.lock().left = 0;
    }

    /// The records that are there, each with its version.
    pub(super) fn records(&self) -> BTreeMap<i64, i64> {
        self.inside.lock().rows.iter().map(|row| (i64::from(row.id), i64::from(row.version))).collect()
    }
}

impl Inside {
    fn answer(&mut self, asked: &Asked) -> Reply {
        let url = Url::parse("http://shop").unwrap().join(&asked.path).unwrap();
        let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
        let reply = self.page(&query);
        if self.left > 0 && self.random.random_bool(self.restless) {
            self.left -= 1;
            self.change();
        }
        reply
    }

    fn page(&self, query: &BTreeMap<String, String>) -> Reply {
        let since = query.get("since").map(|text| self.read(text));
        let is_wanted = |row: &&Row| match (since, self.since) {
            (None, _) => true,
            (Some(since), Since::After) => row.mark > since,
            (Some(since), Since::From) => row.mark >= since,
        };
        let rows: Vec<&Row> = self.rows.iter().filter(is_wanted).collect();
        let number = |name: &str| query[name].parse::<usize>().unwrap();
        let (size, begin) = match self.paging {
            Paging::Counted | Paging::Spree | Paging::Bare => {
                let size = number("per_page");
                (size, (number("page") - 1) * size)
            }
            Paging::Cursor | Paging::Link => {
                (number("limit"), query.get("after").map_or(0, |after| after.parse().unwrap()))
            }
        };
        let part: Vec<&&Row> = rows.iter().skip(begin).take(size).collect();
        let shown: Vec<Value> = part
            .iter()
            .map(|row| json!({ "id": row.id, "v": row.version, "changed": self.write(row.mark) }))
            .collect();
        let pages = rows.len().div_ceil(size);
        let next = Some(begin + size).filter(|next| *next < rows.len());
        let body = match self.paging {
            Paging::Counted => json!({ "records": shown, "total_count": rows.len(), "pages": pages }),
            Paging::Spree => json!({ "records": shown, "count": shown.len(), "pages": pages.to_string() }),
            Paging::Bare | Paging::Link => json!(shown),
            Paging::Cursor => json!({ "records": shown, "meta": { "next": next } }),
        };
        let since = query.get("since").map_or(String::new(), |since| format!("since={}&", encoded(since)));
        let link = |next| ("Link", format!("</records?{since}limit={size}&after={next}>; rel=\"next\""));
        let headers = next.filter(|_| self.paging == Paging::Link).map(link);
        Reply::Says(200, headers.into_iter().collect(), body.to_string())
    }

    /// What it is listed by.
    fn key(&self, row: &Row) -> (i64, u32) {
        match self.order {
            Order::Id => (0, row.id),
            Order::Oldest => (row.mark, row.id),
            Order::Newest => (-row.mark, row.id),
            Order::Drawn => (0, row.drawn),
        }
    }

    fn change(&mut self) {
        self.now += self.random.random_range(1..90);
        match self.random.random_range(0..8) {
            0 => self.insert(0),
            1 => {
                let late = self.random.random_range(0..LATE);
                self.insert(late);
            }
            2 => self.touch(),
            3 => self.delete(),
            4 => {
                // What counts them does not notice.
                self.delete();
                self.insert(0);
            }
            5 => {
                self.touch();
                self.delete();
            }
            6 => self.order = *ORDERS.choose(&mut self.random).unwrap(),
            _ => {
                self.order = Order::Drawn;
                let mut drawn: Vec<u32> = (0..u32::try_from(self.rows.len()).unwrap()).collect();
                drawn.shuffle(&mut self.random);
                self.rows.iter_mut().zip(drawn).for_each(|(row, drawn)| row.drawn = drawn);
            }
        }
        self.sort();
    }

    fn insert(&mut self, late: i64) {
        self.next_id += 1;
        self.now += 1;
        let drawn = self.random.random();
        self.rows.push(Row { id: self.next_id, version: 1, mark: self.now - late, drawn });
        self.sort();
    }

    fn touch(&mut self) {
        self.now += 1;
        if let Some(row) = self.rows.choose_mut(&mut self.random) {
            row.version += 1;
            row.mark = self.now;
        }
    }

    fn delete(&mut self) {
        if !self.rows.is_empty() {
            let place = self.random.random_range(0..self.rows.len());
            self.rows.remove(place);
        }
    }

    fn sort(&mut self) {
        let mut rows = std::mem::take(&mut self.rows);
        rows.sort_by_key(|row| self.key(row));
        self.rows = rows;
    }

    fn write(&self, mark: i64) -> Value {
        let time = BEGIN.parse::<DateTime<Utc>>().unwrap() + TimeDelta::seconds(mark);
        match self.clock {
            Clock::Zulu => json!(time.format("%FT%TZ").to_string()),
            Clock::Offset => json!((time - TimeDelta::hours(5)).format("%FT%T-05:00").to_string()),
            Clock::Zoneless => json!(time.format("%F %T").to_string()),
            Clock::Epoch => json!(time.timestamp()),
            Clock::Sequence => json!(FIRST + mark),
        }
    }

    fn read(&self, text: &str) -> i64 {
        let begin = BEGIN.parse::<DateTime<Utc>>().unwrap();
        match self.clock {
            Clock::Zulu | Clock::Offset => {
                (DateTime::parse_from_rfc3339(text).unwrap().to_utc() - begin).num_seconds()
            }
            Clock::Zoneless => {
                let time = NaiveDateTime::parse_from_str(text, "%F %T").unwrap();
                (time.and_utc() - begin).num_seconds()
            }
            Clock::Epoch => text.parse::<i64>().unwrap() - begin.timestamp(),
            Clock::Sequence => text.parse::<i64>().unwrap() - FIRST,
        }
    }
}

fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
