//! Edits of YAML that leave everything else where it is.

use super::Edit;
use crate::{
    source::{Sources, Span},
    tree::{Entry, Node, Value},
};

/// Adds a line `key: value` to a map, as its first entry. Nothing if the map is written in a way
/// that we do not edit.
pub(crate) fn add_key(sources: &Sources, map: &Entry, line: &str) -> Option<Edit> {
    let node = &map.node;
    let text = &sources.file(node.span.file)?.text;
    if node.alias.is_some() || map.key.file != node.span.file || map.key.start > node.span.start {
        return None;
    }
    if text.get(node.span.start as usize..)?.starts_with('{') {
        let empty = node.as_map()?.is_empty();
        let tail = if empty { "" } else { ", " };
        return Some(insert(
            node.span,
            node.span.start + 1,
            format!("{line}{tail}"),
        ));
    }
    let inside = |span: Span| {
        span.file == node.span.file && (node.span.start..node.span.end).contains(&span.start)
    };
    let keys = node.as_map()?.values().map(|entry| entry.key);
    let first = keys
        .filter(|key| inside(*key))
        .min_by_key(|key| key.start)?;
    let indent = indent(text, first.start as usize)?;
    // Below the key of the map, so that comments above its first entry stay with that entry.
    let head_end = text[map.key.end as usize..].find('\n')? + map.key.end as usize;
    let head = text[map.key.end as usize..head_end].trim();
    let rest = head.strip_prefix(':')?.trim_start();
    if head_end as u32 >= first.start || !(rest.is_empty() || rest.starts_with(['#', '&'])) {
        return None;
    }
    let end = if text[..head_end].ends_with('\r') {
        "\r\n"
    } else {
        "\n"
    };
    let at = head_end as u32 + 1;
    Some(insert(node.span, at, format!("{indent}{line}{end}")))
}

/// Adds a value to a list, before its first; nothing if the list is empty or not ours to edit.
pub(crate) fn before_value(sources: &Sources, list: &Node, value: &str) -> Option<Edit> {
    let text = &sources.file(list.span.file)?.text;
    if list.alias.is_some() {
        return None;
    }
    let first = list.as_list()?.first()?;
    if first.alias.is_some() || first.span.file != list.span.file {
        return None;
    }
    if text.get(list.span.start as usize..)?.starts_with('[') {
        return Some(insert(list.span, list.span.start + 1, format!("{value}, ")));
    }
    let line_start = text[..first.span.start as usize]
        .rfind('\n')
        .map_or(0, |at| at + 1);
    let before = &text[line_start..first.span.start as usize];
    let indent = before
        .strip_suffix(' ')?
        .trim_end_matches(' ')
        .strip_suffix('-')?;
    if !indent.chars().all(|c| c == ' ') {
        return None;
    }
    let line = text[line_start..].split('\n').next().unwrap_or_default();
    let end = if line.ends_with('\r') { "\r\n" } else { "\n" };
    Some(insert(
        list.span,
        line_start as u32,
        format!("{indent}- {value}{end}"),
    ))
}

/// Other text in the place of a scalar that stands in one line and holds no variable.
pub(crate) fn replace(sources: &Sources, node: &Node, text: impl Into<String>) -> Option<Edit> {
    let written = sources.text(node.span)?;
    let scalar = !matches!(node.value, Value::List(_) | Value::Map(_));
    if node.alias.is_some() || !scalar || written.is_empty() || written.contains(['\n', '$']) {
        return None;
    }
    Some(Edit {
        span: node.span,
        text: text.into(),
    })
}

/// Takes an entry of a block map away, with its line; a comment behind it stays. `whole`: from its
/// key to the end of its value.
pub(crate) fn delete_entry(sources: &Sources, whole: Span) -> Option<Edit> {
    let text = &sources.file(whole.file)?.text;
    let (first, last) = (whole.start as usize, whole.end as usize);
    let written = text.get(first..last)?;
    if written.contains(['#', '\n']) || !written.contains(':') {
        return None;
    }
    let line_start = first - indent(text, first)?.len();
    let line = text[last..]
        .split_inclusive('\n')
        .next()
        .unwrap_or_default();
    let (start, end) = match line.trim() {
        "" => (line_start, last + line.len()),
        rest if rest.starts_with('#') => {
            let blank = line.len() - line.trim_start().len();
            (first, last + blank)
        }
        _ => return None,
    };
    let span = Span {
        file: whole.file,
        start: start as u32,
        end: end as u32,
    };
    Some(Edit {
        span,
        text: String::new(),
    })
}

/// Adds a value to a list, behind one of its values.
pub(crate) fn after_value(sources: &Sources, list: &Node, at: usize, value: &str) -> Option<Edit> {
    let text = &sources.file(list.span.file)?.text;
    let item = list.as_list()?.get(at)?;
    if list.alias.is_some() || item.alias.is_some() || item.span.file != list.span.file {
        return None;
    }
    if text.get(list.span.start as usize..)?.starts_with('[') {
        return Some(insert(list.span, item.span.end, format!(", {value}")));
    }
    let line_start = text[..item.span.start as usize]
        .rfind('\n')
        .map_or(0, |at| at + 1);
    let dash = text[line_start..item.span.start as usize].strip_suffix("- ")?;
    let rest = text[item.span.end as usize..]
        .split_inclusive('\n')
        .next()?;
    let end = item.span.end as usize + rest.len();
    if !dash.chars().all(|c| c == ' ') || !rest.ends_with('\n') {
        return None;
    }
    let tail = if rest.ends_with("\r\n") { "\r\n" } else { "\n" };
    Some(insert(
        list.span,
        end as u32,
        format!("{dash}- {value}{tail}"),
    ))
}

/// Other text in the place of a list that stands between brackets in one line.
pub(crate) fn replace_list(sources: &Sources, list: &Node, text: String) -> Option<Edit> {
    let written = sources.text(list.span)?;
    let whole = written.starts_with('[') && written.ends_with(']');
    if list.alias.is_some() || !whole || written.contains(['\n', '$', '#', '&', '*']) {
        return None;
    }
    Some(Edit {
        span: list.span,
        text,
    })
}

/// Text as YAML in double quotes.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The blanks before a byte, if nothing else is before it in its line.
fn indent(text: &str, at: usize) -> Option<&str> {
    let line_start = text.get(..at)?.rfind('\n').map_or(0, |it| it + 1);
    let before = &text[line_start..at];
    before.chars().all(|c| c == ' ').then_some(before)
}

fn insert(span: Span, at: u32, text: String) -> Edit {
    Edit {
        span: Span {
            file: span.file,
            start: at,
            end: at,
        },
        text,
    }
}
