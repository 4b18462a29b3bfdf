//! Threads.

use agentflow_types::ThreadId;
use axum::{Json as Out, extract::State, response::IntoResponse};
use http::{HeaderMap, StatusCode};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    AppState,
    error::{Failure, Reply},
    extract::{Asker, Id, Json, Params, wants_minimal},
    page::{self, Extract},
    wire::{
        system::{Detail, Pruned},
        thread::{StorageUse, Thread, ThreadCreate, ThreadPatch, ThreadPrune, ThreadSearch},
    },
};

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(create))
        .routes(routes!(search))
        .routes(routes!(count))
        .routes(routes!(prune))
        .routes(routes!(get, patch, delete))
        .routes(routes!(copy))
        .routes(routes!(storage))
}

/// Create a thread.
#[utoipa::path(post, path = "/threads", tag = "threads", request_body = ThreadCreate,
    responses((status = 200, body = Thread), (status = 409, body = Detail, description = "The id exists.")))]
async fn create(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Json(body): Json<ThreadCreate>,
) -> Reply<Out<Thread>> {
    Ok(Out(app
        .service
        .create_thread(&scope, body.into_domain()?)
        .await?
        .into()))
}

/// Find threads.
#[utoipa::path(post, path = "/threads/search", tag = "threads", request_body = ThreadSearch,
    responses((status = 200, body = Vec<Thread>, headers(
        ("x-pagination-total" = u64, description = "Rows that match."),
        ("x-pagination-next" = Option<u64>, description = "Offset of the next page.")))))]
async fn search(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Json(mut body): Json<ThreadSearch>,
) -> Reply {
    let (query, page) = (body.query()?, body.page()?);
    let extract = Extract::parse(body.extract.take().unwrap_or_default())?;
    let found = app.service.search_threads(&scope, &query, &page).await?;
    let fields = body.select.as_deref();
    Ok(page::reply(found, &page, |row| {
        let whole = page::select(Thread::from(row), None)?;
        let extracted = extract.apply(&whole);
        let mut row = page::select(whole, fields)?;
        if let (Some(extracted), Some(row)) = (extracted, row.as_object_mut()) {
            row.insert("extracted".into(), extracted);
        }
        Ok(row)
    })?)
}

/// Count threads.
#[utoipa::path(post, path = "/threads/count", tag = "threads", request_body = ThreadSearch,
    responses((status = 200, body = u64)))]
async fn count(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Json(mut body): Json<ThreadSearch>,
) -> Reply<Out<u64>> {
    let page = agentflow_storage::page::PageQuery {
        limit: 1,
        ..Default::default()
    };
    let found = app
        .service
        .search_threads(&scope, &body.query()?, &page)
        .await?;
    Ok(Out(found.total))
}

/// Remove threads, or all but their newest checkpoints.
#[utoipa::path(post, path = "/threads/prune", tag = "threads", request_body = ThreadPrune,
    responses((status = 200, body = Pruned)))]
async fn prune(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Json(body): Json<ThreadPrune>,
) -> Reply<Out<Pruned>> {
    let (ids, strategy) = body.into_domain()?;
    let pruned_count = app.service.prune_threads(&scope, &ids, strategy).await?;
    Ok(Out(Pruned { pruned_count }))
}

/// Get a thread.
#[utoipa::path(get, path = "/threads/{thread_id}", tag = "threads",
    params(("thread_id" = String, Path, description = "Thread id."),
        ("include" = Option<String>, Query, description = "`ttl`: with the time to live.")),
    responses((status = 200, body = Thread), (status = 404, body = Detail)))]
async fn get(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(id): Id<ThreadId>,
    params: Params,
) -> Reply<Out<Thread>> {
    let thread = app.service.get_thread(&scope, id).await?;
    let with_ttl = params.words("include").iter().any(|word| word == "ttl");
    Ok(Out(if with_ttl {
        Thread::with_ttl(thread)
    } else {
        thread.into()
    }))
}

/// Change a thread's metadata and time to live.
#[utoipa::path(patch, path = "/threads/{thread_id}", tag = "threads",
    params(("thread_id" = String, Path, description = "Thread id.")), request_body = ThreadPatch,
    responses((status = 200, body = Thread), (status = 204, description = "With `Prefer: return=minimal`."),
        (status = 404, body = Detail)))]
async fn patch(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(id): Id<ThreadId>,
    headers: HeaderMap,
    Json(body): Json<ThreadPatch>,
) -> Reply {
    let thread = app
        .service
        .patch_thread(&scope, id, body.into_domain()?)
        .await?;
    Ok(match wants_minimal(&headers) {
        true => StatusCode::NO_CONTENT.into_response(),
        false => Out(Thread::from(thread)).into_response(),
    })
}

/// Remove a thread with its runs and checkpoints.
#[utoipa::path(delete, path = "/threads/{thread_id}", tag = "threads",
    params(("thread_id" = String, Path, description = "Thread id.")),
    responses((status = 204), (status = 404, body = Detail)))]
async fn delete(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(id): Id<ThreadId>,
) -> Reply<StatusCode> {
    app.service.delete_thread(&scope, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Copy a thread with all its checkpoints.
#[utoipa::path(post, path = "/threads/{thread_id}/copy", tag = "threads",
    params(("thread_id" = String, Path, description = "Thread id.")),
    responses((status = 200, body = Thread), (status = 409, body = Detail, description = "There is no such thread.")))]
async fn copy(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(id): Id<ThreadId>,
) -> Reply<Out<Thread>> {
    Ok(Out(app.service.copy_thread(&scope, id).await?.into()))
}

/// What the checkpoints of a thread take in the database.
#[utoipa::path(get, path = "/threads/{thread_id}/storage", tag = "threads",
    params(("thread_id" = String, Path, description = "Thread id.")),
    responses((status = 200, body = StorageUse), (status = 404, body = Detail),
        (status = 501, body = Detail, description = "The checkpointer does not measure it.")))]
async fn storage(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(id): Id<ThreadId>,
) -> Reply<Out<StorageUse>> {
    match app.service.storage_use(&scope, id).await? {
        Some(usage) => Ok(Out(StorageUse::of(id, &usage))),
        None => {
            let text = "storage use is not measured with this checkpointer".to_owned();
            Err(Failure::Http(StatusCode::NOT_IMPLEMENTED, text))
        }
    }
}
