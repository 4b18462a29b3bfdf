//! The prebuilt agent: a model that calls tools until it has an answer, as an ordinary graph.
//!
//! Its nodes have the names that LangGraph's `create_react_agent` gives them, `agent` and
//! `tools`, so that clients which know those names find them.

use serde_json::Value as Json;

use crate::file::{
    AgentFile, Edge, EdgeSpec, FieldType, Fields, GraphFile, GraphKind, ModelNode, Node, OneOrMany,
    StateField, ToolNode,
};

/// Most answers with tool calls per question, unless the file says otherwise.
const MAX_ITERATIONS: u32 = 25;

/// Name of the node that asks the model.
const MODEL: &str = "agent";
/// Name of the node that runs tools.
const TOOLS: &str = "tools";
/// Name of the field of messages.
const MESSAGES: &str = "messages";

/// The graph that an agent is.
pub(crate) fn graph(agent: &AgentFile) -> GraphFile {
    let mut tools = agent.tools.clone();
    tools.extend(
        agent
            .declare
            .keys()
            .filter(|name| !agent.tools.iter().any(|tool| is_of(tool, name)))
            .cloned(),
    );
    let has_tools = !tools.is_empty();
    let mut nodes: Fields<Node> = Fields::new();
    let model = ModelNode {
        model: agent.model.clone(),
        system: agent.system.clone(),
        messages: Some(MESSAGES.to_owned()),
        tools: tools.clone(),
        temperature: agent.temperature,
        max_tokens: agent.max_tokens,
        max_iterations: Some(agent.max_iterations.unwrap_or(MAX_ITERATIONS)),
        ..ModelNode::default()
    };
    nodes.insert(MODEL.to_owned(), Node::Model(Box::new(model)));
    let mut edges = vec![Edge::Chain(format!("START -> {MODEL}"))];
    if has_tools {
        let node = ToolNode {
            messages: Some(MESSAGES.to_owned()),
            tools: Some(tools),
            approve: agent.approve.clone(),
            ..ToolNode::default()
        };
        nodes.insert(TOOLS.to_owned(), Node::Tool(Box::new(node)));
        edges.push(Edge::Full(Box::new(EdgeSpec {
            from: OneOrMany::One(MODEL.to_owned()),
            when: Some(format!("size(tool_calls({MESSAGES})) > 0")),
            to: Some(OneOrMany::One(TOOLS.to_owned())),
            otherwise: Some(OneOrMany::One("END".to_owned())),
            ..EdgeSpec::default()
        })));
        edges.push(Edge::Chain(format!("{TOOLS} -> {MODEL}")));
    } else {
        edges.push(Edge::Chain(format!("{MODEL} -> END")));
    }
    GraphFile {
        version: agent.version,
        kind: GraphKind::Graph,
        name: agent.name.clone(),
        description: agent.description.clone(),
        state: [(MESSAGES.to_owned(), StateField::Type(FieldType::Messages))]
            .into_iter()
            .collect(),
        input: None,
        output: None,
        context: agent.context.clone(),
        tools: agent.declare.clone(),
        nodes,
        edges,
        interrupt_before: Vec::new(),
        interrupt_after: Vec::new(),
    }
}

/// Whether a word names `name`, or one tool of the source `name`.
fn is_of(word: &str, name: &str) -> bool {
    let rest = word.strip_prefix(name);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Where a part of the agent's graph stands in the agent's file.
pub(crate) fn path_in_file(path: &[&str]) -> Vec<String> {
    let own = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect();
    match path {
        ["nodes", MODEL, "messages" | "max_iterations", ..] => Vec::new(),
        ["nodes", MODEL | TOOLS, rest @ ..] => own(rest),
        ["tools", rest @ ..] => {
            let mut parts = vec!["declare"];
            parts.extend_from_slice(rest);
            own(&parts)
        }
        other => own(other),
    }
}

/// Tools that wait for approval but are not among the agent's, with their position.
pub(crate) fn approved_but_absent(agent: &AgentFile) -> Vec<(usize, &str)> {
    let named = |word: &str| {
        agent
            .tools
            .iter()
            .chain(agent.declare.keys())
            .any(|one| one == word)
    };
    let is_known = |word: &String| named(word) || word.split('.').next().is_some_and(named);
    let absent = agent
        .approve
        .iter()
        .enumerate()
        .filter(|(_, name)| !is_known(name));
    absent.map(|(at, name)| (at, name.as_str())).collect()
}

/// A JSON Schema of messages, for forms.
pub(crate) fn messages_schema() -> Json {
    serde_json::json!({
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "type": {"type": "string", "enum": ["human", "ai", "system", "tool"]},
                "content": {},
            },
        },
    })
}
