//! The kind `human`: the run stops until a person answers.

use std::sync::Arc;

use agentflow_graph::{NodeContext, NodeOutput};
use agentflow_types::{Map, Result, Str, Value};
use serde_json::Value as Json;

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

/// What a compiled node asks, and where the answer goes.
struct Asker {
    question: Option<Dynamic>,
    actions: Vec<Action>,
    schema: Option<Json>,
    output: Option<Target>,
    answer: Vec<(Str, Dynamic)>,
}

/// Compiles a `human` node.
pub(crate) fn build(
    scope: &Scope<'_>,
    name: &str,
    spec: &HumanNode,
    extras: &[&str],
) -> Option<Built> {
    check(scope, name, spec)?;
    let output = match &spec.output {
        Some(field) => Target::find(scope, &["nodes", name, "output"], field).map(Some),
        None => Some(None),
    };
    let path = ["nodes", name, "question"];
    let with_answer: Vec<&str> = extras.iter().copied().chain(["answer"]).collect();
    let asker = Arc::new(Asker {
        question: spec
            .question
            .as_ref()
            .map(|one| scope.dynamic(&path, one, extras)),
        actions: actions(scope, name, spec, extras),
        schema: spec
            .schema
            .as_ref()
            .map(|schema| scope.json_schema(&["nodes", name, "schema"], schema)),
        answer: scope.assignments(&["nodes", name, "answer"], &spec.answer, &with_answer),
        output: output?,
    });
    let writes = spec
        .output
        .iter()
        .chain(spec.answer.keys())
        .cloned()
        .collect();
    Some(Built::new(writes, move |state, context| {
        let asker = asker.clone();
        async move { asker.run(&state, &context) }
    }))
}

/// Reports fields that do not go together.
fn check(scope: &Scope<'_>, name: &str, spec: &HumanNode) -> Option<()> {
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
    Some(())
}

impl Asker {
    fn run(&self, state: &Value, context: &NodeContext) -> Result<NodeOutput> {
        let variables = Variables::of_node(state, context);
        let answer = match &self.question {
            Some(question) => self.ask(context, question.value(&variables)?)?,
            None => {
                let proposed: Result<Vec<Proposed>> = self
                    .actions
                    .iter()
                    .map(|action| propose(action, &variables))
                    .collect();
                let proposed = proposed?;
                outcomes(&proposed, approval::decide(context, &proposed)?)
            }
        };
        let mut update = Map::new();
        if let Some(output) = &self.output {
            output.write(answer.clone(), &mut update);
        }
        assign(&self.answer, &variables.with("answer", answer), &mut update)?;
        Ok(update.into())
    }

    fn ask(&self, context: &NodeContext, question: Value) -> Result<Value> {
        approval::ask(context, question, self.schema.clone(), |answer| match self
            .schema
            .as_ref()
            .and_then(|schema| shape::mismatch(schema, answer))
        {
            Some(problem) => Err(problem),
            None => Ok(answer.clone()),
        })
    }
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

fn propose(action: &Action, variables: &Variables<'_>) -> Result<Proposed> {
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
