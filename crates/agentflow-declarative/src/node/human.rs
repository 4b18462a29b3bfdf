//! The kind `human`: the run stops until a person answers.

use agentflow_types::{Map, Value};

use super::{
    Built, Target,
    approval::{self, Decided, EVERY_DECISION, Proposed},
    assign,
};
use crate::{
    codes,
    dynamic::Dynamic,
    file::{Decision, HumanNode},
    scope::Scope,
    shape,
    template::{Escape, Template},
    variables::Variables,
};

/// An action whose arguments are not computed yet.
#[derive(Clone)]
struct Action {
    name: String,
    args: Dynamic,
    description: Option<Template>,
    allowed: Vec<Decision>,
}

/// Compiles a `human` node.
pub(crate) fn build(
    scope: &Scope<'_>,
    name: &str,
    spec: &HumanNode,
    extras: &[&str],
) -> Option<Built> {
    let key = || scope.key(&["nodes", name]);
    if spec.question.is_none() == spec.actions.is_empty() {
        let message = "a human node has either `question` or `actions`";
        scope.error(codes::CONTRADICTION, key(), message, None);
        return None;
    }
    if !spec.actions.is_empty() && spec.schema.is_some() {
        let span = scope.key(&["nodes", name, "schema"]);
        let message = "`schema` is for questions; decisions about actions have a fixed shape";
        scope.error(
            codes::CONTRADICTION,
            span,
            message,
            "remove `schema`".to_owned(),
        );
    }
    if spec.output.is_none() && spec.answer.is_empty() {
        let message = "the answer is not kept";
        let help = "say where it goes: `output: field`".to_owned();
        scope.error(codes::CONTRADICTION, key(), message, help);
        return None;
    }
    let output_path = ["nodes", name, "output"];
    let output = spec
        .output
        .as_deref()
        .map(|field| Target::find(scope, &output_path, field));
    let with_answer: Vec<&str> = extras.iter().copied().chain(["answer"]).collect();
    let answer = scope.assignments(&["nodes", name, "answer"], &spec.answer, &with_answer);
    let schema = spec
        .schema
        .as_ref()
        .map(|one| scope.json_schema(&["nodes", name, "schema"], one));
    let question = spec
        .question
        .as_ref()
        .map(|one| scope.dynamic(&["nodes", name, "question"], one, extras));
    let actions = actions(scope, name, spec, extras);
    let output = match output {
        Some(found) => Some(found?),
        None => None,
    };
    let writes = spec
        .output
        .iter()
        .chain(spec.answer.keys())
        .cloned()
        .collect();
    Some(Built::new(writes, move |state, context| {
        let (output, answers, schema) = (output.clone(), answer.clone(), schema.clone());
        let (question, actions) = (question.clone(), actions.clone());
        async move {
            let variables = Variables::of_node(&state, &context);
            let answer = match &question {
                Some(question) => {
                    let question = question.value(&variables)?;
                    approval::ask(&context, question, schema.clone(), |answer| {
                        match schema
                            .as_ref()
                            .and_then(|schema| shape::mismatch(schema, answer))
                        {
                            Some(problem) => Err(problem),
                            None => Ok(answer.clone()),
                        }
                    })?
                }
                None => {
                    let mut proposed = Vec::with_capacity(actions.len());
                    for action in &actions {
                        proposed.push(propose(action, &variables)?);
                    }
                    let decided = approval::decide(&context, &proposed)?;
                    outcomes(&proposed, decided)
                }
            };
            let mut update = Map::new();
            if let Some(output) = &output {
                output.write(answer.clone(), &mut update);
            }
            assign(&answers, &variables.with("answer", answer), &mut update)?;
            Ok(update.into())
        }
    }))
}

fn actions(scope: &Scope<'_>, name: &str, spec: &HumanNode, extras: &[&str]) -> Vec<Action> {
    let mut compiled = Vec::with_capacity(spec.actions.len());
    for (at, action) in spec.actions.iter().enumerate() {
        let at = at.to_string();
        let args = action.args.iter().map(|(arg, value)| {
            let path = ["nodes", name, "actions", &at, "args", arg];
            (arg.as_str().into(), scope.dynamic(&path, value, extras))
        });
        let args = Dynamic::Map(args.collect());
        let path = ["nodes", name, "actions", &at, "description"];
        let description = action
            .description
            .as_deref()
            .and_then(|text| scope.template(&path, text, Escape::None, extras));
        let allowed = action
            .allowed
            .clone()
            .unwrap_or_else(|| EVERY_DECISION.to_vec());
        compiled.push(Action {
            name: action.name.clone(),
            args,
            description,
            allowed,
        });
    }
    compiled
}

fn propose(action: &Action, variables: &Variables<'_>) -> agentflow_types::Result<Proposed> {
    let description = match &action.description {
        Some(template) => Some(template.render(variables)?),
        None => None,
    };
    Ok(Proposed {
        name: action.name.clone(),
        args: action.args.value(variables)?,
        description,
        allowed: action.allowed.clone(),
    })
}

/// The decisions as the state keeps them: `{type, name, args, message}`.
fn outcomes(proposed: &[Proposed], decided: Vec<Decided>) -> Value {
    let outcomes = proposed.iter().zip(decided).map(|(action, decided)| {
        let (kind, name, args, message) = match decided {
            Decided::Approve => ("approve", action.name.clone(), action.args.clone(), None),
            Decided::Edit(name, args) => ("edit", name, args, None),
            Decided::Reject(why) => ("reject", action.name.clone(), action.args.clone(), why),
            Decided::Respond(text) => (
                "respond",
                action.name.clone(),
                action.args.clone(),
                Some(text),
            ),
        };
        Value::object([
            ("type", Value::str(kind)),
            ("name", Value::from(name)),
            ("args", args),
            ("message", message.map_or(Value::Null, Value::from)),
        ])
    });
    Value::list(outcomes.collect())
}
