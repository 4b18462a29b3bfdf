//! The editions in use, as the records name them.

use std::sync::{Arc, PoisonError};

use agentflow_storage::memories::{Change, Note};
use agentflow_types::{Error, ErrorKind, Result, Scope, Timestamp, Value, from_value, to_value};

use super::{
    Index,
    edition::{Edition, Made},
    plan::Plan,
};

/// Kind and key of the note with the plan.
const PLAN: (&str, &str) = ("index", "plan");
/// How often a decision is made anew when somebody else was faster.
const DECISIONS: u32 = 16;

/// The editions in use. Who searches or writes takes one and keeps it to the end, so that a
/// change of editions is one step for everybody.
pub(crate) struct Shelf {
    /// What searches look at.
    pub(crate) serving: Arc<Edition>,
    /// What is written besides.
    pub(crate) filling: Option<Arc<Edition>>,
    pub(crate) plan: Plan,
    /// Version of the note; 0 without one.
    version: u64,
}

/// The plan belongs to no tenant.
fn scope() -> Scope {
    Scope::new("", "index")
}

impl Index {
    /// The editions, which are read, or made, when they are first needed.
    pub(crate) async fn shelf(&self) -> Result<Arc<Shelf>> {
        if let Some(shelf) = self.loaded() {
            return Ok(shelf);
        }
        let _one = self.loading.lock().await;
        match self.loaded() {
            Some(shelf) => Ok(shelf),
            None => self.load().await,
        }
    }

    /// The editions, if they were needed already.
    pub(crate) fn loaded(&self) -> Option<Arc<Shelf>> {
        let shelf = self.shelf.read().unwrap_or_else(PoisonError::into_inner);
        shelf.clone()
    }

    /// The editions as the records name them now, if they were needed already.
    pub(super) async fn look(&self) -> Result<Option<Arc<Shelf>>> {
        let Some(shelf) = self.loaded() else {
            return Ok(None);
        };
        if self.lasting.is_none() {
            return Ok(Some(shelf));
        }
        match self.stored().await? {
            Some((plan, version)) if version > shelf.version => {
                self.build(plan, version).await.map(Some)
            }
            _ => Ok(Some(shelf)),
        }
    }

    async fn load(&self) -> Result<Arc<Shelf>> {
        if self.lasting.is_none() {
            let edition = Edition::probed("", self.embed.clone()).await?;
            self.vectors.ensure(&edition.made.collection()).await?;
            return Ok(self.put(Shelf {
                plan: Plan::new(edition.made.clone()),
                serving: edition,
                filling: None,
                version: 0,
            }));
        }
        for _ in 0..DECISIONS {
            if let Some((plan, version)) = self.stored().await? {
                return self.build(plan, version).await;
            }
            let plan = Plan::new(self.wished().await?.made.clone());
            match self.store(&plan, 1).await {
                Ok(()) => return self.build(plan, 1).await,
                Err(err) if err.kind() == ErrorKind::Conflict => {}
                Err(err) => return Err(err),
            }
        }
        Err(Error::busy("others change the plan of the index"))
    }

    /// The edition that the configuration wants.
    pub(super) async fn wished(&self) -> Result<&Arc<Edition>> {
        let wish = self.lasting.as_ref().and_then(|own| own.wish.as_deref());
        let spec = wish.unwrap_or("off");
        let probed = || Edition::probed(spec, self.embed.clone());
        self.wished.get_or_try_init(probed).await
    }

    /// Stores what `change` makes of the plan, and uses it; `None` if it changes nothing.
    ///
    /// # Errors
    /// Those of the records, and of the index if a collection cannot be made.
    pub(super) async fn decide(
        &self,
        change: impl Fn(&mut Plan, Timestamp) -> bool,
    ) -> Result<Option<Arc<Shelf>>> {
        for _ in 0..DECISIONS {
            let stored = self.stored().await?;
            let (mut plan, version) = stored.ok_or_else(|| Error::bug("the plan is gone"))?;
            if !change(&mut plan, self.clock.now()) {
                return Ok(None);
            }
            match self.store(&plan, version + 1).await {
                Ok(()) => return self.build(plan, version + 1).await.map(Some),
                Err(err) if err.kind() == ErrorKind::Conflict => {}
                Err(err) => return Err(err),
            }
        }
        Err(Error::busy("others change the plan of the index"))
    }

    async fn stored(&self) -> Result<Option<(Plan, u64)>> {
        let (kind, key) = PLAN;
        let note = self.backend.memories.note(&scope(), "", kind, key).await?;
        note.map(|note| Ok((from_value(&Value::map(note.body))?, note.version)))
            .transpose()
    }

    async fn store(&self, plan: &Plan, version: u64) -> Result<()> {
        let (kind, key) = PLAN;
        let now = self.clock.now();
        let note = Note {
            project: String::new(),
            kind: kind.into(),
            key: key.into(),
            version,
            body: to_value(plan)?.as_map().cloned().unwrap_or_default(),
            is_deleted: false,
            created_at: now,
            updated_at: now,
        };
        let change = Change::PutNote(Box::new(note));
        self.backend.memories.apply(&scope(), vec![change]).await
    }

    async fn build(&self, plan: Plan, version: u64) -> Result<Arc<Shelf>> {
        let serving = self.edition(&plan.serving).await?;
        let filling = match &plan.filling {
            Some(made) => Some(self.edition(made).await?),
            None => None,
        };
        Ok(self.put(Shelf {
            serving,
            filling,
            plan,
            version,
        }))
    }

    /// The newest one stays, whoever is faster.
    fn put(&self, new: Shelf) -> Arc<Shelf> {
        let mut shelf = self.shelf.write().unwrap_or_else(PoisonError::into_inner);
        match &*shelf {
            Some(old) if old.version > new.version => old.clone(),
            _ => shelf.insert(Arc::new(new)).clone(),
        }
    }

    /// An edition whose collection is there, with its embedder if this process has it.
    async fn edition(&self, made: &Made) -> Result<Arc<Edition>> {
        if let Some(shelf) = self.loaded() {
            let mut known = [Some(&shelf.serving), shelf.filling.as_ref()]
                .into_iter()
                .flatten();
            if let Some(same) = known.find(|edition| edition.made == *made) {
                return Ok(same.clone());
            }
        }
        let embed = match &self.lasting {
            _ if made.model.is_none() => None,
            Some(own) if own.wish.as_ref() != Some(&made.spec) => {
                let found = own.embedders.find(&made.spec).await;
                found.unwrap_or_else(|err| {
                    tracing::warn!(
                        error = %err,
                        embedder = made.spec,
                        "what made the index of memories is not there: words alone find"
                    );
                    None
                })
            }
            _ => self.embed.clone(),
        };
        self.vectors.ensure(&made.collection()).await?;
        Ok(Edition::of(made.clone(), embed))
    }
}
