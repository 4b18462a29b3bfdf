//! The whole way from paths to findings.

use std::{
    collections::BTreeSet,
    fmt, io,
    path::{Path, PathBuf},
};

use crate::{
    compose::{self, Environment, Files},
    facts::{self, Facts},
    find::{self, Target},
    finding::{Finding, Severity},
    git::{self, Tracked},
    ignore, rules,
    source::{Sources, Span},
};

/// Most things that one run checks.
pub const MAX_TARGETS: usize = 50_000;

/// What to check. Paths are absolute.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Files and folders.
    pub paths: Vec<PathBuf>,
    /// A Compose file and those laid over it: one project more.
    pub overlays: Vec<PathBuf>,
    /// Profiles whose services count; rules look at all services if none is named.
    pub profiles: Vec<String>,
    /// Files of variables instead of `.env`.
    pub env_files: Vec<PathBuf>,
    /// Variables of the process.
    pub environment: Environment,
}

/// Why a run ended before it had looked.
#[derive(Debug)]
pub enum Error {
    /// A path that was named cannot be read.
    Unreadable(PathBuf, io::Error),
    /// Nothing of what was named is known to us.
    Nothing,
    /// There is more than [`MAX_TARGETS`].
    TooMany,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Nothing => f.write_str("there is no file that the gate knows; name one"),
            Self::TooMany => write!(f, "there are more than {MAX_TARGETS} files; name fewer"),
        }
    }
}

impl std::error::Error for Error {}

/// What was found in one project or file.
#[derive(Debug)]
pub struct Unit {
    /// What was read.
    pub sources: Sources,
    /// What rules say.
    pub findings: Vec<Finding>,
    /// Secrets in the text, which no output shows.
    pub hidden: Vec<Span>,
    /// How to load it, if it is a Compose project.
    pub compose: Option<compose::Request>,
}

/// What a run found.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Each project and file.
    pub units: Vec<Unit>,
    /// How many findings comments suppressed.
    pub suppressed: usize,
    /// How many findings were in the baseline.
    pub known: usize,
}

impl Outcome {
    /// Every finding, with the unit that it is of.
    pub fn findings(&self) -> impl Iterator<Item = (&Unit, &Finding)> {
        let of = |unit| -> Box<dyn Iterator<Item = (&Unit, &Finding)>> {
            let unit: &Unit = unit;
            Box::new(unit.findings.iter().map(move |it| (unit, it)))
        };
        self.units.iter().flat_map(of)
    }

    /// Forgets what is less severe.
    pub fn keep(&mut self, least: Severity) {
        for unit in &mut self.units {
            unit.findings.retain(|finding| finding.severity >= least);
        }
    }

    /// Forgets all findings of rules that `keep` refuses.
    pub fn keep_rules(&mut self, keep: impl Fn(&str) -> bool) {
        for unit in &mut self.units {
            unit.findings.retain(|finding| keep(finding.rule));
        }
    }

    /// How many findings are as severe as this.
    pub fn count(&self, severity: Severity) -> usize {
        let all = self.findings();
        all.filter(|(_, finding)| finding.severity == severity)
            .count()
    }

    /// How bad the worst finding is.
    pub fn worst(&self) -> Option<Severity> {
        self.findings().map(|(_, finding)| finding.severity).max()
    }
}

/// Checks everything.
///
/// # Errors
/// A path that was named cannot be read, or there is nothing to check.
pub fn run(files: &dyn Files, request: &Request) -> Result<Outcome, Error> {
    let targets = targets(files, request)?;
    let mut outcome = Outcome::default();
    let mut seen = BTreeSet::new();
    let mut repositories = Repositories::default();
    for target in targets {
        let tracked = repositories.of(files, &target);
        let mut unit = check(files, request, target, tracked.as_deref());
        // A project and the same with an overlay share findings.
        let sources = &unit.sources;
        unit.findings.retain(|finding| {
            let name = sources.file(finding.span.file).map(|it| it.name.clone());
            let place = (finding.span.start, finding.span.end);
            seen.insert((finding.rule, name, place, finding.message.clone()))
        });
        outcome.suppressed += ignore::apply(&unit.sources, &mut unit.findings);
        unit.findings
            .sort_by_key(|it| (it.span.file, it.span.start, it.rule));
        outcome.units.push(unit);
    }
    Ok(outcome)
}

fn targets(files: &dyn Files, request: &Request) -> Result<Vec<Target>, Error> {
    let mut all = Vec::new();
    for path in request.overlays.iter().chain(&request.env_files) {
        files
            .read(path)
            .map_err(|error| Error::Unreadable(path.clone(), error))?;
    }
    if !request.overlays.is_empty() {
        all.push(Target::Compose(request.overlays.clone()));
    }
    for path in &request.paths {
        if files.is_dir(path) {
            let found = find::in_folder(files, path);
            all.extend(found.map_err(|error| Error::Unreadable(path.clone(), error))?);
            continue;
        }
        if !files.is_file(path) {
            let error = io::Error::new(io::ErrorKind::NotFound, "no such file or folder");
            return Err(Error::Unreadable(path.clone(), error));
        }
        match find::of_file(path) {
            Some(target) => all.push(target),
            None => {
                let message = "the gate does not know what this file is";
                let error = io::Error::new(io::ErrorKind::InvalidInput, message);
                return Err(Error::Unreadable(path.clone(), error));
            }
        }
    }
    let mut seen = BTreeSet::new();
    all.retain(|target| seen.insert(target.clone()));
    match all.len() {
        0 => Err(Error::Nothing),
        1..=MAX_TARGETS => Ok(all),
        _ => Err(Error::TooMany),
    }
}

/// The working copies that were met, so that each index is read once.
#[derive(Default)]
struct Repositories(Vec<(PathBuf, std::rc::Rc<Tracked>)>);

impl Repositories {
    /// What git keeps of the working copy that a target is in.
    fn of(&mut self, files: &dyn Files, target: &Target) -> Option<std::rc::Rc<Tracked>> {
        let path = target.path();
        let known = self.0.iter().find(|(root, _)| path.starts_with(root));
        // A nested working copy is found first because its root is longer.
        let root = git::root_of(files, path)?;
        if let Some((known, tracked)) = known
            && *known == root
        {
            return Some(tracked.clone());
        }
        if let Some((_, tracked)) = self.0.iter().find(|(it, _)| *it == root) {
            return Some(tracked.clone());
        }
        let tracked = std::rc::Rc::new(git::tracked(files, &root)?);
        self.0.push((root, tracked.clone()));
        Some(tracked)
    }
}

fn check(files: &dyn Files, request: &Request, target: Target, tracked: Option<&Tracked>) -> Unit {
    match target {
        Target::Compose(paths) => project(files, request, paths, tracked),
        other => file(files, &other, tracked),
    }
}

fn project(
    files: &dyn Files,
    request: &Request,
    paths: Vec<PathBuf>,
    tracked: Option<&Tracked>,
) -> Unit {
    let asked = compose::Request {
        files: paths,
        environment: request.environment.clone(),
        env_files: (!request.env_files.is_empty()).then(|| request.env_files.clone()),
        profiles: request.profiles.clone(),
        ..compose::Request::default()
    };
    let loaded = compose::load(files, &asked);
    let (findings, hidden) = rules::check_project(&loaded, files, &asked, tracked);
    Unit {
        sources: loaded.sources,
        findings,
        hidden,
        compose: Some(asked),
    }
}

fn file(files: &dyn Files, target: &Target, tracked: Option<&Tracked>) -> Unit {
    let mut sources = Sources::default();
    let (part, mut findings) = facts::read(files, target, tracked, &mut sources);
    let mut hidden = Vec::new();
    if let Some(part) = part {
        let facts = Facts::of_file(&sources, part, files, tracked);
        rules::judge(&facts, &mut findings, &mut hidden);
    }
    Unit {
        sources,
        findings,
        hidden,
        compose: None,
    }
}

impl Target {
    /// Its first file, or its folder.
    pub fn path(&self) -> &Path {
        match self {
            Self::Compose(paths) => paths.first().map_or(Path::new(""), PathBuf::as_path),
            Self::Dockerfile(path)
            | Self::DotEnv(path)
            | Self::AgentFlow(path)
            | Self::LangGraph(path)
            | Self::Mem0(path)
            | Self::Repository(path) => path,
        }
    }
}
