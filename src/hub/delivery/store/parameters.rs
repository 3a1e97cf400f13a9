//! The SQL of the parameters that deliveries are sent.

use crate::hub::definitions::former;
use crate::hub::delivery::linked::Parameter;
use crate::hub::purpose::Purpose;
use crate::seal::{Sealed, Sealer};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::value::RawValue;
use sqlx::PgExecutor;
use sqlx::types::Json;

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
    /// The passwords that it was before, sealed.
    pub former: Option<Vec<u8>>,
    /// Which key both are sealed with.
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
            p.former, p.key_id
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
    /// As it is sent; `Err` names what cannot be opened.
    ///
    /// # Errors
    /// It is sealed with a key that is not configured.
    pub fn parameter(self, sealer: Option<&Sealer>) -> Result<Parameter, String> {
        let value = self.value(sealer)?;
        let former = former::read(self.open(sealer, self.former.as_ref(), Purpose::FormerValues).as_ref());
        let former = former.into_iter().filter_map(|value| RawValue::from_string(value).ok()).collect();
        Ok(Parameter { name: self.name, value, secret: self.sealed.is_some(), former })
    }

    fn value(&self, sealer: Option<&Sealer>) -> Result<Box<RawValue>, String> {
        if let Some(Json(value)) = &self.value {
            return Ok(value.clone());
        }
        let opened = self.open(sealer, self.sealed.as_ref(), Purpose::Parameter);
        opened
            .and_then(|text| RawValue::from_string(text.expose_secret().to_owned()).ok())
            .ok_or_else(|| format!("the parameter {} cannot be opened: its key is not configured", self.name))
    }

    fn open<'a>(
        &'a self,
        sealer: Option<&Sealer>,
        bytes: Option<&Vec<u8>>,
        purpose: impl FnOnce(&'a str) -> Purpose<'a>,
    ) -> Option<SecretString> {
        let sealed = Sealed { key_id: self.key_id.clone()?, bytes: bytes?.clone() };
        sealer?.open(&sealed, &purpose(&self.name).of_store(self.store_id)).ok()
    }
}
