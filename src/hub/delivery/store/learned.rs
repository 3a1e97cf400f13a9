//! The SQL of the parameters that answers set.
//!
//! An answer may set a new name, and what its mapping is sent: what the definition names, and what its own answers made
//! before. The rest belongs to somebody else, unless the mapping is allowed any.

use crate::http::json_text::to_value;
use crate::hub::definitions::former::{self, Password};
use crate::seal::Sealer;
use serde_json::value::RawValue;
use sqlx::postgres::PgConnection;
use std::collections::{BTreeMap, HashMap, HashSet};

/// A parameter that an answer sets.
#[derive(Debug)]
pub struct Learned<'a> {
    /// The store.
    pub store_id: i32,
    /// The mapping whose service answered.
    pub mapping_id: i32,
    /// Its name.
    pub name: &'a str,
    /// Its value.
    pub value: &'a RawValue,
    /// Whether the mapping's definition names it.
    pub named: bool,
    /// Whether the mapping may set any.
    pub any: bool,
}

/// The parameters of a store by name.
type Values<'a> = BTreeMap<(i32, &'a str), &'a RawValue>;

/// What is known of a parameter that is there.
struct There {
    /// What is sealed of it, if it is a password.
    password: Option<Password>,
    /// Those mappings, of the ones that set it, which are sent it since their answers set it.
    linked: Vec<i32>,
}

/// Stores parameters, the last of each name. One that is there keeps its type, and a password stays sealed; a new
/// one has the type of its value. Those that the definition does not name are sent to the mapping from now on, but for
/// passwords of others. Returns the places in `learned` of those that are not its mapping's to set.
pub async fn learn(
    tx: &mut PgConnection,
    sealer: Option<&Sealer>,
    learned: &[Learned<'_>],
) -> sqlx::Result<Vec<usize>> {
    // Whoever says a name first makes it; whoever comes later in the same transaction finds it made.
    let mut first: BTreeMap<(i32, &str), &Learned<'_>> = BTreeMap::new();
    for set in learned {
        first.entry((set.store_id, set.name)).or_insert(set);
    }
    let made = make(tx, &first).await?;
    let makers: Vec<(i32, &str)> = first
        .values()
        .filter(|set| !set.named && made.contains(&(set.store_id, set.name.to_owned())))
        .map(|set| (set.mapping_id, set.name))
        .collect();
    link(tx, makers).await?;
    let mut there = lock(tx, learned).await?;
    let (mut hidden, mut plain, mut shared) = (Values::new(), Values::new(), Vec::new());
    let mut refused = Vec::new();
    for (place, set) in learned.iter().enumerate() {
        let key = (set.store_id, set.name);
        // One that is gone again was deleted after it was set.
        let Some(known) = there.get(&key) else { continue };
        let is_sent = set.named || known.linked.contains(&set.mapping_id);
        if !is_sent && !set.any {
            refused.push(place);
            continue;
        }
        if !is_sent && known.password.is_none() {
            shared.push((set.mapping_id, set.name));
        }
        if known.password.is_some() { &mut hidden } else { &mut plain }.insert(key, set.value);
    }
    let hidden =
        hidden.into_iter().filter_map(|(key, value)| Some((key, value, there.remove(&key)?.password?)));
    set_passwords(tx, sealer, hidden).await?;
    plain.retain(|&(store_id, name), value| {
        let said_once = first.get(&(store_id, name)).is_some_and(|set| set.value.get() == value.get());
        !(said_once && made.contains(&(store_id, name.to_owned())))
    });
    set(tx, &plain).await?;
    link(tx, shared).await?;
    Ok(refused)
}

/// Stores those that are new, and says which were. Another transaction that makes one is waited for, in the order of
/// names, as everywhere here.
async fn make(
    tx: &mut PgConnection,
    first: &BTreeMap<(i32, &str), &Learned<'_>>,
) -> sqlx::Result<HashSet<(i32, String)>> {
    let (stores, names): (Vec<i32>, Vec<&str>) = first.keys().copied().unzip();
    let types: Vec<&str> = first.values().map(|set| data_type(set.value)).collect();
    let texts: Vec<&str> = first.values().map(|set| set.value.get()).collect();
    let made = sqlx::query!(
        r#"
        INSERT INTO parameters (store_id, name, data_type, value)
        SELECT store_id, name, data_type, value::json
        FROM unnest($1::int[], $2::text[], $3::text[], $4::text[]) AS p (store_id, name, data_type, value)
        ON CONFLICT (store_id, name) DO NOTHING
        RETURNING store_id, name
        "#,
        &stores,
        &names as _,
        &types as _,
        &texts as _,
    )
    .fetch_all(tx)
    .await?;
    Ok(made.into_iter().map(|row| (row.store_id, row.name)).collect())
}

/// Locks the parameters, and reads what decides about each.
async fn lock<'a>(
    tx: &mut PgConnection,
    learned: &'a [Learned<'_>],
) -> sqlx::Result<HashMap<(i32, &'a str), There>> {
    let mut wanted: BTreeMap<(i32, &str), Vec<i32>> = BTreeMap::new();
    for set in learned {
        wanted.entry((set.store_id, set.name)).or_default().push(set.mapping_id);
    }
    let (stores, names): (Vec<i32>, Vec<&str>) = wanted.keys().copied().unzip();
    let mappings: Vec<i32> = learned.iter().map(|set| set.mapping_id).collect();
    let rows = sqlx::query!(
        r#"
        SELECT
            w.place AS "place!", p.data_type, p.sealed, p.former, p.key_id,
            ARRAY(
                SELECT l.mapping_id
                FROM learned_parameters AS l
                WHERE l.mapping_id = ANY ($3) AND l.name = p.name
            ) AS "linked!"
        FROM unnest($1::int[], $2::text[]) WITH ORDINALITY AS w (store_id, name, place)
        JOIN parameters AS p ON p.store_id = w.store_id AND p.name = w.name
        ORDER BY p.store_id, p.name
        FOR UPDATE OF p
        "#,
        &stores,
        &names as _,
        &mappings,
    )
    .fetch_all(tx)
    .await?;
    let keys: Vec<(i32, &str)> = wanted.into_keys().collect();
    let there = rows.into_iter().filter_map(|row| {
        let place = usize::try_from(row.place).ok()?.checked_sub(1)?;
        let password = Password { sealed: row.sealed, former: row.former, key_id: row.key_id };
        let password = Some(password).filter(|_| row.data_type == "password");
        Some((*keys.get(place)?, There { password, linked: row.linked }))
    });
    Ok(there.collect())
}

/// Gives passwords other values, in the order of names.
async fn set_passwords<'a>(
    tx: &mut PgConnection,
    sealer: Option<&Sealer>,
    values: impl Iterator<Item = ((i32, &'a str), &'a RawValue, Password)>,
) -> sqlx::Result<()> {
    let (mut stores, mut names) = (Vec::new(), Vec::new());
    let (mut keys, mut texts, mut formers) = (Vec::new(), Vec::new(), Vec::new());
    for ((store_id, name), value, stored) in values {
        let sealed =
            sealer.map(|sealer| former::replace(sealer, (store_id, name), &stored, Some(value.get())));
        let Some(Ok(Password { sealed: Some(text), former, key_id: Some(key) })) = sealed else {
            tracing::error!(store_id, name, "an answer sets a password, and there is no key to seal it with");
            continue;
        };
        stores.push(store_id);
        names.push(name);
        keys.push(key);
        texts.push(text);
        formers.push(former);
    }
    if stores.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r#"
        UPDATE parameters AS p
        SET sealed = s.sealed, former = s.former, key_id = s.key_id, updated_at = now()
        FROM unnest($1::int[], $2::text[], $3::text[], $4::bytea[], $5::bytea[])
            AS s (store_id, name, key_id, sealed, former)
        WHERE p.store_id = s.store_id AND p.name = s.name AND p.data_type = 'password'
        "#,
        &stores,
        &names as _,
        &keys as _,
        &texts as _,
        &formers as _,
    )
    .execute(tx)
    .await?;
    Ok(())
}

async fn set(tx: &mut PgConnection, values: &Values<'_>) -> sqlx::Result<()> {
    if values.is_empty() {
        return Ok(());
    }
    let (stores, names): (Vec<i32>, Vec<&str>) = values.keys().copied().unzip();
    let texts: Vec<&str> = values.values().map(|value| value.get()).collect();
    sqlx::query!(
        r#"
        UPDATE parameters AS p
        SET value = s.value::json, updated_at = now()
        FROM unnest($1::int[], $2::text[], $3::text[]) AS s (store_id, name, value)
        WHERE p.store_id = s.store_id AND p.name = s.name AND p.data_type <> 'password'
        "#,
        &stores,
        &names as _,
        &texts as _,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Has mappings be sent parameters from now on.
async fn link(tx: &mut PgConnection, mut links: Vec<(i32, &str)>) -> sqlx::Result<()> {
    if links.is_empty() {
        return Ok(());
    }
    links.sort_unstable();
    let (mappings, names): (Vec<i32>, Vec<&str>) = links.into_iter().unzip();
    sqlx::query!(
        r#"
        INSERT INTO learned_parameters (mapping_id, name)
        SELECT mapping_id, name FROM unnest($1::int[], $2::text[]) AS l (mapping_id, name)
        ON CONFLICT DO NOTHING
        "#,
        &mappings,
        &names as _,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// The type that a JSON value has by itself.
fn data_type(value: &RawValue) -> &'static str {
    match to_value(value.get()) {
        Some(serde_json::Value::Bool(_)) => "boolean",
        Some(serde_json::Value::Number(number)) if number.is_f64() => "float",
        Some(serde_json::Value::Number(_)) => "integer",
        Some(serde_json::Value::Array(_) | serde_json::Value::Object(_)) => "list",
        _ => "string",
    }
}
