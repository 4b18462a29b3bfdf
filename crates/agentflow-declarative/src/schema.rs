//! The JSON Schema of graph files, made from the types of [`crate::file`].

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::{Value as Json, json};

use crate::file::{AgentFile, GraphFile};

/// Name of the definition of graphs.
pub(crate) const GRAPH: &str = "GraphFile";
/// Name of the definition of agents.
pub(crate) const AGENT: &str = "AgentFile";

static SCHEMA: LazyLock<Json> = LazyLock::new(make);

/// The schema.
pub(crate) fn schema() -> &'static Json {
    &SCHEMA
}

/// The schema with another definition as its root, for reports about what was meant.
pub(crate) fn rooted(definition: &str) -> Json {
    let mut schema = SCHEMA.clone();
    if let Some(root) = schema.as_object_mut() {
        root.retain(|name, _| name == "$defs");
        root.insert("$ref".to_owned(), json!(format!("#/$defs/{definition}")));
    }
    schema
}

fn make() -> Json {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let _ = generator.subschema_for::<GraphFile>();
    let _ = generator.subschema_for::<AgentFile>();
    let mut definitions = Json::Object(generator.take_definitions(true).into_iter().collect());
    let originals = definitions.clone();
    merge_references(&mut definitions, &originals);
    close(&mut definitions);
    drop_unused(&mut definitions);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "AgentFlow graph file",
        "description": "A graph (state, nodes, edges) or a prebuilt agent, version 1 of the format.",
        "type": "object",
        "if": {"properties": {"kind": {"const": "agent"}}, "required": ["kind"]},
        "then": {"$ref": format!("#/$defs/{AGENT}")},
        "else": {"$ref": format!("#/$defs/{GRAPH}")},
        "$defs": definitions,
    })
}

/// Puts a referenced definition into the schema that adds properties to it: the branches of a
/// choice by `kind`. Otherwise neither half could forbid unknown fields.
fn merge_references(schema: &mut Json, originals: &Json) {
    match schema {
        Json::Object(rules) => {
            if rules.contains_key("properties")
                && let Some(Json::String(target)) = rules.remove("$ref")
                && let Some(Json::Object(base)) = target
                    .strip_prefix("#/$defs")
                    .and_then(|pointer| originals.pointer(pointer))
            {
                for (name, value) in base {
                    match (rules.get_mut(name), value) {
                        (Some(Json::Object(own)), Json::Object(more)) => {
                            own.extend(more.iter().map(|(k, v)| (k.clone(), v.clone())));
                        }
                        (Some(Json::Array(own)), Json::Array(more)) => own.extend(more.clone()),
                        (Some(_), _) => {}
                        (None, value) => {
                            rules.insert(name.clone(), value.clone());
                        }
                    }
                }
            }
            rules
                .values_mut()
                .for_each(|inner| merge_references(inner, originals));
        }
        Json::Array(items) => items
            .iter_mut()
            .for_each(|item| merge_references(item, originals)),
        _ => {}
    }
}

/// Drops definitions that nothing refers to.
fn drop_unused(definitions: &mut Json) {
    let text = definitions.to_string();
    if let Json::Object(all) = definitions {
        all.retain(|name, _| {
            [GRAPH, AGENT].contains(&name.as_str()) || text.contains(&format!("\"#/$defs/{name}\""))
        });
    }
}

/// Forbids unknown fields wherever fields are listed, so that editors mark typing mistakes.
fn close(schema: &mut Json) {
    match schema {
        Json::Object(rules) => {
            let lists_fields = rules.get("properties").is_some_and(Json::is_object)
                && rules.get("type").is_some_and(|kind| kind == "object");
            if lists_fields && !rules.contains_key("additionalProperties") {
                rules.insert("additionalProperties".to_owned(), Json::Bool(false));
            }
            rules.values_mut().for_each(close);
        }
        Json::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}
