//! Files to graphs.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use agentflow_graph::{END, Graph, GraphBuilder, InterruptAt, START};
use serde_json::Value as Json;

use crate::{
    agent, codes,
    diagnostic::{Diagnostic, Diagnostics, Severity, SourceFile, did_you_mean},
    document::{self, Document},
    edges,
    environment::Environment,
    file::{GraphFile, Node, ToolDecl},
    mcp,
    node::{self, Body, Built, map, request, subgraph::Inner, tools},
    scope::{ALL_FIELDS, Scope, Session, Unit},
    state,
    tool::{Renamed, Tools},
    tree,
};

/// Most nodes of one graph.
pub const MAX_NODES: usize = 1000;

/// Longest name of a tool, as model providers allow.
const TOOL_NAME_CHARS: usize = 64;

/// A graph that is ready to run.
#[derive(Clone, Debug)]
pub struct LoadedGraph {
    /// The graph.
    pub graph: Arc<Graph>,
    /// Its name: the file's `name`, or the name of the file.
    pub name: String,
    /// What it does, if the file says so.
    pub description: Option<String>,
    /// What may not be meant.
    pub warnings: Diagnostics,
}

/// Loads the graph file at `path`, and the files that it names.
///
/// # Errors
/// Every mistake that was found, in the order of the files.
pub fn load(path: impl AsRef<Path>, environment: &Environment) -> Result<LoadedGraph, Diagnostics> {
    let path = path.as_ref();
    let absolute = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = absolute.parent().map(Path::to_owned).unwrap_or_default();
    let session = session(environment, folder);
    let named = path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned());
    let document = read(&session, path, &absolute);
    finish(session, document, named.as_deref().unwrap_or("graph"))
}

/// Loads a graph from text; `name` stands for the file in reports.
///
/// # Errors
/// Every mistake that was found.
pub fn load_text(
    name: &str,
    text: &str,
    environment: &Environment,
) -> Result<LoadedGraph, Diagnostics> {
    let session = session(environment, PathBuf::from("."));
    let named = Path::new(name)
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned());
    let document = parse(&session, document::source(name, text), None);
    finish(session, document, named.as_deref().unwrap_or("graph"))
}

fn session(environment: &Environment, folder: PathBuf) -> Session<'_> {
    let base = environment.base.clone().unwrap_or(folder);
    Session {
        environment,
        found: RefCell::default(),
        base: base.canonicalize().unwrap_or(base),
        stack: RefCell::default(),
    }
}

fn finish(
    session: Session<'_>,
    document: Option<(Document, Unit)>,
    named: &str,
) -> Result<LoadedGraph, Diagnostics> {
    let built = document.and_then(|(document, unit)| {
        let (name, description) = match &document {
            Document::Graph(file) => (file.name.clone(), file.description.clone()),
            Document::Agent(file) => (file.name.clone(), file.description.clone()),
        };
        let inner = compile_document(&session, &unit, named, &document)?;
        Some((
            inner.graph,
            name.unwrap_or_else(|| named.to_owned()),
            description,
        ))
    });
    let mut found = session.found.into_inner();
    found.sort();
    match built {
        Some((graph, name, description)) if !found.has_errors() => Ok(LoadedGraph {
            graph,
            name,
            description,
            warnings: found,
        }),
        _ => Err(found),
    }
}

/// Reads and parses a file; `shown` is its name in reports.
fn read(session: &Session<'_>, shown: &Path, path: &Path) -> Option<(Document, Unit)> {
    let name = shown.display().to_string();
    // A file above the limit is refused by its size, not read first.
    let size = std::fs::metadata(path).map(|metadata| metadata.len());
    let text = match size {
        Ok(size) if size > tree::MAX_BYTES as u64 => {
            let message = format!("the file has more than {} bytes", tree::MAX_BYTES);
            return refuse(session, codes::LIMIT, &name, message);
        }
        Ok(_) => std::fs::read_to_string(path),
        Err(error) => Err(error),
    };
    match text {
        Ok(text) => parse(
            session,
            document::source(&name, &text),
            Some(path.to_owned()),
        ),
        Err(error) => refuse(
            session,
            codes::UNREADABLE,
            &name,
            format!("the file cannot be read: {error}"),
        ),
    }
}

fn refuse<T>(session: &Session<'_>, code: &'static str, name: &str, message: String) -> Option<T> {
    let source = document::source(name, "");
    let severity = Severity::Error;
    let diagnostic = Diagnostic {
        code,
        severity,
        message,
        help: None,
        span: 0..0,
        source,
    };
    session.found.borrow_mut().push(diagnostic);
    None
}

fn parse(
    session: &Session<'_>,
    source: Arc<SourceFile>,
    path: Option<PathBuf>,
) -> Option<(Document, Unit)> {
    match document::parse_source(&source) {
        Ok((document, tree)) => Some((document, Unit { source, tree, path })),
        Err(found) => {
            let mut all = session.found.borrow_mut();
            found.iter().for_each(|one| all.push(one.clone()));
            None
        }
    }
}

/// Loads a file that another one names.
pub(crate) fn compile_file(session: &Session<'_>, path: &Path) -> Option<Inner> {
    let shown = path.strip_prefix(&session.base).unwrap_or(path).to_owned();
    let named = path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned());
    let (document, unit) = read(session, &shown, path)?;
    compile_document(
        session,
        &unit,
        named.as_deref().unwrap_or("graph"),
        &document,
    )
}

fn compile_document(
    session: &Session<'_>,
    unit: &Unit,
    named: &str,
    document: &Document,
) -> Option<Inner> {
    if let Some(path) = &unit.path {
        session.stack.borrow_mut().push(path.clone());
    }
    let inner = match document {
        Document::Graph(file) => compile_graph(session, unit, Vec::new(), named, file),
        Document::Agent(file) => {
            let graph = agent::graph(file);
            let mut scope = Scope::new(session, unit, Vec::new());
            scope.is_agent = true;
            for (at, name) in agent::approved_but_absent(file) {
                // What is no tool at all is reported with the node that runs tools.
                if session.environment.tools.get(name).is_none() {
                    continue;
                }
                let span = unit.tree.at(&["approve", &at.to_string()]).span.clone();
                let known = file
                    .tools
                    .iter()
                    .chain(file.declare.keys())
                    .map(String::as_str);
                let help = did_you_mean(name, known);
                let message = format!("`{name}` is not one of this agent's tools");
                scope.error(codes::UNKNOWN_TOOL, span, message, help);
            }
            compile(scope, named, &graph)
        }
    };
    if unit.path.is_some() {
        session.stack.borrow_mut().pop();
    }
    inner
}

/// Compiles a graph that stands at `prefix` in a file.
pub(crate) fn compile_graph(
    session: &Session<'_>,
    unit: &Unit,
    prefix: Vec<String>,
    named: &str,
    file: &GraphFile,
) -> Option<Inner> {
    compile(Scope::new(session, unit, prefix), named, file)
}

fn compile(mut scope: Scope<'_>, named: &str, file: &GraphFile) -> Option<Inner> {
    let name = file.name.as_deref().unwrap_or(named);
    let mut builder = GraphBuilder::new(name);
    scope.fields = file
        .state
        .iter()
        .map(|(name, field)| (name.clone(), field.spec()))
        .collect();
    for (name, spec) in &scope.fields {
        if let Some(channel) = state::channel(&scope, name, spec) {
            builder.channel(name.as_str(), channel);
        }
    }
    scope.declared = file.tools.keys().cloned().collect();
    scope.tools = declared_tools(&scope, file);
    scope.offered = tools::offered(file.nodes.values());
    check_names(&scope, file);
    let writes = add_nodes(&scope, file, &mut builder);
    let before = scope.session.found.borrow().len();
    let routes = edges::compile(&scope, file);
    // Edges that are wrong would make nodes look unreachable that are not meant to be.
    if scope.session.found.borrow().len() == before {
        edges::check_reach(&scope, file, &routes);
    }
    edges::check_parallel(&scope, file, &routes, &writes);
    for route in routes {
        route.add(&mut builder);
    }
    describe(&scope, name, file, &mut builder);
    if scope.session.found.borrow().has_errors() {
        return None;
    }
    match builder.compile() {
        Ok(graph) => Some(Inner {
            graph,
            fields: scope.fields,
        }),
        Err(error) => {
            scope.error(
                codes::REFUSED,
                scope.key(&["nodes"]),
                error.to_string(),
                None,
            );
            None
        }
    }
}

/// The tools of the surroundings and those that the file declares.
fn declared_tools(scope: &Scope<'_>, file: &GraphFile) -> Tools {
    let mut tools = scope.session.environment.tools.clone();
    for (name, declared) in &file.tools {
        let path = ["tools", name.as_str()];
        let is_word = name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        if !is_word || name.is_empty() || name.len() > TOOL_NAME_CHARS {
            let message = "the name of a tool is letters, digits, `_` and `-`, up to 64";
            scope.error(codes::BAD_NAME, scope.key(&path), message, None);
        }
        match declared {
            ToolDecl::Http(spec) => {
                if let Some(tool) = request::tool(scope, &path, name, spec) {
                    tools.add(tool);
                }
            }
            ToolDecl::Mcp(spec) => {
                if let Some(source) = mcp::source(scope, &path, spec) {
                    tools.add_source(name, source);
                }
            }
            ToolDecl::Builtin(spec) => {
                let span = scope.at(&["tools", name, "tool"]);
                let known = &scope.session.environment.tools;
                match known.get(&spec.tool).cloned() {
                    Some(tool) => {
                        let (name, description) = (name.clone(), spec.description.clone());
                        tools.add(Arc::new(Renamed {
                            name,
                            description,
                            tool,
                        }));
                    }
                    None => {
                        let help = did_you_mean(&spec.tool, known.names());
                        let message = format!("unknown tool `{}`", spec.tool);
                        scope.error(codes::UNKNOWN_TOOL, span, message, help);
                    }
                }
            }
        }
    }
    tools
}

/// Names of nodes and of lists that name nodes and fields.
fn check_names(scope: &Scope<'_>, file: &GraphFile) {
    if file.nodes.len() > MAX_NODES {
        let message = format!("the graph has more than {MAX_NODES} nodes");
        scope.error(codes::LIMIT, scope.key(&["nodes"]), message, None);
    }
    for name in file.nodes.keys() {
        let why = if matches!(name.as_str(), "START" | "END" | START | END) {
            format!("`{name}` is an end of every graph; a node needs another name")
        } else if scope.fields.contains_key(name) {
            format!("`{name}` is also a field of the state")
        } else if name.is_empty() || name.contains(['|', ':']) || name.contains("->") {
            "the name of a node must not be empty, nor hold `|`, `:` or `->`".to_owned()
        } else {
            continue;
        };
        scope.error(codes::BAD_NAME, scope.key(&["nodes", name]), why, None);
    }
    for (list, names) in [("input", &file.input), ("output", &file.output)] {
        for (at, name) in names.iter().flatten().enumerate() {
            scope.is_field(scope.at(&[list, &at.to_string()]), name);
        }
    }
    let stops = [
        ("interrupt_before", &file.interrupt_before),
        ("interrupt_after", &file.interrupt_after),
    ];
    for (list, names) in stops {
        for (at, name) in names.iter().enumerate() {
            is_node(scope, file, &[list, &at.to_string()], name);
        }
    }
    for (name, node) in &file.nodes {
        let Node::Map(spec) = node else { continue };
        let path = ["nodes", name, "node"];
        if is_node(scope, file, &path, &spec.node)
            && matches!(file.nodes.get(&spec.node), Some(Node::Map(_)))
        {
            let message = "a map node cannot run another map node";
            let help = "put the inner one into a subgraph".to_owned();
            scope.error(codes::CONTRADICTION, scope.at(&path), message, help);
        }
    }
}

fn is_node(scope: &Scope<'_>, file: &GraphFile, path: &[&str], name: &str) -> bool {
    if file.nodes.contains_key(name) {
        return true;
    }
    let help = did_you_mean(name, file.nodes.keys().map(String::as_str));
    scope.error(
        codes::UNKNOWN_NODE,
        scope.at(path),
        format!("unknown node `{name}`"),
        help,
    );
    false
}

/// Compiles the nodes and adds them; returns what each writes.
fn add_nodes(
    scope: &Scope<'_>,
    file: &GraphFile,
    builder: &mut GraphBuilder,
) -> BTreeMap<String, Vec<String>> {
    let mapped: BTreeSet<&str> = file
        .nodes
        .values()
        .filter_map(|node| match node {
            Node::Map(map) => Some(map.node.as_str()),
            _ => None,
        })
        .collect();
    let mut writes = BTreeMap::new();
    let mut reads: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut built: BTreeMap<&str, Built> = BTreeMap::new();
    for (name, spec) in &file.nodes {
        let extras: &[&str] = if mapped.contains(name.as_str()) {
            &map::EXTRAS
        } else {
            &[]
        };
        scope.reads.take();
        if let Some(one) = node::build(scope, name, spec, extras) {
            writes.insert(name.clone(), one.writes.clone());
            built.insert(name, one);
        }
        reads.insert(name, scope.reads.take().into_iter().collect());
    }
    for (name, spec) in &file.nodes {
        let Node::Map(map) = spec else { continue };
        let mut fields = reads.get(map.node.as_str()).cloned().unwrap_or_default();
        if fields.iter().any(|field| field == ALL_FIELDS) {
            fields = scope.fields.keys().cloned().collect();
        }
        if let Some(one) = map::build(scope, name, map, &fields) {
            built.insert(name, one);
        }
    }
    for (name, spec) in &file.nodes {
        let Some(one) = built.remove(name.as_str()) else {
            continue;
        };
        let mut options = node::options(spec.options());
        options.cache = node::cache(scope, name, spec);
        if let Node::Map(map) = spec {
            options.destinations.push(map.node.clone());
        }
        match one.body {
            Body::Function(body) => builder.node_fn(name.as_str(), options, body),
            Body::Graph(graph) => builder.subgraph_with(name.as_str(), options, graph),
        };
    }
    writes
}

/// Schemas, inputs and outputs, static interrupts.
fn describe(scope: &Scope<'_>, name: &str, file: &GraphFile, builder: &mut GraphBuilder) {
    let schema = |suffix: &str, names: Option<&[String]>| -> Json {
        state::schema(&format!("{name}{suffix}"), &scope.fields, names)
    };
    builder.state_schema(schema("State", None));
    builder.input_schema(schema("Input", file.input.as_deref()));
    builder.output_schema(schema("Output", file.output.as_deref()));
    if let Some(names) = &file.input {
        builder.input_channels(names.iter().cloned());
    }
    if let Some(names) = &file.output {
        builder.output_channels(names.iter().cloned());
    }
    if let Some(context) = &file.context {
        builder.context_schema(scope.json_schema(&["context"], context));
    }
    let at = |names: &[String]| match names {
        [] => InterruptAt::Never,
        names => InterruptAt::Nodes(names.to_vec()),
    };
    builder.interrupt_before(at(&file.interrupt_before));
    builder.interrupt_after(at(&file.interrupt_after));
}
