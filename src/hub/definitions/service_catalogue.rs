//! The catalogue of an endpoint's services, its `endpoint.json`, as endpoints in the field write it.
//!
//! `{name, services: [{name, path, requires: {parameters: [{name, data_type}]}, recommends: {messages, filters,
//! identifiers, options}}]}`. Older ones say `consumers` and `keys`, and some misspell; a service that cannot be read is
//! left out, and it is said why.

use super::documents::is_name;
use super::mapping::Definition;
use crate::error::Error;
use crate::hub::key::Pattern;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// The most services, and the most parameters of one, that are looked at.
const MOST: usize = 200;
/// The most characters of what a service is called that cannot be read.
const LONGEST: usize = 100;

/// A service, as its catalogue has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its name, as a mapping's name.
    pub name: String,
    /// Its path below the endpoint.
    pub path: String,
    /// The message keys that it is for.
    pub messages: Vec<String>,
    /// The parameters that it needs.
    pub parameters: Vec<Needed>,
    recommends: Map<String, Value>,
}

/// A parameter that a service needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needed {
    /// Its name.
    pub name: String,
    /// What the catalogue says it is.
    pub data_type: Option<String>,
    /// What it is for.
    pub description: Option<String>,
}

/// A service of which no mapping can be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Skipped {
    /// Its name, or its path where it has none; null where it has neither.
    #[schema(example = "wrong")]
    pub service: Option<String>,
    /// Why.
    #[schema(example = "/service must be a path below the endpoint's URL, such as drop_ship")]
    pub reason: String,
}

/// The services in a catalogue, and what in it is none.
pub fn read(catalogue: &Value) -> (Vec<Service>, Vec<Skipped>) {
    let listed = member(catalogue, &["services", "consumers"]).and_then(Value::as_array);
    let (mut services, mut skipped) = (Vec::new(), Vec::new());
    for service in listed.into_iter().flatten().take(MOST) {
        match Service::read(service) {
            Ok(service) => services.push(service),
            Err(reason) => skipped.push(Skipped { service: called(service), reason: reason.to_owned() }),
        }
    }
    if let Some(all) = listed.map(Vec::len).filter(|all| *all > MOST) {
        let reason = format!("the catalogue has {all} services: only the first {MOST} are looked at");
        skipped.push(Skipped { service: None, reason });
    }
    (services, skipped)
}

/// What a service that cannot be read is called, to find it again.
fn called(service: &Value) -> Option<String> {
    let text = |name: &str| service.get(name)?.as_str().map(|text| text.chars().take(LONGEST).collect());
    text("name").or_else(|| text("path"))
}

impl Service {
    fn read(service: &Value) -> Result<Self, &'static str> {
        if !service.is_object() {
            return Err("it is not an object");
        }
        let text = |name: &str| service.get(name).and_then(Value::as_str).map(str::trim);
        let path = text("path").or(text("name")).ok_or("it has neither a path nor a name")?;
        let path = path.trim_start_matches('/');
        let name = name_of(text("name").unwrap_or(path)).ok_or("its name has no letter and no digit")?;
        let requires = member(service, &["requires"]);
        let needed = requires.and_then(|requires| member(requires, &["parameters", "paramaters"]));
        let parameters = needed.and_then(Value::as_array).into_iter().flatten().take(MOST);
        let recommends = member(service, &["recommends", "reccomends"]).and_then(Value::as_object);
        let recommends = recommends.cloned().unwrap_or_default();
        let keys = ["messages", "keys"].iter().find_map(|name| recommends.get(*name)?.as_array());
        let keys = keys.into_iter().flatten().filter_map(Value::as_str);
        Ok(Self {
            name,
            path: path.to_owned(),
            messages: keys.filter(|key| Pattern::read(key).is_some()).map(str::to_owned).collect(),
            parameters: parameters.filter_map(Needed::read).collect(),
            recommends,
        })
    }

    /// A mapping to this service, switched off: what the catalogue recommends beside the messages is taken over
    /// where it can be.
    ///
    /// # Errors
    /// Why there can be none, in words.
    pub fn mapping(&self, endpoint: &str) -> Result<(Value, Definition), String> {
        let names: Vec<&str> = self.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
        let mut document = json!({
            "endpoint": endpoint, "service": self.path, "messages": self.messages, "parameters": names,
            "enabled": false,
        });
        let (mut definition, _) = Definition::read(&document).map_err(|error| reason(&error))?;
        let allowed = self.recommends.get("options").and_then(|options| options.get("retries_allowed"));
        let options = allowed.map(|allowed| json!({ "retries_allowed": allowed }));
        for (name, value) in [
            ("filters", self.recommends.get("filters").cloned()),
            ("identifiers", self.recommends.get("identifiers").cloned()),
            ("options", options),
        ] {
            let Some(value) = value else { continue };
            let mut fuller = document.clone();
            fuller[name] = value;
            if let Ok((read, _)) = Definition::read(&fuller) {
                (document, definition) = (fuller, read);
            }
        }
        Ok((document, definition))
    }
}

/// What a refused definition breaks, in one text.
fn reason(error: &Error) -> String {
    match error {
        Error::Invalid(_, violations) => {
            let said = violations.iter().map(|broken| format!("{} {}", broken.pointer, broken.message));
            said.collect::<Vec<_>>().join("; ")
        }
        other => other.to_string(),
    }
}

impl Needed {
    fn read(parameter: &Value) -> Option<Self> {
        let text = |name: &str| parameter.get(name).and_then(Value::as_str).map(str::to_owned);
        let name = text("name").filter(|name| super::documents::parameter::is_name(name))?;
        Some(Self { name, data_type: text("data_type"), description: text("description").or(text("value")) })
    }
}

fn member<'v>(value: &'v Value, names: &[&str]) -> Option<&'v Value> {
    names.iter().find_map(|name| value.get(name))
}

/// A service's name as the name of a mapping.
fn name_of(name: &str) -> Option<String> {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
    let name: String = name.chars().map(plain).take(100).collect();
    let name = name.trim_start_matches(['.', '_', '-']);
    is_name(name).then(|| name.to_owned())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;

    #[test]
    fn the_catalogues_of_the_field_are_read() {
        let catalogue = json!({
            "name": "quickbooks", "display": "Quickbooks", "icon_url": "quickbooks.png",
            "services": [
                {
                    "name": "order_export", "path": "/orders", "description": "Exports orders",
                    "requires": {
                        "sku": "Item sku",
                        "parameters": [
                            { "name": "access_token", "description": "The token", "data_type": "string" },
                            { "name": "tax_item", "data_type": "checkbox" }, { "description": "no name" }, 7,
                        ],
                    },
                    "recommends": {
                        "messages": ["order:new", "order:updated", "not a key", 7],
                        "filters": [{ "path": "payload.original.payment_state", "operator": "eq", "value": "paid" }],
                        "options": { "retries_allowed": true, "unknown": 1 },
                    },
                    "produces": { "messages": [{ "message": "notification:info" }] },
                },
                { "path": "/no/name" }, { "name": "../../etc" }, { "description": "neither" }, 7,
                { "name": "root", "path": "/" }, { "path": "..." },
            ],
        });
        let (services, skipped) = read(&catalogue);
        let names: Vec<_> =
            services.iter().map(|service| (service.name.as_str(), service.path.as_str())).collect();
        let expected =
            [("order_export", "orders"), ("no-name", "no/name"), ("etc", "../../etc"), ("root", "")];
        assert_eq!(names, expected);
        assert!(services[3].mapping("books").is_ok(), "the endpoint's own URL is a service");
        assert_eq!(services[0].parameters[0].description.as_deref(), Some("The token"));
        let (document, definition) = services[0].mapping("books").unwrap();
        assert_eq!(
            document,
            json!({
                "endpoint": "books", "service": "orders", "messages": ["order:new", "order:updated"],
                "parameters": ["access_token", "tax_item"], "enabled": false, "options": { "retries_allowed": true },
                "filters": [{ "path": "payload.original.payment_state", "operator": "eq", "value": "paid" }],
            })
        );
        assert!(!definition.filters.is_empty() && definition.options.retries_allowed);
        assert!(services[1].mapping("books").is_ok());
        assert!(services[2].mapping("books").unwrap_err().contains("must be a path below"));
        let skipped: Vec<_> =
            skipped.iter().map(|skipped| (skipped.service.as_deref(), skipped.reason.as_str())).collect();
        assert_eq!(
            skipped,
            [
                (None, "it has neither a path nor a name"),
                (None, "it is not an object"),
                (Some("..."), "its name has no letter and no digit"),
            ]
        );
    }

    #[test]
    fn the_older_ones_too() {
        let catalogue = json!({ "consumers": [{
            "name": "get_orders", "path": "/get_orders",
            "requires": { "paramaters": [{ "name": "aws_access_key", "value": "AWS Access Key ID" }] },
            "reccomends": { "keys": ["amazon:order:pull"], "filters": [{ "path": "wrong" }] },
        }] });
        let (services, _) = read(&catalogue);
        assert_eq!(services[0].messages, ["amazon:order:pull"]);
        assert_eq!(services[0].parameters[0].description.as_deref(), Some("AWS Access Key ID"));
        assert!(services[0].mapping("amazon").unwrap().0.get("filters").is_none());
        for other in [json!(null), json!([]), json!({ "services": {} }), json!({ "services": "x" })] {
            assert_eq!(read(&other), (Vec::new(), Vec::new()), "{other}");
        }
    }

    #[test]
    fn services_beyond_the_most_are_counted() {
        let services: Vec<Value> = (0..201).map(|n| json!({ "name": format!("s{n}") })).collect();
        let (read, skipped) = read(&json!({ "services": services }));
        assert_eq!((read.len(), skipped.len()), (MOST, 1));
        assert!(skipped[0].reason.contains("201 services"), "{skipped:?}");
    }
}
