//! Secrets that were replaced: who was sent one may quote it still, in the answer to a later attempt. So the last ones
//! are kept, sealed, to be blotted out with those that are in use.

use crate::hub::purpose::Purpose;
use crate::seal::{Sealed, Sealer};
use secrecy::{ExposeSecret as _, SecretString};

/// So many are kept of one parameter, or of one endpoint.
const MOST: usize = 8;
/// And together at most so many bytes.
const BYTES: usize = 64 << 10;

/// A password as it is stored, with those that it replaced.
#[derive(Debug, Default)]
pub struct Password {
    /// Its value as JSON, sealed; none where the parameter is no password any more.
    pub sealed: Option<Vec<u8>>,
    /// The former values, a JSON array of strings, each JSON, sealed.
    pub former: Option<Vec<u8>>,
    /// Which key both are sealed with.
    pub key_id: Option<String>,
}

/// The parameter `name` with this value, as JSON, in the place of the one that is stored; with none where it is no
/// password from now on. What cannot be opened any more is left out.
///
/// # Errors
/// The operating system has no random bytes.
pub fn replace(
    sealer: &Sealer,
    (store_id, name): (i32, &str),
    stored: &Password,
    value: Option<&str>,
) -> anyhow::Result<Password> {
    let open = |bytes: &Option<Vec<u8>>, purpose: Purpose<'_>| {
        let sealed = Sealed { key_id: stored.key_id.clone()?, bytes: bytes.clone()? };
        sealer.open(&sealed, &purpose.of_store(store_id)).ok()
    };
    let before = open(&stored.sealed, Purpose::Parameter(name));
    let earlier = read(open(&stored.former, Purpose::FormerValues(name)).as_ref());
    let before = before.iter().map(|value| value.expose_secret().to_owned()).collect();
    let former = former(value.as_slice(), before, earlier);
    let mut password = Password::default();
    let mut close = |text: &str, purpose: Purpose<'_>| {
        let sealed = sealer.seal(text, &purpose.of_store(store_id))?;
        password.key_id = Some(sealed.key_id);
        anyhow::Ok(sealed.bytes)
    };
    let sealed = value.map(|value| close(value, Purpose::Parameter(name))).transpose()?;
    let former = written(&former)?.map(|list| close(list.expose_secret(), Purpose::FormerValues(name)));
    let former = former.transpose()?;
    Ok(Password { sealed, former, ..password })
}

/// What is kept once the values of `now` are in the place of those of `before`: these, and then those that were replaced
/// `earlier`.
pub fn former(now: &[&str], before: Vec<String>, earlier: Vec<String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    let mut bytes = 0;
    for value in before.into_iter().chain(earlier) {
        if now.contains(&value.as_str()) || kept.contains(&value) {
            continue;
        }
        bytes += value.len();
        if kept.len() == MOST || bytes > BYTES {
            break;
        }
        kept.push(value);
    }
    kept
}

/// Former values as they are sealed: a JSON array; nothing where there are none.
///
/// # Errors
/// None that is known.
pub fn written(former: &[String]) -> serde_json::Result<Option<SecretString>> {
    if former.is_empty() {
        return Ok(None);
    }
    serde_json::to_string(former).map(|list| Some(SecretString::from(list)))
}

/// Former values as they were sealed.
pub fn read(opened: Option<&SecretString>) -> Vec<String> {
    opened.and_then(|list| serde_json::from_str(list.expose_secret()).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn what_is_replaced_is_kept_once_the_latest_first_and_not_for_ever() {
        assert_eq!(former(&["b"], owned(&["a"]), Vec::new()), ["a"]);
        assert_eq!(former(&["c"], owned(&["b"]), owned(&["a"])), ["b", "a"]);
        assert_eq!(former(&["b"], owned(&["b"]), owned(&["a"])), ["a"]);
        assert_eq!(former(&["a"], owned(&["b"]), owned(&["a"])), ["b"]);
        assert_eq!(former(&[], owned(&["b"]), owned(&["b", "a"])), ["b", "a"]);
        let many: Vec<String> = (0..20).map(|n| n.to_string()).collect();
        assert_eq!(former(&["x"], Vec::new(), many).len(), MOST);
        assert!(former(&["x"], vec!["y".repeat(BYTES + 1)], owned(&["a"])).is_empty());
    }
}
