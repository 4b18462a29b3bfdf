//! What rules look at.

mod dockerfile;
mod dotenv;
mod image;
mod json;
mod server;
mod toml;
mod url;

use std::path::{Path, PathBuf};

pub(crate) use self::server::{ServerConf, postgres, redis, size};
pub(crate) use self::url::{Url, all as all_urls};
pub use self::{
    dockerfile::Instruction,
    image::{Engine, Image},
};
use crate::{
    compose::{self, Files, Loaded, Project},
    find::{self, Target},
    finding::Finding,
    git::Tracked,
    problem::{Kind, Problem},
    source::{self, Sources, Span},
    tree::{Entry, Map, Node},
};

/// One thing that rules may be about.
#[derive(Clone, Debug)]
pub enum Part<'a> {
    /// A Compose project.
    Compose(&'a Project),
    /// A file of variables.
    DotEnv,
    /// `agentflow.toml`.
    AgentFlow(Node),
    /// `langgraph.json`.
    LangGraph(Node),
    /// A configuration of Mem0.
    Mem0(Node),
    /// A Dockerfile.
    Dockerfile(Vec<Instruction>),
    /// What git keeps.
    Repository(PathBuf),
}

/// A named text: a variable of a service or of a file, a value of a configuration.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The service that it is of; empty outside of Compose files.
    pub owner: String,
    /// Its name; of a value in a configuration the last key.
    pub name: String,
    /// The text, variables filled in.
    pub value: String,
    /// Whether the text is written there, not brought in by a variable.
    pub literal: bool,
    /// Where its name is.
    pub key: Span,
    /// Where its text is.
    pub span: Span,
    /// Dotted path in the model.
    pub path: String,
}

/// What is known of one project or file.
pub struct Facts<'a> {
    /// The files that were read.
    pub sources: &'a Sources,
    /// What reading said, if it is a project.
    pub warnings: &'a [Problem],
    /// What it is.
    pub part: Part<'a>,
    /// Its named texts.
    pub settings: Vec<Setting>,
    /// The files around it.
    pub files: &'a dyn Files,
    /// What git keeps there.
    pub tracked: Option<&'a Tracked>,
    /// The folder of a project.
    pub folder: PathBuf,
    /// The files of a project, in order.
    pub paths: Vec<PathBuf>,
    all_profiles: bool,
}

/// A service of a project.
pub(crate) struct Service<'a> {
    pub(crate) name: &'a str,
    pub(crate) entry: &'a Entry,
}

impl<'a> Service<'a> {
    pub(crate) fn get(&self, key: &str) -> Option<&'a Node> {
        self.entry.node.get(key).filter(|node| !node.is_null())
    }

    pub(crate) fn at(&self, path: &[&str]) -> Option<&'a Node> {
        self.entry.node.at(path).filter(|node| !node.is_null())
    }

    pub(crate) fn text(&self, key: &str) -> Option<&'a str> {
        self.get(key).and_then(Node::as_str)
    }

    pub(crate) fn map(&self, key: &str) -> impl Iterator<Item = (&'a String, &'a Entry)> {
        self.get(key).and_then(Node::as_map).into_iter().flatten()
    }

    pub(crate) fn list(&self, key: &str) -> &'a [Node] {
        self.get(key).and_then(Node::as_list).unwrap_or_default()
    }

    pub(crate) fn texts(&self, key: &str) -> impl Iterator<Item = (&'a str, Span)> {
        let items = self.list(key).iter();
        items.filter_map(|item| Some((item.as_str()?, item.used())))
    }

    /// The words of a command, whether it is a list or a line.
    pub(crate) fn words(&self, key: &str) -> Vec<(String, Span)> {
        match self.get(key) {
            Some(node) => words(node),
            None => Vec::new(),
        }
    }

    pub(crate) fn image(&self) -> Option<Image<'a>> {
        self.text("image").and_then(Image::parse)
    }

    /// What kind of server it is, by its image.
    pub(crate) fn engine(&self) -> Option<Engine> {
        self.image().and_then(|image| image.engine())
    }

    /// A variable of its environment.
    pub(crate) fn env(&self, name: &str) -> Option<&'a Node> {
        self.at(&["environment", name])
    }

    /// A variable's text.
    pub(crate) fn env_text(&self, name: &str) -> Option<String> {
        self.env(name).and_then(Node::scalar_text)
    }

    /// A flag or text below `x-agentflow`.
    pub(crate) fn own(&self, key: &str) -> Option<&'a Node> {
        self.at(&["x-agentflow", key])
    }

    /// The networks that it is on; none if it shares those of something else.
    pub(crate) fn networks(&self) -> Option<Vec<&'a str>> {
        if self.get("network_mode").is_some() {
            return None;
        }
        let named: Vec<&str> = self
            .map("networks")
            .map(|(name, _)| name.as_str())
            .collect();
        Some(match named.is_empty() {
            true => vec!["default"],
            false => named,
        })
    }
}

/// The words of a command.
pub(crate) fn words(node: &Node) -> Vec<(String, Span)> {
    match (node.as_list(), node.as_str()) {
        (Some(items), _) => items
            .iter()
            .filter_map(|it| Some((it.scalar_text()?, it.used())))
            .collect(),
        (None, Some(line)) => {
            let words = line.split_whitespace();
            words.map(|word| (word.to_owned(), node.used())).collect()
        }
        (None, None) => Vec::new(),
    }
}

impl<'a> Facts<'a> {
    /// Of a project.
    pub fn of_project(
        loaded: &'a Loaded,
        project: &'a Project,
        files: &'a dyn Files,
        request: &compose::Request,
        tracked: Option<&'a Tracked>,
    ) -> Self {
        let first = request.files.first().and_then(|path| path.parent());
        let folder = request.directory.clone();
        let mut facts = Self {
            sources: &loaded.sources,
            warnings: &loaded.warnings,
            part: Part::Compose(project),
            settings: Vec::new(),
            files,
            tracked,
            folder: folder.or(first.map(Path::to_owned)).unwrap_or_default(),
            paths: request.files.clone(),
            all_profiles: request.profiles.is_empty(),
        };
        let mut settings = Vec::new();
        for service in facts.services() {
            for (name, entry) in service.map("environment") {
                if let Some(setting) = facts.setting(&service, name, entry) {
                    settings.push(setting);
                }
            }
        }
        facts.settings = settings;
        facts
    }

    /// Of a file.
    pub fn of_file(
        sources: &'a Sources,
        part: Part<'a>,
        files: &'a dyn Files,
        tracked: Option<&'a Tracked>,
    ) -> Self {
        let mut settings = Vec::new();
        match &part {
            Part::DotEnv => settings = dotenv::settings(sources, 0),
            Part::AgentFlow(root) | Part::LangGraph(root) | Part::Mem0(root) => {
                configured(root, "", &mut settings);
            }
            Part::Dockerfile(instructions) => {
                settings = instructions
                    .iter()
                    .flat_map(Instruction::settings)
                    .collect();
            }
            Part::Compose(_) | Part::Repository(_) => {}
        }
        let path = sources.file(0).map(|file| PathBuf::from(&file.name));
        Self {
            sources,
            warnings: &[],
            part,
            settings,
            files,
            tracked,
            folder: path
                .as_deref()
                .and_then(Path::parent)
                .map(Path::to_owned)
                .unwrap_or_default(),
            paths: path.into_iter().collect(),
            all_profiles: true,
        }
    }

    fn setting(&self, service: &Service<'_>, name: &str, entry: &Entry) -> Option<Setting> {
        let value = entry.node.scalar_text()?;
        let written = self.sources.text(entry.node.span).unwrap_or_default();
        Some(Setting {
            owner: service.name.to_owned(),
            name: name.to_owned(),
            literal: !written.contains('$') && !written.is_empty(),
            value,
            key: entry.key,
            span: entry.node.used(),
            path: format!("services.{}.environment.{name}", service.name),
        })
    }

    /// The project, if it is one.
    pub fn project(&self) -> Option<&'a Project> {
        match self.part {
            Part::Compose(project) => Some(project),
            _ => None,
        }
    }

    /// The beginning of the first file of a project. `.env` is read before it, so that the first
    /// file that was read may be another one.
    pub(crate) fn beginning(&self) -> Span {
        let first = self.paths.first().map(|path| path.display().to_string());
        let mut files = self.sources.files().iter();
        let file = files.position(|file| Some(&file.name) == first.as_ref());
        Span {
            file: file.unwrap_or_default() as u32,
            start: 0,
            end: 0,
        }
    }

    /// Values in files of variables that a project reads: none of them is to be shown.
    pub(crate) fn values_beside(&self) -> Vec<Span> {
        let files = self.sources.files().iter().enumerate();
        let beside = files.filter(|(_, file)| {
            let target = find::of_file(Path::new(&file.name));
            matches!(target, Some(Target::DotEnv(_))) && self.project().is_some()
        });
        beside
            .flat_map(|(number, _)| dotenv::settings(self.sources, number as u32))
            .map(|setting| setting.span)
            .collect()
    }

    /// The services that count.
    pub(crate) fn services(&self) -> impl Iterator<Item = Service<'a>> + use<'a> {
        let project = self.project();
        let everything = self.all_profiles;
        let all = project
            .and_then(|it| it.root.get("services"))
            .and_then(Node::as_map);
        let on = move |entry: &Entry| {
            everything || project.is_some_and(|project| project.is_on(&entry.node))
        };
        all.into_iter()
            .flatten()
            .filter(move |(_, entry)| on(entry))
            .map(|(name, entry)| Service { name, entry })
    }

    pub(crate) fn service(&self, name: &str) -> Option<Service<'a>> {
        self.services().find(|service| service.name == name)
    }

    /// Entries at the top of a project, as `networks`.
    pub(crate) fn top(&self, key: &str) -> Option<&'a Map> {
        self.project()?.root.get(key)?.as_map()
    }

    /// Whether others wait until a service is through, or it is never started again.
    pub(crate) fn runs_once(&self, service: &Service<'_>) -> bool {
        let waited = self.services().any(|other| {
            let condition = other.at(&["depends_on", service.name, "condition"]);
            condition.and_then(Node::as_str) == Some("service_completed_successfully")
        });
        waited
            || service.text("restart") == Some("no")
            || service.own("one_shot").is_some_and(is_true)
    }

    /// Whether a service stands at the edge, where it may publish ports.
    pub(crate) fn is_edge(&self, service: &Service<'_>) -> bool {
        if let Some(said) = service.own("edge") {
            return is_true(said);
        }
        let names = [
            "frontend",
            "web",
            "proxy",
            "gateway",
            "ingress",
            "edge",
            "console",
            "ui",
            "nginx",
            "traefik",
            "caddy",
            "haproxy",
            "envoy",
            "kong",
            "cloudflared",
            "lb",
        ];
        let known = |text: &str| {
            text.split(['-', '_', '.'])
                .any(|word| names.contains(&word.to_ascii_lowercase().as_str()))
        };
        let image = service.image();
        service.engine().is_none_or(|engine| !engine.is_store())
            && (known(service.name) || image.is_some_and(|image| known(image.last())))
    }

    /// Whether every network of a service is internal; `None` if that is not known.
    pub(crate) fn is_shut_in(&self, service: &Service<'_>) -> Option<bool> {
        let networks = service.networks()?;
        let top = self.top("networks");
        let mut all = true;
        for name in networks {
            let network = top.and_then(|top| top.get(name)).map(|entry| &entry.node);
            if network
                .and_then(|it| it.get("external"))
                .is_some_and(is_true)
            {
                return None;
            }
            all &= network
                .and_then(|it| it.get("internal"))
                .is_some_and(is_true);
        }
        Some(all)
    }

    /// The text of a file that the project names.
    pub(crate) fn read(&self, path: &str) -> Option<String> {
        let bytes = self.files.read(Path::new(path)).ok()?;
        source::decode(&bytes).ok()
    }
}

/// The variables of a file of them.
pub(crate) fn variables(sources: &Sources, file: u32) -> Vec<Setting> {
    dotenv::settings(sources, file)
}

/// The instructions of a Dockerfile.
pub(crate) fn instructions(sources: &Sources, file: u32) -> Vec<Instruction> {
    dockerfile::read(sources, file)
}

/// Whether a value is `true`, also as text.
pub(crate) fn is_true(node: &Node) -> bool {
    node.scalar_text()
        .is_some_and(|text| text.eq_ignore_ascii_case("true"))
}

/// Every scalar of a configuration.
fn configured(node: &Node, path: &str, found: &mut Vec<Setting>) {
    if let Some(map) = node.as_map() {
        for (name, entry) in map {
            let below = match path.is_empty() {
                true => name.clone(),
                false => format!("{path}.{name}"),
            };
            if let Some(value) = entry.node.scalar_text() {
                found.push(Setting {
                    owner: String::new(),
                    name: name.clone(),
                    literal: !value.contains('$'),
                    value,
                    key: entry.key,
                    span: entry.node.used(),
                    path: below.clone(),
                });
            }
            configured(&entry.node, &below, found);
        }
    }
    for (at, item) in node.as_list().unwrap_or_default().iter().enumerate() {
        configured(item, &format!("{path}.{at}"), found);
    }
}

/// Most files of git that are read for secrets.
const MAX_SUSPICIOUS: usize = 500;
/// Most modules of a LangGraph project that are read.
const MAX_MODULES: usize = 200;
/// Folders in which keys are there to be tested with.
const PRETENDED: [&str; 8] = [
    "test", "tests", "testdata", "fixtures", "examples", "example", "samples", "mocks",
];

/// Reads files that git keeps and that hold secrets as a rule.
fn suspicious(files: &dyn Files, tracked: &Tracked, sources: &mut Sources) {
    let ends = [".pem", ".key"];
    let names = ["id_rsa", "id_ed25519", "id_ecdsa"];
    let wanted = tracked.paths().filter(|path| {
        let mut parts = path.rsplit('/');
        let name = parts.next().unwrap_or_default();
        let is_env = matches!(find::of_file(Path::new(name)), Some(Target::DotEnv(_)));
        let is_key = ends.iter().any(|it| name.ends_with(it)) || names.contains(&name);
        (is_env || is_key) && !parts.any(|part| PRETENDED.contains(&part))
    });
    for path in wanted.take(MAX_SUSPICIOUS) {
        let path = tracked.root.join(path);
        if let Ok(bytes) = files.read(&path)
            && let Ok(text) = source::decode(&bytes)
        {
            sources.add(path.display().to_string(), text);
        }
    }
}

/// Reads the Python modules that a LangGraph project names.
fn modules(files: &dyn Files, path: &Path, root: &Node, sources: &mut Sources) {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let graphs = root
        .get("graphs")
        .and_then(Node::as_map)
        .into_iter()
        .flatten();
    let named = graphs.filter_map(|(_, entry)| {
        let node = entry.node.get("path").unwrap_or(&entry.node);
        node.as_str()?
            .rsplit_once(':')
            .map(|(file, _)| file.to_owned())
    });
    let mut seen = std::collections::BTreeSet::new();
    for file in named.take(MAX_MODULES) {
        let path: PathBuf = folder
            .join(file.trim_start_matches("./"))
            .components()
            .collect();
        if !file.ends_with(".py") || !seen.insert(path.clone()) {
            continue;
        }
        if let Ok(bytes) = files.read(&path)
            && let Ok(text) = source::decode(&bytes)
        {
            sources.add(path.display().to_string(), text);
        }
    }
}

/// Reads a file that is no Compose file.
pub(crate) fn read(
    files: &dyn Files,
    target: &Target,
    tracked: Option<&Tracked>,
    sources: &mut Sources,
) -> (Option<Part<'static>>, Vec<Finding>) {
    if let Target::Repository(root) = target {
        sources.add(root.join(".git").display().to_string(), String::new());
        if let Some(tracked) = tracked.filter(|tracked| tracked.root == *root) {
            suspicious(files, tracked, sources);
        }
        return (Some(Part::Repository(root.clone())), Vec::new());
    }
    let path = target.path();
    let name = path.display().to_string();
    let text = match files.read(path).map(|bytes| source::decode(&bytes)) {
        Ok(Ok(text)) => text,
        other => {
            let file = sources.add(name, String::new());
            let message = match other {
                Ok(Err((message, _))) => message,
                Err(error) => error.to_string(),
                Ok(Ok(_)) => String::new(),
            };
            let span = Span {
                file,
                start: 0,
                end: 0,
            };
            let problem = Problem::new(Kind::Encoding, span, message);
            return (None, vec![Finding::of_problem(&problem)]);
        }
    };
    let file = sources.add(name, text);
    let tree = |sources: &Sources| match target {
        Target::AgentFlow(_) => toml::read(sources, file),
        _ => json::read(sources, file),
    };
    let made = match target {
        Target::DotEnv(_) => Ok(Part::DotEnv),
        Target::Dockerfile(_) => Ok(Part::Dockerfile(dockerfile::read(sources, file))),
        Target::AgentFlow(_) => tree(sources).map(Part::AgentFlow),
        Target::LangGraph(_) => tree(sources).map(|root| {
            modules(files, path, &root, sources);
            Part::LangGraph(root)
        }),
        _ => tree(sources).map(Part::Mem0),
    };
    match made {
        Ok(part) => (Some(part), Vec::new()),
        Err(problem) => (None, vec![Finding::of_problem(&problem)]),
    }
}
