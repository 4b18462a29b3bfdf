//! From what nodes, commands and clients say to writes on channels.

use agentflow_types::{
    Error, Map, Result, Rng, Str, Value,
    graph::{Command, END, Goto, START},
};

use super::{
    board::{Board, Foreseen, Prepare},
    ids::{TaskId, interrupt_id, is_interrupt_id, task_ns},
    task::{Target, Write, leads_somewhere, send_value},
};
use crate::{
    builder::BranchTargets,
    compile::entry_name,
    context::NodeContext,
    layout::{Function, Layout, NodeId, Writer},
    output::NodeOutput,
    signal,
};

/// Name of the graph above, in commands.
pub(crate) const PARENT: &str = "__parent__";

/// An update that the graph cannot apply.
pub(crate) fn invalid_update(message: impl Into<String>) -> Error {
    Error::invalid(message.into()).class("InvalidUpdateError")
}

/// Who decides about branches, and gives ids to messages.
pub(crate) struct Writers<'a> {
    pub(crate) board: &'a Board,
    pub(crate) rng: &'a dyn Rng,
    /// What branches are told about the task.
    pub(crate) context: &'a NodeContext,
    /// What branches saw.
    pub(crate) foreseen: Foreseen,
}

impl Writers<'_> {
    /// Everything that a node's output makes it write: updates, then gotos, then its edges and
    /// branches.
    ///
    /// # Errors
    /// `Invalid` if the output is not an update; the signal of a command for the graph above;
    /// whatever a branch fails with.
    pub(crate) fn of(&mut self, node: NodeId, output: &NodeOutput) -> Result<Vec<Write>> {
        let board = self.board;
        let layout = &*board.layout;
        if let Some(function) = layout.function {
            return Ok(function_writes(function, output));
        }
        let mut writes = Vec::with_capacity(2 + layout.nodes[node].writers.len());
        self.updates(node, output, &mut writes)?;
        gotos(layout, output, &mut writes)?;
        for writer in &layout.nodes[node].writers {
            match writer {
                Writer::Channel(id, value) => writes.push(Write::to(*id, value.clone())),
                Writer::Branch(branch) => self.branch(node, *branch, output, &mut writes)?,
            }
        }
        Ok(writes)
    }

    fn updates(&self, node: NodeId, output: &NodeOutput, writes: &mut Vec<Write>) -> Result<()> {
        match output {
            NodeOutput::Update(Value::Null) => Ok(()),
            NodeOutput::Update(update) => {
                let Some(map) = update.as_map() else {
                    return Err(invalid_update(format!(
                        "Expected dict, got {update}\nFor troubleshooting, visit: https://docs.langchain.com/oss/python/langgraph/errors/INVALID_GRAPH_NODE_RETURN_VALUE"
                    )));
                };
                for (name, value) in map {
                    self.update(node, name, value, writes)?;
                }
                Ok(())
            }
            NodeOutput::Command(command) if command.graph.as_deref() == Some(PARENT) => Ok(()),
            NodeOutput::Command(command) => {
                for (name, value) in update_pairs(command)? {
                    self.update(node, &name, &value, writes)?;
                }
                Ok(())
            }
            NodeOutput::Many(outputs) => outputs
                .iter()
                .try_for_each(|output| self.updates(node, output, writes)),
            NodeOutput::Final { .. } => Err(invalid_update(
                "only the node of a function returns a final value",
            )),
        }
    }

    fn update(
        &self,
        node: NodeId,
        name: &str,
        value: &Value,
        writes: &mut Vec<Write>,
    ) -> Result<()> {
        let layout = &*self.board.layout;
        let Some(id) = layout.channel(name) else {
            return Ok(());
        };
        let def = &layout.channels[id];
        let from_start = layout.nodes[node].body.is_none();
        if !def.is_state || (from_start && !def.is_input) {
            return Ok(());
        }
        writes.push(Write::to(id, def.settled(value, self.rng)?));
        Ok(())
    }

    fn branch(
        &mut self,
        node: NodeId,
        branch: usize,
        output: &NodeOutput,
        writes: &mut Vec<Write>,
    ) -> Result<()> {
        let board = self.board;
        let layout = &*board.layout;
        let def = &layout.branches[branch];
        let fresh = board.read_fresh(node, writes, &mut self.foreseen)?;
        let state = with_extra_keys(fresh, output);
        let (step, stop) = (
            self.context.step(),
            self.context.step() + self.context.remaining_steps(),
        );
        let state = layout.with_managed(state, step, stop);
        for goto in (def.path)(&state, self.context)? {
            let goto = resolve(&def.targets, goto)?;
            match goto {
                Goto::Node(name) if &*name == START => {
                    return Err(Error::invalid("Branch did not return a valid destination"));
                }
                Goto::Send { node, .. } if &*node == END => {
                    return Err(invalid_update("Cannot send a packet to the END node"));
                }
                goto => write_goto(layout, &goto, Value::Null, writes),
            }
        }
        Ok(())
    }
}

/// What the node of a function writes: its result, and what the next run gets.
fn function_writes(function: Function, output: &NodeOutput) -> Vec<Write> {
    let (value, save) = match output {
        NodeOutput::Final { value, save } => (value.clone(), save.clone()),
        NodeOutput::Update(value) => (value.clone(), value.clone()),
        NodeOutput::Command(_) | NodeOutput::Many(_) => (Value::Null, Value::Null),
    };
    vec![
        Write::to(function.result, value),
        Write::to(function.previous, save),
    ]
}

/// A branch also sees keys of the node's output that are not keys of the state.
fn with_extra_keys(state: Value, output: &NodeOutput) -> Value {
    let NodeOutput::Update(Value::Map(update)) = output else {
        return state;
    };
    let Value::Map(known) = &state else {
        return state;
    };
    if update.keys().all(|key| known.contains_key(key)) {
        return state;
    }
    let mut all = (**update).clone();
    all.extend(
        known
            .iter()
            .map(|(key, value)| (key.clone(), value.clone())),
    );
    Value::map(all)
}

/// Replaces a label by its node.
fn resolve(targets: &BranchTargets, goto: Goto) -> Result<Goto> {
    let Goto::Node(name) = &goto else {
        return Ok(goto);
    };
    let unknown =
        || Error::invalid(format!("branch chose unknown target '{name}'")).class("KeyError");
    match targets {
        BranchTargets::Any => Ok(goto),
        BranchTargets::Nodes(nodes) => nodes
            .iter()
            .any(|n| **n == **name)
            .then(|| goto.clone())
            .ok_or_else(unknown),
        BranchTargets::Labels(labels) => labels
            .iter()
            .find(|(label, _)| **label == **name)
            .map(|(_, node)| Goto::Node(node.as_str().into()))
            .ok_or_else(unknown),
    }
}

fn gotos(layout: &Layout, output: &NodeOutput, writes: &mut Vec<Write>) -> Result<()> {
    match output {
        NodeOutput::Update(_) | NodeOutput::Final { .. } => Ok(()),
        NodeOutput::Command(command) if command.graph.as_deref() == Some(PARENT) => {
            Err(signal::parent(command.clone()))
        }
        NodeOutput::Command(command) => {
            for goto in command.goto.iter().filter(|goto| leads_somewhere(goto)) {
                write_goto(layout, goto, Value::Null, writes);
            }
            Ok(())
        }
        NodeOutput::Many(outputs) => outputs
            .iter()
            .try_for_each(|output| gotos(layout, output, writes)),
    }
}

fn write_goto(layout: &Layout, goto: &Goto, mark: Value, writes: &mut Vec<Write>) {
    match goto {
        Goto::Node(name) if &**name == END => {}
        Goto::Node(name) => {
            let entry = layout.node(name).and_then(|node| layout.nodes[node].entry);
            let target = match entry {
                Some(id) => Target::Channel(id),
                None => {
                    tracing::warn!(node = %name, "a goto to an unknown node is ignored");
                    Target::Other(entry_name(name))
                }
            };
            writes.push(Write::new(target, mark));
        }
        Goto::Send { node, arg } => {
            writes.push(Write::to(layout.tasks, send_value(node, arg.clone())));
        }
    }
}

/// The updates of a command: a map's entries, or pairs.
fn update_pairs(command: &Command) -> Result<Vec<(Str, Value)>> {
    let pair = |value: &Value| match value.as_list() {
        Some([Value::Str(name), value]) => Some((name.clone(), value.clone())),
        _ => None,
    };
    match &command.update {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(update) => match (update.as_map(), update.as_list()) {
            (Some(map), _) => Ok(map.iter().map(|(k, v)| (k.clone(), v.clone())).collect()),
            (_, Some(items)) => items
                .iter()
                .map(pair)
                .collect::<Option<_>>()
                .ok_or_else(|| {
                    invalid_update(format!(
                        "a command's update must be a map or pairs, not {update}"
                    ))
                }),
            _ => Err(invalid_update(format!(
                "a command's update must be a map or pairs, not {update}"
            ))),
        },
    }
}

/// What a client's command asks for.
pub(crate) struct CommandWrites {
    /// Writes of no task.
    pub(crate) writes: Vec<Write>,
    /// One answer for whichever question comes first.
    pub(crate) answer: Option<Value>,
    /// Answers by interrupt id.
    pub(crate) answers: Option<Map>,
}

/// Reads a client's command.
///
/// # Errors
/// `Invalid` if it is for a graph above, asks for nothing, or its update is neither map nor pairs.
pub(crate) fn map_command(
    layout: &Layout,
    command: &Command,
    rng: &dyn Rng,
) -> Result<CommandWrites> {
    if command.graph.as_deref() == Some(PARENT) {
        return Err(invalid_update("There is no parent graph"));
    }
    let mut writes = Vec::new();
    for goto in &command.goto {
        // Python marks a client's goto with the name of the start.
        match goto {
            Goto::Node(_) if !leads_somewhere(goto) => {}
            _ => write_goto(layout, goto, Value::str(START), &mut writes),
        }
    }
    for (name, value) in update_pairs(command)? {
        let target = Target::parse(layout, &name);
        let value = match &target {
            Target::Channel(id) => layout.channels[*id].settled(&value, rng)?,
            _ => value,
        };
        writes.push(Write::new(target, value));
    }
    let resume = command.resume.as_ref().filter(|answer| !answer.is_null());
    let is_map = |answer: &&Value| matches!(answer, Value::Map(map) if map.keys().all(|key| is_interrupt_id(key)));
    let answers = resume.filter(is_map).and_then(Value::as_map).cloned();
    let answer = if answers.is_some() {
        None
    } else {
        resume.cloned()
    };
    if writes.is_empty() && answer.is_none() && answers.is_none() {
        return Err(Error::invalid("Received empty Command input").class("EmptyInputError"));
    }
    Ok(CommandWrites {
        writes,
        answer,
        answers,
    })
}

/// The answers that a task already has: stored ones, and the one of the resume map that is for
/// its next question.
pub(crate) fn stored_answers(with: &Prepare<'_>, task: TaskId, node: &str) -> Vec<Value> {
    let stored = with
        .pending
        .iter()
        .find(|p| p.task == task && p.write.target == Target::Resume)
        .map(|p| p.write.value.clone());
    let mut answers = match stored {
        Some(Value::List(items)) => (*items).clone(),
        Some(one) => vec![one],
        None => Vec::new(),
    };
    if let Some(map) = with.resume_map {
        let ns = task_ns(with.ns, node, task);
        let next = map.get(interrupt_id(&ns, answers.len()).as_str());
        if let Some(answer) = next.or_else(|| map.get(interrupt_id(&ns, 0).as_str())) {
            answers.push(answer.clone());
        }
    }
    answers
}
