//! Which events a subscription is about: channels, namespaces, depth, position.

use serde::Deserialize;
use utoipa::ToSchema;

use super::ProtocolEvent;

/// Channels that exist; `custom:<name>` besides.
const CHANNELS: [&str; 9] = [
    "values",
    "updates",
    "messages",
    "tools",
    "custom",
    "lifecycle",
    "input",
    "tasks",
    "checkpoints",
];
/// Most channels and namespaces of one subscription.
const MAX_ENTRIES: usize = 256;

/// A subscription's filter.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, ToSchema)]
pub struct Filter {
    /// Channels: `values`, `updates`, `messages`, `tools`, `custom`, `custom:<name>`,
    /// `lifecycle`, `input`, `tasks`, `checkpoints`.
    #[serde(default)]
    pub channels: Vec<String>,
    /// Prefixes of namespaces; absent means all. A part without `:` matches a part with any
    /// task id.
    #[serde(default)]
    pub namespaces: Option<Vec<Vec<String>>>,
    /// How many levels below a prefix still match; absent means any number.
    #[serde(default)]
    pub depth: Option<usize>,
    /// Only events with a greater number.
    #[serde(default)]
    pub since: Option<u64>,
}

impl Filter {
    /// Checks the filter; the error is the text that clients see.
    ///
    /// # Errors
    /// If no channel is given, or one does not exist.
    pub fn check(&self) -> Result<(), String> {
        if self.channels.is_empty() {
            return Err("channels is required and must be a non-empty array".into());
        }
        let namespaces = self.namespaces.as_ref().map_or(0, Vec::len);
        if self.channels.len() > MAX_ENTRIES || namespaces > MAX_ENTRIES {
            return Err(format!(
                "at most {MAX_ENTRIES} channels and namespaces are allowed"
            ));
        }
        let unknown: Vec<&str> = self
            .channels
            .iter()
            .map(String::as_str)
            .filter(|name| !CHANNELS.contains(name))
            .filter(|name| name.strip_prefix("custom:").is_none_or(str::is_empty))
            .collect();
        match unknown.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "channels contains unsupported entries: {}. Allowed: {}, or any `custom:<name>`.",
                unknown.join(", "),
                CHANNELS.join(", ")
            )),
        }
    }

    /// Whether the subscription is about this event.
    #[must_use]
    pub fn matches(&self, event: &ProtocolEvent) -> bool {
        event.seq > self.since.unwrap_or(0)
            && self.wants_channel(event)
            && self.wants_namespace(&event.params.namespace)
    }

    /// Whether the subscription only watches for starts, ends and questions.
    #[must_use]
    pub fn only_watches(&self) -> bool {
        self.channels
            .iter()
            .all(|name| matches!(name.as_str(), "lifecycle" | "input"))
    }

    fn wants_channel(&self, event: &ProtocolEvent) -> bool {
        let channel = match event.method {
            "input.requested" | "input.answered" => "input",
            other => other,
        };
        if self.channels.iter().any(|name| name == channel) {
            return true;
        }
        let name = event
            .params
            .data
            .get("name")
            .and_then(serde_json::Value::as_str);
        channel == "custom"
            && name.is_some_and(|name| {
                self.channels
                    .iter()
                    .any(|c| c.strip_prefix("custom:") == Some(name))
            })
    }

    fn wants_namespace(&self, namespace: &[String]) -> bool {
        let Some(prefixes) = self.namespaces.as_ref().filter(|list| !list.is_empty()) else {
            return true;
        };
        prefixes.iter().any(|prefix| {
            starts_with(namespace, prefix)
                && self
                    .depth
                    .is_none_or(|depth| namespace.len() - prefix.len() <= depth)
        })
    }
}

/// Whether a namespace starts with a prefix. A part of the prefix without a task id matches a
/// part with any.
fn starts_with(namespace: &[String], prefix: &[String]) -> bool {
    prefix.len() <= namespace.len()
        && prefix.iter().zip(namespace).all(|(wanted, part)| {
            wanted == part
                || (!wanted.contains(':') && part.split(':').next() == Some(wanted.as_str()))
        })
}
