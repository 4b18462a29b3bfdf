//! What a list of tools names: tools, all tools of a source, one tool of a source.

use agentflow_types::{Error, Result};

use crate::tool::{SharedSource, SharedTool, Tools};

/// What a word in a list of tools means.
#[derive(Clone)]
pub(crate) enum Offer {
    /// A tool that is known.
    Tool(SharedTool),
    /// `source`: all its tools; `source.tool`: one of them.
    Source {
        name: String,
        source: SharedSource,
        only: Option<String>,
    },
}

/// A tool that there is at the moment, and how files may name it.
#[derive(Clone)]
pub(crate) struct Available {
    pub(crate) tool: SharedTool,
    /// Source, and the tool's name there.
    from: Option<(String, String)>,
}

impl Available {
    /// Whether `word` of a file means this tool.
    pub(crate) fn is_named(&self, word: &str) -> bool {
        if self.tool.name() == word {
            return true;
        }
        self.from.as_ref().is_some_and(|(source, own)| {
            let rest = word.strip_prefix(source.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix('.') == Some(own))
        })
    }
}

impl Offer {
    /// What `word` means among `tools`.
    pub(crate) fn find(tools: &Tools, word: &str) -> Option<Self> {
        if let Some(tool) = tools.get(word) {
            return Some(Self::Tool(tool.clone()));
        }
        let (name, only) = match word.split_once('.') {
            Some((name, only)) => (name, Some(only.to_owned())),
            None => (word, None),
        };
        Some(Self::Source {
            name: name.to_owned(),
            source: tools.source(name)?.clone(),
            only,
        })
    }

    /// Whether it means one tool.
    pub(crate) fn is_one(&self) -> bool {
        !matches!(self, Self::Source { only: None, .. })
    }

    async fn expand(&self, into: &mut Vec<Available>) -> Result<()> {
        let (name, source, only) = match self {
            Self::Tool(tool) => {
                let tool = tool.clone();
                into.push(Available { tool, from: None });
                return Ok(());
            }
            Self::Source { name, source, only } => (name, source, only),
        };
        let before = into.len();
        for (own, tool) in source.tools().await? {
            if only.as_ref().is_none_or(|only| *only == own) {
                let from = Some((name.clone(), own));
                into.push(Available { tool, from });
            }
        }
        match only {
            Some(only) if into.len() == before => {
                Err(Error::not_found("the source has no such tool")
                    .with("source", name)
                    .with("tool", only))
            }
            _ => Ok(()),
        }
    }
}

/// The tools that there are at the moment, each once, in the order of the file.
///
/// # Errors
/// If a source cannot be asked; `NotFound` for a tool that it does not have; `Invalid` if two
/// tools have one name.
pub(crate) async fn available(offers: &[Offer]) -> Result<Vec<Available>> {
    let mut found: Vec<Available> = Vec::new();
    for offer in offers {
        let mut more = Vec::new();
        offer.expand(&mut more).await?;
        for one in more {
            match found
                .iter()
                .find(|known| known.tool.name() == one.tool.name())
            {
                None => found.push(one),
                // `source` and `source.tool` may stand in one list.
                Some(known) if known.from == one.from => {}
                Some(_) => {
                    return Err(Error::invalid(
                        "two tools have one name; give one source a `prefix`",
                    )
                    .with("name", one.tool.name()));
                }
            }
        }
    }
    Ok(found)
}
