//! Which edition of the index serves, and which is being made: a note in the records.
//!
//! Everything here is a function of the note and the time. Whoever changes it stores the next
//! version of the note, or decides anew.

use std::time::Duration;

use agentflow_types::{MemoryId, Timestamp};
use serde::{Deserialize, Serialize};

use super::edition::Made;

/// How long whoever works on an edition holds it unless it tells how far it is.
pub(super) const LEASE: Duration = Duration::from_secs(120);
/// How much longer than who switched others wait before they remove what was replaced.
const OTHERS_WAIT: u32 = 30;

/// What is served and what is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// What searches look at.
    pub(crate) serving: Made,
    /// What is made beside it.
    #[serde(default)]
    pub(crate) filling: Option<Made>,
    /// How far filling is; of what serves if nothing is made beside it.
    #[serde(default)]
    pub(crate) work: Option<Work>,
    /// Collections that nobody looks at any more.
    #[serde(default)]
    pub(crate) retired: Vec<Retired>,
}

/// How far filling is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Work {
    /// The last memory that is there.
    #[serde(default)]
    pub(crate) after: Option<MemoryId>,
    /// Memories up to it.
    #[serde(default)]
    pub(crate) done: u64,
    /// All of them, when it began.
    #[serde(default)]
    pub(crate) total: u64,
    /// Who works.
    #[serde(default)]
    pub(crate) holder: String,
    /// Until when nobody else does, in microseconds.
    #[serde(default)]
    pub(crate) until: i64,
}

/// A collection that nobody looks at any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Retired {
    pub(crate) name: String,
    /// Who replaced it.
    pub(crate) by: String,
    /// When, in microseconds.
    pub(crate) since: i64,
}

impl Plan {
    pub(crate) fn new(serving: Made) -> Self {
        Self {
            serving,
            filling: None,
            work: None,
            retired: vec![],
        }
    }

    /// Begins an edition beside the one that serves; false if there is nothing to do.
    pub(crate) fn begin(&mut self, wished: &Made, total: u64, me: &str, now: Timestamp) -> bool {
        if self.filling.as_ref().map(Made::name) == Some(wished.name()) {
            return false;
        }
        let stopped = self.stop(me, now);
        if self.serving.name() == wished.name() {
            // The same vectors by another way.
            let is_new = self.serving != *wished;
            self.serving = wished.clone();
            return stopped || is_new;
        }
        self.retired.retain(|old| old.name != wished.name());
        self.filling = Some(wished.clone());
        self.work = Some(Work {
            total,
            ..Work::default()
        });
        true
    }

    /// Gives up what is made beside; false if nothing is.
    pub(crate) fn stop(&mut self, me: &str, now: Timestamp) -> bool {
        let Some(made) = self.filling.take() else {
            return false;
        };
        self.work = None;
        self.retire(made.name(), me, now);
        true
    }

    /// Serves another edition at once, and fills it then.
    pub(crate) fn replace(&mut self, wished: &Made, total: u64, me: &str, now: Timestamp) {
        self.stop(me, now);
        if self.serving.name() != wished.name() {
            self.retire(self.serving.name(), me, now);
            self.retired.retain(|old| old.name != wished.name());
        }
        self.serving = wished.clone();
        self.refill(total);
    }

    /// Fills what serves.
    pub(crate) fn refill(&mut self, total: u64) {
        self.work = Some(Work {
            total,
            ..Work::default()
        });
    }

    /// Takes the work, or keeps it; false if somebody else has it.
    pub(crate) fn claim(&mut self, me: &str, alone: bool, now: Timestamp) -> bool {
        let Some(work) = &mut self.work else {
            return false;
        };
        if !alone && work.holder != me && now.0 < work.until {
            return false;
        }
        me.clone_into(&mut work.holder);
        work.until = now.plus(LEASE).0;
        true
    }

    /// Notes how far it is; false if somebody else works.
    pub(crate) fn reached(&mut self, me: &str, last: MemoryId, many: u64, now: Timestamp) -> bool {
        match &mut self.work {
            Some(work) if work.holder == me => {
                work.after = Some(last);
                work.done += many;
                work.until = now.plus(LEASE).0;
                true
            }
            _ => false,
        }
    }

    /// Everything is there: what was filled serves. False if something else is made by now.
    pub(crate) fn finish(&mut self, name: &str, me: &str, now: Timestamp) -> bool {
        match self.filling.take_if(|made| made.name() == name) {
            Some(made) => {
                let old = std::mem::replace(&mut self.serving, made);
                self.retire(old.name(), me, now);
            }
            None if self.filling.is_none() && self.serving.name() == name => {}
            None => return false,
        }
        self.work.take().is_some()
    }

    /// Collections that may be removed: nobody looks at them any more.
    pub(crate) fn due(&self, me: &str, grace: Duration, now: Timestamp) -> Vec<String> {
        let is_due = |old: &&Retired| {
            let wait = match old.by == me {
                true => grace,
                false => grace.saturating_mul(OTHERS_WAIT),
            };
            now.0 >= Timestamp(old.since).plus(wait).0
        };
        let due = self.retired.iter().filter(is_due);
        due.map(|old| old.name.clone()).collect()
    }

    /// Forgets a collection that was removed; false if it is not retired.
    pub(crate) fn forget(&mut self, name: &str) -> bool {
        let many = self.retired.len();
        self.retired.retain(|old| old.name != name);
        self.retired.len() < many
    }

    fn retire(&mut self, name: String, by: &str, now: Timestamp) {
        self.retired.retain(|old| old.name != name);
        self.retired.push(Retired {
            name,
            by: by.to_owned(),
            since: now.0,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000);
    const GRACE: Duration = Duration::from_secs(10);

    fn made(model: &str) -> Made {
        Made {
            spec: format!("p:{model}"),
            model: Some(model.into()),
            dimension: 8,
        }
    }

    fn begun() -> Plan {
        let mut plan = Plan::new(made("a"));
        assert!(plan.begin(&made("b"), 3, "me", NOW));
        plan
    }

    #[test]
    fn what_was_filled_serves_and_the_old_one_goes_later() {
        let mut plan = begun();
        assert!(plan.claim("me", false, NOW));
        assert!(plan.reached("me", MemoryId::mint(), 3, NOW));
        assert!(plan.finish(&made("b").name(), "me", NOW));
        assert_eq!((&plan.serving, &plan.filling), (&made("b"), &None));
        assert_eq!(plan.work, None);
        assert!(plan.due("me", GRACE, NOW).is_empty());
        let old = vec![made("a").name()];
        assert_eq!(plan.due("me", GRACE, NOW.plus(GRACE)), old);
        assert!(plan.due("other", GRACE, NOW.plus(GRACE)).is_empty());
        assert_eq!(plan.due("other", GRACE, NOW.plus(GRACE * OTHERS_WAIT)), old);
        assert!(plan.forget(&old[0]) && !plan.forget(&old[0]));
    }

    #[test]
    fn who_works_holds_it_until_its_time_is_over() {
        let mut plan = begun();
        assert!(plan.claim("me", false, NOW));
        assert!(!plan.claim("other", false, NOW));
        assert!(!plan.reached("other", MemoryId::mint(), 1, NOW));
        // After a kill, who is alone with the database need not wait.
        assert!(plan.clone().claim("other", true, NOW));
        assert!(plan.claim("other", false, NOW.plus(LEASE)));
        assert!(!plan.reached("me", MemoryId::mint(), 1, NOW));
    }

    #[test]
    fn the_newest_wish_counts() {
        let mut plan = begun();
        assert!(!plan.begin(&made("b"), 3, "me", NOW));
        assert!(plan.begin(&made("c"), 3, "me", NOW));
        assert!(!plan.finish(&made("b").name(), "me", NOW));
        assert_eq!(plan.retired[0].name, made("b").name());
        // Back to what serves.
        assert!(plan.begin(&made("a"), 3, "me", NOW));
        assert_eq!((plan.filling.is_none(), plan.work.is_none()), (true, true));
        // And again: what is wanted is not removed.
        assert!(plan.begin(&made("b"), 3, "me", NOW));
        assert!(plan.retired.iter().all(|old| old.name != made("b").name()));
    }

    #[test]
    fn the_same_vectors_by_another_way_need_no_work() {
        let mut plan = Plan::new(made("a"));
        let other = Made {
            spec: "q:a".into(),
            ..made("a")
        };
        assert!(plan.begin(&other, 3, "me", NOW));
        assert_eq!((plan.serving, plan.work), (other, None));
    }

    #[test]
    fn what_cannot_be_used_any_more_is_replaced_at_once() {
        let mut plan = Plan::new(made("a"));
        plan.replace(&made("b"), 3, "me", NOW);
        assert_eq!(plan.serving, made("b"));
        assert_eq!(plan.retired[0].name, made("a").name());
        assert!(plan.claim("me", false, NOW));
        assert!(plan.finish(&made("b").name(), "me", NOW));
        assert_eq!(plan.work, None);
    }
}
