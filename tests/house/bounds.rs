//! Every table has something that bounds it.

use crate::support::app::database;
use postrider::internals::worker::BOUNDS;
use sqlx::ConnectOptions as _;
use std::collections::{BTreeMap, BTreeSet};

#[tokio::test(flavor = "multi_thread")]
async fn every_table_says_in_the_list_and_in_its_comment_what_bounds_it() {
    let mut db = database().await.connect().await.unwrap();
    let tables: Vec<(String, Option<String>)> = sqlx::query_as(
        "SELECT relname::text, obj_description(oid) FROM pg_class
        WHERE relnamespace = 'postrider'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
            AND relname NOT LIKE '\\_sqlx%'",
    )
    .fetch_all(&mut db)
    .await
    .unwrap();
    let listed: BTreeMap<&str, &str> = BOUNDS.iter().copied().collect();
    let there: BTreeSet<&str> = tables.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(listed.keys().copied().collect::<BTreeSet<_>>(), there);
    for (table, comment) in &tables {
        let said = format!("Bounded by: {}", listed[table.as_str()]);
        assert!(comment.as_deref().is_some_and(|comment| comment.ends_with(&said)), "{table}: {comment:?}");
    }
}
