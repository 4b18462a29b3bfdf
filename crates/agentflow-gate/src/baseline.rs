//! Findings that a project has agreed to live with for now.
//!
//! A finding is known by rule, file, path in the model and message, not by its line, so that edits
//! elsewhere in the file do not bring it back.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use crate::{
    finding::{Finding, View},
    gate::Outcome,
    source::Sources,
};

/// The version of the file.
const VERSION: u64 = 1;

/// By what a finding is known.
type Key = [String; 4];

/// Findings by what they are known by, and how often.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Baseline(BTreeMap<Key, u64>);

impl Baseline {
    /// All findings of an outcome.
    pub fn of(outcome: &Outcome, view: &View<'_>) -> Self {
        let mut all = Self::default();
        for (unit, finding) in outcome.findings() {
            *all.0.entry(key(&unit.sources, finding, view)).or_default() += 1;
        }
        all
    }

    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<Self, String> {
        let json: Json = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if json["version"].as_u64() != Some(VERSION) {
            return Err(format!("its version is not {VERSION}"));
        }
        let mut all = Self::default();
        for row in json["findings"].as_array().into_iter().flatten() {
            let text = |name: &str| row[name].as_str().map(str::to_owned);
            let fields = [text("rule"), text("file"), text("path"), text("message")];
            let [Some(rule), Some(file), Some(path), Some(message)] = fields else {
                return Err("a finding lacks its rule, file, path or message".to_owned());
            };
            let count = row["count"].as_u64().unwrap_or(1);
            *all.0.entry([rule, file, path, message]).or_default() += count;
        }
        Ok(all)
    }

    /// The file, in an order that does not change without need.
    pub fn write(&self) -> String {
        let rows: Vec<Json> = self
            .0
            .iter()
            .map(|([rule, file, path, message], count)| {
                json!({"rule": rule, "file": file, "path": path, "message": message, "count": count})
            })
            .collect();
        let all = json!({"version": VERSION, "findings": rows});
        format!("{all:#}\n")
    }

    /// How many findings it holds.
    pub fn len(&self) -> u64 {
        self.0.values().sum()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes away the findings that are known, each as often as it is known.
    pub fn apply(&self, outcome: &mut Outcome, view: &View<'_>) {
        let mut left = self.0.clone();
        let mut gone = 0;
        for unit in &mut outcome.units {
            let sources = &unit.sources;
            unit.findings
                .retain(|finding| match left.get_mut(&key(sources, finding, view)) {
                    Some(count) if *count > 0 => {
                        *count -= 1;
                        gone += 1;
                        false
                    }
                    _ => true,
                });
        }
        outcome.known += gone;
    }
}

fn key(sources: &Sources, finding: &Finding, view: &View<'_>) -> Key {
    let file = sources.file(finding.span.file);
    let name = file.map_or("", |file| view.name(&file.name));
    [
        finding.rule.to_owned(),
        name.to_owned(),
        finding.path.clone(),
        finding.message.clone(),
    ]
}
