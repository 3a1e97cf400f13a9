//! Imports what an endpoint says of its services: its catalogue, and a mapping for each service that has none.

use crate::auth::Authenticated;
use crate::db;
use crate::error::{Error, Problem, Result};
use crate::http::body;
use crate::http::extract::Path;
use crate::http::openapi::Problems;
use crate::hub::definitions::ask::ask;
use crate::hub::definitions::documents::names::{DefinitionName, StoreName};
use crate::hub::definitions::endpoint::Endpoint;
use crate::hub::definitions::fit::{Misfit, fits};
use crate::hub::definitions::service_catalogue::{self, Needed, Service, Skipped};
use crate::hub::definitions::store::mappings::{self, Put};
use crate::hub::definitions::store::{endpoints, parameters};
use crate::hub::roles::Right;
use crate::hub::state::Hub;
use crate::worker::store as engine;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use std::collections::{BTreeMap, HashSet};

/// What is to be done about what an import made.
const OFF: &str = "the mappings that were made are switched off and hold their deliveries: put each again with \
                   \"enabled\": true once it is as you want it";

/// The largest catalogue, in bytes.
const LARGEST: usize = 1 << 20;

/// What an import did.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Imported {
    /// The catalogue as the endpoint gave it.
    #[schema(value_type = Object, example = json!({"services": []}))]
    catalogue: Box<RawValue>,
    /// Mappings that were made, switched off.
    #[schema(example = json!(["drop_ship"]))]
    made: Vec<String>,
    /// What is to be done about the mappings that were made; null when there are none.
    #[schema(
        example = "the mappings that were made are switched off and hold their deliveries: put each again with \"enabled\": true once it is as you want it"
    )]
    note: Option<&'static str>,
    /// Mappings of these names were there already, and stay as they are.
    #[schema(example = json!(["ship"]))]
    kept: Vec<String>,
    /// Services of which no mapping can be made, and why.
    skipped: Vec<Skipped>,
    /// Parameters that the services need and the store does not have.
    missing_parameters: Vec<Missing>,
}

/// A parameter that is to be put.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = MissingParameter)]
pub(super) struct Missing {
    /// Its name.
    #[schema(example = "api_key")]
    name: String,
    /// What the catalogue says it is.
    #[schema(example = "password")]
    data_type: Option<String>,
    /// What it is for.
    #[schema(example = "The key of your account")]
    description: Option<String>,
}

/// Imports the services of an endpoint.
///
/// Asks it for its `endpoint.json`, keeps that, and makes a mapping, switched off, for each service that has none.
#[utoipa::path(
    post, path = "/stores/{store}/endpoints/{name}/import", tag = "hub definitions", operation_id = "import_endpoint",
    params(("store" = inline(StoreName), Path, description = "The store"), ("name" = inline(DefinitionName), Path, description = "The endpoint\'s name")),
    responses(
        (status = 200, description = "What was done", body = Imported),
        (status = 409, description = "The endpoint serves no catalogue", body = Problem, content_type = "application/problem+json"),
        Problems,
    ),
)]
pub(super) async fn import(
    Authenticated(caller): Authenticated,
    State(hub): State<Hub>,
    Path((store, name)): Path<(String, String)>,
) -> Result<Json<Imported>> {
    let store = hub.store(&store, &caller, Right::Admin).await?;
    let endpoint = hub.endpoint(store, &name).await?;
    let document = fetch(&hub, &endpoint).await?;
    let (services, unreadable) = service_catalogue::read(&document.value());
    let imported = db::transaction::<_, Error, _>(&hub.db.api, move |tx| {
        Box::pin(async move {
            let version = engine::bump(&mut *tx).await?;
            // Another may have deleted or replaced it meanwhile.
            if endpoints::id(&mut *tx, store, &name).await? != Some(endpoint.id) {
                return Err(Error::Conflict("this endpoint was deleted meanwhile".to_owned()));
            }
            endpoints::set_catalogue(&mut *tx, endpoint.id, &document.raw).await?;
            let mut taken: HashSet<String> = mappings::names(&mut *tx, store).await?.into_iter().collect();
            let (mut made, mut kept, mut skipped) = (Vec::new(), Vec::new(), unreadable);
            for service in &services {
                if !taken.insert(service.name.clone()) {
                    kept.push(service.name.clone());
                    continue;
                }
                let mapped = service.mapping(&name).and_then(|(definition, mapping)| {
                    let misfits = fits(&mapping.options, &mapping.parameters, &endpoint.definition);
                    let reason = |misfit: &Misfit| format!("{} {}", misfit.pointer, misfit.words);
                    misfits.first().map_or(Ok(definition), |misfit| Err(reason(misfit)))
                });
                let definition = match mapped {
                    Ok(definition) => definition,
                    Err(reason) => {
                        skipped.push(Skipped { service: Some(service.name.clone()), reason });
                        continue;
                    }
                };
                let definition = to_raw_value(&definition).map_err(Error::internal)?;
                let put = Put {
                    name: &service.name,
                    endpoint_id: endpoint.id,
                    definition: &definition,
                    enabled: false,
                    of_endpoint: false,
                    first_tick: None,
                    version,
                };
                mappings::put(&mut *tx, store, &put).await?;
                made.push(service.name.clone());
            }
            let there = parameters::describe(tx, store, None).await?;
            let there: HashSet<&str> = there.iter().map(|row| row.name.as_str()).collect();
            let missing_parameters = missing(&services, &there);
            let note = (!made.is_empty()).then_some(OFF);
            Ok(Imported { catalogue: document.raw, made, note, kept, skipped, missing_parameters })
        })
    })
    .await?;
    hub.changed().await?;
    Ok(Json(imported))
}

async fn fetch(hub: &Hub, endpoint: &Endpoint) -> Result<body::Json> {
    let mut url = endpoint.definition.url.clone();
    url.set_path(&format!("{}/endpoint.json", url.path().trim_end_matches('/')));
    let none =
        |why: String| Error::Conflict(format!("this endpoint serves no catalogue at endpoint.json: {why}"));
    let answer = hub.outbound.send(&ask(endpoint, url, LARGEST)).await;
    let answer = answer.map_err(|failure| none(failure.to_string()))?;
    if !answer.status.is_success() {
        return Err(none(format!("it answered {}", answer.status)));
    }
    let document = body::parse(&answer.body).map_err(|_| none("its answer is not JSON".to_owned()))?;
    match document.value() {
        Value::Object(_) => Ok(document),
        _ => Err(none("its answer is not an object".to_owned())),
    }
}

fn missing(services: &[Service], there: &HashSet<&str>) -> Vec<Missing> {
    let needed = services.iter().flat_map(|service| &service.parameters);
    let missing: BTreeMap<&str, &Needed> = needed
        .filter(|needed| !there.contains(needed.name.as_str()))
        .map(|needed| (needed.name.as_str(), needed))
        .collect();
    let shown = |needed: &Needed| Missing {
        name: needed.name.clone(),
        data_type: needed.data_type.clone(),
        description: needed.description.clone(),
    };
    missing.into_values().map(shown).collect()
}
