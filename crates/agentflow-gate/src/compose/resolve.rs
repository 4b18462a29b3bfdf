//! Relative paths, made relative to another folder or absolute.

use super::files::join;
use crate::{
    problem::{Kind, Problem},
    tree::{Node, Path, Value},
};

/// Seen from where.
pub(super) struct Base<'a> {
    /// The folder that relative paths start from.
    pub(super) folder: &'a str,
    /// What `~` stands for.
    pub(super) home: Option<&'a str>,
}

impl Base<'_> {
    fn expand(&self, path: &str) -> String {
        match (path.strip_prefix('~'), self.home) {
            (Some(rest), Some(home)) => join(home, rest.trim_start_matches('/')),
            _ => path.to_owned(),
        }
    }

    fn local(&self, path: &str) -> String {
        let path = self.expand(path);
        match path.is_empty() || path.starts_with('/') {
            true => path,
            false => join(self.folder, &path),
        }
    }

    /// A path of the host, which may be a Windows machine.
    fn host(&self, path: &str) -> String {
        let path = self.expand(path);
        let bytes = path.as_bytes();
        let is_separator = |at: usize| matches!(bytes.get(at), Some(b'/' | b'\\'));
        let drive =
            bytes.first().is_some_and(u8::is_ascii_alphabetic) && bytes.get(1) == Some(&b':');
        let share = is_separator(0) && is_separator(1) && bytes.len() > 2;
        match path.starts_with('/') || (drive && is_separator(2)) || share {
            true => path,
            false => join(self.folder, &path),
        }
    }

    fn context(&self, path: &str) -> String {
        let remote = ["github.com/", "git@", "service:"];
        match path.contains("://") || remote.iter().any(|it| path.starts_with(it)) {
            true => path.to_owned(),
            false => self.local(path),
        }
    }
}

/// Resolves every path of a project.
///
/// # Errors
/// A bind mount has no source.
pub(super) fn resolve(node: &mut Node, path: &Path<'_>, base: &Base<'_>) -> Result<(), Problem> {
    match path.parts().as_slice() {
        ["services", _, "build", "context"]
        | ["services", _, "build", "additional_contexts", _] => {
            change(node, |text| base.context(text));
        }
        ["services", _, "build", "ssh", _] | ["configs" | "secrets", _, "file"] => {
            change(node, |text| base.host(text));
        }
        ["services", _, "env_file", _, "path"]
        | ["services", _, "label_file", _]
        | ["services", _, "extends", "file"]
        | ["services", _, "develop", "watch", _, "path"] => change(node, |text| base.local(text)),
        ["services", _, "volumes", _] => {
            if node.get("type").and_then(Node::as_str) != Some("bind") {
                return Ok(());
            }
            let span = node.span;
            let source = node.as_map_mut().and_then(|map| map.get_mut("source"));
            let Some(source) = source else {
                let message = "a bind mount needs a source";
                return Err(Problem::new(Kind::Schema, span, message).at(path.dotted()));
            };
            change(&mut source.node, |text| base.host(text));
        }
        ["volumes", _] => {
            let is_local = node.get("driver").and_then(Node::as_str) == Some("local");
            let is_bind = node.at(&["driver_opts", "o"]).and_then(Node::as_str) == Some("bind");
            if is_local && is_bind {
                let options = node.as_map_mut().and_then(|map| map.get_mut("driver_opts"));
                let options = options.and_then(|entry| entry.node.as_map_mut());
                if let Some(device) = options.and_then(|map| map.get_mut("device")) {
                    change(&mut device.node, |text| base.host(text));
                }
            }
        }
        _ => match &mut node.value {
            Value::Map(map) => {
                for (name, entry) in map.iter_mut() {
                    resolve(&mut entry.node, &path.child(name), base)?;
                }
            }
            Value::List(items) => {
                for item in items {
                    resolve(item, &path.child("[]"), base)?;
                }
            }
            _ => {}
        },
    }
    Ok(())
}

fn change(node: &mut Node, change: impl Fn(&str) -> String) {
    if let Value::Text(text) = &mut node.value {
        *text = change(text);
    }
}
