//! `POSTRIDER_SDK_FILE`: which integrators and users of the vendor's client there are, and which merchant sites. It is read
//! at the start; whatever is wrong with it is said there.

use super::keys::Key;
use crate::auth::Caller;
use crate::auth::role::{ADMIN, CARDHOLDER_AGENT, CUSTOMER_AGENT, JOB_WORKER};
use crate::http::body;
use anyhow::{Context as _, ensure};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

/// The roles that a user may have.
pub const ROLES: [&str; 4] = [ADMIN, CUSTOMER_AGENT, CARDHOLDER_AGENT, JOB_WORKER];
/// The longest name of an integrator or a user, in characters.
const LONGEST: usize = 255;

/// Who speaks in sessions, and the sites.
#[derive(Debug)]
pub struct Sdk {
    integrators: BTreeMap<String, Vec<Key>>,
    users: BTreeMap<String, User>,
    /// Stands for the key of whoever there is not, so that finding out takes as long.
    nobody: Key,
    /// The sites of which clients may ask, in the file's order.
    pub sites: Vec<Site>,
}

/// Somebody who may log in.
#[derive(Debug)]
pub struct User {
    /// The number by which the client knows it.
    pub id: i64,
    /// Who it is to the job channels: its name, and its one role.
    pub caller: Arc<Caller>,
    /// The key of its password.
    pub password_key: Key,
}

/// A merchant site, as the file has it.
#[derive(Debug)]
pub struct Site {
    /// Its number.
    pub id: i64,
    /// Its host, if the file says it.
    pub host: Option<String>,
    /// Its name, if the file says it.
    pub name: Option<String>,
    /// All that the file says of it.
    pub document: Box<RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    integrators: Named<Vec<String>>,
    users: Named<FileUser>,
    #[serde(default)]
    merchant_sites: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileUser {
    id: i64,
    role: String,
    password_key: String,
}

/// The members of an object, whose names must differ.
struct Named<T>(BTreeMap<String, T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Once<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Once<T> {
            type Value = Named<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut named = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, T>()? {
                    if named.contains_key(&name) {
                        return Err(A::Error::custom(format!("`{name}` is there twice")));
                    }
                    named.insert(name, value);
                }
                Ok(Named(named))
            }
        }
        deserializer.deserialize_map(Once(PhantomData))
    }
}

impl Sdk {
    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, or what is wrong with it; no key is repeated.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let named = || format!("POSTRIDER_SDK_FILE: {}", path.display());
        let bytes = std::fs::read(path).with_context(named)?;
        Self::read(&bytes).with_context(named)
    }

    fn read(bytes: &[u8]) -> anyhow::Result<Self> {
        let file = body::parse(bytes).and_then(|json| json.to_typed());
        let File { integrators, users, merchant_sites } =
            file.map_err(|error| anyhow::anyhow!("it cannot be used: {}", error.whole()))?;
        let (mut known, mut ids) = (BTreeMap::new(), HashSet::new());
        for (name, FileUser { id, role, password_key }) in users.0 {
            let at = format!("the user `{name}`");
            check_name(&name).with_context(|| at.clone())?;
            ensure!(id > 0, "{at}: `id` must be a whole number above zero");
            ensure!(ids.insert(id), "{at}: another user has the id {id} too");
            ensure!(ROLES.contains(&role.as_str()), "{at}: `role` must be one of {}", ROLES.join(", "));
            let password_key = Key::exact(&password_key)
                .with_context(|| format!("{at}: `password_key` must be 32 bytes in base64"))?;
            known
                .insert(name.clone(), User { id, caller: Arc::new(Caller::new(name, [role])), password_key });
        }
        Ok(Self {
            integrators: integrators
                .0
                .into_iter()
                .map(|(name, keys)| integrator(&name, &keys))
                .collect::<anyhow::Result<_>>()?,
            users: known,
            nobody: Key::random()?,
            sites: sites(merchant_sites)?,
        })
    }

    /// The keys of an integrator, the newest first; none if there is no such.
    pub fn integrator(&self, name: &str) -> &[Key] {
        self.integrators.get(name).map_or(&[], Vec::as_slice)
    }

    /// The user of this name.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name)
    }

    /// The key that the proof of somebody's password is held against; of whom there is not, one that nobody has.
    pub fn password_key<'a>(&'a self, user: Option<&'a User>) -> &'a Key {
        user.map_or(&self.nobody, |user| &user.password_key)
    }
}

fn integrator(name: &str, keys: &[String]) -> anyhow::Result<(String, Vec<Key>)> {
    let at = format!("the integrator `{name}`");
    check_name(name).with_context(|| at.clone())?;
    ensure!(
        name.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
        "{at}: its name must be ASCII: it stands in a header"
    );
    ensure!(!keys.is_empty(), "{at} has no key");
    let keys = keys.iter().enumerate().map(|(n, key)| {
        Key::exact(key).with_context(|| format!("{at}: its key {} must be 32 bytes in base64", n + 1))
    });
    Ok((name.to_owned(), keys.collect::<anyhow::Result<_>>()?))
}

fn sites(documents: Vec<Box<RawValue>>) -> anyhow::Result<Vec<Site>> {
    let mut ids = HashSet::new();
    let sites = documents.into_iter().enumerate().map(|(n, document)| {
        let value: Value = serde_json::from_str(document.get())?;
        let id = value["id"].as_i64().filter(|id| *id > 0);
        let id = id.with_context(|| {
            format!("the merchant site {}: `id` must be a whole number above zero", n + 1)
        })?;
        ensure!(ids.insert(id), "two merchant sites have the id {id}");
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        Ok(Site { id, host: text("host"), name: text("name"), document })
    });
    sites.collect()
}

/// Refuses a name that nobody could log in with, or that no owner of a job can have.
fn check_name(name: &str) -> anyhow::Result<()> {
    let good = (1..=LONGEST).contains(&name.chars().count()) && !name.contains('\0');
    ensure!(good, "a name has 1 to {LONGEST} characters, none of them U+0000");
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use serde_json::json;

    const KEY: &str = "QWNjZXB0YW5jZUtleTAxMjM0NTY3ODlhYmNkZWZnaGk=";

    fn whole() -> Value {
        json!({
            "integrators": { "acme": [KEY, KEY] },
            "users": { "agent": { "id": 1, "role": "cardholder_agent", "password_key": KEY } },
            "merchant_sites": [{ "id": 3, "host": "shop.example", "tier": 1 }],
        })
    }

    fn refusal(text: &str) -> String {
        format!("{:#}", Sdk::read(text.as_bytes()).unwrap_err())
    }

    #[test]
    fn a_whole_file_is_read_and_its_keys_are_shown_nowhere() {
        let sdk = Sdk::read(whole().to_string().as_bytes()).unwrap();
        assert_eq!(sdk.integrator("acme").len(), 2);
        assert!(sdk.integrator("other").is_empty());
        let user = sdk.user("agent").unwrap();
        assert_eq!((user.id, user.caller.subject.as_str()), (1, "agent"));
        assert!(user.caller.has_any(["cardholder_agent"]));
        assert_ne!(sdk.password_key(None), sdk.password_key(Some(user)));
        assert_eq!((sdk.sites[0].id, sdk.sites[0].host.as_deref()), (3, Some("shop.example")));
        assert_eq!(sdk.sites[0].name, None);
        assert!(!format!("{sdk:?}").contains(&KEY[..8]));
        let least = r#"{"integrators":{},"users":{}}"#;
        assert!(Sdk::read(least.as_bytes()).unwrap().sites.is_empty());
    }

    #[test]
    fn what_is_wrong_is_named_and_no_key_repeated() {
        let with = |pointer: &str, value: Value| {
            let mut file = whole();
            *file.pointer_mut(pointer).unwrap() = value;
            refusal(&file.to_string())
        };
        for (said, word) in [
            (refusal(""), "empty"),
            (refusal("{"), "not JSON"),
            (refusal(r#"{"integrators":{}}"#), "users"),
            (refusal(r#"{"integrators":{},"users":{},"more":1}"#), "`/more`"),
            (refusal(r#"{"integrators":{"a":["x"],"a":["y"]},"users":{}}"#), "`a` is there twice"),
            (with("/integrators/acme", json!([])), "`acme` has no key"),
            (with("/integrators/acme/1", json!("c2hvcnQ=")), "`acme`: its key 2 must be 32 bytes"),
            (with("/integrators/acme/0", json!("no base64, this secret")), "its key 1"),
            (with("/integrators", json!({ "ä": [KEY] })), "ASCII"),
            (with("/users/agent/id", json!(0)), "`agent`: `id`"),
            (with("/users/agent/id", json!("this secret")), "/users/agent/id"),
            (with("/users/agent/role", json!("system_admin")), "`role` must be one of admin"),
            (with("/users/agent/password_key", json!("this secret")), "`password_key` must be 32 bytes"),
            (with("/users", json!({ "": whole()["users"]["agent"] })), "1 to 255"),
            (
                with("/users", json!({ "a": whole()["users"]["agent"], "b": whole()["users"]["agent"] })),
                "another user has the id 1",
            ),
            (with("/users/agent", json!({ "id": 1, "role": "admin" })), "password_key"),
            (with("/merchant_sites", json!([{ "host": "x" }])), "merchant site 1: `id`"),
            (with("/merchant_sites", json!([{ "id": 1 }, { "id": 1 }])), "two merchant sites have the id 1"),
        ] {
            assert!(said.contains(word), "{word}: {said}");
            assert!(!said.contains("this secret") && !said.contains("c2hvcnQ="), "{said}");
        }
    }
}
