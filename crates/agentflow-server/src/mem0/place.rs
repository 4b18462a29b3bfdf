//! What a request is about: whose memories, which page.

use agentflow_memory::{DEFAULT_PROJECT, Service};
use agentflow_storage::page::{Order, PageQuery};
use agentflow_types::{Error, MemoryId, Scope};
use axum::extract::FromRequestParts;
use http::{HeaderName, StatusCode, request::Parts};
use serde_json::{Value as Json, json};

use crate::{
    AppState,
    error::Failure,
    extract::{Asker, Params},
};

/// Names the project, where a query does not.
const PROJECT: HeaderName = HeaderName::from_static("x-mem0-project-id");
/// Most rows of a page.
const MAX_PAGE_SIZE: u32 = 200;
/// Rows of a page if nothing is said about it.
const PAGE_SIZE: u32 = 100;
/// Most rows of an answer whose client does not page.
const MAX_WHOLE: u32 = 10_000;
/// Furthest page.
const MAX_PAGE: u32 = 1_000_000;

/// Whose memories a request is about: the project that it names, or the default one.
pub(super) struct Place {
    pub(super) scope: Scope,
    pub(super) project: String,
    pub(super) memory: Service,
}

impl FromRequestParts<AppState> for Place {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Failure> {
        let Asker(scope) = Asker::from_request_parts(parts, app).await?;
        let memory = app.memory()?;
        let params = Params::from_request_parts(parts, app).await?;
        let header = parts.headers.get(PROJECT);
        let header = header.and_then(|value| value.to_str().ok());
        let named = params.get("project_id").or(header);
        let project = named.filter(|name| !name.is_empty());
        let project = project.unwrap_or(DEFAULT_PROJECT).to_owned();
        memory.check_project(&scope, &project).await?;
        Ok(Self {
            scope,
            project,
            memory,
        })
    }
}

impl AppState {
    /// The memory service.
    ///
    /// # Errors
    /// `Busy` on a server without one.
    pub(crate) fn memory(&self) -> Result<Service, Failure> {
        let memory = self.memory.clone();
        memory.ok_or_else(|| Failure::Domain(Error::busy("this server keeps no memories")))
    }
}

/// An id in a path.
///
/// # Errors
/// 400 if it is none.
pub(super) fn memory_id(text: &str) -> Result<MemoryId, Failure> {
    text.parse().map_err(|_| {
        let text = "memory_id should be a valid UUID";
        Failure::Http(StatusCode::BAD_REQUEST, text.to_owned())
    })
}

/// Which page a client wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paging {
    page: u32,
    size: u32,
}

impl Paging {
    /// Reads `page` and `page_size`; those of the query come before those of the body.
    ///
    /// # Errors
    /// 400 for numbers out of range.
    pub(super) fn read(params: &Params, body: (Option<u32>, Option<u32>)) -> Result<Self, Failure> {
        let page = params.number("page")?.or(body.0).unwrap_or(1);
        let size = params.number("page_size")?.or(body.1).unwrap_or(PAGE_SIZE);
        let wrong = |text: &str| Failure::Http(StatusCode::BAD_REQUEST, text.to_owned());
        if !(1..=MAX_PAGE).contains(&page) {
            return Err(wrong("page must be a number from 1 to 1000000"));
        }
        if !(1..=MAX_PAGE_SIZE).contains(&size) {
            return Err(wrong("page_size must be a number from 1 to 200"));
        }
        Ok(Self { page, size })
    }

    /// As [`Self::read`]; without a page, all that one answer may hold.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) fn whole(params: &Params) -> Result<Self, Failure> {
        match params.get("page").or(params.get("page_size")) {
            Some(_) => Self::read(params, (None, None)),
            None => Ok(Self {
                page: 1,
                size: MAX_WHOLE,
            }),
        }
    }

    pub(super) fn limit(self) -> u32 {
        self.size
    }

    pub(super) fn offset(self) -> u64 {
        u64::from(self.page - 1) * u64::from(self.size)
    }

    /// The newest first.
    pub(super) fn query(self) -> PageQuery {
        PageQuery {
            limit: self.size,
            offset: self.offset(),
            sort_by: "created_at".into(),
            order: Order::Descending,
        }
    }

    /// The envelope of a page; `base` is the URL without its query.
    pub(super) fn envelope(self, base: &str, total: u64, results: Vec<Json>) -> Json {
        let link = |page: u32| json!(format!("{base}?page={page}&page_size={}", self.size));
        let has_next = self.offset() + u64::from(self.size) < total;
        json!({
            "count": total,
            "next": if has_next { link(self.page + 1) } else { Json::Null },
            "previous": if self.page > 1 { link(self.page - 1) } else { Json::Null },
            "results": results,
        })
    }
}

/// The URL of a request without its query, as clients reach it.
pub(super) struct Here(pub(super) String);

impl<S: Sync> FromRequestParts<S> for Here {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let base = crate::routes::a2a::base(&parts.headers);
        // Clients of the platform expect the slash at the end.
        Ok(Self(format!(
            "{base}{}/",
            parts.uri.path().trim_end_matches('/')
        )))
    }
}
