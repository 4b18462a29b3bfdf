//! Compares a tree with a JSON Schema and says everything that does not fit.
//!
//! The part of JSON Schema that this crate's own schema and the schemas of tools use: types,
//! properties, required, additional properties, items, enumerations, constants, bounds, lengths,
//! references within the document, and choices. Choices between maps are made by the property
//! that is constant in each branch (`kind`), so that the report is about the branch that was
//! meant. Keywords that are not known here are ignored.

use agentflow_types::Value;
use serde_json::Value as Json;

use crate::{
    codes,
    diagnostic::did_you_mean,
    tree::{Data, Span, Tree},
};

/// Most problems that one check reports.
const MAX_PROBLEMS: usize = 50;

/// Most references and choices that may follow each other, against schemas that refer to
/// themselves.
const MAX_DEPTH: usize = 128;

/// Most comparisons of a value with a schema in one check; a schema whose choices refer to itself
/// would need more than there is time for.
const MAX_STEPS: usize = 200_000;

/// Something that does not fit.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Problem {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    pub(crate) span: Span,
    /// Where, as `a.b[0]`; empty at the root.
    pub(crate) path: String,
}

/// Everything in `tree` that does not fit `schema`.
pub(crate) fn check(schema: &Json, tree: &Tree) -> Vec<Problem> {
    let mut checker = Checker {
        root: schema,
        found: Vec::new(),
        steps: 0,
    };
    checker.check(schema, tree, "", 0);
    checker.found
}

/// Everything in `value` that does not fit `schema`, as one line; `None` if it fits.
pub(crate) fn mismatch(schema: &Json, value: &Value) -> Option<String> {
    let problems = check(schema, &Tree::of_json(&value.to_json()));
    let lines: Vec<String> = problems
        .iter()
        .map(|problem| match problem.path.as_str() {
            "" => problem.message.clone(),
            path => format!("{path}: {}", problem.message),
        })
        .collect();
    (!lines.is_empty()).then(|| lines.join("; "))
}

/// Whether a number keeps to a limit.
type Bound = fn(f64, f64) -> bool;

struct Checker<'a> {
    root: &'a Json,
    found: Vec<Problem>,
    steps: usize,
}

impl<'a> Checker<'a> {
    fn report(
        &mut self,
        code: &'static str,
        span: &Span,
        path: &str,
        message: String,
        help: Option<String>,
    ) {
        if self.found.len() < MAX_PROBLEMS {
            let (span, path) = (span.clone(), path.to_owned());
            self.found.push(Problem {
                code,
                message,
                help,
                span,
                path,
            });
        }
    }

    fn resolve(&self, mut schema: &'a Json) -> &'a Json {
        for _ in 0..MAX_DEPTH {
            let Some(target) = schema.get("$ref").and_then(Json::as_str) else {
                break;
            };
            let pointer = target.strip_prefix('#').unwrap_or(target);
            match self.root.pointer(pointer) {
                Some(next) => schema = next,
                None => break,
            }
        }
        schema
    }

    fn check(&mut self, schema: &'a Json, tree: &Tree, path: &str, depth: usize) {
        let schema = self.resolve(schema);
        let Json::Object(rules) = schema else { return };
        self.steps += 1;
        if depth > MAX_DEPTH || self.steps > MAX_STEPS {
            return;
        }
        if !self.fits_type(rules, tree, path) {
            return;
        }
        for word in ["oneOf", "anyOf"] {
            if let Some(Json::Array(branches)) = rules.get(word) {
                self.choice(branches, tree, path, depth);
            }
        }
        if let Some(Json::Array(parts)) = rules.get("allOf") {
            for part in parts {
                self.check(part, tree, path, depth + 1);
            }
        }
        match &tree.data {
            Data::Scalar(scalar) => self.scalar(rules, scalar, tree, path),
            Data::List(items) => {
                self.length(
                    rules,
                    items.len(),
                    ("minItems", "maxItems"),
                    "items",
                    tree,
                    path,
                );
                let Some(schema) = rules.get("items") else {
                    return;
                };
                for (at, item) in items.iter().enumerate() {
                    self.check(schema, item, &format!("{path}[{at}]"), depth + 1);
                }
            }
            Data::Map(_) => self.map(rules, tree, path, depth),
        }
    }

    fn fits_type(
        &mut self,
        rules: &serde_json::Map<String, Json>,
        tree: &Tree,
        path: &str,
    ) -> bool {
        let allowed = types_of(rules);
        if allowed.is_empty() || allowed.iter().any(|word| is_type(word, &tree.data)) {
            return true;
        }
        self.wrong_type(&allowed, tree, path);
        false
    }

    fn wrong_type(&mut self, allowed: &[&str], tree: &Tree, path: &str) {
        let found = found_word(&tree.data);
        let words: Vec<&str> = allowed
            .iter()
            .filter(|w| **w != "null")
            .map(|w| type_word(w))
            .collect();
        let message = format!("expected {}, found {found}", words.join(" or "));
        let quotable = matches!(&tree.data, Data::Scalar(s) if !s.is_null() && !s.is_string());
        let help = (words.contains(&"text") && quotable)
            .then(|| "put it into quotes to make it text".to_owned());
        self.report(codes::WRONG_TYPE, &tree.span, path, message, help);
    }

    fn map(
        &mut self,
        rules: &'a serde_json::Map<String, Json>,
        tree: &Tree,
        path: &str,
        depth: usize,
    ) {
        let Data::Map(entries) = &tree.data else {
            return;
        };
        let properties = rules.get("properties").and_then(Json::as_object);
        let limits = ("minProperties", "maxProperties");
        self.length(rules, entries.len(), limits, "entries", tree, path);
        for (key, value) in entries {
            let inner = match path {
                "" => key.name.clone(),
                path => format!("{path}.{}", key.name),
            };
            match (
                properties.and_then(|p| p.get(&key.name)),
                rules.get("additionalProperties"),
            ) {
                (Some(schema), _) => self.check(schema, value, &inner, depth + 1),
                (None, Some(Json::Bool(false))) => {
                    let known = properties
                        .into_iter()
                        .flat_map(|p| p.keys().map(String::as_str));
                    let help = did_you_mean(&key.name, known);
                    let message = format!("unknown field `{}`", key.name);
                    self.report(codes::UNKNOWN_FIELD, &key.span, path, message, help);
                }
                (None, Some(schema)) => self.check(schema, value, &inner, depth + 1),
                (None, None) => {}
            }
        }
        for name in rules
            .get("required")
            .and_then(Json::as_array)
            .into_iter()
            .flatten()
        {
            let Some(name) = name.as_str() else { continue };
            if tree.entry(name).is_none() {
                let message = format!("the field `{name}` is missing");
                let what = properties.and_then(|p| p.get(name)?.get("description")?.as_str());
                let help = what.map(|what| format!("add `{name}`: {}", first_sentence(what)));
                self.report(
                    codes::MISSING_FIELD,
                    &start_of(&tree.span),
                    path,
                    message,
                    help,
                );
            }
        }
    }

    fn scalar(
        &mut self,
        rules: &serde_json::Map<String, Json>,
        scalar: &Json,
        tree: &Tree,
        path: &str,
    ) {
        let constant = rules.get("const").map(std::slice::from_ref);
        let words = rules
            .get("enum")
            .and_then(Json::as_array)
            .map(Vec::as_slice);
        if let Some(allowed) = constant.or(words)
            && !allowed.contains(scalar)
        {
            self.unknown_word(&allowed.iter().collect::<Vec<_>>(), scalar, tree, path);
        }
        if let Some(text) = scalar.as_str() {
            let limits = ("minLength", "maxLength");
            self.length(
                rules,
                text.chars().count(),
                limits,
                "characters",
                tree,
                path,
            );
        }
        let Some(number) = scalar.as_f64() else {
            return;
        };
        let bounds: [(&str, Bound, &str); 4] = [
            ("minimum", |n, limit| n >= limit, "at least"),
            ("maximum", |n, limit| n <= limit, "at most"),
            ("exclusiveMinimum", |n, limit| n > limit, "more than"),
            ("exclusiveMaximum", |n, limit| n < limit, "less than"),
        ];
        for (rule, holds, words) in bounds {
            if let Some(limit) = rules.get(rule).and_then(Json::as_f64)
                && !holds(number, limit)
            {
                let message = format!("expected {words} {limit}, found {scalar}");
                self.report(codes::WRONG_TYPE, &tree.span, path, message, None);
            }
        }
    }

    fn unknown_word(&mut self, allowed: &[&Json], found: &Json, tree: &Tree, path: &str) {
        let words: Vec<String> = allowed
            .iter()
            .filter(|word| !word.is_null())
            .map(|word| {
                word.as_str()
                    .map_or_else(|| word.to_string(), str::to_owned)
            })
            .collect();
        let word = found
            .as_str()
            .map_or_else(|| found.to_string(), str::to_owned);
        let help = did_you_mean(&word, words.iter().map(String::as_str));
        let message = format!("`{word}` is not known here");
        self.report(codes::UNKNOWN_WORD, &tree.span, path, message, help);
    }

    fn length(
        &mut self,
        rules: &serde_json::Map<String, Json>,
        length: usize,
        (least, most): (&str, &str),
        what: &str,
        tree: &Tree,
        path: &str,
    ) {
        let limit = |name: &str| rules.get(name).and_then(Json::as_u64).map(|n| n as usize);
        let message = match (limit(least), limit(most)) {
            (Some(least), _) if length < least => format!("expected at least {least} {what}"),
            (_, Some(most)) if length > most => format!("expected at most {most} {what}"),
            _ => return,
        };
        self.report(codes::WRONG_TYPE, &tree.span, path, message, None);
    }

    fn choice(&mut self, branches: &'a [Json], tree: &Tree, path: &str, depth: usize) {
        let branches: Vec<&'a Json> = branches.iter().map(|b| self.resolve(b)).collect();
        if let Some(tag) = tag_of(&branches)
            && matches!(tree.data, Data::Map(_))
        {
            return self.tagged(&tag, &branches, tree, path, depth);
        }
        let fitting: Vec<&'a Json> = branches
            .iter()
            .filter(|branch| self.may_be(branch, &tree.data))
            .copied()
            .collect();
        if fitting.is_empty() {
            let allowed: Vec<&str> = branches
                .iter()
                .filter_map(|branch| branch.as_object())
                .flat_map(types_of)
                .collect();
            return self.wrong_type(&dedup(allowed), tree, path);
        }
        let constants: Vec<&Json> = fitting.iter().flat_map(|branch| words_of(branch)).collect();
        if let (Data::Scalar(scalar), true) = (
            &tree.data,
            fitting.iter().all(|branch| !words_of(branch).is_empty()),
        ) {
            if !constants.contains(&scalar) {
                self.unknown_word(&constants, scalar, tree, path);
            }
            return;
        }
        let mut best: Option<Vec<Problem>> = None;
        for branch in fitting {
            let mut attempt = Checker {
                root: self.root,
                found: Vec::new(),
                steps: self.steps,
            };
            attempt.check(branch, tree, path, depth + 1);
            self.steps = attempt.steps;
            if attempt.found.is_empty() {
                return;
            }
            if best
                .as_ref()
                .is_none_or(|best| attempt.found.len() < best.len())
            {
                best = Some(attempt.found);
            }
        }
        self.found.extend(best.unwrap_or_default());
        self.found.truncate(MAX_PROBLEMS);
    }

    /// A choice that a constant property makes.
    fn tagged(&mut self, tag: &str, branches: &[&'a Json], tree: &Tree, path: &str, depth: usize) {
        let constant = |branch: &'a Json| branch.get("properties")?.get(tag)?.get("const");
        let Some((_, value)) = tree.entry(tag) else {
            let words: Vec<String> = branches
                .iter()
                .filter_map(|branch| constant(branch)?.as_str())
                .map(|word| format!("`{word}`"))
                .collect();
            let message = format!("the field `{tag}` is missing");
            let help = Some(format!("add `{tag}`: one of {}", words.join(", ")));
            return self.report(
                codes::MISSING_FIELD,
                &start_of(&tree.span),
                path,
                message,
                help,
            );
        };
        let Data::Scalar(found) = &value.data else {
            return self.wrong_type(&["string"], value, path);
        };
        match branches
            .iter()
            .find(|branch| constant(branch) == Some(found))
        {
            Some(branch) => self.check(branch, tree, path, depth + 1),
            None => {
                let known: Vec<&Json> = branches.iter().filter_map(|b| constant(b)).collect();
                self.unknown_word(&known, found, value, path);
            }
        }
    }

    /// Whether a branch allows the kind of value, whatever its content.
    fn may_be(&self, branch: &Json, data: &Data) -> bool {
        let Some(rules) = branch.as_object() else {
            return true;
        };
        let allowed = types_of(rules);
        allowed.is_empty() || allowed.iter().any(|word| is_type(word, data))
    }
}

/// The property that is constant in every branch and different in each.
fn tag_of(branches: &[&Json]) -> Option<String> {
    let first = branches.first()?.get("properties")?.as_object()?;
    let is_tag = |name: &&String| {
        branches.iter().all(|branch| {
            branch
                .get("properties")
                .and_then(|properties| properties.get(name.as_str())?.get("const"))
                .is_some()
        })
    };
    (branches.len() > 1)
        .then(|| first.keys().find(is_tag).cloned())
        .flatten()
}

fn words_of(branch: &Json) -> Vec<&Json> {
    let constant = branch.get("const");
    let words = branch.get("enum").and_then(Json::as_array);
    constant
        .into_iter()
        .chain(words.into_iter().flatten())
        .collect()
}

fn types_of(rules: &serde_json::Map<String, Json>) -> Vec<&str> {
    match rules.get("type") {
        Some(Json::String(word)) => vec![word],
        Some(Json::Array(words)) => words.iter().filter_map(Json::as_str).collect(),
        _ => match rules.get("const") {
            Some(Json::String(_)) => vec!["string"],
            _ => Vec::new(),
        },
    }
}

fn is_type(word: &str, data: &Data) -> bool {
    match (word, data) {
        ("object", Data::Map(_)) | ("array", Data::List(_)) => true,
        (_, Data::Map(_) | Data::List(_)) => false,
        (word, Data::Scalar(scalar)) => match word {
            "null" => scalar.is_null(),
            "boolean" => scalar.is_boolean(),
            "string" => scalar.is_string(),
            "number" => scalar.is_number(),
            "integer" => {
                scalar.is_i64()
                    || scalar.is_u64()
                    || scalar.as_f64().is_some_and(|n| n.fract() == 0.0)
            }
            _ => false,
        },
    }
}

fn type_word(word: &str) -> &str {
    match word {
        "object" => "a map",
        "array" => "a list",
        "string" => "text",
        "integer" => "an integer",
        "number" => "a number",
        "boolean" => "true or false",
        other => other,
    }
}

fn found_word(data: &Data) -> &'static str {
    match data {
        Data::Map(_) => "a map",
        Data::List(_) => "a list",
        Data::Scalar(Json::Null) => "nothing",
        Data::Scalar(Json::Bool(_)) => "a boolean",
        Data::Scalar(Json::Number(n)) if n.is_f64() => "a number",
        Data::Scalar(Json::Number(_)) => "an integer",
        Data::Scalar(_) => "text",
    }
}

fn first_sentence(text: &str) -> &str {
    text.split_once(". ")
        .map_or(text, |(first, _)| first)
        .lines()
        .next()
        .unwrap_or_default()
}

fn start_of(span: &Span) -> Span {
    span.start..span.start
}

fn dedup(words: Vec<&str>) -> Vec<&str> {
    let mut unique: Vec<&str> = Vec::new();
    for word in words {
        if !unique.contains(&word) {
            unique.push(word);
        }
    }
    unique
}

#[cfg(test)]
mod tests {
    use agentflow_types::value;
    use serde_json::json;

    use super::*;

    fn says(schema: Json, value: Value) -> String {
        mismatch(&schema, &value).unwrap_or_default()
    }

    #[test]
    fn values_are_compared_with_schemas() {
        let schema = json!({
            "type": "object",
            "properties": {
                "city": {"type": "string", "minLength": 1},
                "days": {"type": "integer", "minimum": 1, "maximum": 7},
                "unit": {"enum": ["celsius", "kelvin"]},
                "tags": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["city"],
            "additionalProperties": false,
        });
        assert_eq!(
            says(schema.clone(), value!({"city": "Bern", "days": 2.0})),
            ""
        );
        assert_eq!(
            says(
                schema,
                value!({"days": 9, "unit": "x", "tags": ["a", 1], "q": 0})
            ),
            "days: expected at most 7, found 9; unit: `x` is not known here; \
             tags[1]: expected text, found an integer; unknown field `q`; \
             the field `city` is missing"
        );
    }

    #[test]
    fn schemas_that_refer_to_themselves_end() {
        let endless = json!({"$ref": "#"});
        assert_eq!(says(endless, value!(1)), "");
        let tree = json!({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]});
        assert_eq!(says(json!({"allOf": [tree]}), value!(1)), "");
        let doubling = json!({"minLength": 3, "anyOf": [{"$ref": "#"}, {"$ref": "#"}]});
        assert!(!says(doubling, value!("x")).is_empty());
    }
}
