//! The mapping that an endpoint's own definition makes: a customer's webhook is one definition.

use crate::error::{Error, Result};
use crate::http::json_text::to_value;
use crate::hub::definitions::documents::PutEndpoint;
use crate::hub::definitions::fit::fits;
use crate::hub::definitions::mapping::Definition;
use crate::hub::definitions::store::mappings::{self, Put};
use crate::hub::definitions::store::of_endpoints::{self, Owner};
use crate::hub::state::Place;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use sqlx::postgres::PgConnection;

/// The mapping that a definition of the endpoint `name` makes; none without `events`.
///
/// # Errors
/// None that is known.
pub(super) fn mapping(name: &str, endpoint: &RawValue) -> Result<Option<Box<RawValue>>> {
    let endpoint = to_value(endpoint.get()).unwrap_or_default();
    let Some(events) = endpoint["events"].as_array().filter(|events| !events.is_empty()) else {
        return Ok(None);
    };
    let mut mapping = json!({ "endpoint": name, "service": "", "messages": events });
    if let Some(options) = endpoint.get("options").filter(|options| !options.is_null()) {
        mapping["options"] = options.clone();
    }
    to_raw_value(&mapping).map(Some).map_err(Error::internal)
}

/// What becomes of deliveries that wait for `events` which an endpoint has no longer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum EventsWaiting {
    /// Nothing: while there are any, the request is refused.
    #[default]
    Keep,
    /// They are parked for good.
    Park,
}

/// What is to be done about deliveries that wait.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct About {
    /// Deliveries of `events` that are taken away: while some wait or run, the request is refused (`keep`), unless those
    /// that wait are to be parked (`park`), and never run again.
    #[param(inline, value_type = Option<EventsWaiting>)]
    #[serde(default)]
    pub(super) waiting: EventsWaiting,
}

/// Takes back the mapping that the endpoint `name` made, if it did. In the order of locks it comes before the endpoint.
///
/// # Errors
/// 409 while deliveries of it wait or run that are to be kept.
pub(super) async fn remove(
    tx: &mut PgConnection,
    store: i32,
    name: &str,
    waiting: EventsWaiting,
) -> Result<()> {
    let Some(Owner::Endpoint { mapping }) = of_endpoints::owner(&mut *tx, store, name).await? else {
        return Ok(());
    };
    if waiting == EventsWaiting::Keep && of_endpoints::has_unfinished(&mut *tx, store, mapping).await? {
        let words = "deliveries of its events wait or run, and without events nobody would send them: keep events (with \
                     enabled: false nothing is sent) until they are done, or park for good those that wait, by ?waiting=park";
        return Err(Error::Conflict(words.to_owned()));
    }
    mappings::delete(tx, store, name).await?;
    Ok(())
}

/// Makes the mapping of the endpoint `name`, or redefines it.
///
/// # Errors
/// 409 when somebody has put a mapping of this name.
pub(super) async fn put(
    tx: &mut PgConnection,
    Place { store, version }: Place,
    name: &str,
    lane: i32,
    definition: &RawValue,
) -> Result<()> {
    if of_endpoints::owner(&mut *tx, store, name).await? == Some(Owner::Nobody) {
        let words = "events makes a mapping of the endpoint's name, and there is another mapping of this name: delete \
                     that, or choose another name";
        return Err(Error::Conflict(words.to_owned()));
    }
    let put = Put {
        name,
        endpoint_id: lane,
        definition,
        enabled: true,
        of_endpoint: true,
        first_tick: None,
        version,
    };
    mappings::put(tx, store, &put).await?;
    Ok(())
}

/// Refuses a definition of an endpoint that the mappings which name it do not go with.
///
/// # Errors
/// 409 with the first of them.
pub(super) async fn check_senders(tx: &mut PgConnection, lane: i32, put: &PutEndpoint) -> Result<()> {
    for (name, definition) in of_endpoints::senders(tx, lane).await? {
        // One that cannot be read, of another version, is not this one's to judge.
        let document = to_value(definition.get()).unwrap_or_default();
        let Ok((mapping, _)) = Definition::read(&document) else { continue };
        if let Some(misfit) = fits(&mapping.options, &mapping.parameters, &put.definition).first() {
            let words =
                format!("the mapping {name} does not go with this: {} {}", misfit.pointer, misfit.words);
            return Err(Error::Conflict(words));
        }
    }
    Ok(())
}

/// 409: a mapping that an endpoint's definition made is changed there.
pub(super) fn of_endpoint() -> Error {
    let words = "this mapping is made by the definition of the endpoint of its name: change its events and options there";
    Error::Conflict(words.to_owned())
}
