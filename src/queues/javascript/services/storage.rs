//! `storageService`: entities in collections, over REST.
//!
//! `path` is the collection's, below the service's address:
//!
//! | method | call | result |
//! | --- | --- | --- |
//! | `getList(path, start, count, filters?, orders?)` | `GET {path}?start=&count=&filters=&orders=`, the last two as JSON | the answer |
//! | `getEntity(path, id)` | `GET {path}/{id}` | the entity |
//! | `createEntity(path, entity)` | `POST {path}`, then `GET` of the id that `Location` ends with | the entity |
//! | `updateEntity(path, id, entity)` | `PUT {path}/{id}` | `null` |
//! | `patchEntity(path, id, changes)` | `PATCH {path}/{id}` | `null` |
//! | `deleteEntity(path, id)` | `DELETE {path}/{id}` | `null` |
//! | `detailCollection(collection, idProperty, property, path)` | `GET {path}/{id}` for each id that an item has | the collection, with each item's entity put in |

use super::answer::{Answer, nothing, value};
use super::caller::{Caller, Request};
use super::{Args, ServiceError};
use crate::http::json_text::to_value;
use axum::http::{Method, header};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::{BTreeSet, HashMap};

/// Entities that one `detailCollection` may fetch: a page.
const DETAILS: usize = 100;

/// Of which so many at a time.
const DETAILS_AT_ONCE: usize = 8;

/// Serves a call; see the table above.
pub(super) async fn call(caller: &Caller<'_>, method: &str, args: &Args) -> Answer {
    match method {
        "getList" => list(caller, args).await,
        "getEntity" => get(caller, &args.text(0, "path")?, &args.text(1, "id")?).await,
        "createEntity" => create(caller, args).await,
        "updateEntity" => change(caller, Method::PUT, args, Some(args.json(2, "entity")?)).await,
        "patchEntity" => change(caller, Method::PATCH, args, Some(args.json(2, "changes")?)).await,
        "deleteEntity" => change(caller, Method::DELETE, args, None).await,
        "detailCollection" => detail(caller, args).await,
        _ => Err(caller.unknown(method)),
    }
}

async fn list(caller: &Caller<'_>, args: &Args) -> Answer {
    let path = args.text(0, "path")?;
    let names = ["start", "count", "filters", "orders"];
    let query: Vec<_> = names
        .into_iter()
        .enumerate()
        .filter_map(|(i, name)| args.optional(i + 1).map(|value| (name, value.get())))
        .collect();
    caller.json(Request { method: Method::GET, path: &[&path], query: &query, body: None }).await
}

async fn get(caller: &Caller<'_>, path: &str, id: &str) -> Answer {
    caller.json(Request { method: Method::GET, path: &[path, id], query: &[], body: None }).await
}

async fn create(caller: &Caller<'_>, args: &Args) -> Answer {
    let path = args.text(0, "path")?;
    let entity = args.json(1, "entity")?;
    let request = Request { method: Method::POST, path: &[&path], query: &[], body: Some(entity) };
    let answer = caller.send(request).await?;
    // Only the id is taken from it, so that no answer sends the token elsewhere.
    let location = answer.headers.get(header::LOCATION).and_then(|location| location.to_str().ok());
    let id = location.and_then(|location| location.split(['?', '#']).next()?.rsplit('/').next());
    match id.filter(|id| !id.is_empty()) {
        Some(id) => {
            let id = percent_encoding::percent_decode_str(id).decode_utf8_lossy();
            get(caller, &path, &id).await
        }
        None => caller.body(&answer),
    }
}

async fn change(caller: &Caller<'_>, method: Method, args: &Args, body: Option<&RawValue>) -> Answer {
    let (path, id) = (args.text(0, "path")?, args.text(1, "id")?);
    caller.send(Request { method, path: &[&path, &id], query: &[], body }).await?;
    Ok(nothing())
}

async fn detail(caller: &Caller<'_>, args: &Args) -> Answer {
    let mut collection = to_value(args.json(0, "collection")?.get())
        .ok_or_else(|| ServiceError::new("the argument collection cannot be read"))?;
    let (id_property, property) = (args.text(1, "idProperty")?, args.text(2, "property")?);
    let path = args.text(3, "path")?;
    let id = |item: &Value| match item.get(&id_property)? {
        Value::String(id) if !id.is_empty() => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    };

    // A list, or a page as `getList` may answer with.
    let page = if collection.is_array() { Some(&mut collection) } else { collection.get_mut("items") };
    let items = page.and_then(Value::as_array_mut);
    let items = items.ok_or_else(|| ServiceError::new("the argument collection is no list"))?;
    let ids: BTreeSet<String> = items.iter().filter_map(id).collect();
    if ids.len() > DETAILS {
        return Err(ServiceError::new(format!("more than {DETAILS} entities to fetch")));
    }
    let path = path.as_str();
    let fetch = |id: String| async move {
        let entity = match get(caller, path, &id).await {
            Err(error) if error.status == Some(404) => Value::Null,
            entity => to_value(entity?.get()).unwrap_or_default(),
        };
        Ok::<_, ServiceError>((id, entity))
    };
    let fetched = stream::iter(ids).map(fetch).buffer_unordered(DETAILS_AT_ONCE);
    let entities: HashMap<String, Value> = fetched.try_collect().await?;
    for item in items {
        if let Some(entity) = id(item).and_then(|id| entities.get(&id))
            && let Value::Object(item) = item
        {
            item.insert(property.clone(), entity.clone());
        }
    }
    value(&collection)
}
