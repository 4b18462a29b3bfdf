//! Filling editions in the background, and changing from one to the other.
//!
//! Writes go to both editions from the moment at which both are on the shelf. What was there
//! before is filled in, page by page; how far it is stands in the plan, so that whoever comes
//! after a crash goes on. Then all is compared once more, and the plan changes in one step.
//! Another process may learn of both editions a moment later: so what serves is compared again
//! before the old collection goes.

use std::{sync::Arc, time::Duration};

use agentflow_types::{Error, ErrorKind, Result};

use super::{Embedders, Index, PAGE, edition::Edition, shelf::Shelf};

/// Memories that are filled in at once.
const FILLED: u32 = 256;
/// Every so many of them are told.
const TOLD: u64 = 5_000;

/// How an index that outlives the process is kept.
#[derive(Clone)]
pub struct Lasting {
    /// What the configuration calls the embedder of [`crate::Models::embed`]; `None` if it says
    /// nothing, and whatever is there may stay.
    pub wish: Option<String>,
    /// Finds the embedder that made what is there.
    pub embedders: Arc<dyn Embedders>,
    /// What begins a change of embedders.
    pub begins: Begins,
    /// Whether no other process uses the index.
    pub is_alone: bool,
    /// How long a collection stays after it was replaced, for searches that are under way.
    pub grace: Duration,
}

/// What begins a change of embedders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begins {
    /// A start with another one in the configuration.
    ByItself,
    /// [`crate::Service::reembed`].
    WhenTold,
}

/// How memories are embedded anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reembed {
    /// Beside what serves, which is replaced when all is there.
    Beside,
    /// What serves is thrown away first; meanwhile what is there again is found.
    AtOnce,
    /// What is made beside is given up.
    Stop,
}

/// How the index is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexState {
    /// What made what serves.
    pub serving: String,
    /// What makes the edition that will serve.
    pub filling: Option<String>,
    /// Memories that are there, and all of them, while something is filled.
    pub progress: Option<(u64, u64)>,
    /// Collections that are still to be removed.
    pub retired: usize,
}

/// Whether there was something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// And there may be more.
    Worked,
    /// Nothing for now.
    Idle,
}

impl Shelf {
    pub(crate) fn state(&self) -> IndexState {
        let work = self.plan.work.as_ref();
        IndexState {
            serving: self.plan.serving.to_string(),
            filling: self.plan.filling.as_ref().map(ToString::to_string),
            progress: work.map(|work| (work.done, work.total.max(work.done))),
            retired: self.plan.retired.len(),
        }
    }
}

impl Index {
    /// Compares what is there with what the configuration wants; false while there is nothing to
    /// compare. Without records nothing is loaded: no model, no vectors.
    pub(crate) async fn begin(&self) -> Result<bool> {
        let is_empty = self.backend.memories.marks(None, 1).await?.is_empty();
        if is_empty && self.loaded().is_none() {
            return Ok(false);
        }
        let Some(lasting) = &self.lasting else {
            self.fill().await?;
            return Ok(true);
        };
        let shelf = self.shelf().await?;
        let name = &shelf.serving.name;
        let lacks_all = self.vectors.marks(name, None, 1).await?.is_empty();
        if lacks_all && !is_empty && shelf.plan.work.is_none() {
            tracing::info!(name, "the index of memories is empty and is filled");
            let total = self.total().await?;
            let refill = |plan: &mut super::plan::Plan, _| {
                let is_needed = plan.work.is_none();
                if is_needed {
                    plan.refill(total);
                }
                is_needed
            };
            self.decide(refill).await?;
        }
        if lasting.wish.is_some() {
            self.meet(lasting, &shelf).await?;
        }
        Ok(true)
    }

    /// Begins what the configuration wants, or tells the ways out.
    async fn meet(&self, lasting: &Lasting, shelf: &Shelf) -> Result<()> {
        let wished = self.wished().await?;
        let made = shelf.plan.filling.as_ref();
        if made.is_some_and(|made| made.name() == wished.name) {
            tracing::info!(to = %wished.made, "memories are embedded anew: this goes on");
            return Ok(());
        }
        if shelf.serving.name == wished.name && shelf.serving.made == wished.made && made.is_none()
        {
            return Ok(());
        }
        if shelf.serving.name != wished.name {
            tracing::warn!("{}", ways_out(&shelf.serving, wished, lasting.begins));
        }
        if lasting.begins == Begins::ByItself {
            self.reembed(Reembed::Beside).await?;
        }
        Ok(())
    }

    /// Begins to embed anew, or gives it up.
    ///
    /// # Errors
    /// `Invalid` for an index that does not outlive the process; those of records and embedder.
    pub(crate) async fn reembed(&self, how: Reembed) -> Result<Arc<Shelf>> {
        if self.lasting.is_none() {
            return Err(Error::invalid(
                "this index is in the memory of the server, which makes it anew at each start",
            ));
        }
        let shelf = self.shelf().await?;
        let me = self.me.as_str();
        let decided = match how {
            Reembed::Stop => self.decide(|plan, now| plan.stop(me, now)).await?,
            Reembed::Beside => {
                let (made, total) = (&self.wished().await?.made, self.total().await?);
                self.decide(|plan, now| plan.begin(made, total, me, now))
                    .await?
            }
            Reembed::AtOnce => {
                let (made, total) = (&self.wished().await?.made, self.total().await?);
                let replace = |plan: &mut super::plan::Plan, now| {
                    plan.replace(made, total, me, now);
                    true
                };
                self.decide(replace).await?
            }
        };
        Ok(decided.unwrap_or(shelf))
    }

    /// Does a part of what the plan asks for.
    ///
    /// # Errors
    /// Those of records, embedder and index: the plan stays, and it may be tried again.
    pub(crate) async fn step(&self) -> Result<Step> {
        let (Some(lasting), Some(shelf)) = (&self.lasting, self.look().await?) else {
            return Ok(Step::Idle);
        };
        self.sweep(lasting, &shelf).await?;
        let Some(work) = &shelf.plan.work else {
            return Ok(Step::Idle);
        };
        let edition = shelf.filling.as_ref().unwrap_or(&shelf.serving).clone();
        if edition.is_blind() {
            return Ok(Step::Idle);
        }
        let (me, now) = (self.me.as_str(), self.clock.now());
        if work.holder != me || work.until <= now.0 {
            let claimed = |plan: &mut super::plan::Plan, now| plan.claim(me, lasting.is_alone, now);
            return Ok(match self.decide(claimed).await? {
                Some(_) => Step::Worked,
                None => Step::Idle,
            });
        }
        match self.advance(&edition, work.after).await {
            Err(err) if err.kind() == ErrorKind::NotFound => {
                // Somebody removed the collection: from the begin.
                self.vectors.ensure(&edition.made.collection()).await?;
                let total = self.total().await?;
                let again = |plan: &mut super::plan::Plan, _| {
                    plan.refill(total);
                    true
                };
                self.decide(again).await?;
            }
            ended => ended?,
        }
        Ok(Step::Worked)
    }

    /// The next page of an edition; after the last one, all once more, and the change.
    async fn advance(
        &self,
        edition: &Arc<Edition>,
        after: Option<agentflow_types::MemoryId>,
    ) -> Result<()> {
        let me = self.me.as_str();
        let marks = self.backend.memories.marks(after, FILLED).await?;
        for (scope, ids) in self.lacking(edition, &marks).await? {
            self.bring(edition, &scope, &ids).await?;
        }
        edition.fits()?;
        let many = marks.len() as u64;
        // A page that is not full is the last one, however many are added meanwhile.
        if let Some(last) = marks.last()
            && many == u64::from(FILLED)
        {
            let last = last.memory_id;
            let reached = self
                .decide(|plan, now| plan.reached(me, last, many, now))
                .await?;
            if let Some((done, total)) = reached.and_then(|shelf| shelf.state().progress)
                && done / TOLD != (done - many) / TOLD
            {
                tracing::info!(done, total, to = %edition.made, "memories are embedded");
            }
            return Ok(());
        }
        self.compare(edition, true).await?;
        edition.fits()?;
        let finished = self.decide(|plan, now| plan.finish(&edition.name, me, now));
        if finished.await?.is_some() {
            tracing::info!(by = %edition.made, "the index of memories is complete and serves");
        }
        Ok(())
    }

    /// Removes collections that nobody looks at any more.
    async fn sweep(&self, lasting: &Lasting, shelf: &Shelf) -> Result<()> {
        let due = shelf.plan.due(&self.me, lasting.grace, self.clock.now());
        for name in due {
            let mut used = [Some(&shelf.serving), shelf.filling.as_ref()]
                .into_iter()
                .flatten();
            if used.any(|edition| edition.name == name) {
                continue;
            }
            if !lasting.is_alone && shelf.plan.work.is_none() {
                self.compare(&shelf.serving, true).await?;
            }
            self.vectors.drop_collection(&name).await?;
            tracing::info!(name, "an old index of memories was removed");
            self.decide(|plan, _| plan.forget(&name)).await?;
        }
        Ok(())
    }

    /// How many memories there are.
    async fn total(&self) -> Result<u64> {
        let (mut many, mut after) = (0, None);
        loop {
            let marks = self.backend.memories.marks(after, PAGE).await?;
            let Some(last) = marks.last() else {
                return Ok(many);
            };
            after = Some(last.memory_id);
            many += marks.len() as u64;
            if marks.len() < PAGE as usize {
                return Ok(many);
            }
        }
    }
}

/// What a person should know whose configuration wants another embedder.
fn ways_out(serving: &Edition, wished: &Edition, begins: Begins) -> String {
    let (old, new) = (&serving.made, &wished.made);
    let next = match begins {
        Begins::ByItself => "They are embedded anew now; the old index serves meanwhile. The ways",
        Begins::WhenTold => "The old index goes on serving. The ways",
    };
    format!(
        "the index of memories was made by {old}, and the configuration wants {new}. {next}: \
        (1) keep the old model: memory.embedding = \"{}\"; (2) embed anew, beside the old index: \
        `agentflow memory reembed`; (3) throw the old index away and fill the new one after: \
        `agentflow memory reembed --at-once`",
        old.spec
    )
}
