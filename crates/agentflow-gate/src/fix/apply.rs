//! Applying fixes, and making sure that they change what they say and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

use serde_json::Value as Json;

use super::{Edit, Fix, Safety};
use crate::{
    compose::{self, Files, Listed},
    gate::{self, Outcome, Request},
    source,
};

/// Most times that findings are looked for again: a fix may make room for another.
pub const MAX_ROUNDS: usize = 10;
/// Most fixes of one file that are tried one by one.
const MAX_ALONE: usize = 500;

/// A file that was mended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    /// Where it is.
    pub path: PathBuf,
    /// Its text as it was.
    pub before: String,
    /// Its text now.
    pub after: String,
    /// All of it now, as it is to be written.
    pub bytes: Vec<u8>,
}

/// What mending did.
#[derive(Debug, Default)]
pub struct Mended {
    /// The files that changed, by path.
    pub files: Vec<Edited>,
    /// How many fixes were applied.
    pub applied: usize,
    /// How many were not, because they would have changed more than they say.
    pub refused: usize,
    /// What is allowed to have changed in the model.
    pub fixes: Vec<Fix>,
}

/// Applies every fix that is safe enough until none is left. Nothing is written. `wanted`: the
/// rules whose findings are mended.
///
/// # Errors
/// As [`gate::run`].
pub fn mend(
    files: &dyn Files,
    request: &Request,
    most: Safety,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Mended, gate::Error> {
    let mut over = Overlaid {
        below: files,
        changed: BTreeMap::new(),
    };
    let mut mended = Mended::default();
    for _ in 0..MAX_ROUNDS {
        let mut outcome = gate::run(&over, request)?;
        outcome.keep_rules(wanted);
        let mut refused = 0;
        let fixes = by_file(&outcome, most);
        let mut progress = false;
        for (path, fixes) in fixes {
            let (applied, left) = one_file(&mut over, &outcome, &path, &fixes);
            progress |= !applied.is_empty();
            mended.applied += applied.len();
            mended.fixes.extend(applied);
            refused += left;
        }
        mended.refused = refused;
        if !progress {
            break;
        }
    }
    for (path, bytes) in over.changed {
        let before = files
            .read(&path)
            .ok()
            .and_then(|it| source::decode(&it).ok());
        let after = source::decode(&bytes).ok();
        if let (Some(before), Some(after)) = (before, after)
            && before != after
        {
            mended.files.push(Edited {
                path,
                before,
                after,
                bytes,
            });
        }
    }
    Ok(mended)
}

/// The fixes of each file, in order, none overlapping another.
fn by_file(outcome: &Outcome, most: Safety) -> BTreeMap<PathBuf, Vec<Fix>> {
    let mut found: BTreeMap<PathBuf, Vec<Fix>> = BTreeMap::new();
    for (unit, finding) in outcome.findings() {
        let Some(fix) = finding.fix.as_ref().filter(|fix| fix.safety <= most) else {
            continue;
        };
        if let Some(file) = unit.sources.file(fix.edit.span.file) {
            found
                .entry(PathBuf::from(&file.name))
                .or_default()
                .push(fix.clone());
        }
    }
    for fixes in found.values_mut() {
        fixes.sort_by_key(|fix| (fix.edit.span.start, fix.edit.span.end));
        let mut end = None;
        fixes.retain(|fix| {
            let span = fix.edit.span;
            // Two insertions at one place are both wanted; equal ones are one.
            let free = end.is_none_or(|end| span.start >= end);
            if free {
                end = Some(span.end);
            }
            free
        });
        fixes.dedup_by(|a, b| a.edit.span.start == b.edit.span.start && a.edit.text == b.edit.text);
    }
    found
}

/// Applies the fixes of a file: all at once, or those that are fine alone. Gives what was applied,
/// and how many were not.
fn one_file(
    over: &mut Overlaid<'_>,
    outcome: &Outcome,
    path: &Path,
    fixes: &[Fix],
) -> (Vec<Fix>, usize) {
    let Ok(raw) = over.read(path) else {
        return (Vec::new(), fixes.len());
    };
    // Text in UTF-16 is left alone: its bytes are not ours to count.
    let Ok(text) = source::decode(&raw) else {
        return (Vec::new(), fixes.len());
    };
    if !raw.ends_with(text.as_bytes()) {
        return (Vec::new(), fixes.len());
    }
    let mark = raw[..raw.len() - text.len()].to_vec();
    let requests: Vec<&compose::Request> = outcome
        .units
        .iter()
        .filter(|unit| {
            unit.sources
                .files()
                .iter()
                .any(|file| Path::new(&file.name) == path)
        })
        .filter_map(|unit| unit.compose.as_ref())
        .collect();
    let before: Vec<Option<Json>> = requests.iter().map(|it| model(over, it)).collect();
    let mut attempt = |fixes: &[Fix]| -> bool {
        let edits: Vec<&Edit> = fixes.iter().map(|fix| &fix.edit).collect();
        let Some(after) = edited(&text, &edits) else {
            return false;
        };
        if !keeps_comments(&text, &after) {
            return false;
        }
        let bytes = [mark.clone(), after.into_bytes()].concat();
        let old = over.changed.insert(path.to_owned(), bytes);
        let fine = requests.iter().zip(&before).all(|(request, before)| {
            let after = model(over, request);
            match (before, after) {
                (Some(before), Some(after)) => as_said(before, &after, fixes),
                (None, _) => true,
                (Some(_), None) => false,
            }
        });
        if !fine {
            match old {
                Some(old) => over.changed.insert(path.to_owned(), old),
                None => over.changed.remove(path),
            };
        }
        fine
    };
    if attempt(fixes) {
        return (fixes.to_vec(), 0);
    }
    let mut good: Vec<Fix> = Vec::new();
    for fix in fixes.iter().take(MAX_ALONE) {
        good.push(fix.clone());
        if !attempt(&good) {
            good.pop();
        }
    }
    let left = fixes.len() - good.len();
    (good, left)
}

/// The text with edits that are in order; nothing if they overlap.
fn edited(text: &str, edits: &[&Edit]) -> Option<String> {
    let mut out = String::with_capacity(text.len() + 64 * edits.len());
    let mut at = 0;
    for edit in edits {
        out.push_str(text.get(at..edit.span.start as usize)?);
        out.push_str(&edit.text);
        at = edit.span.end as usize;
    }
    out.push_str(text.get(at..)?);
    Some(out)
}

/// Whether every comment is still there.
fn keeps_comments(before: &str, after: &str) -> bool {
    let count = |text: &str| {
        let mut all: BTreeMap<String, usize> = BTreeMap::new();
        for comment in text.lines().filter_map(comment_of) {
            *all.entry(comment.to_owned()).or_default() += 1;
        }
        all
    };
    let after = count(after);
    count(before)
        .iter()
        .all(|(comment, times)| after.get(comment).is_some_and(|it| it >= times))
}

/// What looks like a comment in a line.
fn comment_of(line: &str) -> Option<&str> {
    let starts = line.match_indices('#').map(|(at, _)| at);
    let mut begins = starts.filter(|at| *at == 0 || line[..*at].ends_with([' ', '\t']));
    begins.next().map(|at| line[at..].trim_end())
}

fn model(files: &dyn Files, request: &compose::Request) -> Option<Json> {
    let loaded = compose::load(files, request);
    loaded.project.ok().map(|project| project.to_json())
}

/// Whether what differs is what the fixes may change.
fn as_said(before: &Json, after: &Json, fixes: &[Fix]) -> bool {
    let mut changed = BTreeSet::new();
    differences(before, after, "", &mut changed);
    changed
        .iter()
        .all(|path| fixes.iter().any(|fix| fix.may_change(path)))
}

/// Dotted paths of what differs; a list counts as one value.
fn differences(a: &Json, b: &Json, path: &str, found: &mut BTreeSet<String>) {
    match (a, b) {
        (Json::Object(a), Json::Object(b)) => {
            for key in a.keys().chain(b.keys()) {
                let below = match path.is_empty() {
                    true => key.clone(),
                    false => format!("{path}.{key}"),
                };
                match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => differences(a, b, &below, found),
                    _ => {
                        found.insert(below);
                    }
                }
            }
        }
        (a, b) if a == b => {}
        _ => {
            found.insert(path.to_owned());
        }
    }
}

/// Files with some of them changed.
struct Overlaid<'a> {
    below: &'a dyn Files,
    changed: BTreeMap<PathBuf, Vec<u8>>,
}

impl Files for Overlaid<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match self.changed.get(path) {
            Some(bytes) => Ok(bytes.clone()),
            None => self.below.read(path),
        }
    }

    fn is_dir(&self, path: &Path) -> bool {
        self.below.is_dir(path)
    }

    fn is_file(&self, path: &Path) -> bool {
        self.below.is_file(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Listed>> {
        self.below.list(folder)
    }
}
