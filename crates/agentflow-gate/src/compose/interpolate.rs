//! Variables in values: `$A`, `${A}`, `${A:-b}`, `${A-b}`, `${A:?e}`, `${A?e}`, `${A:+b}`,
//! `${A+b}`, `$$`.

use super::units;
use crate::{
    problem::{Kind, Problem},
    tree::{Node, Path, Value},
};

/// Deepest nesting of variables in the defaults of others.
pub const MAX_NESTED: usize = 64;
/// Most bytes that variables may bring into one load.
pub const MAX_FILLED: usize = 64 << 20;

/// Gives the value of a variable.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Why a text could not be filled in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// Not an expression that Compose knows.
    Template,
    /// `${NAME:?why}` and `NAME` is absent.
    Required { name: String, why: String },
    /// One of our limits.
    Limit(&'static str),
}

impl Failed {
    pub(super) fn message(&self, text: &str) -> String {
        match self {
            Self::Template => {
                format!(
                    "`{text}` holds a `$` that begins no variable; write `$$` for the sign itself"
                )
            }
            Self::Required { name, why } if why.is_empty() => format!("`{name}` must be set"),
            Self::Required { name, why } => format!("`{name}` must be set: {why}"),
            Self::Limit(limit) => (*limit).to_owned(),
        }
    }
}

/// Fills variables in, and remembers those that have no value.
pub(super) struct Filler<'a> {
    lookup: Lookup<'a>,
    /// Variables without value and default, each once per text.
    pub(super) unset: Vec<String>,
    /// Bytes that may still be written.
    pub(super) left: usize,
    depth: usize,
}

impl<'a> Filler<'a> {
    pub(super) fn new(lookup: Lookup<'a>, left: usize) -> Self {
        Self {
            lookup,
            unset: Vec::new(),
            left,
            depth: 0,
        }
    }

    /// The text with its variables filled in.
    pub(super) fn fill(&mut self, text: &str) -> Result<String, Failed> {
        if !text.contains('$') {
            return Ok(text.to_owned());
        }
        if self.depth == MAX_NESTED {
            return Err(Failed::Limit("variables are nested too deep"));
        }
        self.depth += 1;
        let filled = self.parts(text);
        self.depth -= 1;
        filled
    }

    fn parts(&mut self, text: &str) -> Result<String, Failed> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            self.write(&mut out, &rest[..at])?;
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                self.write(&mut out, "$")?;
                rest = after;
            } else if let Some(inner) = rest.strip_prefix('{') {
                let (value, after) = self.braced(inner)?;
                self.write(&mut out, &value)?;
                rest = after;
            } else {
                let name = name(rest);
                match name.is_empty() {
                    true => self.write(&mut out, "$")?,
                    false => {
                        let value = self.value(name);
                        self.write(&mut out, &value)?;
                    }
                }
                rest = &rest[name.len()..];
            }
        }
        self.write(&mut out, rest)?;
        Ok(out)
    }

    fn write(&mut self, out: &mut String, text: &str) -> Result<(), Failed> {
        self.left = match self.left.checked_sub(text.len()) {
            Some(left) => left,
            None => return Err(Failed::Limit("variables bring in too much text")),
        };
        out.push_str(text);
        Ok(())
    }

    fn value(&mut self, name: &str) -> String {
        match (self.lookup)(name) {
            Some(value) => value,
            None => {
                if !self.unset.iter().any(|known| known == name) {
                    self.unset.push(name.to_owned());
                }
                String::new()
            }
        }
    }

    /// What follows `${`: the value, and the text after the closing brace.
    fn braced<'t>(&mut self, inner: &'t str) -> Result<(String, &'t str), Failed> {
        let name = name(inner);
        let tail = &inner[name.len()..];
        if name.is_empty() {
            return Err(Failed::Template);
        }
        if let Some(after) = tail.strip_prefix('}') {
            return Ok((self.value(name), after));
        }
        let (only_set, operator) = match tail.strip_prefix(':') {
            Some(tail) => (false, tail),
            None => (true, tail),
        };
        let sign = match operator.as_bytes().first() {
            Some(sign @ (b'-' | b'+' | b'?')) => *sign,
            _ => return Err(Failed::Template),
        };
        let argument = &operator[1..];
        let begin = inner.len() - argument.len();
        let end = closing(inner, begin).ok_or(Failed::Template)?;
        let (argument, after) = (&inner[begin..end], &inner[end + 1..]);
        let argument = self.fill(argument)?;
        let value = (self.lookup)(name);
        let counts = value
            .as_ref()
            .is_some_and(|value| only_set || !value.is_empty());
        let value = match (sign, counts) {
            (b'-', true) | (b'?', true) => value.unwrap_or_default(),
            (b'-', false) | (b'+', true) => argument,
            (b'+', false) => value.unwrap_or_default(),
            _ => {
                let name = name.to_owned();
                return Err(Failed::Required {
                    name,
                    why: argument,
                });
            }
        };
        Ok((value, after))
    }
}

/// The name of a variable at the start of a text.
fn name(text: &str) -> &str {
    let is_part = |at: usize, byte: u8| {
        byte == b'_' || byte.is_ascii_alphabetic() || (at > 0 && byte.is_ascii_digit())
    };
    let end = text
        .bytes()
        .enumerate()
        .position(|(at, byte)| !is_part(at, byte));
    &text[..end.unwrap_or(text.len())]
}

/// Where the brace closes that was opened before `text`. As Docker counts, the byte after an
/// opening brace is not looked at; braces that never match end with the last one of the line.
fn closing(text: &str, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut open = 1;
    let mut last = None;
    // The name follows the first brace, so that one byte of it is passed over.
    let mut at = 1;
    while at < bytes.len() && bytes[at] != b'\n' {
        match bytes[at] {
            b'}' => {
                open -= 1;
                if open == 0 {
                    return Some(at).filter(|at| *at >= from);
                }
                last = Some(at);
            }
            b'{' => {
                open += 1;
                at += 1;
                if bytes.get(at) == Some(&b'}') {
                    last = Some(at);
                }
                if bytes.get(at) == Some(&b'\n') {
                    break;
                }
            }
            _ => {}
        }
        at += 1;
    }
    last.filter(|at| *at >= from)
}

/// A type that Compose makes of a text, at the paths where it wants it.
#[derive(Clone, Copy)]
enum Cast {
    Int,
    Float,
    Bool,
}

fn cast(path: &Path<'_>) -> Option<Cast> {
    Some(match path.parts().as_slice() {
        [
            "services",
            _,
            "cpu_count" | "cpu_period" | "cpu_quota" | "cpu_rt_period" | "cpu_rt_runtime"
            | "cpu_shares" | "oom_score_adj" | "pids_limit" | "scale",
        ]
        | ["services", _, "deploy", "replicas"]
        | [
            "services",
            _,
            "deploy",
            "update_config" | "rollback_config",
            "parallelism",
        ]
        | ["services", _, "deploy", "restart_policy", "max_attempts"]
        | [
            "services",
            _,
            "deploy",
            "placement",
            "max_replicas_per_node",
        ]
        | ["services", _, "healthcheck", "retries"]
        | ["services", _, "ports", "[]", "target"]
        | ["services", _, "ulimits", _]
        | ["services", _, "ulimits", _, "hard" | "soft"] => Cast::Int,
        ["services", _, "cpu_percent" | "cpus"]
        | [
            "services",
            _,
            "deploy",
            "update_config" | "rollback_config",
            "max_failure_ratio",
        ] => Cast::Float,
        [
            "services",
            _,
            "init" | "oom_kill_disable" | "privileged" | "read_only" | "stdin_open" | "tty",
        ]
        | ["services", _, "healthcheck", "disable"]
        | ["services", _, "volumes", "[]", "read_only"]
        | ["services", _, "volumes", "[]", "volume", "nocopy"]
        | [
            "networks",
            _,
            "external" | "internal" | "attachable" | "enable_ipv4" | "enable_ipv6",
        ]
        | ["volumes" | "secrets" | "configs", _, "external"] => Cast::Bool,
        _ => return None,
    })
}

/// Fills in every text of a tree.
///
/// `unset` is called for each variable without a value.
///
/// # Errors
/// The first text that cannot be filled in, or whose value has the wrong type.
pub(super) fn fill(
    node: &mut Node,
    path: &Path<'_>,
    filler: &mut Filler<'_>,
    unset: &mut dyn FnMut(&str, &Node, &Path<'_>),
) -> Result<(), Problem> {
    match &mut node.value {
        Value::Map(map) => {
            for (name, entry) in map.iter_mut() {
                fill(&mut entry.node, &path.child(name), filler, unset)?;
            }
        }
        Value::List(items) => {
            for item in items {
                fill(item, &path.child("[]"), filler, unset)?;
            }
        }
        Value::Text(text) => {
            let filled = filler.fill(text).map_err(|failed| {
                let kind = match failed {
                    Failed::Limit(_) => Kind::Limit,
                    _ => Kind::Interpolation,
                };
                Problem::new(kind, node.span, failed.message(text)).at(path.dotted())
            })?;
            for name in std::mem::take(&mut filler.unset) {
                unset(&name, node, path);
            }
            node.value = match cast(path) {
                None => Value::Text(filled),
                Some(cast) => apply(cast, &filled).ok_or_else(|| {
                    let wanted = match cast {
                        Cast::Int => "a whole number",
                        Cast::Float => "a number",
                        Cast::Bool => "true or false",
                    };
                    let message = format!("`{filled}` is not {wanted}");
                    Problem::new(Kind::Interpolation, node.span, message).at(path.dotted())
                })?,
            };
        }
        _ => {}
    }
    Ok(())
}

fn apply(cast: Cast, text: &str) -> Option<Value> {
    match cast {
        Cast::Int => text.parse().ok().map(Value::Int),
        Cast::Float => text.parse().ok().map(Value::Float),
        Cast::Bool => units::flag(text).map(Value::Bool),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Result<String, Failed> {
        let lookup = |name: &str| match name {
            "A" => Some("a".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        Filler::new(&lookup, MAX_FILLED).fill(text)
    }

    #[test]
    fn every_operator_works_as_in_a_shell() {
        for (text, expected) in [
            ("$A-${A}$$A", "a-a$A"),
            ("${A:-b}${EMPTY:-b}${NO:-b}", "abb"),
            ("${A-b}${EMPTY-b}${NO-b}", "ab"),
            ("${A:+b}${EMPTY:+b}${NO:+b}", "b"),
            ("${A+b}${EMPTY+b}${NO+b}", "bb"),
            ("${A:?e}${A?e}${EMPTY?e}", "aa"),
            ("${NO:-${A:-c}}!", "a!"),
            ("${NO:-{}}", "{}"),
            ("${NO:-x:-y?z}", "x:-y?z"),
            ("${NO}|$NO|$1|$", "||$1|$"),
            ("${a:-b} ${NO:-c}d}", "b cd}"),
        ] {
            assert_eq!(filled(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn wrong_expressions_are_refused() {
        for text in [
            "${",
            "${}",
            "${A",
            "${A b}",
            "${1}",
            "${A:-b",
            "${A:-b\nc}",
            "${A!}",
        ] {
            assert_eq!(filled(text), Err(Failed::Template), "{text}");
        }
        let name = "NO".to_owned();
        let why = "tell me a".to_owned();
        assert_eq!(
            filled("${NO:?tell me $A}"),
            Err(Failed::Required { name, why })
        );
        assert!(filled("${EMPTY:?e}").is_err());
    }

    #[test]
    fn nesting_and_size_are_bounded() {
        let deep = "${A:-".repeat(100_000) + &"}".repeat(100_000);
        assert!(matches!(filled(&deep), Err(Failed::Limit(_))));
        let lookup = |_: &str| Some("x".repeat(1000));
        let long = "$A".repeat(1000);
        assert!(Filler::new(&lookup, 10_000).fill(&long).is_err());
    }
}
