//! All collections in memory, as the tables have them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use agentflow_storage::{
    condition::{Condition, Field},
    vector::{Collection, Hit, Point, Probe, Search, Sparse, no_collection},
};
use agentflow_types::{Result, Scope, Value};
use roaring::RoaringBitmap;
use uuid::Uuid;

use super::{
    VectorOptions,
    graph::Graph,
    rows::Pieces,
    shelf::{Counts, Cut, Shelf},
};

/// What a committed call changed.
pub(super) enum Change {
    /// A collection was made, or has more indexed fields.
    Ensured {
        collection_id: i64,
        shape: Collection,
    },
    /// It is gone, with its points.
    Dropped {
        collection_id: i64,
    },
    Added(Added),
    Removed(Removed),
}

/// A row of a point.
pub(super) struct Added {
    pub(super) collection_id: i64,
    pub(super) tenant: Arc<str>,
    pub(super) number: u64,
    pub(super) point: Point,
    /// The payload as JSON.
    pub(super) text: Box<[u8]>,
}

/// A row that is gone.
pub(super) struct Removed {
    pub(super) collection_id: i64,
    pub(super) tenant: Arc<str>,
    pub(super) id: Uuid,
    pub(super) number: u64,
    pub(super) words: BTreeMap<String, Sparse>,
}

/// Rows that lack links.
pub(super) struct Unlinked {
    pub(super) graph: Arc<Graph>,
    pub(super) pieces: Pieces,
    pub(super) has: RoaringBitmap,
}

/// All collections.
#[derive(Default)]
pub(super) struct Image {
    held: BTreeMap<i64, Held>,
}

/// A collection.
pub(super) struct Held {
    pub(super) collection_id: i64,
    pub(super) shape: Collection,
    /// By tenant.
    shelves: HashMap<Arc<str>, Shelf>,
    /// By sparse vector.
    counts: BTreeMap<String, Counts>,
    size_bytes: usize,
}

impl Image {
    pub(super) fn apply(&mut self, change: Change) -> Result<()> {
        match change {
            Change::Ensured {
                collection_id,
                shape,
            } => {
                let held = self
                    .held
                    .entry(collection_id)
                    .or_insert_with(|| Held::new(collection_id, shape.clone()));
                for shelf in held.shelves.values_mut() {
                    shelf.index(&shape)?;
                }
                held.shape = shape;
            }
            Change::Dropped { collection_id } => {
                self.held.remove(&collection_id);
            }
            Change::Added(added) => {
                if let Some(held) = self.held.get_mut(&added.collection_id) {
                    held.add(added);
                }
            }
            Change::Removed(removed) => {
                if let Some(held) = self.held.get_mut(&removed.collection_id) {
                    held.remove(&removed)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn has(&self, collection_id: i64) -> bool {
        self.held.contains_key(&collection_id)
    }

    /// The collections, by name.
    pub(super) fn collections(&self) -> Vec<Collection> {
        let mut shapes: Vec<Collection> = self.held.values().map(|h| h.shape.clone()).collect();
        shapes.sort_by(|a, b| a.name.cmp(&b.name));
        shapes
    }

    /// The collection of this name.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    pub(super) fn named(&self, name: &str) -> Result<&Held> {
        let mut all = self.held.values();
        all.find(|held| held.shape.name == name)
            .ok_or_else(|| no_collection(name))
    }

    /// Links that are to be made.
    pub(super) fn unlinked(&self, options: &VectorOptions) -> Option<Unlinked> {
        let mut shelves = self.held.values().flat_map(|held| held.shelves.values());
        let (rows, graph) = shelves.find_map(|shelf| shelf.unlinked(options))?;
        Some(Unlinked {
            graph: graph.clone(),
            pieces: rows.pieces().clone(),
            has: rows.has().clone(),
        })
    }

    /// Bytes of memory, about.
    pub(super) fn size_bytes(&self) -> usize {
        self.held.values().map(|held| held.size_bytes).sum()
    }
}

impl Held {
    fn new(collection_id: i64, shape: Collection) -> Self {
        let counts = shape.sparse.iter();
        Self {
            collection_id,
            counts: counts
                .map(|name| (name.clone(), Counts::default()))
                .collect(),
            shelves: HashMap::new(),
            size_bytes: 0,
            shape,
        }
    }

    fn add(&mut self, added: Added) {
        for (name, vector) in &added.point.sparse {
            if let Some(counts) = self.counts.get_mut(name) {
                counts.add(vector);
            }
        }
        let shape = &self.shape;
        let shelf = self.shelves.entry(added.tenant);
        let shelf = shelf.or_insert_with(|| Shelf::new(shape));
        let before = shelf.size_bytes();
        shelf.add(added.number, &added.point, added.text);
        self.size_bytes = self.size_bytes + shelf.size_bytes() - before;
    }

    fn remove(&mut self, removed: &Removed) -> Result<()> {
        for (name, vector) in &removed.words {
            if let Some(counts) = self.counts.get_mut(name) {
                counts.remove(vector);
            }
        }
        let Some(shelf) = self.shelves.get_mut(&removed.tenant) else {
            return Ok(());
        };
        let before = shelf.size_bytes();
        shelf.remove(removed.id, removed.number, &removed.words)?;
        if shelf.len() == 0 {
            self.shelves.remove(&removed.tenant);
            self.size_bytes -= before;
        } else {
            self.size_bytes = self.size_bytes + shelf.size_bytes() - before;
        }
        Ok(())
    }

    fn shelf(&self, scope: &Scope) -> Option<&Shelf> {
        self.shelves.get(scope.tenant())
    }

    /// Points of a tenant.
    pub(super) fn len(&self, scope: &Scope) -> u64 {
        self.shelf(scope).map_or(0, Shelf::len)
    }

    pub(super) fn search(
        &self,
        scope: &Scope,
        search: &Search,
        options: &VectorOptions,
    ) -> Result<Vec<Hit>> {
        let Some(shelf) = self.shelf(scope) else {
            return Ok(vec![]);
        };
        let cut = Cut {
            condition: search.condition.as_ref(),
            limit: search.limit,
            threshold: search.threshold,
            payload: search.payload,
        };
        match &search.probe {
            Probe::Dense(name, wanted) => shelf.nearest(name, wanted, cut, options),
            Probe::Sparse(name, wanted) => {
                let weighted = self.counts.get(name).map(|counts| counts.weighted(wanted));
                shelf.worded(name, &weighted.unwrap_or_default(), cut)
            }
            Probe::Any => shelf.any(cut),
        }
    }

    /// Ids and numbers of the points that meet a condition, by id, after this one.
    pub(super) fn page(
        &self,
        scope: &Scope,
        condition: Option<&Condition>,
        after: Option<Uuid>,
        limit: usize,
    ) -> Result<Vec<(Uuid, u64)>> {
        let shelf = self.shelf(scope);
        shelf.map_or(Ok(vec![]), |shelf| shelf.page(condition, after, limit))
    }

    pub(super) fn count(&self, scope: &Scope, condition: Option<&Condition>) -> Result<u64> {
        let shelf = self.shelf(scope);
        shelf.map_or(Ok(0), |shelf| shelf.count(condition))
    }

    pub(super) fn facet(
        &self,
        scope: &Scope,
        field: &Field,
        condition: Option<&Condition>,
        limit: u32,
    ) -> Result<Vec<(Value, u64)>> {
        let shelf = self.shelf(scope);
        shelf.map_or(Ok(vec![]), |shelf| shelf.facet(field, condition, limit))
    }
}
