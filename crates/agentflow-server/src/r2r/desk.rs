//! Who asks, and which page of a list.

use agentflow_rag::service::{Caller, Service, ids};
use agentflow_storage::page::{MAX_LIMIT, Order, PageQuery};
use agentflow_types::{Error, Permission, Scope};
use axum::extract::FromRequestParts;
use http::request::Parts;
use uuid::Uuid;

use crate::{
    AppState,
    error::{Failure, Misfit},
    extract::{Asker, Params},
};

/// Who asks where nobody has to sign in: R2R's first user.
const ADMIN: &str = "admin@example.com";
/// Rows of a list if nothing is said about it.
const ROWS: u32 = 100;

/// The document service for whoever asks.
pub(super) struct Desk {
    pub(super) scope: Scope,
    pub(super) caller: Caller,
    pub(super) documents: Service,
    /// The address of the user, or the name of the key.
    pub(super) name: String,
}

impl FromRequestParts<AppState> for Desk {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Failure> {
        let Asker(scope) = Asker::from_request_parts(parts, app).await?;
        let documents = app.documents.clone();
        let documents = documents
            .ok_or_else(|| Failure::Domain(Error::busy("this server keeps no documents")))?;
        let name = match scope.is_anonymous() {
            true => ADMIN.to_owned(),
            false => scope.principal().to_owned(),
        };
        // Who may make users may see all that the tenant's users have.
        let is_superuser = scope.may(Permission::UsersWrite);
        let caller = documents.caller(&scope, ids::user(&name), is_superuser);
        let caller = caller.await?;
        Ok(Self {
            scope,
            caller,
            documents,
            name,
        })
    }
}

/// An id in a path or a parameter.
///
/// # Errors
/// 422 if it is none.
pub(super) fn uuid(place: &str, text: &str) -> Result<Uuid, Failure> {
    let wrong = "Input should be a valid UUID";
    text.parse()
        .map_err(|_| Misfit::of_path(place, wrong).into())
}

/// All ids of a parameter that may be repeated.
///
/// # Errors
/// 422 if one is none.
pub(super) fn uuids(params: &Params, name: &str) -> Result<Vec<Uuid>, Failure> {
    params
        .all(name)
        .into_iter()
        .map(|text| {
            let wrong = || Misfit::of_query(name, "Input should be a valid UUID").into();
            text.parse().map_err(|_| wrong())
        })
        .collect()
}

/// The page that `offset` and `limit` name, sorted by this column.
///
/// # Errors
/// 422 for numbers out of range.
pub(super) fn page(params: &Params, sort_by: &str, order: Order) -> Result<PageQuery, Failure> {
    let limit = params.number("limit")?.unwrap_or(ROWS);
    if !(1..=MAX_LIMIT).contains(&limit) {
        let text = format!("Input should be a number from 1 to {MAX_LIMIT}");
        return Err(Misfit::of_query("limit", &text).into());
    }
    Ok(PageQuery {
        limit,
        offset: params.number("offset")?.unwrap_or(0),
        sort_by: sort_by.into(),
        order,
    })
}
