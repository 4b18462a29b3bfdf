//! Comments that say why a finding is not to be reported.
//!
//! `# agentflow-gate: ignore RULE[,RULE] reason` behind a line, or on lines of its own above it,
//! speaks of findings that begin in that line. `ignore-file` speaks of the whole file. A comment
//! without a reason suppresses nothing and is a finding itself.

use crate::{
    finding::Finding,
    rules::{self, Rule},
    source::{SourceFile, Sources, Span},
};

/// What a comment begins with.
const MARK: &str = "agentflow-gate:";
/// The rule about comments that lack a reason or name no rule.
const RULE: &str = "AFP103";

/// One comment.
#[derive(Debug, PartialEq, Eq)]
struct Ignore {
    rules: Vec<&'static str>,
    file: u32,
    /// The line it speaks of, from 1; every line if absent.
    line: Option<usize>,
}

/// Takes the findings away that comments speak of, adds those about comments; how many went away.
pub(crate) fn apply(sources: &Sources, findings: &mut Vec<Finding>) -> usize {
    let mut ignores = Vec::new();
    let mut wrong = Vec::new();
    for (file, source) in sources.files().iter().enumerate() {
        if source.text.contains(MARK) {
            read(source, file as u32, &mut ignores, &mut wrong);
        }
    }
    let before = findings.len();
    findings.retain(|finding| {
        let line = sources
            .file(finding.span.file)
            .map(|file| file.line_column(finding.span.start).0);
        !ignores.iter().any(|ignore| {
            ignore.file == finding.span.file
                && ignore.rules.contains(&finding.rule)
                && ignore.line.is_none_or(|it| Some(it) == line)
        })
    });
    let gone = before - findings.len();
    findings.append(&mut wrong);
    gone
}

fn read(source: &SourceFile, file: u32, ignores: &mut Vec<Ignore>, wrong: &mut Vec<Finding>) {
    // Comments on lines of their own, which wait for the line that they speak of.
    let mut waiting: Vec<Ignore> = Vec::new();
    let mut start = 0;
    for (at, line) in source.text.split_inclusive('\n').enumerate() {
        let number = at + 1;
        let text = line.trim();
        if let Some(comment) = comment_of(line) {
            let begin = start + line.find('#').unwrap_or_default();
            let span = Span {
                file,
                start: begin as u32,
                end: (start + line.trim_end().len()) as u32,
            };
            match parse(comment) {
                Ok((rules, whole)) => {
                    let alone = text.starts_with('#');
                    let line = (!whole).then_some(number);
                    let ignore = Ignore { rules, file, line };
                    match alone && !whole {
                        true => waiting.push(ignore),
                        false => ignores.push(ignore),
                    }
                }
                Err(message) => wrong.push(about(span, message)),
            }
        }
        if !text.is_empty() && !text.starts_with('#') {
            ignores.extend(waiting.drain(..).map(|mut ignore| {
                ignore.line = Some(number);
                ignore
            }));
        }
        start += line.len();
    }
}

/// What follows our mark in the comment of a line.
fn comment_of(line: &str) -> Option<&str> {
    let at = line.find(MARK)?;
    let (before, after) = (&line[..at], &line[at + MARK.len()..]);
    let hash = before.rfind('#')?;
    let begins = hash == 0 || before[..hash].ends_with(char::is_whitespace);
    (begins && before[hash + 1..].trim().is_empty()).then_some(after.trim())
}

/// The rules of a comment, and whether it speaks of the whole file.
fn parse(comment: &str) -> Result<(Vec<&'static str>, bool), String> {
    let (verb, rest) = comment
        .split_once(char::is_whitespace)
        .unwrap_or((comment, ""));
    let whole = match verb {
        "ignore" => false,
        "ignore-file" => true,
        other => {
            return Err(format!("`{other}` is neither `ignore` nor `ignore-file`"));
        }
    };
    let rest = rest.trim();
    let (names, reason) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let mut found = Vec::new();
    for name in names.split(',').filter(|it| !it.is_empty()) {
        let rule: &Rule = rules::find(name).ok_or_else(|| format!("there is no rule `{name}`"))?;
        found.push(rule.id);
    }
    if found.is_empty() {
        return Err("the comment names no rule".to_owned());
    }
    if !reason.chars().any(char::is_alphabetic) {
        return Err("the comment gives no reason, so it suppresses nothing".to_owned());
    }
    Ok((found, whole))
}

fn about(span: Span, message: String) -> Finding {
    Finding {
        rule: RULE,
        severity: rules::find(RULE)
            .map_or(crate::finding::Severity::Error, |it| it.level.severity()),
        message,
        help: "write `# agentflow-gate: ignore RULE why it may stay`".to_owned(),
        path: String::new(),
        span,
        related: Vec::new(),
        fix: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rules, and the line that is spoken of.
    type Seen = (Vec<&'static str>, Option<usize>);

    fn read_all(text: &str) -> (Vec<Seen>, Vec<String>) {
        let mut sources = Sources::default();
        let file = sources.add("a", text.to_owned());
        let (mut ignores, mut wrong) = (Vec::new(), Vec::new());
        read(
            sources.file(file).expect("it is there"),
            file,
            &mut ignores,
            &mut wrong,
        );
        let ignores = ignores.into_iter().map(|it| (it.rules, it.line)).collect();
        (ignores, wrong.into_iter().map(|it| it.message).collect())
    }

    #[test]
    fn a_comment_speaks_of_its_line_or_of_the_next() {
        let text = "a: 1 # agentflow-gate: ignore AFC003 old tool\n\
                    # agentflow-gate: ignore AFC101,no-new-privileges it is a job\n\n# other\nb: 1\n\
                    # agentflow-gate: ignore-file AFC110 a laptop\n";
        let (ignores, wrong) = read_all(text);
        assert_eq!(
            ignores,
            [
                (vec!["AFC003"], Some(1)),
                (vec!["AFC101", "AFC114"], Some(5)),
                (vec!["AFC110"], None)
            ]
        );
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn a_comment_without_reason_or_rule_is_wrong() {
        for (text, message) in [
            ("# agentflow-gate: ignore AFC003", "no reason"),
            ("# agentflow-gate: ignore AFC003 --", "no reason"),
            ("# agentflow-gate: ignore", "no rule"),
            (
                "# agentflow-gate: ignore AFC999 why",
                "there is no rule `AFC999`",
            ),
            ("# agentflow-gate: skip AFC003 why", "`skip` is neither"),
        ] {
            let (ignores, wrong) = read_all(text);
            assert!(ignores.is_empty(), "{text}");
            assert!(wrong[0].contains(message), "{text}: {wrong:?}");
        }
        // Not a comment of ours.
        assert_eq!(read_all("url: http://x#agentflow-gate: ignore").1.len(), 0);
    }
}
