//! Rules over what a Compose project says.
//!
//! A rule is a row of [`RULES`]: its number, its level, a page that says why, and a function over
//! [`Facts`]. The page holds a bad and a good file; both are run as tests.

mod file;
mod health;
mod hygiene;

use crate::{
    compose::{Loaded, Project},
    finding::{Finding, Severity},
    source::Span,
    tree::{Entry, Node},
};

/// How much a rule binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The deployment must be so.
    Must,
    /// It had better be so.
    Should,
    /// The deployment must not be so.
    MustNot,
}

impl Level {
    /// How bad a finding is.
    pub fn severity(self) -> Severity {
        match self {
            Self::Must | Self::MustNot => Severity::Error,
            Self::Should => Severity::Warning,
        }
    }
}

/// What is asked of a project.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Its number, as `AFC003`.
    pub id: &'static str,
    /// Its name, as `no-version-field`.
    pub name: &'static str,
    /// How much it binds.
    pub level: Level,
    /// Why, a bad file, a good file, how to mend it: Markdown.
    pub page: &'static str,
    check: fn(&Facts<'_>, &mut Report<'_>),
}

/// A row of the table, with its page.
macro_rules! rule {
    ($id:literal, $name:literal, $level:ident, $check:path) => {
        Rule {
            id: $id,
            name: $name,
            level: Level::$level,
            page: include_str!(concat!("rules/pages/", $id, ".md")),
            check: $check,
        }
    };
}

/// Every rule, by number.
pub static RULES: &[Rule] = &[
    rule!("AFC003", "no-version-field", Must, file::version),
    rule!("AFC009", "unset-variable", Should, file::unset),
    rule!("AFC010", "scalar-changes", Should, file::scalars),
    rule!("AFC012", "unused-resource", Should, file::unused),
    rule!("AFC101", "healthcheck-missing", Must, health::missing),
    rule!(
        "AFC106",
        "healthcheck-cannot-fail",
        Must,
        health::cannot_fail
    ),
    rule!("AFC108", "dev-tcp-under-sh", Must, health::dev_tcp),
    rule!("AFC110", "resource-limits", Must, hygiene::limits),
    rule!(
        "AFC114",
        "no-new-privileges",
        Must,
        hygiene::no_new_privileges
    ),
    rule!("AFC115", "drop-capabilities", Must, hygiene::capabilities),
    rule!("AFC117", "privileged", MustNot, hygiene::privileged),
    rule!("AFC118", "docker-socket", MustNot, hygiene::docker_socket),
    rule!("AFC122", "floating-image", Should, hygiene::floating_image),
    rule!(
        "AFC123",
        "healthy-without-healthcheck",
        Must,
        health::waits_in_vain
    ),
];

/// What rules look at.
pub struct Facts<'a> {
    /// The files and what reading them said.
    pub loaded: &'a Loaded,
    /// The resolved project.
    pub project: &'a Project,
}

/// A service that the profiles switch on.
struct Service<'a> {
    name: &'a str,
    entry: &'a Entry,
}

impl<'a> Service<'a> {
    fn get(&self, key: &str) -> Option<&'a Node> {
        self.entry.node.get(key).filter(|node| !node.is_null())
    }

    fn at(&self, path: &[&str]) -> Option<&'a Node> {
        self.entry.node.at(path).filter(|node| !node.is_null())
    }

    fn texts(&self, key: &str) -> impl Iterator<Item = (&'a str, Span)> {
        let items = self.get(key).and_then(Node::as_list).unwrap_or_default();
        items
            .iter()
            .filter_map(|item| Some((item.as_str()?, item.used())))
    }
}

impl<'a> Facts<'a> {
    fn services(&self) -> impl Iterator<Item = Service<'a>> {
        let project = self.project;
        let all = project.root.get("services").and_then(Node::as_map);
        let on = move |entry: &Entry| project.is_on(&entry.node);
        all.into_iter()
            .flatten()
            .filter(move |(_, entry)| on(entry))
            .map(|(name, entry)| Service { name, entry })
    }
}

/// Takes what one rule finds.
struct Report<'a> {
    rule: &'static Rule,
    found: &'a mut Vec<Finding>,
}

impl Report<'_> {
    fn add(&mut self, span: Span, path: impl Into<String>, message: String, help: &str) {
        self.found.push(Finding {
            rule: self.rule.id,
            severity: self.rule.level.severity(),
            message,
            help: help.to_owned(),
            path: path.into(),
            span,
            related: Vec::new(),
        });
    }

    fn service(&mut self, service: &Service<'_>, span: Span, message: &str, help: &str) {
        let message = format!("service `{}`: {message}", service.name);
        self.add(span, format!("services.{}", service.name), message, help);
    }
}

/// What all rules find in a project, by place; what is wrong with its files if it is none.
pub fn check(loaded: &Loaded) -> Vec<Finding> {
    let mut found = Vec::new();
    match &loaded.project {
        Err(problems) => found.extend(problems.iter().map(Finding::of_problem)),
        Ok(project) => {
            found.extend(project.check().iter().map(Finding::of_problem));
            let facts = Facts { loaded, project };
            for rule in RULES {
                let mut report = Report {
                    rule,
                    found: &mut found,
                };
                (rule.check)(&facts, &mut report);
            }
        }
    }
    found.sort_by_key(|it| (it.span.file, it.span.start, it.rule));
    found
}
