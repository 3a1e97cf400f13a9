//! What a job's creator tells its worker: sealed from the moment it is stored until a worker has the job's lease, and
//! gone when the job ends.

use crate::seal::{Sealed, Sealer, Unopened};
use secrecy::ExposeSecret as _;
use serde_json::value::RawValue;
use uuid::Uuid;

/// Seals the data of the job that is called `item` in the engine.
///
/// # Errors
/// The operating system has no random bytes.
pub fn seal(sealer: &Sealer, item: Uuid, data: &RawValue) -> anyhow::Result<Sealed> {
    sealer.seal(data.get(), &purpose(item))
}

/// The data of a job, as it was sent; an empty object where there is none.
///
/// # Errors
/// [`Unopened`].
pub fn open(sealer: Option<&Sealer>, item: Uuid, data: Option<&Sealed>) -> Result<Box<RawValue>, Unopened> {
    let text = match data {
        None => "{}".to_owned(),
        Some(data) => sealer.ok_or(Unopened)?.open(data, &purpose(item))?.expose_secret().to_owned(),
    };
    RawValue::from_string(text).map_err(|_| Unopened)
}

/// What the data of the job that is called `item` in the engine is sealed for.
pub fn purpose(item: Uuid) -> Vec<u8> {
    [b"data of the job ".as_slice(), item.as_bytes()].concat()
}
