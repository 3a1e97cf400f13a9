//! Which stores there are, for whoever may look at them.

use crate::support::answer::{json, refusal};
use crate::support::app::TestApp;
use reqwest::Method;
use serde_json::{Value, json};

fn names(page: &Value) -> Vec<&str> {
    page["stores"].as_array().unwrap().iter().map(|store| store["name"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_are_listed_by_name_a_page_at_a_time_and_a_misspelt_one_shows() {
    let app = TestApp::start().await;
    assert_eq!(json(app.get("/stores").await, 200).await, json!({ "stores": [], "next": null }));
    for store in ["shop", "a.b", "shpo"] {
        let path = format!("/stores/{store}/parameters/realm");
        json(app.put(&path, &json!({ "value": "x" })).await, 201).await;
    }
    let all = json(app.get("/stores").await, 200).await;
    assert_eq!((names(&all), &all["next"]), (vec!["a.b", "shop", "shpo"], &json!(null)));
    assert!(all["stores"][0]["created_at"].is_string());
    let first = json(app.get("/stores?limit=2").await, 200).await;
    assert_eq!((names(&first), &first["next"]), (vec!["a.b", "shop"], &json!("shop")));
    let last = json(app.get("/stores?limit=2&after=shop").await, 200).await;
    assert_eq!((names(&last), &last["next"]), (vec!["shpo"], &json!(null)));
    for query in ["limit=0", "limit=501", "limit=x"] {
        refusal(app.get(&format!("/stores?{query}")).await, 400).await;
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_sees_the_stores_of_its_roles_and_no_other() {
    let app = TestApp::start().await;
    for store in ["s1", "s2", "s3"] {
        let path = format!("/stores/{store}/messages");
        json(app.post(&path, &json!({ "message": "order:new" })).await, 201).await;
    }
    let seen = async |roles: &[&str]| {
        let page = json(app.request_as(roles, Method::GET, "/stores").send().await.unwrap(), 200).await;
        names(&page).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(seen(&["hub_reader"]).await, ["s1", "s2", "s3"]);
    assert_eq!(seen(&["s2_hub_reader", "s3_hub_admin"]).await, ["s2", "s3"]);
    assert!(seen(&["nowhere_hub_admin"]).await.is_empty());
    for role in ["queue_admin", "s1_writer", "job_worker"] {
        refusal(app.request_as(&[role], Method::GET, "/stores").send().await.unwrap(), 403).await;
    }
    app.stop().await;
}
