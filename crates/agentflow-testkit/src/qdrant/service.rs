//! The services of the protocol over the collections in memory.

use std::{future::Future, pin::Pin, sync::Arc};

use q::{
    collections_server::Collections, points_server::Points, points_update_operation::Operation,
    qdrant_server::Qdrant,
};
use qdrant_client::qdrant as q;
use tonic::{Request, Response, Status};

use super::{
    collection::Kept,
    filter::{self, Read},
    shared::{Data, Shared},
    wire,
};

/// The services; clones share the collections.
#[derive(Clone)]
pub(super) struct Service(pub(super) Arc<Shared>);

type Answer<'f, T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send + 'f>>;

/// Implements a trait of the protocol: each method is a function of the data and the request.
macro_rules! serve {
    ($service:ident: $($name:ident($request:ident) -> $response:ident = $call:expr;)*) => {
        impl $service for Service {
            $(fn $name<'a, 'f>(&'a self, request: Request<q::$request>) -> Answer<'f, q::$response>
            where
                'a: 'f,
                Self: 'f,
            {
                Box::pin(async move {
                    let call: fn(&mut Data, q::$request) -> Result<q::$response, Status> = $call;
                    self.0.answer(stringify!($name), request.into_inner(), call).map(Response::new)
                })
            })*
        }
    };
}

serve! {
    Collections:
    get(GetCollectionInfoRequest) -> GetCollectionInfoResponse = |data, asked| {
        let result = Some(data.find(&asked.collection_name)?.info());
        Ok(q::GetCollectionInfoResponse { result, ..Default::default() })
    };
    list(ListCollectionsRequest) -> ListCollectionsResponse = |data, _| {
        let name = |name: &String| q::CollectionDescription { name: name.clone() };
        let collections = data.collections.keys().map(name).collect();
        Ok(q::ListCollectionsResponse { collections, ..Default::default() })
    };
    create(CreateCollection) -> CollectionOperationResponse = create;
    delete(DeleteCollection) -> CollectionOperationResponse = |data, asked| {
        let result = data.collections.remove(&asked.collection_name).is_some();
        Ok(q::CollectionOperationResponse { result, ..Default::default() })
    };
    collection_exists(CollectionExistsRequest) -> CollectionExistsResponse = |data, asked| {
        let exists = data.collections.contains_key(&asked.collection_name);
        let result = Some(q::CollectionExists { exists });
        Ok(q::CollectionExistsResponse { result, ..Default::default() })
    };
    update(UpdateCollection) -> CollectionOperationResponse = unserved;
    update_aliases(ChangeAliases) -> CollectionOperationResponse = unserved;
    list_collection_aliases(ListCollectionAliasesRequest) -> ListAliasesResponse = unserved;
    list_aliases(ListAliasesRequest) -> ListAliasesResponse = unserved;
    collection_cluster_info(CollectionClusterInfoRequest) -> CollectionClusterInfoResponse
        = unserved;
    update_collection_cluster_setup(UpdateCollectionClusterSetupRequest)
        -> UpdateCollectionClusterSetupResponse = unserved;
    create_shard_key(CreateShardKeyRequest) -> CreateShardKeyResponse = unserved;
    delete_shard_key(DeleteShardKeyRequest) -> DeleteShardKeyResponse = unserved;
    list_shard_keys(ListShardKeysRequest) -> ListShardKeysResponse = unserved;
}

serve! {
    Points:
    upsert(UpsertPoints) -> PointsOperationResponse = |data, asked| {
        let operation = Operation::Upsert(q::points_update_operation::PointStructList {
            points: asked.points,
            update_filter: asked.update_filter,
            ..Default::default()
        });
        update(data, &asked.collection_name, &[operation]).map(done)
    };
    delete(DeletePoints) -> PointsOperationResponse = |data, asked| {
        let operation = Operation::DeletePoints(q::points_update_operation::DeletePoints {
            points: asked.points,
            ..Default::default()
        });
        update(data, &asked.collection_name, &[operation]).map(done)
    };
    update_batch(UpdateBatchPoints) -> UpdateBatchResponse = |data, asked| {
        let malformed = || Status::invalid_argument("Operation is missing");
        let operations = asked.operations.into_iter();
        let operations: Vec<Operation> = operations
            .map(|one| one.operation.ok_or_else(malformed))
            .collect::<Result<_, _>>()?;
        if operations.is_empty() {
            return Err(Status::invalid_argument("Validation error: operations: length must be 1"));
        }
        update(data, &asked.collection_name, &operations)?;
        let result = operations.iter().map(|_| completed()).collect();
        Ok(q::UpdateBatchResponse { result, ..Default::default() })
    };
    get(GetPoints) -> GetResponse = |data, asked| {
        let ids = asked.ids.iter().map(|id| wire::uuid(Some(id)));
        let ids: Vec<_> = ids.collect::<Result<_, _>>()?;
        let kept = data.find(&asked.collection_name)?;
        let result = kept.get(&ids, asked.with_payload.as_ref(), asked.with_vectors.as_ref())?;
        Ok(q::GetResponse { result, ..Default::default() })
    };
    scroll(ScrollPoints) -> ScrollResponse = |data, asked| {
        let (result, next) = data.find(&asked.collection_name)?.scroll(&asked)?;
        let next_page_offset = next.map(wire::id);
        Ok(q::ScrollResponse { result, next_page_offset, ..Default::default() })
    };
    count(CountPoints) -> CountResponse = |data, asked| {
        let which = Read::of(asked.filter.as_ref())?;
        let count = data.find(&asked.collection_name)?.count(&which);
        Ok(q::CountResponse { result: Some(q::CountResult { count }), ..Default::default() })
    };
    query_batch(QueryBatchPoints) -> QueryBatchResponse = |data, asked| {
        let kept = data.find(&asked.collection_name)?;
        let results = asked.query_points.iter().map(|one| kept.query(one));
        let result = results.collect::<Result<_, _>>()?;
        Ok(q::QueryBatchResponse { result, ..Default::default() })
    };
    facet(FacetCounts) -> FacetResponse = |data, asked| {
        let hits = data.find(&asked.collection_name)?.facet(&asked)?;
        Ok(q::FacetResponse { hits, ..Default::default() })
    };
    create_field_index(CreateFieldIndexCollection) -> PointsOperationResponse = |data, asked| {
        let kept = data.find(&asked.collection_name)?;
        kept.index(&asked.field_name, asked.field_type.unwrap_or_default())?;
        Ok(done(()))
    };
    update_vectors(UpdatePointVectors) -> PointsOperationResponse = unserved;
    delete_vectors(DeletePointVectors) -> PointsOperationResponse = unserved;
    set_payload(SetPayloadPoints) -> PointsOperationResponse = unserved;
    overwrite_payload(SetPayloadPoints) -> PointsOperationResponse = unserved;
    delete_payload(DeletePayloadPoints) -> PointsOperationResponse = unserved;
    clear_payload(ClearPayloadPoints) -> PointsOperationResponse = unserved;
    delete_field_index(DeleteFieldIndexCollection) -> PointsOperationResponse = unserved;
    create_vector_name(CreateVectorNameRequest) -> PointsOperationResponse = unserved;
    delete_vector_name(DeleteVectorNameRequest) -> PointsOperationResponse = unserved;
    search(SearchPoints) -> SearchResponse = unserved;
    search_batch(SearchBatchPoints) -> SearchBatchResponse = unserved;
    search_groups(SearchPointGroups) -> SearchGroupsResponse = unserved;
    recommend(RecommendPoints) -> RecommendResponse = unserved;
    recommend_batch(RecommendBatchPoints) -> RecommendBatchResponse = unserved;
    recommend_groups(RecommendPointGroups) -> RecommendGroupsResponse = unserved;
    discover(DiscoverPoints) -> DiscoverResponse = unserved;
    discover_batch(DiscoverBatchPoints) -> DiscoverBatchResponse = unserved;
    query(QueryPoints) -> QueryResponse = unserved;
    query_groups(QueryPointGroups) -> QueryGroupsResponse = unserved;
    search_matrix_pairs(SearchMatrixPoints) -> SearchMatrixPairsResponse = unserved;
    search_matrix_offsets(SearchMatrixPoints) -> SearchMatrixOffsetsResponse = unserved;
}

serve! {
    Qdrant:
    health_check(HealthCheckRequest) -> HealthCheckReply = |data, _| Ok(q::HealthCheckReply {
        title: "qdrant - vector search engine".into(),
        version: data.version.clone(),
        commit: None,
    });
}

fn unserved<Q, A>(_: &mut Data, _: Q) -> Result<A, Status> {
    Err(Status::unimplemented("not served by the stand-in"))
}

fn create(
    data: &mut Data,
    asked: q::CreateCollection,
) -> Result<q::CollectionOperationResponse, Status> {
    let name = asked.collection_name.clone();
    let bad = |c: char| {
        matches!(
            c,
            '<' | '>' | ':' | '"' | '/' | '\\' | '|' | '?' | '*' | '\0'
        )
    };
    if name.is_empty() || name.len() > 255 || name.contains(bad) {
        return Err(Status::invalid_argument(
            "Validation error in body: collection_name",
        ));
    }
    if data.collections.contains_key(&name) {
        return Err(Status::already_exists(format!(
            "Wrong input: Collection `{name}` already exists!"
        )));
    }
    data.collections.insert(name, Kept::new(asked)?);
    Ok(q::CollectionOperationResponse {
        result: true,
        ..Default::default()
    })
}

/// Applies operations in their order, after all were checked.
fn update(data: &mut Data, collection: &str, operations: &[Operation]) -> Result<(), Status> {
    let kept = data.find(collection)?;
    for operation in operations {
        match operation {
            Operation::Upsert(list) => {
                if list.update_mode.is_some() {
                    return Err(Status::unimplemented("update modes"));
                }
                kept.check(&list.points)?;
                Read::of(list.update_filter.as_ref())?;
            }
            Operation::DeletePoints(delete) => {
                selected(delete.points.as_ref())?;
            }
            _ => return Err(Status::unimplemented("this kind of update")),
        }
    }
    for operation in operations {
        match operation {
            Operation::Upsert(list) => {
                kept.upsert(&list.points, &Read::of(list.update_filter.as_ref())?)?;
            }
            Operation::DeletePoints(delete) => kept.remove(&selected(delete.points.as_ref())?),
            _ => {}
        }
    }
    Ok(())
}

fn selected(selector: Option<&q::PointsSelector>) -> Result<Read, Status> {
    use q::points_selector::PointsSelectorOneOf;
    let one = selector.and_then(|selector| selector.points_selector_one_of.as_ref());
    match one {
        Some(PointsSelectorOneOf::Points(list)) => filter::of_ids(&list.ids),
        Some(PointsSelectorOneOf::Filter(filter)) => Read::of(Some(filter)),
        None => Err(Status::invalid_argument("PointsSelector is missing")),
    }
}

fn completed() -> q::UpdateResult {
    q::UpdateResult {
        operation_id: Some(0),
        status: q::UpdateStatus::Completed.into(),
    }
}

fn done((): ()) -> q::PointsOperationResponse {
    q::PointsOperationResponse {
        result: Some(completed()),
        ..Default::default()
    }
}
