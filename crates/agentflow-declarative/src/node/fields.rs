//! The kinds `template` and `set`: they only compute fields.

use agentflow_types::{Map, Value};

use super::{Built, Target, assign};
use crate::{
    file::{SetNode, TemplateNode},
    scope::Scope,
    template::Escape,
    variables::Variables,
};

/// Compiles a `template` node.
pub(crate) fn template(
    scope: &Scope<'_>,
    name: &str,
    spec: &TemplateNode,
    extras: &[&str],
) -> Option<Built> {
    let path = ["nodes", name, "template"];
    let template = scope.template(&path, &spec.template, Escape::None, extras);
    let target = Target::find(scope, &["nodes", name, "output"], &spec.output);
    let (template, target) = (template?, target?);
    Some(Built::new(
        vec![spec.output.clone()],
        move |state, context| {
            let (template, target) = (template.clone(), target.clone());
            async move {
                let text = template.render(&Variables::of_node(&state, &context))?;
                let mut update = Map::new();
                target.write(Value::from(text), &mut update);
                Ok(update.into())
            }
        },
    ))
}

/// Compiles a `set` node.
pub(crate) fn set(scope: &Scope<'_>, name: &str, spec: &SetNode, extras: &[&str]) -> Option<Built> {
    let values = scope.assignments(&["nodes", name, "values"], &spec.values, extras);
    let writes = spec.values.keys().cloned().collect();
    Some(Built::new(writes, move |state, context| {
        let values = values.clone();
        async move {
            let mut update = Map::new();
            assign(&values, &Variables::of_node(&state, &context), &mut update)?;
            Ok(update.into())
        }
    }))
}
