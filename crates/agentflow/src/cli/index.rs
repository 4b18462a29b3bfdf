//! Commands about what is derived from the records.

use std::process::ExitCode;

use agentflow_memory::Reembed;
use agentflow_types::Result;

use super::{EXIT_FAILURE, at_rest, print, runtime};
use crate::{documents, memory, upkeep::Place};

/// Compares the index of memories with the records.
pub(super) fn reconcile(check: bool, place: &Place) -> Result<ExitCode> {
    let config = at_rest(place)?;
    let mut differs = 0;
    let mut tell = |what: &str, [records, missing, orphans]: [u64; 3]| {
        let verb = match (missing + orphans, check) {
            (0, _) => "",
            (_, true) => "; they differ",
            (_, false) => "; they were repaired",
        };
        differs += missing + orphans;
        print(&format!(
            "{records} {what}: {missing} are missing in the index or stale there, {orphans} are \
            there without a record{verb}"
        ))
    };
    let runtime = runtime()?;
    if config.memory.enabled || !config.documents.enabled {
        let drift = runtime.block_on(memory::reconcile(&config, check))?;
        tell("memories", [drift.records, drift.missing, drift.orphans])?;
    }
    if config.documents.enabled {
        let drift = runtime.block_on(documents::reconcile(&config, check))?;
        tell("chunks", [drift.records, drift.missing, drift.orphans])?;
    }
    Ok(match check && differs > 0 {
        true => ExitCode::from(EXIT_FAILURE),
        false => ExitCode::SUCCESS,
    })
}

/// Embeds memories anew.
pub(super) fn reembed(how: Reembed, place: &Place) -> Result<ExitCode> {
    let config = at_rest(place)?;
    let tell = |line: &str| eprintln!("{line}");
    let state = runtime()?.block_on(memory::reembed(&config, how, tell))?;
    print(&format!("memories are found by {}", state.serving))
}
