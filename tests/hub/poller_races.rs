//! Pollers of storefronts that change while they are read: whatever they do, after they rest every record was told, and
//! no change twice.

use super::restless::{CLOCKS, PAGINGS, Restless, Since};
use super::stage::STORE;
use crate::support::answer::json;
use crate::support::app::TestApp;
use crate::support::eventually;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// Runs until every storefront rests, at most.
const ROUNDS: usize = 12;

/// The pollers as they are listed, by name.
async fn listed(app: &TestApp) -> HashMap<String, Value> {
    let pollers = json(app.get(&format!("{STORE}/pollers")).await, 200).await;
    let pollers = pollers.as_array().unwrap().iter();
    pollers.map(|poller| (poller["name"].as_str().unwrap().to_owned(), poller.clone())).collect()
}

/// Has these pollers run, and waits until each is done, or failed when it may.
async fn run(app: &TestApp, names: &[String], may_fail: bool) {
    let before = listed(app).await;
    for name in names {
        json(app.post(&format!("{STORE}/pollers/{name}/run"), &Value::Null).await, 202).await;
    }
    let mut now = HashMap::new();
    eventually("all ran", async || {
        now = listed(app).await;
        names.iter().all(|name| {
            let failed = now[name]["failures"].as_i64() > before[name]["failures"].as_i64();
            now[name]["queued"] == false || may_fail && failed
        })
    })
    .await;
}

/// Each record of which messages of this kind tell, with the versions in the order of telling.
async fn told(db: &mut sqlx::PgConnection, kind: &str) -> BTreeMap<i64, Vec<i64>> {
    let question = "SELECT (payload #>> '{record,id}')::bigint, array_agg((payload #>> '{record,v}')::bigint ORDER BY id)
        FROM hub_messages WHERE message = ANY ($1) GROUP BY 1";
    let keys = [format!("{kind}:new"), format!("{kind}:update")];
    let rows: Vec<(i64, Vec<i64>)> = sqlx::query_as(question).bind(&keys[..]).fetch_all(db).await.unwrap();
    rows.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn once_a_storefront_rests_every_record_was_told_and_no_change_twice() {
    let app = TestApp::start().await;
    let mut shops = Vec::new();
    for paging in PAGINGS {
        for clock in CLOCKS {
            for since in [Since::After, Since::From] {
                let seed = u64::try_from(shops.len()).unwrap();
                let shop = Restless::start(paging, clock, since, seed).await;
                let name = format!("p{seed}");
                let page_size = 1 + u8::try_from(seed % 4).unwrap();
                let put =
                    app.put(&format!("{STORE}/pollers/{name}"), &shop.definition(&name, page_size)).await;
                json(put, 201).await;
                shops.push((name, shop, format!("{paging:?} {clock:?} {since:?} seed {seed}")));
            }
        }
    }
    for _ in 0..ROUNDS {
        let restless = shops.iter().filter(|(_, shop, _)| shop.is_restless());
        let restless: Vec<String> = restless.map(|(name, ..)| name.clone()).collect();
        run(&app, &restless, true).await;
    }
    let all: Vec<String> = shops.iter().map(|(name, ..)| name.clone()).collect();
    for (_, shop, _) in &shops {
        shop.rests();
    }
    run(&app, &all, false).await;
    let mut db = app.connect().await;
    let mut wrong = Vec::new();
    for (name, shop, what) in &shops {
        let told = told(&mut db, name).await;
        for (id, version) in shop.records() {
            let versions = told.get(&id).cloned().unwrap_or_default();
            if versions.last() != Some(&version) {
                wrong.push(format!("{what}: of record {id} in version {version} it told {versions:?}"));
            }
        }
        for (id, versions) in told {
            if !versions.is_sorted_by(|a, b| a < b) {
                wrong.push(format!("{what}: of record {id} it told {versions:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // They all have a bookmark: it is not that they begin anew each time.
    let marks: i64 =
        sqlx::query_scalar("SELECT count(*) FROM poller_bookmarks").fetch_one(&mut db).await.unwrap();
    let with_records = shops.iter().filter(|(_, shop, _)| !shop.records().is_empty()).count();
    assert!(usize::try_from(marks).unwrap() >= with_records, "{marks} of {with_records}");
    app.stop().await;
}
