//! Questions to people: the shapes that LangChain's middleware and agent-inbox use.
//!
//! Asked: `{action_requests: [{name, args, description}], review_configs: [{action_name,
//! allowed_decisions}]}`. Answered: `{decisions: [{type: approve | edit | reject | respond, …}]}`,
//! or agent-inbox's list of `{type: accept | edit | ignore | response, args}`.

use agentflow_graph::NodeContext;
use agentflow_types::{Error, Result, Value};
use serde_json::{Value as Json, json};

use crate::file::Decision;

/// Most times that a person is asked again after an answer that does not fit.
const MAX_TRIES: u32 = 10;

/// An action that somebody must decide about.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Proposed {
    pub(crate) name: String,
    pub(crate) args: Value,
    pub(crate) description: Option<String>,
    pub(crate) allowed: Vec<Decision>,
}

/// What was decided about an action.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Decided {
    Approve,
    /// Another name and other arguments.
    Edit(String, Value),
    /// Why not, if a reason was given.
    Reject(Option<String>),
    /// The result.
    Respond(String),
}

/// All decisions.
pub(crate) const EVERY_DECISION: [Decision; 4] = [
    Decision::Approve,
    Decision::Edit,
    Decision::Reject,
    Decision::Respond,
];

/// Asks about actions; again while the answer does not fit.
///
/// # Errors
/// The signal that stops the node, or `Invalid` after too many answers that do not fit.
pub(crate) fn decide(context: &NodeContext, actions: &[Proposed]) -> Result<Vec<Decided>> {
    ask(context, request(actions), Some(answer_schema()), |answer| {
        read(answer, actions)
    })
}

/// Asks a question; again, with what was wrong, while `read` does not accept the answer.
///
/// # Errors
/// The signal that stops the node, or `Invalid` after too many answers that do not fit.
pub(crate) fn ask<T>(
    context: &NodeContext,
    question: Value,
    schema: Option<Json>,
    read: impl Fn(&Value) -> Result<T, String>,
) -> Result<T> {
    let mut asked = question.clone();
    let mut problem = String::new();
    for _ in 0..MAX_TRIES {
        let answer = match &schema {
            Some(schema) => context.interrupt_with_schema(asked, schema.clone())?,
            None => context.interrupt(asked)?,
        };
        match read(&answer) {
            Ok(value) => return Ok(value),
            Err(why) => problem = why,
        }
        asked = match question.as_map() {
            Some(map) => {
                let mut map = map.clone();
                map.insert("error".into(), Value::str(problem.as_str()));
                Value::map(map)
            }
            None => Value::object([
                ("question", question.clone()),
                ("error", Value::str(problem.as_str())),
            ]),
        };
    }
    Err(Error::invalid("the answer does not fit").with("problem", problem))
}

fn word(decision: Decision) -> &'static str {
    match decision {
        Decision::Approve => "approve",
        Decision::Edit => "edit",
        Decision::Reject => "reject",
        Decision::Respond => "respond",
    }
}

fn request(actions: &[Proposed]) -> Value {
    let requests = actions.iter().map(|action| {
        let description = action.description.clone().unwrap_or_else(|| {
            format!(
                "`{}` waits for approval. Arguments: {}",
                action.name, action.args
            )
        });
        Value::object([
            ("name", Value::str(action.name.as_str())),
            ("args", action.args.clone()),
            ("description", Value::from(description)),
        ])
    });
    let mut configs: Vec<Value> = Vec::new();
    for action in actions {
        let words = action
            .allowed
            .iter()
            .map(|decision| Value::str(word(*decision)));
        let config = Value::object([
            ("action_name", Value::str(action.name.as_str())),
            ("allowed_decisions", Value::list(words.collect())),
        ]);
        if !configs.contains(&config) {
            configs.push(config);
        }
    }
    Value::object([
        ("action_requests", Value::list(requests.collect())),
        ("review_configs", Value::list(configs)),
    ])
}

fn answer_schema() -> Json {
    json!({
        "type": "object",
        "properties": {
            "decisions": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "type": {"enum": ["approve", "edit", "reject", "respond"]},
                        "edited_action": {
                            "type": "object",
                            "properties": {"name": {"type": "string"}, "args": {"type": "object"}},
                            "required": ["name", "args"],
                        },
                        "message": {"type": "string"},
                    },
                    "required": ["type"],
                },
            },
        },
        "required": ["decisions"],
    })
}

/// Reads the decisions, one for each action.
fn read(answer: &Value, actions: &[Proposed]) -> Result<Vec<Decided>, String> {
    let list = answer.get("decisions").unwrap_or(answer);
    let single = std::slice::from_ref(list);
    let decisions = match list.as_list() {
        Some(list) => list,
        None if list.get("type").is_some() => single,
        None => return Err("expected `{\"decisions\": [{\"type\": …}]}`".to_owned()),
    };
    if decisions.len() != actions.len() {
        let (found, wanted) = (decisions.len(), actions.len());
        return Err(format!("expected {wanted} decisions, found {found}"));
    }
    decisions
        .iter()
        .zip(actions)
        .map(|(decision, action)| read_one(decision, action))
        .collect()
}

fn read_one(decision: &Value, action: &Proposed) -> Result<Decided, String> {
    let kind = decision
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let text = |name: &str| {
        decision
            .get(name)
            .and_then(Value::as_str)
            .map(str::to_owned)
            .filter(|text| !text.is_empty())
    };
    let (decided, needed) = match kind {
        "approve" | "accept" => (Decided::Approve, Decision::Approve),
        "reject" => (Decided::Reject(text("message")), Decision::Reject),
        "ignore" => (Decided::Reject(None), Decision::Reject),
        "respond" => {
            let message = text("message").ok_or("`respond` needs `message`")?;
            (Decided::Respond(message), Decision::Respond)
        }
        "response" => {
            let message = text("args").ok_or("`response` needs text as `args`")?;
            (Decided::Respond(message), Decision::Respond)
        }
        "edit" => {
            let edited = decision
                .get("edited_action")
                .or_else(|| decision.get("args"));
            let edited = edited.ok_or("`edit` needs `edited_action: {name, args}`")?;
            // agent-inbox says `action`, LangChain `name`.
            let name = edited.get("name").or_else(|| edited.get("action"));
            let name = name
                .and_then(Value::as_str)
                .unwrap_or(&action.name)
                .to_owned();
            let args = edited
                .get("args")
                .cloned()
                .ok_or("`edited_action` needs `args`")?;
            if args.as_map().is_none() {
                return Err("`args` of an edited action is a map".to_owned());
            }
            (Decided::Edit(name, args), Decision::Edit)
        }
        other => return Err(format!("`{other}` is not a decision")),
    };
    if !action.allowed.contains(&needed) {
        return Err(format!(
            "`{}` is not allowed for `{}`",
            word(needed),
            action.name
        ));
    }
    Ok(decided)
}

#[cfg(test)]
mod tests {
    use agentflow_types::value;

    use super::*;

    fn action(allowed: &[Decision]) -> Proposed {
        let allowed = allowed.to_vec();
        Proposed {
            name: "send".into(),
            args: value!({"to": "x"}),
            description: None,
            allowed,
        }
    }

    #[test]
    fn both_shapes_of_answers_are_read() {
        let actions = [action(&EVERY_DECISION)];
        let edited = Decided::Edit("send".into(), value!({"to": "y"}));
        for (answer, want) in [
            (
                value!({"decisions": [{"type": "approve"}]}),
                Decided::Approve,
            ),
            (value!([{"type": "accept"}]), Decided::Approve),
            (value!({"type": "approve"}), Decided::Approve),
            (
                value!({"decisions": [{"type": "edit", "edited_action": {"name": "send", "args": {"to": "y"}}}]}),
                edited.clone(),
            ),
            (
                value!([{"type": "edit", "args": {"action": "send", "args": {"to": "y"}}}]),
                edited,
            ),
            (
                value!({"decisions": [{"type": "reject", "message": "no"}]}),
                Decided::Reject(Some("no".into())),
            ),
            (
                value!([{"type": "ignore", "args": null}]),
                Decided::Reject(None),
            ),
            (
                value!([{"type": "response", "args": "later"}]),
                Decided::Respond("later".into()),
            ),
        ] {
            assert_eq!(read(&answer, &actions).unwrap(), [want], "{answer}");
        }
    }

    #[test]
    fn answers_that_do_not_fit_are_explained() {
        let actions = [action(&[Decision::Approve])];
        for (answer, want) in [
            (value!("yes"), "expected `{\"decisions\": [{\"type\": …}]}`"),
            (value!({"decisions": []}), "expected 1 decisions, found 0"),
            (value!([{"type": "maybe"}]), "`maybe` is not a decision"),
            (
                value!([{"type": "reject"}]),
                "`reject` is not allowed for `send`",
            ),
            (
                value!([{"type": "edit"}]),
                "`edit` needs `edited_action: {name, args}`",
            ),
        ] {
            assert_eq!(read(&answer, &actions).unwrap_err(), want, "{answer}");
        }
    }
}
