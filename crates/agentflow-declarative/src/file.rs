//! The format of graph files, version 1.
//!
//! These types are the format: the JSON Schema is made from them, every file is compared with
//! that schema first, and what fits is read into them. Field comments are what editors show.
//!
//! Texts come in three kinds. A **template** is minijinja: `Hello {{ name }}`. An **expression**
//! is CEL: `size(messages) > 3`. A **dynamic value** is any YAML whose texts are templates, but
//! a text that begins with `=` is an expression and keeps its type: `{"days": "=days + 1"}`.
//! All of them see the fields of the state by name (null before the first write), `state` (all
//! of them), `config` (the run's `configurable`) and `context` (the run's static context). What
//! a place adds (`item`, `index`, `response`, `answer`, `result`) hides a field of that name.

mod cache;
mod mcp;
mod memory;
mod retry;

pub use cache::{Cache, CacheSpec};
use indexmap::IndexMap;
pub use mcp::McpTools;
pub use memory::{Owners, RecallNode, RememberNode};
pub use retry::{Retry, RetrySpec};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value as Json;

/// Version of the format.
pub const VERSION: u64 = 1;

/// A map of the file, in its order.
pub type Fields<T> = IndexMap<String, T>;

/// Word that makes a file a graph; may be left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GraphKind {
    /// A graph.
    #[default]
    Graph,
}

/// Word that makes a file a prebuilt agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AgentKind {
    /// A prebuilt agent.
    Agent,
}

/// A graph: state, nodes, edges.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
pub struct GraphFile {
    /// Version of the format: 1.
    #[schemars(range(min = 1))]
    pub version: u64,
    /// What the file holds; `graph` if absent.
    #[serde(default)]
    pub kind: GraphKind,
    /// Name of the graph; the name of the file if absent.
    pub name: Option<String>,
    /// What the graph does, for people.
    pub description: Option<String>,
    /// Fields of the state.
    #[serde(default)]
    pub state: Fields<StateField>,
    /// Fields that a run takes; all if absent.
    pub input: Option<Vec<String>>,
    /// Fields that a run gives; all if absent.
    pub output: Option<Vec<String>>,
    /// JSON Schema of the static context of runs.
    pub context: Option<Fields<Json>>,
    /// Tools that this file declares, by name.
    #[serde(default)]
    pub tools: Fields<ToolDecl>,
    /// Nodes by name.
    pub nodes: Fields<Node>,
    /// Edges: `START -> a -> b -> END`, or maps.
    pub edges: Vec<Edge>,
    /// Every run stops before these nodes.
    #[serde(default)]
    pub interrupt_before: Vec<String>,
    /// Every run stops after these nodes.
    #[serde(default)]
    pub interrupt_after: Vec<String>,
}

/// A prebuilt agent: a model that calls tools until it has an answer.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
pub struct AgentFile {
    /// Version of the format: 1.
    #[schemars(range(min = 1))]
    pub version: u64,
    /// The word `agent`.
    pub kind: AgentKind,
    /// Name of the graph; the name of the file if absent.
    pub name: Option<String>,
    /// What the agent does, for people.
    pub description: Option<String>,
    /// Model, `provider:model`; the configured default if absent.
    pub model: Option<String>,
    /// Template of the instructions.
    pub system: Option<String>,
    /// Tools that the model may call.
    #[serde(default)]
    pub tools: Vec<String>,
    /// Tools that this file declares, by name; the model may call them too.
    #[serde(default)]
    pub declare: Fields<ToolDecl>,
    /// Tools that wait for somebody's approval before they run.
    #[serde(default)]
    pub approve: Vec<String>,
    /// Most answers of the model with tool calls per question; 25 if absent.
    #[schemars(range(min = 1, max = 1000))]
    pub max_iterations: Option<u32>,
    /// Sampling temperature.
    #[schemars(range(min = 0, max = 2))]
    pub temperature: Option<f64>,
    /// Most tokens per answer.
    #[schemars(range(min = 1))]
    pub max_tokens: Option<u64>,
    /// JSON Schema of the static context of runs.
    pub context: Option<Fields<Json>>,
}

/// A field of the state: a type, or a map with details.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum StateField {
    /// Only the type.
    Type(FieldType),
    /// With details.
    Full(FieldSpec),
}

impl StateField {
    /// The details.
    #[must_use]
    pub fn spec(&self) -> FieldSpec {
        match self {
            Self::Type(kind) => FieldSpec {
                kind: *kind,
                ..FieldSpec::default()
            },
            Self::Full(spec) => spec.clone(),
        }
    }
}

/// Details of a field of the state.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
pub struct FieldSpec {
    /// Type.
    #[serde(rename = "type", default)]
    pub kind: FieldType,
    /// How writes are combined: `last` (the default), `append`, `messages`, `sum`, `max`, `min`,
    /// `merge`, or an expression over `current` and `update`.
    pub reducer: Option<String>,
    /// Value before the first write.
    pub default: Option<Json>,
    /// What the field holds, for people and forms.
    pub description: Option<String>,
}

/// Types of fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FieldType {
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// A list.
    List,
    /// A map.
    Object,
    /// A list of chat messages; its reducer is `messages`.
    Messages,
    /// Anything.
    #[default]
    Any,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Node {
    /// Asks a chat model.
    Model(Box<ModelNode>),
    /// Runs tools.
    Tool(Box<ToolNode>),
    /// Sends an HTTP request.
    Http(Box<HttpNode>),
    /// Asks a person: the run stops until somebody answers.
    Human(Box<HumanNode>),
    /// Writes text made from a template.
    Template(Box<TemplateNode>),
    /// Computes fields.
    Set(Box<SetNode>),
    /// Runs another graph.
    Subgraph(Box<SubgraphNode>),
    /// Runs another node once per item of a list.
    Map(Box<MapNode>),
    /// Looks memories up.
    Recall(Box<RecallNode>),
    /// Adds memories.
    Remember(Box<RememberNode>),
}

impl Node {
    /// Options that every kind has.
    #[must_use]
    pub fn options(&self) -> &Options {
        match self {
            Self::Model(node) => &node.options,
            Self::Tool(node) => &node.options,
            Self::Http(node) => &node.options,
            Self::Human(node) => &node.options,
            Self::Template(node) => &node.options,
            Self::Set(node) => &node.options,
            Self::Subgraph(node) => &node.options,
            Self::Map(node) => &node.options,
            Self::Recall(node) => &node.options,
            Self::Remember(node) => &node.options,
        }
    }
}

/// Options that every kind of node has.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
pub struct Options {
    /// What the node does, for people.
    pub description: Option<String>,
    /// Retries when the node fails: a number of attempts, or a map.
    pub retry: Option<Retry>,
    /// Longest time of one attempt in seconds.
    #[schemars(range(min = 0.001, max = 86400))]
    pub timeout_seconds: Option<f64>,
    /// Runs only when nothing else is left to do.
    #[serde(default)]
    pub defer: bool,
    /// Skips the node when its input was seen: for so many seconds, or a map.
    pub cache: Option<Cache>,
}

/// Asks a chat model.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
pub struct ModelNode {
    /// Options of every node.
    #[serde(flatten)]
    pub options: Options,
    /// Model, `provider:model`; the configured default if absent.
    pub model: Option<String>,
    /// Template of the instructions, sent before the messages.
    pub system: Option<String>,
    /// Template of a question, sent after the messages. With it no field of messages is needed.
    pub prompt: Option<String>,
    /// Field of messages that is sent, and to which the answer is appended; by default the
    /// only field of type `messages`, unless there is `prompt`.
    pub messages: Option<String>,
    /// Field that also gets the answer: its text, or the structured value.
    pub output: Option<String>,
    /// Tools that the model may call.
    #[serde(default)]
    pub tools: Vec<String>,
    /// `auto` (the default), `required`, `none`, or the name of the tool that must be called.
    pub tool_choice: Option<String>,
    /// JSON Schema that the answer must satisfy; needs `output`.
    pub response_schema: Option<Fields<Json>>,
    /// Sampling temperature.
    #[schemars(range(min = 0, max = 2))]
    pub temperature: Option<f64>,
    /// Most tokens to generate.
    #[schemars(range(min = 1))]
    pub max_tokens: Option<u64>,
    /// Texts at which the model stops.
    #[serde(default)]
    pub stop: Vec<String>,
    /// Whether tokens are streamed to readers of the `messages` mode; true if absent.
    pub stream: Option<bool>,
    /// Most answers with tool calls since the last question; then the node says that it gave up.
    #[schemars(range(min = 1, max = 1000))]
    pub max_iterations: Option<u32>,
}

/// Runs tools: those that the model called last, or one by name.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
pub struct ToolNode {
    /// Options of every node.
    #[serde(flatten)]
    pub options: Options,
    /// The one tool to run; without it, the tool calls of the last message.
    pub tool: Option<String>,
    /// Arguments of the one tool: dynamic values.
    #[serde(default)]
    pub args: Fields<Json>,
    /// Field that gets the result of the one tool.
    pub output: Option<String>,
    /// Field of messages whose last message has the calls; by default the only one.
    pub messages: Option<String>,
    /// Tools that may be called; if absent, all that a model node of this graph offers.
    pub tools: Option<Vec<String>>,
    /// Tools that wait for somebody's approval before they run.
    #[serde(default)]
    pub approve: Vec<String>,
}

/// Sends an HTTP request.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
pub struct HttpNode {
    /// Options of every node.
    #[serde(flatten)]
    pub options: Options,
    /// The request.
    #[serde(flatten)]
    pub request: Request,
    /// Field that gets the body: parsed if it is JSON, text otherwise.
    pub output: Option<String>,
    /// Fields computed from `response` (`status`, `headers`, `body`, `json`): expressions.
    #[serde(default)]
    pub response: Fields<Json>,
}

/// A request, of a node or of a tool.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
pub struct Request {
    /// Method; GET if absent.
    #[serde(default)]
    pub method: Method,
    /// Template of the URL; values are percent-encoded.
    pub url: String,
    /// Templates of parameters that are appended to the URL.
    #[serde(default)]
    pub query: Fields<Json>,
    /// Templates of headers.
    #[serde(default)]
    pub headers: Fields<String>,
    /// Body: a dynamic value sent as JSON, or text.
    pub body: Option<Json>,
    /// Hosts that may be asked, besides those that are refused; `*.example.org` means all below.
    pub allow_hosts: Option<Vec<String>>,
    /// Hosts that are refused.
    #[serde(default)]
    pub deny_hosts: Vec<String>,
    /// Whether private networks and this machine may be asked.
    #[serde(default)]
    pub allow_private: bool,
    /// Whether an answer with another status than 2xx is a result instead of an error.
    #[serde(default)]
    pub accept_errors: bool,
    /// Most bytes of the answer; 1 MiB if absent.
    #[schemars(range(min = 1, max = 67108864))]
    pub max_bytes: Option<usize>,
    /// Most redirects that are followed; 5 if absent.
    #[schemars(range(min = 0, max = 20))]
    pub max_redirects: Option<u32>,
}

/// Methods of HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Reads.
    #[default]
    Get,
    /// Sends.
    Post,
    /// Replaces.
    Put,
    /// Changes.
    Patch,
    /// Deletes.
    Delete,
    /// Reads without a body.
    Head,
}

/// Asks a person.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
pub struct HumanNode {
    /// Options of every node.
    #[serde(flatten)]
    pub options: Options,
    /// What is asked: a dynamic value.
    pub question: Option<Json>,
    /// Actions to approve, edit or reject, instead of a question.
    #[serde(default)]
    pub actions: Vec<Action>,
    /// JSON Schema that the answer must satisfy.
    pub schema: Option<Fields<Json>>,
    /// Field that gets the answer; for actions, the list of decisions.
    pub output: Option<String>,
    /// Fields computed from `answer`: expressions.
    #[serde(default)]
    pub answer: Fields<Json>,
}

/// An action that a person decides about.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
pub struct Action {
    /// Name.
    pub name: String,
    /// Arguments: dynamic values.
    #[serde(default)]
    pub args: Fields<Json>,
    /// Template of the explanation.
    pub description: Option<String>,
    /// What may be decided; everything if absent.
    pub allowed: Option<Vec<Decision>>,
}

/// What a person may decide about an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// Do it.
    Approve,
    /// Do it with other arguments.
    Edit,
    /// Do not.
    Reject,
    /// Do not; this is the result instead.
    Respond,
}

/// Writes text made from a template.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
pub struct TemplateNode {
    /// Options of every node.
    #[serde(flatten)]
    pub options: Options,
    /// Template of the text.
    pub template: String,
    /// Field that gets the text; a field of messages gets it as a message of the AI.
    pub output: String,
}

/// Computes fields.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
pub struct SetNode {
    /// Options of every node.
    #[serde(flatten)]
    pub options: Options,
    /// Fields and their expressions; what is not text is taken as it is.
    pub values: Fields<Json>,
}

/// Runs another graph.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
pub struct SubgraphNode {
    /// Options of every node.
    #[serde(flatten)]
    pub options: Options,
    /// Path of the file, relative to this one; or the graph itself.
    pub graph: SubgraphSource,
    /// Input of the graph: expressions. Without `input` and `output`, both graphs share the
    /// fields that have the same name.
    pub input: Option<Fields<Json>>,
    /// Fields computed from `result`: expressions.
    pub output: Option<Fields<Json>>,
}

/// A graph inside another.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SubgraphSource {
    /// Path of a file.
    Path(String),
    /// The graph itself.
    Inline(Box<GraphFile>),
}

/// Runs another node once per item of a list, side by side.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
pub struct MapNode {
    /// Options of every node.
    #[serde(flatten)]
    pub options: Options,
    /// Expression of the list.
    pub over: String,
    /// Node that runs for each item; it sees `item` and `index`, and its writes are combined by
    /// reducers.
    pub node: String,
}

/// An edge.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Edge {
    /// A chain: `START -> a -> b -> END`.
    Chain(String),
    /// With details.
    Full(Box<EdgeSpec>),
}

/// Details of an edge.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
pub struct EdgeSpec {
    /// Node that the edge leaves; several: all of them must have run (a join).
    pub from: OneOrMany,
    /// Node or nodes that follow.
    pub to: Option<OneOrMany>,
    /// Expression: only if it is true.
    pub when: Option<String>,
    /// Node or nodes that follow if `when` is false; none if absent.
    #[serde(rename = "else")]
    pub otherwise: Option<OneOrMany>,
    /// Expression whose value, as text, is looked up in `cases`.
    pub switch: Option<String>,
    /// Nodes by value of `switch`.
    #[serde(default)]
    pub cases: Fields<OneOrMany>,
    /// Node or nodes for values that `cases` does not have.
    pub default: Option<OneOrMany>,
}

/// One name, or a list of names.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Default for OneOrMany {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl OneOrMany {
    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let names = match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Many(names) => names.as_slice(),
        };
        names.iter().map(String::as_str)
    }
}

/// A tool that a file declares.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ToolDecl {
    /// An HTTP request.
    Http(Box<HttpTool>),
    /// A tool of this program under another name or description.
    Builtin(BuiltinTool),
    /// The tools of an MCP server.
    Mcp(Box<McpTools>),
}

/// A tool that sends an HTTP request; templates see the arguments.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
pub struct HttpTool {
    /// What the tool does, for the model.
    pub description: String,
    /// JSON Schema of the arguments; no arguments if absent.
    pub args: Option<Fields<Json>>,
    /// The request.
    #[serde(flatten)]
    pub request: Request,
    /// Expression that makes the result from `response`; the body if absent.
    pub result: Option<String>,
    /// Longest time in seconds; 30 if absent.
    #[schemars(range(min = 0.001, max = 3600))]
    pub timeout_seconds: Option<f64>,
}

/// A tool of this program.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
pub struct BuiltinTool {
    /// Its name in the program: `calculator`, `current_time`, or one that was registered.
    pub tool: String,
    /// What the tool does, for the model; its own description if absent.
    pub description: Option<String>,
}
