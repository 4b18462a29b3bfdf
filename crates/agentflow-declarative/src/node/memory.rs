//! The kinds `recall` and `remember`: long-term memory.

use std::sync::Arc;

use agentflow_types::{Error, Map, Result, Str, Value, message};
use serde_json::Value as Json;

use super::{Built, Target};
use crate::{
    codes,
    dynamic::Dynamic,
    file::{FieldType, Fields, Owners, RecallNode, RememberNode},
    memory::{Memories, OwnerNames, Recall, Recalled, Remember, Said},
    scope::Scope,
    variables::Variables,
};

/// Owners whose names are not computed yet.
type Named = Vec<(&'static str, Dynamic)>;

/// Where a node's messages or its text come from.
#[derive(Clone)]
enum Source {
    /// A value.
    Text(Dynamic),
    /// A field of messages.
    Messages(Str),
}

/// Compiles a `recall` node.
pub(crate) fn build_recall(
    scope: &Scope<'_>,
    name: &str,
    spec: &RecallNode,
    extras: &[&str],
) -> Option<Built> {
    let owners = owners(scope, name, &spec.owners, extras);
    let named = spec.messages.as_deref();
    let asked = source(scope, name, ("query", spec.query.as_ref()), named, extras);
    let filters = object(scope, name, ("filters", spec.filters.as_ref()), extras);
    let kind = (FieldType::List, "list");
    let output = target(scope, name, ("output", &spec.output), kind);
    let kind = (FieldType::String, "string");
    let text = match &spec.text {
        Some(field) => target(scope, name, ("text", field), kind).map(Some),
        None => Some(None),
    };
    let memory = known(scope, name);
    let (owners, asked, output, text) = (owners?, asked?, output?, text?);
    let memory = memory?;
    let writes = [Some(&spec.output), spec.text.as_ref()];
    let writes = writes.into_iter().flatten().cloned().collect();
    let spec = Arc::new(spec.clone());
    Some(Built::new(writes, move |state, context| {
        let (owners, asked, filters) = (owners.clone(), asked.clone(), filters.clone());
        let (output, text, memory) = (output.clone(), text.clone(), memory.clone());
        let spec = spec.clone();
        async move {
            let variables = Variables::of_node(&state, &context);
            let recall = Recall {
                query: question(&asked, &variables)?,
                owners: names(&owners, &variables)?,
                filters: map_of("filters", filters.as_ref(), &variables)?,
                categories: spec.categories.clone(),
                top_k: spec.top_k,
                threshold: spec.threshold,
                rerank: spec.rerank,
            };
            // Who asks nothing is told nothing.
            let found = match recall.query.trim().is_empty() {
                true => vec![],
                false => memory.recall(&context, recall).await?,
            };
            let mut update = Map::new();
            if let Some(text) = &text {
                text.write(Value::from(rendered(&found)), &mut update);
            }
            output.write(Value::list(found.iter().map(shown).collect()), &mut update);
            Ok(update.into())
        }
    }))
}

/// Compiles a `remember` node.
pub(crate) fn build_remember(
    scope: &Scope<'_>,
    name: &str,
    spec: &RememberNode,
    extras: &[&str],
) -> Option<Built> {
    let owners = owners(scope, name, &spec.owners, extras);
    if spec.text.is_some() && spec.last.is_some() {
        let message = "`last` counts messages, and `text` is remembered instead of them";
        let help = "leave one of them out".to_owned();
        let span = scope.key(&["nodes", name, "last"]);
        scope.error(codes::CONTRADICTION, span, message, help);
    }
    let named = spec.messages.as_deref();
    let said = source(scope, name, ("text", spec.text.as_ref()), named, extras);
    let metadata = object(scope, name, ("metadata", spec.metadata.as_ref()), extras);
    let kind = (FieldType::Object, "object");
    let output = match &spec.output {
        Some(field) => target(scope, name, ("output", field), kind).map(Some),
        None => Some(None),
    };
    let memory = known(scope, name);
    let (owners, said, output) = (owners?, said?, output?);
    let memory = memory?;
    let writes = spec.output.iter().cloned().collect();
    let spec = Arc::new(spec.clone());
    Some(Built::new(writes, move |state, context| {
        let (owners, said, metadata) = (owners.clone(), said.clone(), metadata.clone());
        let (output, memory, spec) = (output.clone(), memory.clone(), spec.clone());
        async move {
            let variables = Variables::of_node(&state, &context);
            let remember = Remember {
                messages: speech(&said, spec.last, &variables)?,
                owners: names(&owners, &variables)?,
                infer: spec.infer.unwrap_or(true),
                metadata: map_of("metadata", metadata.as_ref(), &variables)?,
                categories: spec.categories.clone().into_iter().collect(),
                part: String::new(),
            };
            let mut update = Map::new();
            let added = match remember.messages.is_empty() {
                true => Value::Null,
                false => {
                    let added = memory.remember(&context, remember).await?;
                    Value::object([
                        ("event_id", Value::from(added.event_id)),
                        ("status", Value::from(added.status)),
                        ("results", Value::list(added.results)),
                    ])
                }
            };
            if let Some(output) = &output {
                output.write(added, &mut update);
            }
            Ok(update.into())
        }
    }))
}

/// Long-term memory; reports that there is none.
fn known(scope: &Scope<'_>, name: &str) -> Option<Arc<dyn Memories>> {
    let memory = scope.session.environment.memory.clone();
    if memory.is_none() {
        let message = "this node needs long-term memory, and this program keeps none";
        let help = "set `memory.enabled = true` in agentflow.toml, or remove the node".to_owned();
        scope.error(
            codes::NO_MEMORY,
            scope.at(&["nodes", name, "kind"]),
            message,
            help,
        );
    }
    memory
}

/// The owners that a node names; reports if there is none.
fn owners(scope: &Scope<'_>, name: &str, spec: &Owners, extras: &[&str]) -> Option<Named> {
    let all = [
        ("user_id", &spec.user_id),
        ("agent_id", &spec.agent_id),
        ("app_id", &spec.app_id),
        ("run_id", &spec.run_id),
    ];
    let mut named = Vec::new();
    for (field, text) in all {
        let Some(text) = text else { continue };
        let path = ["nodes", name, field];
        if text.trim().is_empty() {
            let message = format!("`{field}` is empty");
            let help = format!("name somebody, or leave `{field}` out");
            scope.error(codes::WRONG_TYPE, scope.at(&path), message, help);
            return None;
        }
        let value = scope.dynamic(&path, &Json::String(text.clone()), extras);
        named.push((field, value));
    }
    if named.is_empty() {
        let message = "nobody is named whose memories are meant";
        let help = "add `user_id`, `agent_id`, `app_id` or `run_id`, for example \
                    `user_id: \"{{ config.user_id }}\"`";
        let span = scope.key(&["nodes", name]);
        scope.error(codes::MISSING_FIELD, span, message, help.to_owned());
        return None;
    }
    Some(named)
}

/// The value if there is one, the field of messages otherwise.
fn source(
    scope: &Scope<'_>,
    name: &str,
    (key, text): (&str, Option<&String>),
    messages: Option<&str>,
    extras: &[&str],
) -> Option<Source> {
    let Some(text) = text else {
        let field = scope.messages_field(name, messages)?;
        scope.reads.borrow_mut().insert(field.clone());
        return Some(Source::Messages(field.as_str().into()));
    };
    if messages.is_some() {
        let message = format!("`{key}` is used instead of `messages`");
        let help = "leave one of them out".to_owned();
        let span = scope.key(&["nodes", name, "messages"]);
        scope.error(codes::CONTRADICTION, span, message, help);
        return None;
    }
    let json = Json::String(text.clone());
    let value = scope.dynamic(&["nodes", name, key], &json, extras);
    Some(Source::Text(value))
}

fn object(
    scope: &Scope<'_>,
    name: &str,
    (key, fields): (&str, Option<&Fields<Json>>),
    extras: &[&str],
) -> Option<Dynamic> {
    let fields = fields?.clone().into_iter().collect();
    Some(scope.dynamic(&["nodes", name, key], &Json::Object(fields), extras))
}

/// A field that can hold what the node writes. `kind`: what it should be.
fn target(
    scope: &Scope<'_>,
    name: &str,
    (key, field): (&str, &str),
    (kind, word): (FieldType, &str),
) -> Option<Target> {
    let path = ["nodes", name, key];
    let target = Target::find(scope, &path, field)?;
    if ![kind, FieldType::Any].contains(&target.kind) {
        let message = format!("`{key}` needs a field that holds a value of type {word}");
        let help = format!("declare it: `state: {{{field}: {word}}}`");
        scope.error(codes::WRONG_TYPE, scope.at(&path), message, help);
        return None;
    }
    Some(target)
}

/// The names of owners.
///
/// # Errors
/// `Invalid` if one is none: leaving it out would mean the memories of others too.
fn names(owners: &Named, variables: &Variables<'_>) -> Result<OwnerNames> {
    let name = |(field, value): &(&'static str, Dynamic)| match value.value(variables)? {
        Value::Str(text) if !text.trim().is_empty() => Ok((*field, text.to_string())),
        Value::Int(number) => Ok((*field, number.to_string())),
        _ => Err(Error::invalid(format!(
            "`{field}` of the node names nobody: give the run what it is computed from"
        ))),
    };
    owners.iter().map(name).collect()
}

fn map_of(key: &str, value: Option<&Dynamic>, variables: &Variables<'_>) -> Result<Map> {
    let Some(value) = value else {
        return Ok(Map::new());
    };
    let value = value.value(variables)?;
    let map = value.as_map().cloned();
    map.ok_or_else(|| Error::invalid(format!("`{key}` is not a map")))
}

fn text_of(value: &Dynamic, variables: &Variables<'_>) -> Result<String> {
    Ok(match value.value(variables)? {
        Value::Null => String::new(),
        Value::Str(text) => text.to_string(),
        other => other.json_text(),
    })
}

fn question(asked: &Source, variables: &Variables<'_>) -> Result<String> {
    let field = match asked {
        Source::Text(value) => return text_of(value, variables),
        Source::Messages(field) => field,
    };
    let messages = variables.get(field);
    let messages = messages.as_list().unwrap_or_default();
    let last = messages
        .iter()
        .rfind(|one| message::kind(one) == Some("human"));
    Ok(last.map(message::text).unwrap_or_default())
}

/// What was said: the text, the last messages, or those from the last question on. Calls of tools
/// and their results are nothing that was said.
fn speech(said: &Source, last: Option<usize>, variables: &Variables<'_>) -> Result<Vec<Said>> {
    let spoken = |role: &'static str, content: String| {
        let is_said = !content.trim().is_empty();
        is_said.then_some(Said { role, content })
    };
    let field = match said {
        Source::Text(value) => {
            let text = text_of(value, variables)?;
            return Ok(spoken("user", text).into_iter().collect());
        }
        Source::Messages(field) => field,
    };
    let messages = variables.get(field);
    let messages = messages.as_list().unwrap_or_default();
    let is_question = |one: &Value| message::kind(one) == Some("human");
    let start = match last {
        Some(last) => messages.len().saturating_sub(last),
        None => messages.iter().rposition(is_question).unwrap_or_default(),
    };
    let turn = |one: &Value| {
        let role = match message::kind(one)? {
            "human" => "user",
            "ai" => "assistant",
            _ => return None,
        };
        spoken(role, message::text(one))
    };
    let recent = messages.get(start..).unwrap_or_default();
    Ok(recent.iter().filter_map(turn).collect())
}

fn shown(found: &Recalled) -> Value {
    Value::object([
        ("id", Value::str(found.id.as_str())),
        ("memory", Value::str(found.memory.as_str())),
        ("score", Value::Float(found.score)),
    ])
}

/// One line for each memory, so that a line break in one makes no other.
fn rendered(found: &[Recalled]) -> String {
    let line = |one: &Recalled| {
        let words: Vec<&str> = one.memory.split_whitespace().collect();
        format!("- {}", words.join(" "))
    };
    found.iter().map(line).collect::<Vec<_>>().join("\n")
}
