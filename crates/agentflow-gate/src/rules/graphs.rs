//! Rules about LangGraph projects: what their graphs are compiled with.

use super::Report;
use crate::{
    facts::{Facts, Part},
    finding::Severity,
    source::{SourceFile, Span},
};

/// Each place where one of some names is called in Python code, outside of comments.
fn calls<'a>(
    facts: &'a Facts<'_>,
    names: &'a [&'a str],
) -> impl Iterator<Item = (&'a str, Span, &'a SourceFile)> {
    let is_project = matches!(facts.part, Part::LangGraph(_));
    let files = facts.sources.files().iter().enumerate().skip(1);
    files
        .filter(move |_| is_project)
        .flat_map(move |(number, file)| {
            names.iter().flat_map(move |name| {
                file.text.match_indices(name).filter_map(move |(at, _)| {
                    let before = &file.text[..at];
                    let line = &before[before.rfind('\n').map_or(0, |it| it + 1)..];
                    let after = &file.text[at + name.len()..];
                    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                    let whole = !before.ends_with(word);
                    // `from_conn_string` makes one too.
                    let called = after.starts_with('(') || after.starts_with(".from_conn_string(");
                    let code = !line.contains('#') && !line.trim_start().starts_with("import");
                    let span = Span {
                        file: number as u32,
                        start: at as u32,
                        end: (at + name.len()) as u32,
                    };
                    (whole && called && code).then_some((*name, span, file))
                })
            })
        })
}

pub(super) fn checkpointer(facts: &Facts<'_>, report: &mut Report<'_>) {
    for (name, span, _) in calls(facts, &["InMemorySaver", "MemorySaver"]) {
        let message = format!("`{name}` forgets every thread when the process ends");
        let help = "use `AsyncPostgresSaver`, or leave it to the server that runs the graph";
        report.add(span, "checkpointer", message, help);
    }
    for (name, span, _) in calls(facts, &["SqliteSaver", "AsyncSqliteSaver"]) {
        let message = format!("`{name}` is for one process on one machine");
        let help = "use `AsyncPostgresSaver` in production";
        report.add(span, "checkpointer", message, help).severity = Severity::Warning;
    }
}

pub(super) fn store(facts: &Facts<'_>, report: &mut Report<'_>) {
    for (name, span, _) in calls(facts, &["InMemoryStore"]) {
        let message =
            format!("`{name}` forgets what is remembered over threads when the process ends");
        let help = "use `AsyncPostgresStore`, or leave it to the server that runs the graph";
        report.add(span, "store", message, help);
    }
}

pub(super) fn blocking_saver(facts: &Facts<'_>, report: &mut Report<'_>) {
    for (name, span, file) in calls(facts, &["PostgresSaver", "RedisSaver"]) {
        if file.text.contains("async def ") {
            let message = format!("`{name}` blocks the loop of asynchronous code");
            let help = format!("use `Async{name}`");
            report.add(span, "checkpointer", message, help);
        }
    }
}

pub(super) fn shallow_saver(facts: &Facts<'_>, report: &mut Report<'_>) {
    let names = [
        "ShallowPostgresSaver",
        "AsyncShallowPostgresSaver",
        "ShallowRedisSaver",
        "AsyncShallowRedisSaver",
    ];
    for (name, span, _) in calls(facts, &names) {
        let message = format!("`{name}` keeps no history: no time travel, no forks");
        report.add(
            span,
            "checkpointer",
            message,
            "use the saver without `Shallow`",
        );
    }
}
