//! The kind `model`: asks a chat model, streams its tokens.

use std::sync::Arc;

use agentflow_graph::{NodeContext, NodeOutput};
use agentflow_models::{
    ChatRequest, SharedChat, ToolChoice, ToolSpec,
    pieces::{self, Piece},
};
use agentflow_types::{Error, Map, Result, Value, graph::StreamMode, message};
use futures_util::StreamExt;
use serde_json::Value as Json;

use super::{Built, Target};
use crate::{
    codes,
    file::ModelNode,
    offer::{self, Offer},
    scope::Scope,
    shape,
    template::{Escape, Template},
    tool,
    variables::Variables,
};

/// What a node says that gives up; the words that LangGraph's agent uses, which clients know.
const GIVES_UP: &str = "Sorry, need more steps to process this request.";

/// Name under which the schema of a structured answer is sent.
const SCHEMA_NAME: &str = "answer";

/// A compiled model node.
struct Asker {
    chat: SharedChat,
    /// What every request has; its tools only if `sources` is empty.
    request: ChatRequest,
    /// The tools, if some of them are known only at run time.
    sources: Vec<Offer>,
    system: Option<Template>,
    prompt: Option<Template>,
    messages: Option<String>,
    output: Option<Target>,
    schema: Option<Json>,
    streams: bool,
    max_iterations: Option<u32>,
}

/// Compiles a `model` node.
pub(crate) fn build(
    scope: &Scope<'_>,
    name: &str,
    spec: &ModelNode,
    extras: &[&str],
) -> Option<Built> {
    let part = |field: &'static str, text: &Option<String>| match text {
        Some(text) => scope
            .template(&["nodes", name, field], text, Escape::None, extras)
            .map(Some),
        None => Some(None),
    };
    let (system, prompt) = (part("system", &spec.system), part("prompt", &spec.prompt));
    let messages = match (&spec.messages, &spec.prompt) {
        (None, Some(_)) => Some(None),
        (named, _) => scope.messages_field(name, named.as_deref()).map(Some),
    };
    let output = match &spec.output {
        Some(field) => Target::find(scope, &["nodes", name, "output"], field).map(Some),
        None => Some(None),
    };
    check_contradictions(scope, name, spec);
    let (tools, sources) = tools(scope, name, spec);
    let tool_choice = tool_choice(scope, name, spec);
    let schema = spec
        .response_schema
        .as_ref()
        .map(|schema| scope.json_schema(&["nodes", name, "response_schema"], schema));
    let (chat, model) = resolve(scope, name, spec.model.as_deref())?;
    let (system, prompt, messages, output) = (system?, prompt?, messages?, output?);
    if let Some(field) = &messages {
        scope.reads.borrow_mut().insert(field.clone());
    }
    let writes = messages.iter().chain(&spec.output).cloned().collect();
    let response_schema = schema
        .as_ref()
        .map(|schema| (SCHEMA_NAME.to_owned(), Value::from_json(schema)));
    let asker = Arc::new(Asker {
        chat,
        request: ChatRequest {
            model,
            tools,
            tool_choice,
            response_schema,
            temperature: spec.temperature,
            max_tokens: spec.max_tokens,
            stop: spec.stop.clone(),
            ..ChatRequest::default()
        },
        sources,
        system,
        prompt,
        messages,
        output,
        schema,
        streams: spec.stream.unwrap_or(true),
        max_iterations: spec.max_iterations,
    });
    Some(Built::new(writes, move |state, context| {
        let asker = asker.clone();
        async move { asker.run(&state, &context).await }
    }))
}

fn check_contradictions(scope: &Scope<'_>, name: &str, spec: &ModelNode) {
    if spec.response_schema.is_some() && spec.output.is_none() {
        let span = scope.key(&["nodes", name, "response_schema"]);
        let help = "say where the value goes: `output: field`".to_owned();
        let message = "a structured answer needs a field";
        scope.error(codes::CONTRADICTION, span, message, help);
    }
    if spec.messages.is_none() && spec.prompt.is_some() && spec.output.is_none() {
        let span = scope.key(&["nodes", name]);
        let help = "say where it goes: `output: field` or `messages: field`".to_owned();
        scope.error(codes::CONTRADICTION, span, "the answer is not kept", help);
    }
}

/// The tools, as far as they are known; all as offers if some are not.
fn tools(scope: &Scope<'_>, name: &str, spec: &ModelNode) -> (Vec<ToolSpec>, Vec<Offer>) {
    let found = spec.tools.iter().enumerate().filter_map(|(at, tool)| {
        scope.tool(scope.at(&["nodes", name, "tools", &at.to_string()]), tool)
    });
    let offers: Vec<Offer> = found.collect();
    let known = offers.iter().map(|offer| match offer {
        Offer::Tool(tool) => Some(tool::spec(&**tool)),
        Offer::Source { .. } => None,
    });
    match known.collect() {
        Some(known) => (known, Vec::new()),
        None => (Vec::new(), offers),
    }
}

fn tool_choice(scope: &Scope<'_>, name: &str, spec: &ModelNode) -> ToolChoice {
    match spec.tool_choice.as_deref() {
        None | Some("auto") => ToolChoice::Auto,
        Some("required") => ToolChoice::Required,
        Some("none") => ToolChoice::None,
        Some(tool) => {
            let source = tool.split_once('.').map(|(source, _)| source);
            let is_offered = |known: &String| known == tool || Some(known.as_str()) == source;
            let is_one = Offer::find(&scope.tools, tool).is_none_or(|offer| offer.is_one());
            if !is_one || !spec.tools.iter().any(is_offered) {
                let span = scope.at(&["nodes", name, "tool_choice"]);
                let words = ["auto", "required", "none"];
                let known = spec.tools.iter().map(String::as_str).chain(words);
                let help = crate::diagnostic::did_you_mean(tool, known);
                let message = format!("`{tool}` is not one of this node's tools");
                scope.error(codes::UNKNOWN_TOOL, span, message, help);
            }
            ToolChoice::Tool(tool.to_owned())
        }
    }
}

fn resolve(scope: &Scope<'_>, name: &str, spec: Option<&str>) -> Option<(SharedChat, String)> {
    match scope.session.environment.chat(spec) {
        Ok(found) => Some(found),
        Err(error) => {
            let span = match spec {
                Some(_) => scope.at(&["nodes", name, "model"]),
                None => scope.key(&["nodes", name]),
            };
            let help = "write `provider:model`, and configure the provider under [models]";
            let message = format!("the model cannot be used: {}", error.message());
            scope.error(codes::UNKNOWN_MODEL, span, message, help.to_owned());
            None
        }
    }
}

impl Asker {
    async fn run(&self, state: &Value, context: &NodeContext) -> Result<NodeOutput> {
        let history = self.history(state)?;
        let variables = Variables::of_node(state, context);
        let mut sent = Vec::with_capacity(history.len() + 2);
        if let Some(system) = &self.system {
            sent.push(message::system(system.render(&variables)?));
        }
        sent.extend(history.iter().cloned());
        if let Some(prompt) = &self.prompt {
            sent.push(message::human(prompt.render(&variables)?));
        }
        let id = message::fresh_id(&**context.rng());
        let gives_up = self
            .max_iterations
            .is_some_and(|most| iterations(&history) >= most);
        let answer = if gives_up {
            message::with_id(&message::ai(GIVES_UP), &id)
        } else {
            self.ask(sent, &id, context).await?
        };
        // Tool calls that can no longer be answered would leave the conversation broken.
        let is_last = self.max_iterations.is_some() && context.remaining_steps() < 2;
        let has_calls = !calls_of(&answer).is_empty();
        let answer = if is_last && has_calls {
            message::with_id(&message::ai(GIVES_UP), &id)
        } else {
            answer
        };
        self.update(answer)
    }

    fn history(&self, state: &Value) -> Result<Vec<Value>> {
        let Some(field) = &self.messages else {
            return Ok(Vec::new());
        };
        match state.get(field).map(Value::untyped) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::List(items)) => items.iter().map(message::coerce).collect(),
            Some(one) => Ok(vec![message::coerce(one)?]),
        }
    }

    async fn ask(&self, sent: Vec<Value>, id: &str, context: &NodeContext) -> Result<Value> {
        let mut request = ChatRequest {
            messages: sent,
            ..self.request.clone()
        };
        if !self.sources.is_empty() {
            self.add_tools(&mut request).await?;
        }
        let cancel = context.cancelled().clone();
        if !self.streams || !context.wants(StreamMode::Messages) {
            let answer = self.chat.complete(request, cancel).await?;
            return Ok(pieces::whole(&answer, id));
        }
        let stream = self.chat.stream(request, cancel).await?;
        let mut pieces = pieces::pieces(stream, id);
        while let Some(piece) = pieces.next().await {
            match piece? {
                Piece::Chunk(chunk) => context.emit(StreamMode::Messages, chunk).await,
                Piece::Message(whole) => return Ok(whole),
            }
        }
        Err(Error::failed("the answer ended before it was complete"))
    }

    /// Adds the tools that there are at the moment.
    async fn add_tools(&self, request: &mut ChatRequest) -> Result<()> {
        let found = offer::available(&self.sources).await?;
        if let ToolChoice::Tool(word) = &mut request.tool_choice {
            let chosen = found.iter().find(|one| one.is_named(word));
            let chosen = chosen.ok_or_else(|| {
                Error::not_found("the tool that must be called does not exist")
                    .with("tool", word.as_str())
            })?;
            *word = chosen.tool.name().to_owned();
        }
        request.tools = found.iter().map(|one| tool::spec(&*one.tool)).collect();
        Ok(())
    }

    fn update(&self, answer: Value) -> Result<NodeOutput> {
        let mut update = Map::new();
        if let Some(output) = &self.output {
            let text = message::text(&answer);
            let value = match &self.schema {
                Some(schema) => structured(&text, schema)?,
                None => Value::from(text),
            };
            output.write(value, &mut update);
        }
        if let Some(field) = &self.messages {
            update.insert(field.as_str().into(), Value::list(vec![answer]));
        }
        Ok(update.into())
    }
}

/// The value of a structured answer.
fn structured(text: &str, schema: &Json) -> Result<Value> {
    // Models like to put JSON into a fence although they were asked not to.
    let bare = text.trim();
    let bare = bare
        .strip_prefix("```json")
        .or_else(|| bare.strip_prefix("```"))
        .unwrap_or(bare);
    let bare = bare.strip_suffix("```").unwrap_or(bare);
    let value: Value = serde_json::from_str(bare.trim()).map_err(|error| {
        Error::failed("the model's answer is not json")
            .with("answer", text)
            .source_err(error)
    })?;
    match shape::mismatch(schema, &value) {
        Some(problem) => {
            Err(Error::failed("the model's answer does not fit its schema")
                .with("problem", problem))
        }
        None => Ok(value),
    }
}

/// The tool calls of a message.
pub(crate) fn calls_of(message: &Value) -> &[Value] {
    message
        .get("tool_calls")
        .and_then(Value::as_list)
        .unwrap_or_default()
}

/// Answers with tool calls since the last question.
fn iterations(history: &[Value]) -> u32 {
    let answers = history
        .iter()
        .rev()
        .take_while(|one| message::kind(one) != Some("human"));
    let with_calls = answers.filter(|one| !calls_of(one).is_empty()).count();
    u32::try_from(with_calls).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use agentflow_types::value;
    use serde_json::json;

    use super::*;

    #[test]
    fn structured_answers_are_checked() {
        let schema = json!({"type": "object", "required": ["n"]});
        assert_eq!(
            structured("```json\n{\"n\": 1}\n```", &schema).unwrap(),
            value!({"n": 1})
        );
        assert!(
            structured("sorry", &schema)
                .unwrap_err()
                .message()
                .contains("not json")
        );
        assert!(
            structured("{}", &schema)
                .unwrap_err()
                .to_string()
                .contains("`n` is missing")
        );
    }

    #[test]
    fn iterations_count_from_the_last_question() {
        let call = || message::ai_with_tool_calls("", vec![value!({"name": "f", "id": "1"})]);
        let history = [
            call(),
            message::human("q"),
            call(),
            message::tool("x", "1", "f"),
            call(),
        ];
        assert_eq!(iterations(&history), 2);
    }
}
