//! Expressions: CEL, compiled once.
//!
//! Integers, floats, text, bytes, lists and maps keep their kind in both directions; messages are
//! seen as maps. A variable that has no value is null, but a key that a map does not have is an
//! error, as CEL says: ask with `has(x.y)` first. Besides CEL's own functions there are
//! `last(list)` (null of an empty list), `text(message)`, `tool_calls(messages)` (the calls of
//! the last message, or an empty list), `json(value)` and `parse_json(text)`.

mod free;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, LazyLock},
};

use agentflow_types::{Error, Map, Result, Str, Value, message};
use cel::{Context, Env, ExecutionError, Program, ResolveResult, objects};

use crate::variables::Variables;

/// Most bytes of an expression.
pub(crate) const MAX_BYTES: usize = 8 << 10;

/// Deepest nesting of brackets in an expression, and most signs in a row; the parser recurses.
const MAX_BRACKETS: usize = 64;

/// Most operators in an expression, those inside texts counted too: parser and interpreter recurse
/// for each. 1600 were measured to fit a stack of 2 MiB in a debug build, 4000 were not.
const MAX_OPERATORS: usize = 500;

/// Functions besides CEL's own.
const FUNCTIONS: [&str; 5] = ["last", "text", "tool_calls", "json", "parse_json"];

/// Functions and macros of CEL and of the extensions in [`ENV`], which cannot list them.
#[rustfmt::skip]
const WORDS: &[&str] = &[
    "size", "has", "all", "exists", "exists_one", "map", "filter", "contains", "startsWith",
    "endsWith", "matches", "int", "uint", "double", "string", "bytes", "bool", "dyn", "type",
    "timestamp", "duration", "min", "max", "getFullYear", "getMonth", "getDate", "getDayOfMonth",
    "getDayOfWeek", "getDayOfYear", "getHours", "getMinutes", "getSeconds", "getMilliseconds",
    "charAt", "indexOf", "lastIndexOf", "join", "lowerAscii", "upperAscii", "replace", "reverse",
    "split", "substring", "trim", "format", "quote", "greatest", "least", "abs", "ceil", "floor",
    "round", "trunc", "sign", "isNaN", "isInf", "isFinite", "sqrt", "bitAnd", "bitOr", "bitXor",
    "bitNot", "bitShiftLeft", "bitShiftRight", "distinct", "flatten", "sort", "sortBy", "slice",
    "range",
];

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    // They only add names, and each is added once, so neither can clash.
    let _ = env.add_extension(cel::extensions::strings);
    let _ = env.add_extension(cel::extensions::math);
    let _ = env.add_extension(cel::extensions::lists);
    Arc::new(env)
});

/// A compiled expression.
#[derive(Clone)]
pub(crate) struct Expression(Arc<Inner>);

struct Inner {
    program: Program,
    text: String,
    variables: Vec<String>,
}

/// Why an expression cannot be compiled.
#[derive(Debug, PartialEq)]
pub(crate) struct Mistake {
    pub(crate) message: String,
    /// Byte in the text.
    pub(crate) offset: usize,
}

impl Expression {
    /// Compiles. `is_known` tells which names are variables, for those that are also the names of
    /// types (`list`, `type`).
    ///
    /// # Errors
    /// The first mistake of syntax.
    pub(crate) fn compile(text: &str, is_known: impl Fn(&str) -> bool) -> Result<Self, Mistake> {
        if text.len() > MAX_BYTES {
            let message = format!("the expression has more than {MAX_BYTES} bytes");
            return Err(Mistake { message, offset: 0 });
        }
        if let Some(offset) = too_deep(text) {
            let message = format!("brackets are nested more than {MAX_BRACKETS} deep");
            return Err(Mistake { message, offset });
        }
        if operators(text) > MAX_OPERATORS {
            let message = format!("the expression has more than {MAX_OPERATORS} operators");
            return Err(Mistake { message, offset: 0 });
        }
        // The generated parser below CEL panics on some malformed input; a file must not be
        // able to stop the program.
        let compiled = catch_unwind(AssertUnwindSafe(|| ENV.compile(text)));
        let program = match compiled {
            Ok(Ok(program)) => program,
            Ok(Err(errors)) => return Err(first_mistake(text, &errors)),
            Err(_) => {
                let message = "the expression is not valid CEL".to_owned();
                return Err(Mistake { message, offset: 0 });
            }
        };
        let is_variable = |name: &String| {
            let name = name.as_str();
            !free::TYPES.contains(&name) || is_known(name)
        };
        let variables: Vec<String> = free::variables(program.expression())
            .into_iter()
            .filter(is_variable)
            .collect();
        Ok(Self(Arc::new(Inner {
            program,
            text: text.to_owned(),
            variables,
        })))
    }

    /// Names of the variables that the expression reads.
    pub(crate) fn variables(&self) -> &[String] {
        &self.0.variables
    }

    /// Names of functions that do not exist, in alphabetical order.
    pub(crate) fn unknown_functions(&self) -> Vec<String> {
        let references = self.0.program.references();
        let mut unknown: Vec<String> = references
            .functions()
            .into_iter()
            .filter(|name| name.starts_with(|c: char| c.is_ascii_alphabetic()))
            .filter(|name| !is_function(name))
            .map(str::to_owned)
            .collect();
        unknown.sort_unstable();
        unknown
    }

    /// The value.
    ///
    /// # Errors
    /// `Failed` with the expression, if it cannot be computed from these variables.
    pub(crate) fn value(&self, variables: &Variables<'_>) -> Result<Value> {
        let mut context = Context::with_env(ENV.clone());
        add_functions(&mut context);
        for name in &self.0.variables {
            context.add_variable_from_value(name.as_str(), to_cel(&variables.get(name)));
        }
        let result = self.0.program.execute(&context);
        let value = result.and_then(|value| from_cel(&value)).map_err(|error| {
            Error::failed(format!("the expression failed: {error}"))
                .with("expression", &self.0.text)
        })?;
        Ok(value)
    }

    /// Whether the value is true in Python's sense: null, zero and empty things are false.
    ///
    /// # Errors
    /// As [`Expression::value`].
    pub(crate) fn holds(&self, variables: &Variables<'_>) -> Result<bool> {
        self.value(variables).map(|value| value.truthy())
    }
}

/// Whether there is a function or macro of this name.
fn is_function(name: &str) -> bool {
    let plain = name.rsplit('.').next().unwrap_or(name);
    FUNCTIONS.contains(&name) || WORDS.contains(&plain) || name.contains('@')
}

fn first_mistake(text: &str, errors: &cel::ParseErrors) -> Mistake {
    let Some(first) = errors.errors.first() else {
        return Mistake {
            message: "the expression is not valid CEL".to_owned(),
            offset: 0,
        };
    };
    let (line, column) = first.pos;
    let line = usize::try_from(line - 1).unwrap_or(0);
    let column = usize::try_from(column - 1).unwrap_or(0);
    let line_start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let rest = text.get(line_start..).unwrap_or_default();
    let offset = line_start + rest.chars().take(column).map(char::len_utf8).sum::<usize>();
    let message = format!("the expression is not valid CEL: {}", plain(&first.msg));
    Mistake { message, offset }
}

/// The parser's message without its list of everything that could have been there.
fn plain(message: &str) -> String {
    let message = message.lines().next().unwrap_or_default();
    let message = message.strip_prefix("Syntax error: ").unwrap_or(message);
    let found = [
        "mismatched input '",
        "extraneous input '",
        "no viable alternative at input '",
    ]
    .into_iter()
    .find_map(|start| message.strip_prefix(start))
    .map(|rest| {
        rest.split_once("' expecting")
            .map_or(rest, |(found, _)| found)
    })
    .map(|found| found.trim_end_matches('\''));
    match found {
        Some("<EOF>") => "it ends too early".to_owned(),
        Some(found) => format!("unexpected `{found}`"),
        None => message.to_owned(),
    }
}

/// Signs and words that make an expression one level deeper. Texts are not told apart, because
/// whoever gets that wrong counts too little.
fn operators(text: &str) -> usize {
    let signs = text
        .chars()
        .filter(|c| "+-*/%.?&|<>=![({".contains(*c))
        .count();
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
    signs + words.filter(|word| *word == "in").count()
}

/// Where brackets are nested too deep, or too many signs follow each other.
fn too_deep(text: &str) -> Option<usize> {
    let (mut depth, mut signs) = (0_usize, 0_usize);
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        match c {
            '!' | '-' => signs += 1,
            c if c.is_whitespace() => {}
            _ => signs = 0,
        }
        if depth > MAX_BRACKETS || signs > MAX_BRACKETS {
            return Some(at);
        }
    }
    None
}

fn add_functions(context: &mut Context<'_, '_>) {
    // The names are not CEL's own, which is the only reason for a refusal.
    let _ = context.add_function("last", |list: Arc<Vec<objects::Value>>| -> objects::Value {
        list.last().cloned().unwrap_or(objects::Value::Null)
    });
    let _ = context.add_function("text", |one: objects::Value| -> ResolveResult {
        let one = from_cel(&one)?;
        Ok(to_cel(&match one.as_str() {
            Some(text) => Value::str(text),
            None => Value::from(message::text(&one)),
        }))
    });
    let _ = context.add_function("tool_calls", |messages: objects::Value| -> ResolveResult {
        let messages = from_cel(&messages)?;
        let last = messages.as_list().and_then(<[Value]>::last);
        let calls = last.and_then(|message| message.get("tool_calls"));
        Ok(to_cel(calls.unwrap_or(&Value::list(Vec::new()))))
    });
    let _ = context.add_function("json", |one: objects::Value| -> ResolveResult {
        from_cel(&one).map(|value| to_cel(&Value::from(value.json_text())))
    });
    let _ = context.add_function("parse_json", |text: Arc<String>| -> ResolveResult {
        serde_json::from_str::<Value>(&text)
            .map(|value| to_cel(&value))
            .map_err(|error| ExecutionError::function_error("parse_json", error))
    });
}

/// A value as CEL sees it.
pub(crate) fn to_cel(value: &Value) -> objects::Value {
    use objects::Value as Cel;
    match value {
        Value::Null => Cel::Null,
        Value::Bool(b) => Cel::Bool(*b),
        Value::Int(n) => Cel::Int(*n),
        Value::UInt(n) => Cel::UInt(*n),
        Value::Float(n) => Cel::Float(*n),
        Value::Str(text) => Cel::String(Arc::new(text.to_string())),
        Value::Bytes(bytes) | Value::Ext(_, bytes) => Cel::Bytes(Arc::new(bytes.to_vec())),
        Value::List(items) => Cel::List(Arc::new(items.iter().map(to_cel).collect())),
        Value::Map(map) => {
            let entries = map
                .iter()
                .map(|(k, v)| (objects::Key::String(Arc::new(k.to_string())), to_cel(v)));
            Cel::Map(objects::Map {
                map: Arc::new(entries.collect()),
            })
        }
        Value::Pairs(pairs) => {
            let entries = pairs.iter().map(|(k, v)| {
                let key = match k.untyped() {
                    Value::Int(n) => objects::Key::Int(*n),
                    Value::UInt(n) => objects::Key::Uint(*n),
                    Value::Bool(b) => objects::Key::Bool(*b),
                    Value::Str(text) => objects::Key::String(Arc::new(text.to_string())),
                    other => objects::Key::String(Arc::new(other.json_text())),
                };
                (key, to_cel(v))
            });
            Cel::Map(objects::Map {
                map: Arc::new(entries.collect()),
            })
        }
        Value::Typed(typed) => to_cel(&typed.value),
    }
}

/// A value that CEL computed. Maps get their keys in alphabetical order, because CEL's have none.
///
/// # Errors
/// For values that have no counterpart: functions, types, structs.
pub(crate) fn from_cel(value: &objects::Value) -> Result<Value, ExecutionError> {
    use objects::Value as Cel;
    Ok(match value {
        Cel::Null => Value::Null,
        Cel::Bool(b) => Value::Bool(*b),
        Cel::Int(n) => Value::Int(*n),
        Cel::UInt(n) => i64::try_from(*n).map_or(Value::UInt(*n), Value::Int),
        Cel::Float(n) => Value::Float(*n),
        Cel::String(text) => Value::str(text.as_str()),
        Cel::Bytes(bytes) => Value::Bytes(bytes.as_slice().into()),
        Cel::List(items) => Value::list(items.iter().map(from_cel).collect::<Result<_, _>>()?),
        Cel::Map(map) => from_cel_map(map)?,
        Cel::Timestamp(moment) => Value::str(moment.to_rfc3339()),
        Cel::Duration(span) => match span.num_nanoseconds() {
            Some(nanos) => Value::Float(nanos as f64 / 1e9),
            None => Value::Float(span.num_milliseconds() as f64 / 1e3),
        },
        other => {
            let message = format!("{} is no value of a graph's state", other.type_of());
            return Err(ExecutionError::function_error("result", message));
        }
    })
}

fn from_cel_map(map: &objects::Map) -> Result<Value, ExecutionError> {
    let mut pairs = Vec::with_capacity(map.map.len());
    let mut all_text = true;
    for (key, value) in map.map.iter() {
        let key = match key {
            objects::Key::String(text) => Value::str(text.as_str()),
            objects::Key::Int(n) => Value::Int(*n),
            objects::Key::Uint(n) => i64::try_from(*n).map_or(Value::UInt(*n), Value::Int),
            objects::Key::Bool(b) => Value::Bool(*b),
        };
        all_text &= matches!(key, Value::Str(_));
        pairs.push((key, from_cel(value)?));
    }
    pairs.sort_by_cached_key(|(key, _)| match key {
        Value::Str(text) => text.to_string(),
        other => other.json_text(),
    });
    if !all_text {
        return Ok(Value::Pairs(Arc::new(pairs)));
    }
    let map: Map = pairs
        .into_iter()
        .map(|(key, value)| (Str::from(key.as_str().unwrap_or_default()), value))
        .collect();
    Ok(Value::map(map))
}

#[cfg(test)]
mod tests {
    use agentflow_types::value;

    use super::*;

    fn eval(text: &str, extras: Vec<(&str, Value)>) -> Result<Value> {
        Expression::compile(text, |_| false)
            .map_err(|m| Error::invalid(format!("{}: {}", m.offset, m.message)))?
            .value(&Variables::only(extras))
    }

    #[test]
    fn numbers_keep_their_kind() {
        for (text, want) in [
            ("x", value!(1)),
            ("x + 1", value!(2)),
            ("double(x)", value!(1.0)),
            (
                "[1, 1.0, 'a', true, null]",
                value!([1, 1.0, "a", true, null]),
            ),
            ("{'b': 1, 'a': [2]}", value!({"a": [2], "b": 1})),
            ("size(items)", value!(2)),
            ("items.map(i, i * x)", value!([1, 2])),
            ("[[1]].map(a, a.map(b, b + x))", value!([[2]])),
            ("type(x) == int", value!(true)),
            ("math.greatest(x, 3)", value!(3)),
            ("[3, 1, 3].distinct().sort()", value!([1, 3])),
            ("absent == null", value!(true)),
            ("last(items)", value!(2)),
            ("last([])", value!(null)),
            ("parse_json('{\"a\": 1.0}').a", value!(1.0)),
            ("json([1, 2.0])", value!("[1,2.0]")),
            ("'A,b'.lowerAscii().split(',')", value!(["a", "b"])),
        ] {
            let extras = vec![("x", value!(1)), ("items", value!([1, 2]))];
            assert_eq!(eval(text, extras).unwrap(), want, "{text}");
        }
        let big = Value::UInt(u64::MAX);
        assert_eq!(eval("x", vec![("x", big.clone())]).unwrap(), big);
    }

    #[test]
    fn messages_are_seen_as_maps() {
        let call = value!({"name": "f", "args": {}, "id": "1"});
        let messages = Value::list(vec![
            message::human("hi"),
            message::ai_with_tool_calls("go", vec![call]),
        ]);
        let extras = || vec![("messages", messages.clone())];
        assert_eq!(
            eval("text(last(messages))", extras()).unwrap(),
            value!("go")
        );
        assert_eq!(
            eval("tool_calls(messages)[0].name", extras()).unwrap(),
            value!("f")
        );
        assert_eq!(eval("messages[0].type", extras()).unwrap(), value!("human"));
    }

    #[test]
    fn mistakes_have_a_place() {
        let mistake = Expression::compile("a +\n  b c", |_| false).err().unwrap();
        assert_eq!(mistake.offset, 8, "{}", mistake.message);
        assert!(Expression::compile(&"(".repeat(5000), |_| false).is_err());
        assert!(Expression::compile(&"!".repeat(5000), |_| false).is_err());
        assert!(Expression::compile(&"a".repeat(MAX_BYTES + 1), |_| false).is_err());
        let unknown = Expression::compile("foo(1) + size([])", |_| false)
            .unwrap()
            .unknown_functions();
        assert_eq!(unknown, ["foo"]);
        let error = eval("m.x", vec![("m", value!({}))]).unwrap_err();
        assert!(error.message().contains("No such key: x"), "{error}");
    }

    #[test]
    fn long_chains_do_not_exhaust_the_stack() {
        let chains = [
            "x+x",
            "m.a",
            "x?x:x",
            "true&&true",
            "l[0]",
            "x in l",
            "1-1",
            "x==x",
        ];
        for chain in chains {
            let split = chain.find(|c: char| !c.is_alphanumeric()).unwrap();
            let (first, more) = chain.split_at(split);
            let repeated = |times: usize| first.to_owned() + &more.repeat(times);
            let most = repeated((MAX_BYTES - 8) / more.len());
            assert!(Expression::compile(&most, |_| true).is_err(), "{chain}");
            // Whether it has a value does not matter, only that this returns.
            let allowed = repeated(MAX_OPERATORS / more.len().min(2));
            if let Ok(expression) = Expression::compile(&allowed, |_| true) {
                let extras = vec![("x", value!(1)), ("m", value!({})), ("l", value!([]))];
                let _ = expression.value(&Variables::only(extras));
            }
        }
    }
}
