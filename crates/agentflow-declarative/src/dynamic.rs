//! Dynamic values: YAML whose texts are templates, or expressions if they begin with `=`.

use agentflow_types::{Map, Result, Str, Value};
use serde_json::Value as Json;

use crate::{expression::Expression, template::Template, variables::Variables};

/// A compiled dynamic value.
#[derive(Clone)]
pub(crate) enum Dynamic {
    Constant(Value),
    Template(Template),
    Expression(Expression),
    List(Vec<Dynamic>),
    Map(Vec<(Str, Dynamic)>),
}

impl Dynamic {
    /// Compiles; `text` is asked for every text with its path below the value.
    pub(crate) fn build(
        json: &Json,
        path: &mut Vec<String>,
        text: &mut impl FnMut(&str, &[String]) -> Self,
    ) -> Self {
        match json {
            Json::String(source) => text(source, path),
            Json::Array(items) => {
                let items = items.iter().enumerate().map(|(at, item)| {
                    path.push(at.to_string());
                    let item = Self::build(item, path, text);
                    path.pop();
                    item
                });
                Self::List(items.collect())
            }
            Json::Object(map) => {
                let entries = map.iter().map(|(key, value)| {
                    path.push(key.clone());
                    let value = Self::build(value, path, text);
                    path.pop();
                    (Str::from(key.as_str()), value)
                });
                Self::Map(entries.collect())
            }
            other => Self::Constant(Value::from_json(other)),
        }
    }

    /// The value.
    ///
    /// # Errors
    /// `Failed` if a template or expression fails.
    pub(crate) fn value(&self, variables: &Variables<'_>) -> Result<Value> {
        Ok(match self {
            Self::Constant(value) => value.clone(),
            Self::Template(template) => Value::from(template.render(variables)?),
            Self::Expression(expression) => expression.value(variables)?,
            Self::List(items) => {
                let items: Result<Vec<Value>> = items.iter().map(|i| i.value(variables)).collect();
                Value::list(items?)
            }
            Self::Map(entries) => {
                let mut map = Map::with_capacity(entries.len());
                for (key, value) in entries {
                    map.insert(key.clone(), value.value(variables)?);
                }
                Value::map(map)
            }
        })
    }
}
