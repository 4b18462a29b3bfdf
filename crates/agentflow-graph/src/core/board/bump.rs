//! New versions for channels that are stored whole without having changed.
//!
//! Source: `create_checkpoint` and `_mark_bumps_seen` of LangGraph 1.2.

use agentflow_storage::checkpoint::Version;
use agentflow_types::{Result, Rng, Str};
use indexmap::IndexMap;

use super::{Board, Ver};
use crate::{core::version::Style, layout::ChanId};

/// Key of the entry that remembers what nodes had really read.
const SNAPSHOT_BUMPS: &str = "__snapshot_bumps__";

/// A channel that got a new version without a write: name, old version, new one.
pub(super) struct Bump(Str, Option<Version>, Version);

type Seen = IndexMap<Str, IndexMap<Str, Version>>;

impl Board {
    /// Gives a new version to each of these channels that has the one that is `stored`, or none.
    pub(super) fn bump_unmoved(
        &mut self,
        snapshots: &[ChanId],
        stored: &[Ver],
        rng: &dyn Rng,
    ) -> Vec<Bump> {
        let mut bumps = Vec::new();
        for id in snapshots {
            let old = self.versions[*id];
            if old.is_some() && stored.get(*id) != Some(&old) {
                continue;
            }
            let is_int = self.style == Style::Int;
            let new = Ver {
                n: old.n + 1,
                fraction: if is_int { 0.0 } else { rng.next_f64() },
            };
            self.versions[*id] = new;
            bumps.push(Bump(
                self.layout.channels[*id].name.clone(),
                old.is_some().then(|| old.store(self.style)),
                new.store(self.style),
            ));
        }
        bumps
    }

    /// Reads who saw what.
    ///
    /// # Errors
    /// `Corrupt` if a version is not what it should be.
    pub(super) fn restore_all_seen(&mut self, seen: &Seen) -> Result<()> {
        self.other_seen.clear();
        for (name, versions) in seen {
            self.restore_seen(name, versions)?;
        }
        Ok(())
    }
}

/// Moves everybody who had seen the old version on to the new one: a bump is not a write, and
/// must not stop or start anything. What they had really read is remembered.
pub(super) fn mark(seen: &mut Seen, bumps: &[Bump]) {
    let mut marks = seen.get(SNAPSHOT_BUMPS).cloned().unwrap_or_default();
    for (node, versions) in seen.iter_mut() {
        if &**node == SNAPSHOT_BUMPS {
            continue;
        }
        for Bump(channel, old, new) in bumps {
            if versions.get(channel) != old.as_ref() {
                continue;
            }
            let advanced: Str = format!("{node}|{channel}").into();
            if let Some(old) = old
                && marks.get(&advanced) != Some(old)
            {
                marks.insert(format!("{node}:{channel}").into(), old.clone());
            }
            marks.insert(advanced, new.clone());
            versions.insert(channel.clone(), new.clone());
        }
    }
    if !marks.is_empty() {
        seen.insert(SNAPSHOT_BUMPS.into(), marks);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::INTERRUPT_SEEN, *};

    fn text(n: &str) -> Version {
        Version::Text(n.into())
    }

    #[test]
    fn who_saw_the_old_version_sees_the_new_one_and_the_read_is_remembered() {
        let mut seen = Seen::new();
        let versions = |n| IndexMap::from([("log".into(), text(n))]);
        seen.insert(INTERRUPT_SEEN.into(), versions("2"));
        seen.insert("late".into(), versions("1"));
        mark(&mut seen, &[Bump("log".into(), Some(text("2")), text("3"))]);
        mark(&mut seen, &[Bump("log".into(), Some(text("3")), text("4"))]);
        assert_eq!(seen[INTERRUPT_SEEN]["log"], text("4"));
        assert_eq!(seen["late"]["log"], text("1"));
        let marks = &seen[SNAPSHOT_BUMPS];
        assert_eq!(marks["__interrupt__|log"], text("4"));
        assert_eq!(marks["__interrupt__:log"], text("2"));
        assert_eq!(marks.len(), 2);
    }
}
