//! The port over the link.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use agentflow_storage::{
    condition::{Condition, Field},
    vector::{
        self, Collection, Hit, Kind, Mark, Point, Search, Vectors, check_limit, check_points,
        check_searches, no_collection, taken,
    },
};
use agentflow_types::{Error, Map, Result, Scope, Value};
use async_trait::async_trait;
use qdrant_client::qdrant::{
    CollectionInfo, CountPoints, DeleteCollection, DeletePoints, FacetCounts, Filter,
    GetCollectionInfoRequest, GetPoints, ListCollectionsRequest, PointsSelector, QueryPoints,
    facet_value, points_selector,
};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::{
    batch,
    compile::{self, Term, scoped},
    connect::Access,
    link::{Call, Link, Stubs},
    payload, refusal,
    scan::{Judge, MAX_LOOKED_AT, Part, Scan, too_much},
    search::query,
    shape,
};

/// Collections whose form is remembered.
const MAX_SHAPES: usize = 1_000;
/// Most ids of one request.
const IDS: usize = 500;

/// An index of vectors on a Qdrant server. Clones share its connection.
#[derive(Clone)]
pub struct Qdrant {
    pub(crate) link: Arc<Link>,
    prefix: Arc<str>,
    /// Forms of collections by name; guarded for a look, never across an await.
    shapes: Arc<Mutex<HashMap<String, Arc<Collection>>>>,
}

impl Qdrant {
    /// An index that connects when it is first used.
    ///
    /// # Errors
    /// `Invalid` if the address, the key or a certificate is none.
    pub fn new(access: &Access) -> Result<Self> {
        Ok(Self {
            link: Link::new(access)?,
            prefix: access.prefix.as_str().into(),
            shapes: Arc::default(),
        })
    }

    /// Checks that the server is there, new enough, and accepts the key.
    ///
    /// # Errors
    /// `Busy` with the check that failed.
    pub async fn check(&self) -> Result<()> {
        // The version is told to everybody, whatever the key.
        self.link.check_version().await?;
        self.names().await.map(|_| ())
    }

    /// Our names of the collections.
    async fn names(&self) -> Result<Vec<String>> {
        let sent = |mut stubs: Stubs, request| async move { stubs.collections.list(request).await };
        let request = ListCollectionsRequest {};
        let all = self.link.send(Call::Read, request, sent).await?.collections;
        let ours = all
            .iter()
            .filter_map(|one| one.name.strip_prefix(&*self.prefix));
        let mut ours: Vec<String> = ours.map(str::to_owned).collect();
        ours.sort_unstable();
        Ok(ours)
    }

    /// The name on the server.
    pub(crate) fn named(&self, collection: &str) -> String {
        format!("{}{collection}", self.prefix)
    }

    fn shapes(&self) -> MutexGuard<'_, HashMap<String, Arc<Collection>>> {
        self.shapes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, collection: &str) {
        self.shapes().remove(collection);
    }

    /// What the server says about a collection; `None` if there is none.
    async fn info(&self, collection: &str) -> Result<Option<CollectionInfo>> {
        let request = GetCollectionInfoRequest {
            collection_name: self.named(collection),
        };
        let sent = |mut stubs: Stubs, request| async move { stubs.collections.get(request).await };
        match self.link.attempt(Call::Read, request, sent).await {
            Ok(answer) => Ok(Some(answer.result.unwrap_or_default())),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(refusal::name(status, Call::Read.effect())),
        }
    }

    /// The form of a collection, asked for once.
    async fn shape(&self, collection: &str) -> Result<Arc<Collection>> {
        if let Some(known) = self.shapes().get(collection) {
            return Ok(known.clone());
        }
        // A name that is none may mean something else to a server.
        Collection {
            name: collection.to_owned(),
            ..Collection::default()
        }
        .check()?;
        let info = self.info(collection).await?;
        let info = info.ok_or_else(|| no_collection(collection))?;
        let shape = Arc::new(shape::read(collection, &info)?);
        self.remember(shape.clone());
        Ok(shape)
    }

    fn remember(&self, shape: Arc<Collection>) {
        let mut shapes = self.shapes();
        if shapes.len() >= MAX_SHAPES {
            shapes.clear();
        }
        shapes.insert(shape.name.clone(), shape);
    }

    /// Names an error, and forgets a form that the server does not agree with.
    pub(crate) fn lost(&self, status: Status, collection: &str, call: Call) -> Error {
        if matches!(status.code(), Code::NotFound | Code::InvalidArgument) {
            self.forget(collection);
        }
        refused(status, &self.named(collection), call)
    }

    fn judge<'a>(
        scope: &'a Scope,
        shape: &Collection,
        condition: Option<&'a Condition>,
    ) -> Judge<'a> {
        let kind = |field: &Field| shape.indexed.get(field).copied();
        Judge {
            tenant: scope.tenant(),
            condition,
            compiled: compile::compile(condition, &kind),
        }
    }

    fn scan<'a>(
        &'a self,
        name: &'a str,
        shape: &Collection,
        part: Part,
        filter: Option<Filter>,
        after: Option<Uuid>,
    ) -> Scan<'a> {
        Scan {
            link: &self.link,
            name,
            page: part.page(shape),
            part,
            filter,
            after,
        }
    }

    /// Refuses ids of other tenants; points that are not older than what is stored remain.
    async fn own(&self, scope: &Scope, collection: &str, points: Vec<Point>) -> Result<Vec<Point>> {
        let mut newer: HashMap<Uuid, u64> = HashMap::new();
        for points in points.chunks(IDS) {
            let request = GetPoints {
                collection_name: self.named(collection),
                ids: points.iter().map(|point| payload::id(point.id)).collect(),
                with_payload: Some(Part::Mark.payload()),
                with_vectors: Some(Part::Mark.vectors()),
                ..GetPoints::default()
            };
            let sent = |mut stubs: Stubs, request| async move { stubs.points.get(request).await };
            let found = self.link.attempt(Call::Read, request, sent).await;
            let found = found.map_err(|status| self.lost(status, collection, Call::Read))?;
            for found in found.result {
                let mark = payload::mark(found)?;
                if mark.tenant != scope.tenant() {
                    return Err(taken(mark.id));
                }
                newer.insert(mark.id, mark.version);
            }
        }
        let is_older = |point: &Point| newer.get(&point.id).is_some_and(|v| *v > point.version);
        Ok(points
            .into_iter()
            .filter(|point| !is_older(point))
            .collect())
    }

    async fn delete_filtered(&self, collection: &str, filter: Filter) -> Result<()> {
        let request = DeletePoints {
            collection_name: self.named(collection),
            wait: Some(true),
            points: Some(PointsSelector {
                points_selector_one_of: Some(points_selector::PointsSelectorOneOf::Filter(filter)),
            }),
            ..DeletePoints::default()
        };
        let sent = |mut stubs: Stubs, request| async move { stubs.points.delete(request).await };
        let done = self.link.attempt(Call::WriteOnce, request, sent).await;
        let done = done.map_err(|status| self.lost(status, collection, Call::WriteOnce))?;
        refusal::completed(done.result.as_slice())
    }

    async fn counted(&self, collection: &str, filter: Option<Filter>) -> Result<u64> {
        let Some(filter) = filter else {
            return Ok(0);
        };
        let request = CountPoints {
            collection_name: self.named(collection),
            filter: Some(filter),
            exact: Some(true),
            ..CountPoints::default()
        };
        let sent = |mut stubs: Stubs, request| async move { stubs.points.count(request).await };
        let answer = self.link.attempt(Call::Read, request, sent).await;
        let answer = answer.map_err(|status| self.lost(status, collection, Call::Read))?;
        Ok(answer.result.unwrap_or_default().count)
    }

    /// Payloads that meet a condition, for what the server cannot count itself.
    async fn payloads(&self, shape: &Collection, judge: &Judge<'_>) -> Result<Vec<Map>> {
        let Some(filter) = judge.filter() else {
            return Ok(vec![]);
        };
        let name = self.named(&shape.name);
        let mut scan = self.scan(&name, shape, Part::Payload, Some(filter), None);
        let points = judge.points(&mut scan, MAX_LOOKED_AT + 1).await?;
        if points.len() > MAX_LOOKED_AT {
            return Err(too_much(points.len()));
        }
        Ok(points.into_iter().map(|point| point.payload).collect())
    }
}

/// Names an error of a call about a collection.
pub(crate) fn refused(status: Status, name: &str, call: Call) -> Error {
    match status.code() {
        Code::NotFound => no_collection(name),
        _ => refusal::name(status, call.effect()),
    }
}

#[async_trait]
impl Vectors for Qdrant {
    async fn ensure(&self, collection: &Collection) -> Result<()> {
        collection.check()?;
        self.link.check_version().await?;
        let name = self.named(&collection.name);
        if self.info(&collection.name).await?.is_none() {
            let request = shape::create(name.clone(), collection);
            let sent =
                |mut stubs: Stubs, request| async move { stubs.collections.create(request).await };
            match self.link.attempt(Call::Setup, request, sent).await {
                Ok(_) => {}
                // Somebody else was faster, or an earlier try was.
                Err(status) if refusal::is_already_there(&status) => {}
                Err(status) => return Err(refusal::name(status, Call::Setup.effect())),
            }
        }
        let info = self.info(&collection.name).await?;
        let info = info.ok_or_else(|| no_collection(&collection.name))?;
        let mut there = shape::read(&collection.name, &info)?;
        if !there.has_vectors_of(collection) {
            return Err(Error::conflict("the collection exists with other vectors")
                .with("collection", &collection.name));
        }
        there.check_kinds(collection)?;
        for request in shape::indexes(&name, collection, &info.payload_schema)? {
            let sent = |mut stubs: Stubs, request| async move {
                stubs.points.create_field_index(request).await
            };
            self.link.send(Call::Setup, request, sent).await?;
        }
        let fields = collection.indexed.iter();
        there
            .indexed
            .extend(fields.map(|(field, kind)| (field.clone(), *kind)));
        self.remember(Arc::new(there));
        Ok(())
    }

    async fn collections(&self) -> Result<Vec<Collection>> {
        let mut found = Vec::new();
        for name in self.names().await? {
            // One may have gone meanwhile.
            if let Some(info) = self.info(&name).await? {
                found.push(shape::read(&name, &info)?);
            }
        }
        Ok(found)
    }

    async fn drop_collection(&self, name: &str) -> Result<bool> {
        let request = DeleteCollection {
            collection_name: self.named(name),
            ..DeleteCollection::default()
        };
        let sent =
            |mut stubs: Stubs, request| async move { stubs.collections.delete(request).await };
        self.forget(name);
        match self.link.attempt(Call::SetupOnce, request, sent).await {
            Ok(answer) => Ok(answer.result),
            Err(status) if status.code() == Code::NotFound => Ok(false),
            Err(status) => Err(refusal::name(status, Call::SetupOnce.effect())),
        }
    }

    async fn upsert(&self, scope: &Scope, collection: &str, points: Vec<Point>) -> Result<()> {
        check_points(points.len())?;
        let shape = self.shape(collection).await?;
        points
            .iter()
            .try_for_each(|point| shape.check_point(point))?;
        // Ids are drawn at random, so one that another tenant stores in between is not told of; the
        // filter of the request protects it all the same.
        let points = self.own(scope, collection, batch::once(points)).await?;
        let name = self.named(collection);
        for piece in batch::pieces(&points) {
            let request = batch::request(&name, scope.tenant(), piece);
            let sent =
                |mut stubs: Stubs, request| async move { stubs.points.update_batch(request).await };
            let done = self.link.attempt(Call::Write, request, sent).await;
            let done = done.map_err(|status| self.lost(status, collection, Call::Write))?;
            refusal::completed(&done.result)?;
        }
        Ok(())
    }

    async fn delete(&self, scope: &Scope, collection: &str, ids: &[Uuid]) -> Result<()> {
        check_points(ids.len())?;
        let ids = ids.iter().copied().map(payload::id).collect();
        self.delete_filtered(collection, compile::by_id(scope.tenant(), ids))
            .await
    }

    async fn delete_where(
        &self,
        scope: &Scope,
        collection: &str,
        condition: &Condition,
    ) -> Result<()> {
        condition.check()?;
        let shape = self.shape(collection).await?;
        let judge = Self::judge(scope, &shape, Some(condition));
        let Some(filter) = judge.filter() else {
            return Ok(());
        };
        if judge.is_exact() {
            return self.delete_filtered(collection, filter).await;
        }
        let name = self.named(collection);
        let mut scan = self.scan(&name, &shape, Part::Payload, Some(filter), None);
        loop {
            let points = judge.points(&mut scan, IDS).await?;
            // The scan went on to the end of a page, perhaps behind what was kept.
            scan.after = points.last().map(|point| point.id);
            let ids = points.iter().map(|point| payload::id(point.id)).collect();
            let is_last = points.len() < IDS;
            if !points.is_empty() {
                self.delete_filtered(collection, compile::by_id(scope.tenant(), ids))
                    .await?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    async fn get(&self, scope: &Scope, collection: &str, ids: &[Uuid]) -> Result<Vec<Point>> {
        check_points(ids.len())?;
        let shape = self.shape(collection).await?;
        let name = self.named(collection);
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let mut found = Vec::with_capacity(ids.len());
        for ids in ids.chunks(IDS) {
            let wanted = ids.iter().copied().map(payload::id).collect();
            let filter = compile::by_id(scope.tenant(), wanted);
            let mut scan = self.scan(&name, &shape, Part::Whole, Some(filter), None);
            for point in scan.all(ids.len() as u32).await? {
                found.push(payload::point(scope.tenant(), point)?);
            }
        }
        Ok(found)
    }

    async fn search(
        &self,
        scope: &Scope,
        collection: &str,
        searches: &[Search],
    ) -> Result<Vec<Vec<Hit>>> {
        check_searches(searches.len())?;
        let shape = self.shape(collection).await?;
        searches
            .iter()
            .try_for_each(|search| shape.check_search(search))?;
        let name = self.named(collection);
        let judged: Vec<(Judge<'_>, Option<QueryPoints>)> = searches
            .iter()
            .map(|search| {
                let judge = Self::judge(scope, &shape, search.condition.as_ref());
                let query = query(&name, &judge, search);
                (judge, query)
            })
            .collect();
        let queries = judged.iter().filter_map(|(_, query)| query.clone());
        let found = self.query(collection, queries.collect()).await?;
        let mut found = found.into_iter();
        let mut all = Vec::with_capacity(searches.len());
        for (search, (judge, query)) in searches.iter().zip(judged) {
            all.push(match query {
                None => vec![],
                Some(query) => {
                    let found = found.next().unwrap_or_default();
                    self.hits(collection, &judge, search, query, found).await?
                }
            });
        }
        Ok(all)
    }

    async fn scroll(
        &self,
        scope: &Scope,
        collection: &str,
        condition: Option<&Condition>,
        after: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<Point>> {
        check_limit(limit)?;
        condition.map_or(Ok(()), Condition::check)?;
        let shape = self.shape(collection).await?;
        let judge = Self::judge(scope, &shape, condition);
        let Some(filter) = judge.filter() else {
            return Ok(vec![]);
        };
        let name = self.named(collection);
        let mut scan = self.scan(&name, &shape, Part::Whole, Some(filter), after);
        judge.points(&mut scan, limit as usize).await
    }

    async fn count(
        &self,
        scope: &Scope,
        collection: &str,
        condition: Option<&Condition>,
    ) -> Result<u64> {
        condition.map_or(Ok(()), Condition::check)?;
        let shape = self.shape(collection).await?;
        let judge = Self::judge(scope, &shape, condition);
        let over = self.counted(collection, judge.filter()).await?;
        let Some(under) = judge.compiled.under.clone() else {
            return Ok(over);
        };
        // If both find as many points, they find the same.
        if under != Term::None || over == 0 {
            let under = scoped(scope.tenant(), under);
            if self.counted(collection, under).await? == over {
                return Ok(over);
            }
        }
        Ok(self.payloads(&shape, &judge).await?.len() as u64)
    }

    async fn facet(
        &self,
        scope: &Scope,
        collection: &str,
        field: &Field,
        condition: Option<&Condition>,
        limit: u32,
    ) -> Result<Vec<(Value, u64)>> {
        check_limit(limit)?;
        condition.map_or(Ok(()), Condition::check)?;
        let shape = self.shape(collection).await?;
        let judge = Self::judge(scope, &shape, condition);
        let kind = shape.indexed.get(field).copied();
        let path = shape::path(field);
        let (true, Some(Kind::Text | Kind::Bool), Some(key)) = (judge.is_exact(), kind, path)
        else {
            let payloads = self.payloads(&shape, &judge).await?;
            return Ok(vector::facets(&payloads, field, kind, limit));
        };
        let Some(filter) = judge.filter() else {
            return Ok(vec![]);
        };
        let request = FacetCounts {
            collection_name: self.named(collection),
            key,
            filter: Some(filter),
            limit: Some(u64::from(limit)),
            exact: Some(true),
            ..FacetCounts::default()
        };
        let sent = |mut stubs: Stubs, request| async move { stubs.points.facet(request).await };
        let answer = self.link.attempt(Call::Read, request, sent).await;
        let answer = answer.map_err(|status| self.lost(status, collection, Call::Read))?;
        let counts = answer.hits.into_iter().filter_map(|hit| {
            let value = match hit.value?.variant? {
                facet_value::Variant::StringValue(text) => Value::str(text),
                facet_value::Variant::IntegerValue(n) => Value::Int(n),
                facet_value::Variant::BoolValue(b) => Value::Bool(b),
            };
            Some((value, hit.count))
        });
        Ok(counts.collect())
    }

    async fn marks(&self, collection: &str, after: Option<Uuid>, limit: u32) -> Result<Vec<Mark>> {
        check_limit(limit)?;
        let shape = self.shape(collection).await?;
        let name = self.named(collection);
        let mut scan = self.scan(&name, &shape, Part::Mark, None, after);
        let found = scan.all(limit).await?;
        found.into_iter().map(payload::mark).collect()
    }
}
