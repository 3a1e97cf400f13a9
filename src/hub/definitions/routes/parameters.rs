//! Parameters: put, read, delete. A password is never shown again.

use crate::auth::Authenticated;
use crate::db;
use crate::error::{Error, Result};
use crate::http::body;
use crate::http::extract::Path;
use crate::http::openapi::{BodyProblems, Problems};
use crate::http::state_member::{status_of_put, without_state};
use crate::hub::definitions::documents::documented::{ParameterDefinition, ParameterState, ParameterValue};
use crate::hub::definitions::documents::names::{ParameterName, StoreName};
use crate::hub::definitions::documents::parameter::is_name;
use crate::hub::definitions::documents::{PutParameter, REDACTED, check_store};
use crate::hub::definitions::former::{self, Password};
use crate::hub::definitions::store::parameters::{self, Described};
use crate::hub::definitions::store::stores;
use crate::hub::roles::{self, Right};
use crate::hub::state::Hub;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

/// A parameter's value.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ShownParameter {
    /// The value; `[redacted]` for a password.
    #[schema(value_type = ParameterValue)]
    value: Box<RawValue>,
    /// string, integer, float, boolean, list or password.
    #[schema(example = "password")]
    data_type: String,
}

/// A parameter, in a listing.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ListedParameter {
    /// Its name, as it is sent.
    #[schema(example = "api_key")]
    name: String,
    #[serde(flatten)]
    shown: ShownParameter,
    #[serde(flatten)]
    state: ParameterState,
}

/// A parameter that is read by itself.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ReadParameter {
    #[serde(flatten)]
    shown: ShownParameter,
    /// What a listing says of it beside; a PUT ignores it.
    state: ParameterState,
}

impl ShownParameter {
    fn of(data_type: String, value: Option<Box<RawValue>>) -> Result<Self> {
        let value = value.map_or_else(|| to_raw_value(REDACTED).map_err(Error::internal), Ok)?;
        Ok(Self { value, data_type })
    }
}

/// Lists the parameters of a store.
#[utoipa::path(
    get, path = "/stores/{store}/parameters", tag = "hub definitions", operation_id = "list_parameters",
    params(("store" = inline(StoreName), Path, description = "The store")),
    responses((status = 200, description = "By name", body = Vec<ListedParameter>), Problems),
)]
pub(super) async fn list(
    Authenticated(caller): Authenticated,
    State(hub): State<Hub>,
    Path(store): Path<String>,
) -> Result<Json<Vec<ListedParameter>>> {
    let store = hub.store(&store, &caller, Right::Read).await?;
    let rows = parameters::describe(&hub.db.api, store, None).await?;
    let listed = |row: Described| {
        let shown = ShownParameter::of(row.data_type, row.value.map(|json| json.0))?;
        Ok(ListedParameter { name: row.name, shown, state: ParameterState { updated_at: row.updated_at } })
    };
    Ok(Json(rows.into_iter().map(listed).collect::<Result<_>>()?))
}

#[derive(Deserialize)]
struct Raw {
    value: Box<RawValue>,
}

/// What is to be written.
enum Write {
    Plain(&'static str, Box<RawValue>),
    Password(SecretString),
    Keep,
}

/// Sets a parameter.
///
/// Mappings that name it send it from the next attempt on. A password is sealed and never shown again; `[redacted]`
/// keeps the one that is there.
#[utoipa::path(
    put, path = "/stores/{store}/parameters/{name}", tag = "hub definitions", operation_id = "put_parameter",
    params(("store" = inline(StoreName), Path, description = "The store; the first thing put makes it"), ("name" = inline(ParameterName), Path, description = "The parameter\'s name")),
    request_body(content = ParameterDefinition, content_type = "application/json", description = "value, and data_type: string, integer, float, boolean, list or password; absent, what the value is",
        example = json!({"value": "1234567890", "data_type": "password"})),
    responses(
        (status = 200, description = "Changed: as it is shown", body = ShownParameter),
        (status = 201, description = "Made: as it is shown", body = ShownParameter),
        Problems, BodyProblems,
    ),
)]
pub(super) async fn put(
    Authenticated(caller): Authenticated,
    State(hub): State<Hub>,
    Path((store, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<ShownParameter>)> {
    roles::require(&caller, &store, Right::Admin)?;
    let document = without_state(body::read_json(&headers, body, &hub.limits).await?);
    check_store(&store)?;
    if !is_name(&name) {
        let words = "must be 1 to 100 characters, none of them a control character, no space at the ends";
        return Err(Error::invalid("/name", "word", words));
    }
    let write = match PutParameter::read(&document.value())? {
        PutParameter::Plain(data_type) => Write::Plain(data_type, document.to_typed::<Raw>()?.value),
        PutParameter::Password(value) => Write::Password(value),
        PutParameter::Stored => Write::Keep,
    };
    let (shown, sealer) = match &write {
        Write::Plain(data_type, value) => {
            (ShownParameter::of((*data_type).to_owned(), Some(value.clone()))?, hub.sealer.clone())
        }
        Write::Password(_) => (ShownParameter::of("password".to_owned(), None)?, Some(hub.sealer()?)),
        Write::Keep => (ShownParameter::of("password".to_owned(), None)?, None),
    };
    let made = db::transaction::<_, Error, _>(&hub.db.api, move |tx| {
        Box::pin(async move {
            let store = stores::ensure(&mut *tx, &store).await?;
            let stored = parameters::lock(&mut *tx, store, &name).await?.unwrap_or_default();
            let (data_type, value, json) = match write {
                Write::Plain(data_type, value) => (data_type, Some(value), None),
                Write::Password(value) => {
                    let json = serde_json::to_string(value.expose_secret()).map_err(Error::internal)?;
                    ("password", None, Some(SecretString::from(json)))
                }
                Write::Keep if stored.sealed.is_some() => return Ok(false),
                Write::Keep => {
                    let words = "there is no stored password to be kept here";
                    return Err(Error::invalid("/value", "secret", words));
                }
            };
            let password = match sealer {
                Some(sealer) => {
                    let json = json.as_ref().map(ExposeSecret::expose_secret);
                    former::replace(&sealer, (store, &name), &stored, json).map_err(Error::Internal)?
                }
                None => Password::default(),
            };
            Ok(parameters::put(tx, store, &name, data_type, value.as_deref(), &password).await?)
        })
    })
    .await?;
    Ok((status_of_put(made), Json(shown)))
}

/// Reads a parameter; of a password only that there is one.
#[utoipa::path(
    get, path = "/stores/{store}/parameters/{name}", tag = "hub definitions", operation_id = "get_parameter",
    params(("store" = inline(StoreName), Path, description = "The store"), ("name" = inline(ParameterName), Path, description = "The parameter\'s name")),
    responses((status = 200, description = "The parameter", body = ReadParameter), Problems),
)]
pub(super) async fn get(
    Authenticated(caller): Authenticated,
    State(hub): State<Hub>,
    Path((store, name)): Path<(String, String)>,
) -> Result<Json<ReadParameter>> {
    let store = hub.store(&store, &caller, Right::Read).await?;
    let rows = if is_name(&name) {
        parameters::describe(&hub.db.api, store, Some(&name)).await?
    } else {
        Vec::new()
    };
    let row = rows.into_iter().next().ok_or_else(no_parameter)?;
    let shown = ShownParameter::of(row.data_type, row.value.map(|json| json.0))?;
    Ok(Json(ReadParameter { shown, state: ParameterState { updated_at: row.updated_at } }))
}

/// Deletes a parameter.
///
/// It is not sent any more.
#[utoipa::path(
    delete, path = "/stores/{store}/parameters/{name}", tag = "hub definitions", operation_id = "delete_parameter",
    params(("store" = inline(StoreName), Path, description = "The store"), ("name" = inline(ParameterName), Path, description = "The parameter\'s name")),
    responses((status = 204, description = "Deleted"), Problems),
)]
pub(super) async fn delete(
    Authenticated(caller): Authenticated,
    State(hub): State<Hub>,
    Path((store, name)): Path<(String, String)>,
) -> Result<StatusCode> {
    let store = hub.store(&store, &caller, Right::Admin).await?;
    if !is_name(&name) || !parameters::delete(&hub.db.api, store, &name).await? {
        return Err(no_parameter());
    }
    Ok(StatusCode::NO_CONTENT)
}

fn no_parameter() -> Error {
    Error::NotFound("there is no such parameter in this store".to_owned())
}
