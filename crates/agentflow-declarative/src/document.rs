//! Text to a typed file: YAML, then the shape, then the types.

use std::sync::Arc;

use crate::{
    codes,
    diagnostic::{Diagnostic, Diagnostics, Severity, SourceFile, did_you_mean},
    file::{AgentFile, GraphFile, VERSION},
    schema, shape,
    tree::{self, Data, Span, Tree},
};

/// What a file holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Document {
    /// A graph.
    Graph(Box<GraphFile>),
    /// A prebuilt agent.
    Agent(Box<AgentFile>),
}

/// Reads the text of a graph file and checks its shape. What names, expressions and templates
/// mean is checked when the file is loaded.
///
/// Never panics, and needs time and memory in proportion to the text, which is limited
/// ([`tree::MAX_BYTES`], [`tree::MAX_DEPTH`], [`tree::MAX_VALUES`]).
///
/// # Errors
/// Every mistake of shape, with its place.
pub fn parse(text: &str) -> Result<Document, Diagnostics> {
    parse_source(&source("graph.yaml", text)).map(|(document, _)| document)
}

/// The value of a YAML or JSON text, within the limits of graph files: no aliases, tags or several
/// documents, and each key once.
///
/// # Errors
/// Every mistake, with its place in the file of this name.
pub fn yaml(name: &str, text: &str) -> Result<serde_json::Value, Diagnostics> {
    tree::read(&source(name, text)).map(|tree| tree.to_json())
}

/// A file of this name and text.
pub(crate) fn source(name: &str, text: &str) -> Arc<SourceFile> {
    Arc::new(SourceFile {
        name: name.to_owned(),
        text: text.to_owned(),
    })
}

/// Reads a file; the tree knows where everything stands.
///
/// # Errors
/// Every mistake of shape, with its place.
pub(crate) fn parse_source(source: &Arc<SourceFile>) -> Result<(Document, Tree), Diagnostics> {
    let tree = tree::read(source)?;
    let mut found = Diagnostics::new();
    let mut report = |code, span: Span, message: String, help: Option<String>| {
        let (severity, source) = (Severity::Error, source.clone());
        found.push(Diagnostic {
            code,
            severity,
            message,
            help,
            span,
            source,
        });
    };
    let definition = match definition(&tree) {
        Ok(definition) => definition,
        Err((span, word)) => {
            let help = did_you_mean(&word, ["graph", "agent"]);
            let message = format!("`{word}` is not known here");
            report(codes::UNKNOWN_WORD, span, message, help);
            return Err(found);
        }
    };
    if let Some((span, version)) = other_version(&tree) {
        let message = format!("version {version} of the format is not known");
        let help = format!("this program reads version {VERSION}");
        report(codes::VERSION, span, message, Some(help));
    }
    for problem in shape::check(&schema::rooted(definition), &tree) {
        report(problem.code, problem.span, problem.message, problem.help);
    }
    if found.has_errors() {
        found.sort();
        return Err(found);
    }
    let json = tree.to_json();
    let document = match definition {
        schema::AGENT => serde_json::from_value(json).map(|file| Document::Agent(Box::new(file))),
        _ => serde_json::from_value(json).map(|file| Document::Graph(Box::new(file))),
    };
    match document {
        Ok(document) => Ok((document, tree)),
        Err(error) => {
            // The schema is made from the types, so this is a value that only the types refuse,
            // for example an integer out of range.
            let (severity, source) = (Severity::Error, source.clone());
            let (code, message) = (codes::WRONG_TYPE, error.to_string());
            found.push(Diagnostic {
                code,
                severity,
                message,
                help: None,
                span: 0..0,
                source,
            });
            Err(found)
        }
    }
}

/// The definition that the word `kind` asks for.
fn definition(tree: &Tree) -> Result<&'static str, (Span, String)> {
    match tree.entry("kind") {
        None => Ok(schema::GRAPH),
        Some((_, kind)) => match kind.as_str() {
            Some("agent") => Ok(schema::AGENT),
            Some("graph") | None => Ok(schema::GRAPH),
            Some(other) => Err((kind.span.clone(), other.to_owned())),
        },
    }
}

fn other_version(tree: &Tree) -> Option<(Span, u64)> {
    let (_, version) = tree.entry("version")?;
    let Data::Scalar(scalar) = &version.data else {
        return None;
    };
    let number = scalar.as_u64()?;
    (number != VERSION).then(|| (version.span.clone(), number))
}
