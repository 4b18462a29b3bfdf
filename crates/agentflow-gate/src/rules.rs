//! Rules over what a deployment says.
//!
//! A rule is a row of [`RULES`]: its number, its level, a page that says why, and a function over
//! [`Facts`]. The page holds a bad and a good example; both are run as tests.

mod backends;
mod container;
mod file;
mod graphs;
mod health;
mod hygiene;
mod mem0;
mod network;
mod postgres;
mod redis;
mod secrets;
mod table;

pub use self::table::RULES;
use crate::{
    compose::{self, Files, Loaded},
    facts::{Facts, Service},
    finding::{Finding, Severity},
    git::Tracked,
    source::Span,
};

/// How much a rule binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The deployment must be so.
    Must,
    /// It had better be so.
    Should,
    /// It may be worth a thought.
    May,
    /// The deployment must not be so.
    MustNot,
}

impl Level {
    /// How bad a finding is.
    pub fn severity(self) -> Severity {
        match self {
            Self::Must | Self::MustNot => Severity::Error,
            Self::Should => Severity::Warning,
            Self::May => Severity::Note,
        }
    }

    /// Its name, as `must not`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Must => "must",
            Self::Should => "should",
            Self::May => "may",
            Self::MustNot => "must not",
        }
    }
}

/// What is asked of a deployment.
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

impl Rule {
    /// What it is about, in one line: the title of its page.
    pub fn title(&self) -> &'static str {
        let first = self.page.lines().next().unwrap_or_default();
        first.split_once(": ").map_or(first, |(_, title)| title)
    }

    /// Why it is: the first paragraph of its page.
    pub fn why(&self) -> &'static str {
        let mut lines = self.page.lines();
        lines
            .find(|line| !line.is_empty() && !line.starts_with('#'))
            .unwrap_or_default()
    }
}

/// A rule by its number or name.
pub fn find(name: &str) -> Option<&'static Rule> {
    let is = |rule: &&Rule| rule.id.eq_ignore_ascii_case(name) || rule.name == name;
    RULES.iter().find(is)
}

/// Takes what one rule finds.
pub(crate) struct Report<'a> {
    rule: &'static Rule,
    found: &'a mut Vec<Finding>,
    hidden: &'a mut Vec<Span>,
}

impl Report<'_> {
    fn add(
        &mut self,
        span: Span,
        path: impl Into<String>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> &mut Finding {
        let at = self.found.len();
        self.found.push(Finding {
            rule: self.rule.id,
            severity: self.rule.level.severity(),
            message: message.into(),
            help: help.into(),
            path: path.into(),
            span,
            related: Vec::new(),
            fix: None,
        });
        &mut self.found[at]
    }

    fn service(
        &mut self,
        service: &Service<'_>,
        span: Span,
        message: &str,
        help: &str,
    ) -> &mut Finding {
        let message = format!("service `{}`: {message}", service.name);
        self.add(span, format!("services.{}", service.name), message, help)
    }

    /// No output shows this text.
    fn hide(&mut self, span: Span) {
        self.hidden.push(span);
    }
}

/// What all rules find, by place.
pub(crate) fn judge(facts: &Facts<'_>, found: &mut Vec<Finding>, hidden: &mut Vec<Span>) {
    for rule in RULES {
        let mut report = Report {
            rule,
            found,
            hidden,
        };
        (rule.check)(facts, &mut report);
    }
}

/// What all rules find in a project, and what is to be hidden; what is wrong with its files if it
/// is none.
pub(crate) fn check_project(
    loaded: &Loaded,
    files: &dyn Files,
    request: &compose::Request,
    tracked: Option<&Tracked>,
) -> (Vec<Finding>, Vec<Span>) {
    let (mut found, mut hidden) = (Vec::new(), Vec::new());
    match &loaded.project {
        Err(problems) => found.extend(problems.iter().map(Finding::of_problem)),
        Ok(project) => {
            found.extend(project.check().iter().map(Finding::of_problem));
            let facts = Facts::of_project(loaded, project, files, request, tracked);
            hidden = facts.values_beside();
            judge(&facts, &mut found, &mut hidden);
        }
    }
    (found, hidden)
}

/// Findings that reading reports, not a function.
fn by_reading(_: &Facts<'_>, _: &mut Report<'_>) {}
