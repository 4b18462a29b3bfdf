//! Templates: minijinja, compiled once; strict about what is not there, without files, with a
//! limit of work and of output.

use std::{collections::BTreeMap, sync::Arc};

use agentflow_types::{Error, Map, Result, Value};
use minijinja::{Environment, UndefinedBehavior};

use crate::variables::Variables;

/// Most instructions of one rendering.
const FUEL: u64 = 500_000;

/// Most bytes of a template.
pub(crate) const MAX_BYTES: usize = 256 << 10;

/// Most operators in one tag, and most `elif` in a template: parser and interpreter recurse for
/// each. 1600 were measured to fit a stack of 2 MiB in a debug build, 3200 were not.
const MAX_OPERATORS: usize = 200;

/// Most bytes that a template may make.
const MAX_OUTPUT_BYTES: usize = 4 << 20;

/// Name of the only template of an environment.
const NAME: &str = "template";

/// A compiled template.
#[derive(Clone)]
pub(crate) struct Template(Arc<Inner>);

struct Inner {
    environment: Environment<'static>,
    variables: Vec<String>,
}

/// Why a template cannot be compiled.
#[derive(Debug, PartialEq)]
pub(crate) struct Mistake {
    pub(crate) message: String,
    /// Byte in the text.
    pub(crate) offset: usize,
}

/// How values are written into the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Escape {
    /// As they are.
    #[default]
    None,
    /// Percent-encoded, so that a value cannot change the structure of a URL.
    Url,
}

impl Template {
    /// Compiles.
    ///
    /// # Errors
    /// The first mistake of syntax.
    pub(crate) fn compile(text: &str, escape: Escape) -> Result<Self, Mistake> {
        if text.len() > MAX_BYTES {
            let message = format!("the template has more than {MAX_BYTES} bytes");
            return Err(Mistake { message, offset: 0 });
        }
        if let Some(offset) = too_long(text) {
            let message = format!("a tag has more than {MAX_OPERATORS} operators");
            return Err(Mistake { message, offset });
        }
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        environment.set_debug(true);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        if escape == Escape::Url {
            environment.set_formatter(|out, _, value| {
                let text = if value.is_none() {
                    String::new()
                } else {
                    value.to_string()
                };
                out.write_str(&percent_encoded(&text))
                    .map_err(minijinja::Error::from)
            });
        } else {
            environment.set_formatter(|out, _, value| {
                let text = if value.is_none() {
                    String::new()
                } else {
                    value.to_string()
                };
                out.write_str(&text).map_err(minijinja::Error::from)
            });
        }
        // The formatter is asked for every value, undefined ones included, which `Strict` has
        // refused before.
        environment
            .add_template_owned(NAME, text.to_owned())
            .map_err(|error| mistake(text, &error))?;
        let mut variables: Vec<String> = environment
            .get_template(NAME)
            .map_err(|error| mistake(text, &error))?
            .undeclared_variables(false)
            .into_iter()
            .filter(|name| !environment.globals().any(|(global, _)| global == name))
            .collect();
        variables.sort_unstable();
        Ok(Self(Arc::new(Inner {
            environment,
            variables,
        })))
    }

    /// Names of the variables that the template reads.
    pub(crate) fn variables(&self) -> &[String] {
        &self.0.variables
    }

    /// The text.
    ///
    /// # Errors
    /// `Failed` if something is not there, or the limits are reached.
    pub(crate) fn render(&self, variables: &Variables<'_>) -> Result<String> {
        let context: BTreeMap<String, minijinja::Value> = variables
            .pick(&self.0.variables)
            .into_iter()
            .map(|(name, value)| (name.to_string(), to_jinja(&value)))
            .collect();
        let rendered = self
            .0
            .environment
            .get_template(NAME)
            .and_then(|template| template.render(minijinja::Value::from(context)));
        match rendered {
            Ok(text) if text.len() > MAX_OUTPUT_BYTES => {
                Err(Error::failed("the template made too much text").with("bytes", text.len()))
            }
            Ok(text) => Ok(text),
            Err(error) => Err(failed(&error)),
        }
    }
}

fn failed(error: &minijinja::Error) -> Error {
    let what = error
        .detail()
        .map_or_else(|| error.kind().to_string(), str::to_owned);
    let source = error.template_source().zip(error.range());
    let part = source
        .and_then(|(text, range)| text.get(range))
        .unwrap_or_default();
    let error = Error::failed(format!("the template failed: {what}"));
    if part.is_empty() {
        error
    } else {
        error.with("at", part)
    }
}

fn mistake(text: &str, error: &minijinja::Error) -> Mistake {
    let what = error
        .detail()
        .map_or_else(|| error.kind().to_string(), str::to_owned);
    let line_start = || {
        let line = error.line().unwrap_or(1).saturating_sub(1);
        text.split_inclusive('\n')
            .take(line)
            .map(str::len)
            .sum::<usize>()
    };
    let offset = error.range().map_or_else(line_start, |range| range.start);
    let message = format!("the template is not valid: {what}");
    Mistake {
        message,
        offset: offset.min(text.len()),
    }
}

/// Where a tag has too many operators, or the template too many `elif`.
fn too_long(text: &str) -> Option<usize> {
    let (mut at, mut elifs) = (0, 0_usize);
    while let Some(start) = text[at..].find('{').map(|found| at + found) {
        let inside = start + 2;
        match text.as_bytes().get(start + 1) {
            Some(b'{' | b'%') => {}
            // Whatever a comment holds is no tag.
            Some(b'#') => {
                at = inside + text[inside..].find("#}")? + 2;
                continue;
            }
            _ => {
                at = start + 1;
                continue;
            }
        }
        let end = inside + tag_end(&text[inside..]);
        let tag = &text[inside..end];
        let words = || tag.split(|c: char| !c.is_alphanumeric() && c != '_');
        let signs = tag
            .chars()
            .filter(|c| "+-*/%.|~=<>!([{".contains(*c))
            .count();
        const WORDS: [&str; 7] = ["and", "or", "not", "in", "is", "if", "else"];
        let operators = signs + words().filter(|word| WORDS.contains(word)).count();
        elifs += usize::from(words().find(|word| !word.is_empty()) == Some("elif"));
        if operators.max(elifs) > MAX_OPERATORS {
            return Some(start);
        }
        at = end;
    }
    None
}

/// Where a tag ends: behind its texts, in which braces mean nothing, and its maps.
fn tag_end(inside: &str) -> usize {
    let bytes = inside.as_bytes();
    let (mut at, mut quote, mut braces) = (0, None, 0_usize);
    while at < bytes.len() {
        match (bytes[at], quote) {
            (b'\\', Some(_)) => at += 1,
            (byte, Some(open)) if byte == open => quote = None,
            (byte @ (b'"' | b'\''), None) => quote = Some(byte),
            (b'}' | b'%', None) if braces == 0 && bytes.get(at + 1) == Some(&b'}') => return at,
            (b'{', None) => braces += 1,
            (b'}', None) => braces = braces.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    inside.len()
}

fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn to_jinja(value: &Value) -> minijinja::Value {
    match value {
        Value::Null => minijinja::Value::from(()),
        Value::Bool(b) => (*b).into(),
        Value::Int(n) => (*n).into(),
        Value::UInt(n) => (*n).into(),
        Value::Float(n) => (*n).into(),
        Value::Str(text) => text.clone().into(),
        Value::Bytes(bytes) | Value::Ext(_, bytes) => minijinja::Value::from_bytes(bytes.to_vec()),
        Value::List(items) => items.iter().map(to_jinja).collect::<Vec<_>>().into(),
        Value::Map(map) => jinja_map(map),
        Value::Pairs(pairs) => {
            minijinja::Value::from_pairs(pairs.iter().map(|(k, v)| (to_jinja(k), to_jinja(v))))
        }
        Value::Typed(typed) => to_jinja(&typed.value),
    }
}

fn jinja_map(map: &Map) -> minijinja::Value {
    minijinja::Value::from_pairs(
        map.iter()
            .map(|(key, value)| (key.clone(), to_jinja(value))),
    )
}

#[cfg(test)]
mod tests {
    use agentflow_types::value;

    use super::*;

    fn render(text: &str) -> Result<String> {
        let extras = vec![("user", value!({"name": "Ada & co"})), ("n", value!(2.0))];
        Template::compile(text, Escape::None)
            .map_err(|m| Error::invalid(m.message))?
            .render(&Variables::only(extras))
    }

    #[test]
    fn values_stand_where_they_belong() {
        assert_eq!(
            render("Hi {{ user.name }}, {{ n }}{{ nothing }}!").unwrap(),
            "Hi Ada & co, 2.0!"
        );
        assert_eq!(
            render("{{ {'b': 1, 'a': [1]}|tojson }}").unwrap(),
            r#"{"b": 1, "a": [1]}"#
        );
        assert_eq!(
            render("{% for i in range(3) %}{{ i }}{% endfor %}").unwrap(),
            "012"
        );
    }

    #[test]
    fn urls_cannot_be_broken_out_of() {
        let url = Template::compile("http://x/{{ user.name }}", Escape::Url)
            .ok()
            .unwrap();
        let extras = vec![("user", value!({"name": "../a?b"}))];
        assert_eq!(
            url.render(&Variables::only(extras)).unwrap(),
            "http://x/..%2Fa%3Fb"
        );
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let error = render("{{ user.nam }}").unwrap_err();
        assert!(error.to_string().contains("user.nam"), "{error}");
        let error = render("{% include 'secret' %}").unwrap_err();
        assert!(error.to_string().contains("non-existing"), "{error}");
    }

    #[test]
    fn work_is_limited() {
        let long = "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
        assert!(render(long).unwrap_err().to_string().contains("fuel"));
    }

    #[test]
    fn mistakes_have_a_place() {
        let mistake = Template::compile("a\n{{ b", Escape::None).err().unwrap();
        assert_eq!(mistake.offset, 5, "{}", mistake.message);
        let used = Template::compile(
            "{{ a.b }}{% set c = d %}{{ c }}{{ range(2) }}",
            Escape::None,
        );
        assert_eq!(used.ok().unwrap().variables(), ["a", "d"]);
    }

    #[test]
    fn long_chains_do_not_exhaust_the_stack() {
        for (first, more, last) in [
            ("{{ x", "+x", " }}"),
            ("{{ x", ".a", " }}"),
            ("{{ x", "|upper", " }}"),
            ("{{ x", " if x else x", " }}"),
            ("{{ ", "not ", "x }}"),
            ("{{ ", "(", ""),
            ("", "{% if x %}", ""),
            ("{% if x %}", "{% elif x %}", "{% endif %}"),
            ("{{ x", "~x", " }}"),
            ("{{ x", " and x", " }}"),
            ("{{ {'a': {}}", "+x", " }}"),
            ("{{ '}}'", "+x", " }}"),
        ] {
            let text = first.to_owned() + &more.repeat((MAX_BYTES - 64) / more.len()) + last;
            if let Ok(template) = Template::compile(&text, Escape::None) {
                // Whether it can be rendered does not matter, only that this returns.
                let _ = template.render(&Variables::only(vec![("x", value!(1))]));
            }
        }
    }
}
