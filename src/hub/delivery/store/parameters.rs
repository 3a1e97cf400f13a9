//! The SQL of the parameters that deliveries are sent, and of those that answers set.

use crate::http::json_text::to_value;
use crate::hub::purpose::Purpose;
use crate::seal::{Sealed, Sealer};
use secrecy::ExposeSecret as _;
use serde_json::value::RawValue;
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use std::collections::{BTreeMap, HashSet};

/// A parameter as it is stored.
#[derive(Debug)]
pub struct Stored {
    /// The mapping that is sent it.
    pub mapping_id: i32,
    /// The store.
    pub store_id: i32,
    /// Its name.
    pub name: String,
    /// Its value, unless it is sealed.
    pub value: Option<Json<Box<RawValue>>>,
    /// A password's value, sealed.
    pub sealed: Option<Vec<u8>>,
    /// Which key it is sealed with.
    pub key_id: Option<String>,
}

/// The parameters of these mappings: first those named here by (mapping, store, name), in this order, then those
/// that answers have set.
pub async fn linked(
    db: impl PgExecutor<'_>,
    wanted: &[(i32, i32, &str)],
    mappings: &[i32],
) -> sqlx::Result<Vec<Stored>> {
    let of: Vec<i32> = wanted.iter().map(|w| w.0).collect();
    let stores: Vec<i32> = wanted.iter().map(|w| w.1).collect();
    let names: Vec<&str> = wanted.iter().map(|w| w.2).collect();
    sqlx::query_as!(
        Stored,
        r#"
        WITH wanted AS (
            SELECT mapping_id, store_id, name, place
            FROM unnest($1::int[], $2::int[], $3::text[]) WITH ORDINALITY AS n (mapping_id, store_id, name, place)
            UNION ALL
            SELECT l.mapping_id, m.store_id, l.name, NULL
            FROM learned_parameters AS l
            JOIN mappings AS m ON m.id = l.mapping_id
            WHERE l.mapping_id = ANY ($4)
        ),
        once AS (
            SELECT mapping_id, store_id, name, min(place) AS place
            FROM wanted
            GROUP BY mapping_id, store_id, name
        )
        SELECT
            once.mapping_id AS "mapping_id!", p.store_id, p.name, p.value AS "value: Json<Box<RawValue>>", p.sealed,
            p.key_id
        FROM once
        JOIN parameters AS p ON p.store_id = once.store_id AND p.name = once.name
        ORDER BY once.mapping_id, once.place NULLS LAST, p.name
        "#,
        &of,
        &stores,
        &names as _,
        mappings,
    )
    .fetch_all(db)
    .await
}

impl Stored {
    /// Its value; `Err` names what cannot be opened.
    ///
    /// # Errors
    /// It is sealed with a key that is not configured.
    pub fn open(&self, sealer: Option<&Sealer>) -> Result<Box<RawValue>, String> {
        if let Some(Json(value)) = &self.value {
            return Ok(value.clone());
        }
        let key_and_bytes = self.key_id.clone().zip(self.sealed.clone());
        let opened = sealer.zip(key_and_bytes).and_then(|(sealer, (key_id, bytes))| {
            let purpose = Purpose::Parameter(&self.name).of_store(self.store_id);
            sealer.open(&Sealed { key_id, bytes }, &purpose).ok()
        });
        opened
            .and_then(|text| RawValue::from_string(text.expose_secret().to_owned()).ok())
            .ok_or_else(|| format!("the parameter {} cannot be opened: its key is not configured", self.name))
    }
}

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
}

/// Stores parameters, the last of each name. One that is there keeps its type, and a password stays sealed; a new
/// one has the type of its value. Those that the definition does not name are sent to the mapping from now on.
pub async fn learn(
    tx: &mut PgConnection,
    sealer: Option<&Sealer>,
    learned: &[Learned<'_>],
) -> sqlx::Result<()> {
    let values: BTreeMap<(i32, &str), &RawValue> =
        learned.iter().map(|l| ((l.store_id, l.name), l.value)).collect();
    let passwords = lock_passwords(tx, &values).await?;
    let (mut hidden, mut plain) = (Vec::new(), Vec::new());
    for ((store_id, name), value) in values {
        if !passwords.contains(&(store_id, name.to_owned())) {
            plain.push((store_id, name, value));
            continue;
        }
        let text =
            sealer.map(|sealer| sealer.seal(value.get(), &Purpose::Parameter(name).of_store(store_id)));
        let Some(Ok(text)) = text else {
            tracing::error!(store_id, name, "an answer sets a password, and there is no key to seal it with");
            continue;
        };
        hidden.push((store_id, name, text));
    }
    let stores: Vec<i32> = hidden.iter().map(|s| s.0).collect();
    let names: Vec<&str> = hidden.iter().map(|s| s.1).collect();
    let keys: Vec<&str> = hidden.iter().map(|s| s.2.key_id.as_str()).collect();
    let texts: Vec<&[u8]> = hidden.iter().map(|s| s.2.bytes.as_slice()).collect();
    sqlx::query!(
        r#"
        UPDATE parameters AS p
        SET sealed = s.sealed, key_id = s.key_id, updated_at = now()
        FROM unnest($1::int[], $2::text[], $3::text[], $4::bytea[]) AS s (store_id, name, key_id, sealed)
        WHERE p.store_id = s.store_id AND p.name = s.name AND p.data_type = 'password'
        "#,
        &stores,
        &names as _,
        &keys as _,
        &texts as _,
    )
    .execute(&mut *tx)
    .await?;
    let stores: Vec<i32> = plain.iter().map(|p| p.0).collect();
    let names: Vec<&str> = plain.iter().map(|p| p.1).collect();
    let types: Vec<&str> = plain.iter().map(|p| data_type(p.2)).collect();
    let texts: Vec<&str> = plain.iter().map(|p| p.2.get()).collect();
    sqlx::query!(
        r#"
        INSERT INTO parameters (store_id, name, data_type, value)
        SELECT store_id, name, data_type, value::json
        FROM unnest($1::int[], $2::text[], $3::text[], $4::text[]) AS p (store_id, name, data_type, value)
        ON CONFLICT (store_id, name) DO UPDATE
        SET value = excluded.value, updated_at = now()
        WHERE parameters.data_type <> 'password'
        "#,
        &stores,
        &names as _,
        &types as _,
        &texts as _,
    )
    .execute(&mut *tx)
    .await?;
    link(tx, learned).await
}

/// Locks the parameters that are there; returns those that are passwords.
async fn lock_passwords(
    tx: &mut PgConnection,
    values: &BTreeMap<(i32, &str), &RawValue>,
) -> sqlx::Result<HashSet<(i32, String)>> {
    let (stores, names): (Vec<i32>, Vec<&str>) = values.keys().copied().unzip();
    let there = sqlx::query!(
        r#"
        SELECT p.store_id, p.name, p.data_type
        FROM unnest($1::int[], $2::text[]) AS w (store_id, name)
        JOIN parameters AS p ON p.store_id = w.store_id AND p.name = w.name
        ORDER BY p.store_id, p.name
        FOR UPDATE OF p
        "#,
        &stores,
        &names as _,
    )
    .fetch_all(tx)
    .await?;
    let passwords = there.into_iter().filter(|row| row.data_type == "password");
    Ok(passwords.map(|row| (row.store_id, row.name)).collect())
}

async fn link(tx: &mut PgConnection, learned: &[Learned<'_>]) -> sqlx::Result<()> {
    let mut new: Vec<(i32, &str)> =
        learned.iter().filter(|l| !l.named).map(|l| (l.mapping_id, l.name)).collect();
    new.sort_unstable();
    let (mappings, names): (Vec<i32>, Vec<&str>) = new.into_iter().unzip();
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
