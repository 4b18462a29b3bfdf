//! The kind `tool`: runs the tool calls of the last message side by side, or one tool by name.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use agentflow_graph::{NodeContext, NodeOutput};
use agentflow_types::{ErrorKind, Map, Result, Str, Value, graph::StreamMode, message};
use futures_util::{StreamExt, stream};

use super::{
    Built, Target,
    approval::{self, Decided, EVERY_DECISION, Proposed},
    model::calls_of,
};
use crate::{
    codes,
    dynamic::Dynamic,
    file::{Node, ToolNode},
    offer::{self, Available, Offer},
    scope::Scope,
    tool::{self, SharedTool, ToolContext},
    variables::Variables,
};

/// Most tools of one message that run at the same time.
const MAX_PARALLEL: usize = 16;

/// Compiles a `tool` node.
pub(crate) fn build(
    scope: &Scope<'_>,
    name: &str,
    spec: &ToolNode,
    extras: &[&str],
) -> Option<Built> {
    match &spec.tool {
        Some(tool) => named(scope, name, spec, tool, extras),
        None => called(scope, name, spec),
    }
}

/// Compiles a node that runs one tool.
fn named(
    scope: &Scope<'_>,
    name: &str,
    spec: &ToolNode,
    tool: &str,
    extras: &[&str],
) -> Option<Built> {
    let Some(output) = &spec.output else {
        let help = "say where it goes: `output: field`".to_owned();
        let message = "the result is not kept";
        scope.error(
            codes::CONTRADICTION,
            scope.key(&["nodes", name]),
            message,
            help,
        );
        return None;
    };
    let found = one_tool(scope, name, tool);
    let target = Target::find(scope, &["nodes", name, "output"], output);
    let args = spec.args.iter().map(|(arg, value)| {
        (
            Str::from(arg.as_str()),
            scope.dynamic(&["nodes", name, "args", arg], value, extras),
        )
    });
    let args = Dynamic::Map(args.collect());
    let source = tool.split_once('.').map(|(source, _)| source);
    let needs_approval = spec
        .approve
        .iter()
        .any(|known| known == tool || Some(known.as_str()) == source);
    let (found, target) = (found?, target?);
    Some(Built::new(vec![output.clone()], move |state, context| {
        let (found, target, args) = (found.clone(), target.clone(), args.clone());
        async move {
            let available = offer::available(std::slice::from_ref(&found)).await?;
            let found = available
                .into_iter()
                .next()
                .ok_or_else(|| agentflow_types::Error::bug("an offer of one tool gave none"))?;
            let found = found.tool;
            let mut call = Call {
                id: context.task_id(),
                name: found.name().to_owned(),
                args: args.value(&Variables::of_node(&state, &context))?,
            };
            let mut given = None;
            if needs_approval {
                let decided = approval::decide(&context, &[call.proposed()])?;
                given = decided
                    .into_iter()
                    .next()
                    .and_then(|decided| call.apply(decided));
            }
            let value = match given {
                Some(answer) => Value::from(answer.text),
                None => observed(&*found, &call, &context).await?.value(),
            };
            let mut update = Map::new();
            target.write(value, &mut update);
            Ok(update.into())
        }
    }))
}

/// The one tool that a node names.
fn one_tool(scope: &Scope<'_>, name: &str, tool: &str) -> Option<Offer> {
    let span = scope.at(&["nodes", name, "tool"]);
    let found = scope.tool(span.clone(), tool)?;
    if !found.is_one() {
        let message = format!("`{tool}` is a source of tools, not a tool");
        let help = format!("name one of its tools: `tool: {tool}.…`");
        scope.error(codes::CONTRADICTION, span, message, help);
        return None;
    }
    Some(found)
}

/// A node that runs what the model called.
struct Caller {
    field: String,
    offers: Vec<Offer>,
    /// Words of the file that name tools.
    approve: Vec<String>,
}

/// The tools of one execution.
struct Tools<'a> {
    by_name: HashMap<&'a str, &'a SharedTool>,
    /// Those that wait for approval.
    approve: HashSet<&'a str>,
}

impl<'a> Tools<'a> {
    fn of(found: &'a [Available], approve: &[String]) -> Self {
        let needs_approval = |one: &&Available| approve.iter().any(|word| one.is_named(word));
        Self {
            by_name: found
                .iter()
                .map(|one| (one.tool.name(), &one.tool))
                .collect(),
            approve: found
                .iter()
                .filter(needs_approval)
                .map(|one| one.tool.name())
                .collect(),
        }
    }
}

fn called(scope: &Scope<'_>, name: &str, spec: &ToolNode) -> Option<Built> {
    for (given, field) in [
        (!spec.args.is_empty(), "args"),
        (spec.output.is_some(), "output"),
    ] {
        if given {
            let message = format!("`{field}` is for a node that runs one tool by name");
            let help = "name it: `tool: …`".to_owned();
            scope.error(
                codes::CONTRADICTION,
                scope.key(&["nodes", name, field]),
                message,
                help,
            );
        }
    }
    let field = scope.messages_field(name, spec.messages.as_deref());
    let named = spec
        .tools
        .iter()
        .flatten()
        .enumerate()
        .filter_map(|(at, tool)| {
            scope.tool(scope.at(&["nodes", name, "tools", &at.to_string()]), tool)
        });
    let named: Vec<Offer> = named.collect();
    let offers: Vec<Offer> = match spec.tools {
        Some(_) => named,
        None => scope
            .offered
            .iter()
            .filter_map(|tool| Offer::find(&scope.tools, tool))
            .collect(),
    };
    for (at, tool) in spec.approve.iter().enumerate() {
        let span = scope.at(&["nodes", name, "approve", &at.to_string()]);
        scope.tool(span, tool);
    }
    let field = field?;
    scope.reads.borrow_mut().insert(field.clone());
    let writes = vec![field.clone()];
    let caller = Arc::new(Caller {
        field,
        offers,
        approve: spec.approve.clone(),
    });
    Some(Built::new(writes, move |state, context| {
        let caller = caller.clone();
        async move { caller.run(&state, &context).await }
    }))
}

/// The tools that model nodes of a graph offer, for tool nodes that do not name theirs.
pub(crate) fn offered<'a>(nodes: impl Iterator<Item = &'a Node>) -> Vec<String> {
    let mut offered: Vec<String> = Vec::new();
    for node in nodes {
        let Node::Model(model) = node else { continue };
        for tool in &model.tools {
            if !offered.contains(tool) {
                offered.push(tool.clone());
            }
        }
    }
    offered
}

/// A call that the model made.
#[derive(Clone, Debug, PartialEq)]
struct Call {
    id: String,
    name: String,
    args: Value,
}

/// What stands in the tool message.
struct Answer {
    text: String,
    status: &'static str,
    /// The result as a value, for the graph and for clients; null if there is only text.
    artifact: Value,
}

impl Answer {
    fn success(text: String) -> Self {
        Self {
            text,
            status: "success",
            artifact: Value::Null,
        }
    }

    fn error(text: String) -> Self {
        Self {
            status: "error",
            ..Self::success(text)
        }
    }
}

impl Call {
    fn proposed(&self) -> Proposed {
        Proposed {
            name: self.name.clone(),
            args: self.args.clone(),
            description: None,
            allowed: EVERY_DECISION.to_vec(),
        }
    }

    /// Applies a decision; an answer means that the tool does not run.
    fn apply(&mut self, decided: Decided) -> Option<Answer> {
        match decided {
            Decided::Approve => None,
            Decided::Edit(name, args) => {
                self.name = name;
                self.args = args;
                None
            }
            Decided::Respond(text) => Some(Answer::success(text)),
            Decided::Reject(why) => {
                let text = why.unwrap_or_else(|| {
                    format!(
                        "The user refused the call of `{}`. Do not try it again.",
                        self.name
                    )
                });
                Some(Answer::error(text))
            }
        }
    }
}

impl Caller {
    async fn run(&self, state: &Value, context: &NodeContext) -> Result<NodeOutput> {
        let messages = state
            .get(&self.field)
            .and_then(Value::as_list)
            .unwrap_or_default();
        let Some((source, mut calls)) = open_calls(messages) else {
            return Ok(().into());
        };
        let found = offer::available(&self.offers).await?;
        let tools = Tools::of(&found, &self.approve);
        let before = calls.clone();
        let mut given = tools.decide(context, &mut calls)?;
        let mut written = Vec::with_capacity(calls.len() + 1);
        if calls != before {
            // The conversation must say what was really called.
            written.push(with_calls(source, &calls));
        }
        let mut runs = Vec::with_capacity(calls.len());
        let tools = &tools;
        for call in &calls {
            let answer = given.remove(&call.id);
            runs.push(async move {
                match answer {
                    Some(answer) => Ok(tool_message(call, &answer)),
                    None => tools.run_one(call, context).await,
                }
            });
        }
        let mut results = stream::iter(runs).buffered(MAX_PARALLEL);
        while let Some(result) = results.next().await {
            written.push(result?);
        }
        drop(results);
        let mut update = Map::new();
        update.insert(self.field.as_str().into(), Value::list(written));
        Ok(update.into())
    }
}

impl Tools<'_> {
    /// Asks about the calls that need approval, all at once and before any tool runs.
    fn decide(&self, context: &NodeContext, calls: &mut [Call]) -> Result<HashMap<String, Answer>> {
        let mut given = HashMap::new();
        let mut asked: Vec<&mut Call> = calls
            .iter_mut()
            .filter(|call| self.approve.contains(call.name.as_str()))
            .collect();
        if asked.is_empty() {
            return Ok(given);
        }
        let proposed: Vec<Proposed> = asked.iter().map(|call| call.proposed()).collect();
        let decided = approval::decide(context, &proposed)?;
        for (call, decided) in asked.iter_mut().zip(decided) {
            if let Some(answer) = call.apply(decided) {
                given.insert(call.id.clone(), answer);
            }
        }
        Ok(given)
    }

    /// Runs one call. The tool's errors are told to the model; only what stops the node is one.
    async fn run_one(&self, call: &Call, context: &NodeContext) -> Result<Value> {
        let Some(tool) = self.by_name.get(call.name.as_str()) else {
            let mut known: Vec<&str> = self.by_name.keys().copied().collect();
            known.sort_unstable();
            let text = format!(
                "Error: `{}` is not a tool. Tools: {}.",
                call.name,
                known.join(", ")
            );
            return Ok(tool_message(call, &Answer::error(text)));
        };
        started(call, context).await;
        let result = tool::call(
            &***tool,
            call.args.clone(),
            ToolContext::of_node(context, &call.id),
        );
        match result.await {
            Ok(result) => {
                let answer = Answer {
                    artifact: result.artifact,
                    ..Answer::success(plain(&result.content))
                };
                let answer = tool_message(call, &answer);
                finished(call, &answer, context).await;
                Ok(answer)
            }
            Err(error) if stops(&error) => Err(error),
            Err(error) => {
                failed(call, &error, context).await;
                let text = format!("Error: {error}");
                Ok(tool_message(call, &Answer::error(text)))
            }
        }
    }
}

/// Runs a tool for a node that names it: its errors are the node's.
async fn observed(
    tool: &dyn tool::Tool,
    call: &Call,
    context: &NodeContext,
) -> Result<tool::Answer> {
    started(call, context).await;
    let result = tool::call(
        tool,
        call.args.clone(),
        ToolContext::of_node(context, &call.id),
    );
    match result.await {
        Ok(answer) => {
            finished(call, &answer.clone().value(), context).await;
            Ok(answer)
        }
        Err(error) => {
            if !stops(&error) {
                failed(call, &error, context).await;
            }
            Err(error)
        }
    }
}

fn stops(error: &agentflow_types::Error) -> bool {
    NodeContext::is_interrupt(error) || error.kind() == ErrorKind::Cancelled
}

async fn started(call: &Call, context: &NodeContext) {
    let data = Value::object([
        ("event", Value::str("tool-started")),
        ("tool_call_id", Value::str(call.id.as_str())),
        ("tool_name", Value::str(call.name.as_str())),
        ("input", call.args.clone()),
    ]);
    context.emit(StreamMode::Tools, data).await;
}

async fn finished(call: &Call, output: &Value, context: &NodeContext) {
    let data = Value::object([
        ("event", Value::str("tool-finished")),
        ("tool_call_id", Value::str(call.id.as_str())),
        ("output", output.clone()),
    ]);
    context.emit(StreamMode::Tools, data).await;
}

async fn failed(call: &Call, error: &agentflow_types::Error, context: &NodeContext) {
    let data = Value::object([
        ("event", Value::str("tool-error")),
        ("tool_call_id", Value::str(call.id.as_str())),
        ("message", Value::from(error.to_string())),
    ]);
    context.emit(StreamMode::Tools, data).await;
}

/// The last message of the AI and its calls that have no answer yet.
fn open_calls(messages: &[Value]) -> Option<(&Value, Vec<Call>)> {
    let at = messages
        .iter()
        .rposition(|one| message::kind(one) == Some("ai"))?;
    let answered: HashSet<&str> = messages[at + 1..]
        .iter()
        .filter_map(|one| one.get("tool_call_id").and_then(Value::as_str))
        .collect();
    let text = |call: &Value, name: &str| {
        call.get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let calls: Vec<Call> = calls_of(&messages[at])
        .iter()
        .map(|call| Call {
            id: text(call, "id"),
            name: text(call, "name"),
            args: call.get("args").cloned().unwrap_or_default(),
        })
        .filter(|call| !answered.contains(call.id.as_str()))
        .collect();
    (!calls.is_empty()).then_some((&messages[at], calls))
}

/// The message with what its calls became.
fn with_calls(source: &Value, calls: &[Call]) -> Value {
    let changed = calls_of(source).iter().map(|old| {
        let id = old.get("id").and_then(Value::as_str).unwrap_or_default();
        match (calls.iter().find(|call| call.id == id), old.as_map()) {
            (Some(call), Some(old)) => {
                let mut map = old.clone();
                map.insert("name".into(), Value::str(call.name.as_str()));
                map.insert("args".into(), call.args.clone());
                Value::map(map)
            }
            _ => old.clone(),
        }
    });
    let changed = Value::list(changed.collect());
    match source {
        Value::Typed(typed) => {
            let mut typed = (**typed).clone();
            let mut map = typed.value.as_map().cloned().unwrap_or_default();
            map.insert("tool_calls".into(), changed);
            typed.value = Value::map(map);
            Value::Typed(Arc::new(typed))
        }
        other => {
            let mut map = other.as_map().cloned().unwrap_or_default();
            map.insert("tool_calls".into(), changed);
            Value::map(map)
        }
    }
}

fn tool_message(call: &Call, answer: &Answer) -> Value {
    let made = message::tool(Value::str(answer.text.as_str()), &call.id, &call.name);
    match &made {
        Value::Typed(typed) if answer.status != "success" || !answer.artifact.is_null() => {
            let mut typed = (**typed).clone();
            let mut map = typed.value.as_map().cloned().unwrap_or_default();
            map.insert("status".into(), Value::str(answer.status));
            map.insert("artifact".into(), answer.artifact.clone());
            typed.value = Value::map(map);
            Value::Typed(Arc::new(typed))
        }
        _ => made,
    }
}

/// A result as the model reads it.
fn plain(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None => value.json_text(),
    }
}
