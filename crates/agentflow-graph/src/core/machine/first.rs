//! What a run does before its first superstep.

use agentflow_types::{
    Error, Result, Value,
    graph::{Command, StreamMode},
};

use super::{Input, Level, Machine, Metadata};
use crate::core::{
    board::{Prepare, Versions, WriteSet},
    ids::{TaskId, checkpoint_text},
    task::{Path, Pending, Target, Write, open_interrupts},
    writes::{CommandWrites, map_command},
};

/// What several unanswered questions make of one answer.
const AMBIGUOUS: &str = "When there are multiple pending interrupts, you must specify the interrupt id when resuming. Docs: https://docs.langchain.com/oss/python/langgraph/interrupts#handling-multiple-interrupts.";

/// How the input relates to the checkpoint.
struct Situation {
    /// The run goes on from the checkpoint.
    resumes: bool,
    /// The run starts at an earlier point and runs finished tasks again.
    travels: bool,
    /// The run makes a fork checkpoint first.
    forks: bool,
}

impl Machine {
    /// Applies the input.
    ///
    /// # Errors
    /// `Invalid` if the input is refused or missing.
    pub(super) fn first(&mut self, mut input: Input) -> Result<()> {
        if self.setup.attempt > 1 && self.is_same_run() {
            // What an earlier attempt took in is in the checkpoint.
            input = Input::None;
        }
        let now = self.situation(&input);
        self.is_replaying = now.travels || self.setup.superseded;
        if now.travels {
            self.pending.retain(|p| p.write.target != Target::Resume);
            self.setup.answer.set(None);
        }
        let hands_back = now.resumes && !self.is_replaying;
        self.start_deltas(hands_back);
        let mut carried = Vec::new();
        if let Input::Command(command) = &input {
            self.command(command, &now, &mut carried)?;
        }
        self.carry_deltas(&carried);
        self.apply_null_writes(carried)?;
        if now.resumes {
            self.resume(&now)?;
        } else if !self.input(input)? && self.setup.resuming.is_none() {
            return Err(Error::invalid("Received no input for __start__").class("EmptyInputError"));
        }
        if self.setup.level == Level::Root {
            self.resuming = Some(now.resumes);
        }
        Ok(())
    }

    fn situation(&self, input: &Input) -> Situation {
        let is_command = matches!(input, Input::Command(_));
        let has_answer =
            matches!(input, Input::Command(c) if c.resume.as_ref().is_some_and(|a| !a.is_null()));
        let resumes = self.board.has_versions()
            && self
                .setup
                .resuming
                .unwrap_or_else(|| *input == Input::None || is_command || self.is_same_run());
        let travels = self.setup.addressed && !has_answer && !self.setup.resuming.unwrap_or(false);
        let settled = matches!(self.metadata.source(), Some("update" | "fork"));
        let forks = resumes && travels && (!settled || self.setup.superseded);
        Situation {
            resumes,
            travels,
            forks,
        }
    }

    /// Whether the checkpoint was made by this run.
    fn is_same_run(&self) -> bool {
        let Metadata::Loaded(metadata) = &self.metadata else {
            return false;
        };
        let stored = metadata.get("run_id").and_then(Value::as_str);
        self.setup.level == Level::Root && stored.is_some() && stored == self.run_id()
    }

    fn run_id(&self) -> Option<&str> {
        let configured = || {
            self.setup
                .config
                .metadata
                .get("run_id")
                .and_then(Value::as_str)
        };
        self.setup.run_id.as_deref().or_else(configured)
    }

    /// Turns a command into writes.
    fn command(
        &mut self,
        command: &Command,
        now: &Situation,
        carried: &mut Vec<Write>,
    ) -> Result<()> {
        let mut mapped = map_command(&self.setup.layout, command, &*self.setup.world.rng)?;
        if self.setup.attempt > 1 {
            self.forget_repeated(&mut mapped);
        }
        let answers = mapped.answer.is_some() || mapped.answers.is_some();
        if answers && !self.setup.saves {
            return Err(
                Error::invalid("Cannot use Command(resume=...) without checkpointer")
                    .class("RuntimeError"),
            );
        }
        if mapped.answer.is_some() && open_interrupts(&self.pending).len() > 1 {
            return Err(Error::invalid(AMBIGUOUS).class("RuntimeError"));
        }
        if let Some(map) = mapped.answers {
            self.resume_map = Some(map.into());
        }
        if now.forks {
            *carried = mapped.writes;
            if let Some(answer) = mapped.answer {
                self.setup.answer.set(Some(answer));
            }
        } else {
            self.command_deltas(&mapped.writes);
            self.put_null_writes(mapped.writes, mapped.answer);
        }
        Ok(())
    }

    /// Drops from a command what an earlier attempt already stored beside the checkpoint, so that
    /// no update counts twice and no second question gets the first one's answer.
    ///
    /// An answer that equals the stored one, which a task has used before it asked again, counts
    /// as given, even if an earlier run gave it: the question then stays open, which is better
    /// than a wrong answer.
    fn forget_repeated(&mut self, command: &mut CommandWrites) {
        let null = self.pending.iter().filter(|p| p.task == TaskId::NULL);
        if !command.writes.is_empty() && null.map(|p| &p.write).eq(&command.writes) {
            command.writes.clear();
        }
        let stored = self.setup.answer.peek();
        if command.answer.is_none() || stored != command.answer {
            return;
        }
        let asked = |task| {
            let of_task = |p: &&Pending| p.task == task && p.write.target == Target::Interrupt;
            self.pending.iter().any(|p| of_task(&p))
        };
        let used = self.pending.iter().any(|p| {
            p.write.target == Target::Resume
                && p.write.value.as_list().and_then(<[Value]>::last) == stored.as_ref()
                && asked(p.task)
        });
        command.answer = None;
        if used {
            self.setup.answer.set(None);
        }
    }

    fn apply_null_writes(&mut self, carried: Vec<Write>) -> Result<()> {
        let stored = self.pending.iter().filter(|p| p.task == TaskId::NULL);
        let mut writes: Vec<Write> = stored.map(|p| p.write.clone()).collect();
        writes.extend(carried);
        let pending_answer = self.setup.answer.peek().is_some();
        if writes.is_empty() && !pending_answer {
            return Ok(());
        }
        let mut sets = [WriteSet {
            path: Path::Input,
            node: None,
            writes,
        }];
        let updated = self
            .board
            .apply(&mut sets, Versions::Bump, &*self.setup.world.rng)?;
        if let Some(known) = &mut self.board.updated {
            known.extend(updated);
            known.sort_unstable();
            known.dedup();
        }
        Ok(())
    }

    fn resume(&mut self, now: &Situation) -> Result<()> {
        self.board.see_interrupt();
        let mut bound = None;
        let settled = matches!(self.metadata.source(), Some("update" | "fork"));
        if now.travels && settled {
            bound = self.previous_id.clone();
        }
        if now.forks {
            self.pending.retain(|p| p.write.target != Target::Interrupt);
            // A fork did not change anything, so it names no changed channels.
            let updated = self.board.updated.take();
            self.put_checkpoint("fork")?;
            self.board.updated = updated;
        }
        if now.travels && self.setup.level == Level::Root {
            self.replay_before = Some(bound.unwrap_or_else(|| checkpoint_text(self.board.id)));
        }
        if self.wants(StreamMode::Values) {
            let values = self.output();
            self.emit(StreamMode::Values, values);
        }
        Ok(())
    }

    /// Applies input, together with whatever unfinished tasks there are; tells whether there was
    /// any.
    fn input(&mut self, input: Input) -> Result<bool> {
        let value = match input {
            Input::Value(value) if !value.is_null() => value,
            _ => return Ok(false),
        };
        let with = Prepare {
            resume_map: None,
            ..self.prepared_with()
        };
        let discarded = self.board.prepare(&with);
        let mut sets: Vec<WriteSet> = discarded
            .into_iter()
            .map(|task| WriteSet {
                path: task.path,
                node: Some(task.node),
                writes: Vec::new(),
            })
            .collect();
        sets.push(WriteSet {
            path: Path::Input,
            node: None,
            writes: vec![Write::to(self.setup.layout.start, value)],
        });
        let updated = self
            .board
            .apply(&mut sets, Versions::Bump, &*self.setup.world.rng)?;
        self.board.updated = Some(updated);
        self.put_checkpoint("input")?;
        Ok(true)
    }

    /// Keeps and stores writes that belong to no task.
    fn put_null_writes(&mut self, writes: Vec<Write>, answer: Option<Value>) {
        if writes.is_empty() && answer.is_none() {
            return;
        }
        self.written.push(TaskId::NULL);
        let fresh = writes.into_iter().map(|write| Pending {
            task: TaskId::NULL,
            write,
        });
        self.pending.extend(fresh);
        if let Some(answer) = answer {
            self.setup.answer.set(Some(answer));
            self.answer_is_new = true;
        }
        if self.saves_writes() {
            let all = self.null_writes();
            self.commit_writes(TaskId::NULL, String::new(), &all);
        }
    }

    /// The pending writes of no task, the answer last.
    pub(super) fn null_writes(&self) -> Vec<Write> {
        let stored = self.pending.iter().filter(|p| p.task == TaskId::NULL);
        let mut all: Vec<Write> = stored.map(|p| p.write.clone()).collect();
        if self.answer_is_new
            && let Some(answer) = self.setup.answer.peek()
        {
            all.push(Write::new(Target::Resume, answer));
        }
        all
    }
}
