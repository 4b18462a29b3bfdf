//! Services that wait for one another.

use std::collections::HashMap;

use super::super::Project;
use crate::{
    problem::{Kind, Problem},
    source::Span,
    tree::Node,
};

/// How far the search is with a service.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Open,
    Done,
}

/// Reports a circle of dependencies, if there is one. The search keeps its own stack, so that
/// long chains need no deep one.
pub(super) fn check(project: &Project, found: &mut Vec<Problem>) {
    let services: HashMap<&str, Vec<(&str, Span)>> = project
        .services()
        .map(|(name, service)| (name, needed(service)))
        .collect();
    let mut marks: HashMap<&str, Mark> = HashMap::new();
    for (start, _) in project.services() {
        if marks.contains_key(start) {
            continue;
        }
        marks.insert(start, Mark::Open);
        let mut way: Vec<(&str, usize)> = vec![(start, 0)];
        while let Some((name, next)) = way.last_mut() {
            let Some((other, span)) = services.get(name).and_then(|it| it.get(*next)) else {
                marks.insert(name, Mark::Done);
                way.pop();
                continue;
            };
            *next += 1;
            match marks.get(other) {
                Some(Mark::Done) => {}
                Some(Mark::Open) => {
                    found.push(circle(&way, other, *span));
                    return;
                }
                None if services.contains_key(other) => {
                    marks.insert(other, Mark::Open);
                    way.push((other, 0));
                }
                None => {}
            }
        }
    }
}

fn needed(service: &Node) -> Vec<(&str, Span)> {
    let needed = service.get("depends_on").and_then(Node::as_map);
    let needed = needed.into_iter().flatten();
    needed
        .map(|(name, entry)| (name.as_str(), entry.key))
        .collect()
}

fn circle(way: &[(&str, usize)], back: &str, span: Span) -> Problem {
    let from = way.iter().position(|(name, _)| *name == back).unwrap_or(0);
    let mut names: Vec<&str> = way[from..].iter().map(|(name, _)| *name).collect();
    names.push(back);
    let message = format!("services wait for each other: {}", names.join(", then "));
    Problem::new(Kind::Consistency, span, message).at(format!("services.{back}"))
}
