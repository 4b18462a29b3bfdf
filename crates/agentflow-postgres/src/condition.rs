//! Conditions over payloads as SQL.

use agentflow_storage::condition::{Case, Condition, Field, Order};
use agentflow_types::{Map, Str, Value};

use crate::statement::Statement;

/// Names the column that holds a field as text, if one does.
pub(crate) type Columns<'a> = &'a dyn Fn(&Field) -> Option<&'static str>;

/// `jsonb` cannot hold NUL.
pub(crate) fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn searchable(value: &Value) -> Value {
    match value {
        Value::Str(text) if text.contains('\0') => Value::str(without_nul(text)),
        Value::List(items) => Value::list(items.iter().map(searchable).collect()),
        Value::Map(map) => Value::map(searchable_map(map)),
        other => other.clone(),
    }
}

/// What conditions look at, as `jsonb` can hold it.
pub(crate) fn searchable_map(map: &Map) -> Map {
    map.iter()
        .map(|(key, value)| (without_nul(key).into(), searchable(value)))
        .collect()
}

/// Adds a condition over the column `payload`. Fields that have a column of their own are looked
/// up there, because there are indexes over it.
pub(crate) fn add(columns: Columns<'_>, condition: &Condition, sql: Statement) -> Statement {
    if let Some((column, texts)) = by_column(columns, condition) {
        return match texts.as_slice() {
            [] => sql.text("false"),
            // With one the index gives the order, too.
            [one] => sql.and(
                &format!("({column} IS NOT NULL AND {column} = "),
                one.clone(),
                ")",
            ),
            _ => sql.and(
                &format!("({column} IS NOT NULL AND {column} = ANY("),
                texts,
                "))",
            ),
        };
    }
    match condition {
        Condition::All(parts) => join(columns, (parts, " AND ", "true"), sql),
        Condition::Any(parts) => join(columns, (parts, " OR ", "false"), sql),
        Condition::Not(part) => add(columns, part, sql.text("NOT ")),
        Condition::Equals(field, wanted) => leaf(field, sql, |sql| compares("=", wanted, sql)),
        Condition::In(field, wanted) => leaf(field, sql, |sql| {
            let none = sql.text("false");
            wanted
                .iter()
                .fold(none, |sql, one| compares("=", one, sql.text(" OR ")))
        }),
        Condition::Compares(field, order, bound) => leaf(field, sql, |sql| {
            let sign = match order {
                Order::Less => "<",
                Order::LessOrEqual => "<=",
                Order::Greater => ">",
                Order::GreaterOrEqual => ">=",
            };
            compares(sign, bound, sql)
        }),
        Condition::Exists(field) => {
            let sql = sql.and("coalesce(payload #> ", keys(field), "");
            sql.text(" NOT IN ('null'::jsonb, '[]'::jsonb), false)")
        }
        Condition::Includes(field, text, case) => leaf(field, sql, |sql| {
            let text = without_nul(text);
            let sql = sql.text("jsonb_typeof(j) = 'string' AND ");
            match case {
                Case::Exact => sql.and("strpos(j #>> '{}', ", text, ") > 0"),
                Case::Ignored => sql.and("strpos(lower(j #>> '{}'), lower(", text, ")) > 0"),
            }
        }),
    }
}

/// The column, and the texts one of which it is to hold; `None` if the condition says something
/// else.
fn by_column(columns: Columns<'_>, condition: &Condition) -> Option<(&'static str, Vec<String>)> {
    let (field, wanted) = match condition {
        Condition::Equals(field, wanted) => (field, std::slice::from_ref(wanted)),
        Condition::In(field, wanted) => (field, wanted.as_slice()),
        _ => return None,
    };
    let texts = wanted.iter().filter_map(Value::as_str);
    Some((columns(field)?, texts.map(without_nul).collect()))
}

fn join(
    columns: Columns<'_>,
    (parts, word, none): (&[Condition], &str, &str),
    sql: Statement,
) -> Statement {
    let mut sql = sql.text("(");
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            sql = sql.text(word);
        }
        sql = add(columns, part, sql);
    }
    if parts.is_empty() {
        sql = sql.text(none);
    }
    sql.text(")")
}

fn keys(field: &Field) -> Vec<String> {
    field
        .keys()
        .iter()
        .map(|key: &Str| without_nul(key))
        .collect()
}

/// Whether the value at the field, or an item of the list there, meets the test about `j`.
fn leaf(field: &Field, sql: Statement, test: impl FnOnce(Statement) -> Statement) -> Statement {
    // The value is looked up once, and made a list if it is none.
    let sql = sql.and("EXISTS (SELECT 1 FROM (SELECT payload #> ", keys(field), "");
    let sql = sql.text(
        " AS f) AS found, LATERAL jsonb_array_elements(CASE jsonb_typeof(f)
            WHEN 'array' THEN f ELSE jsonb_build_array(f) END) AS j
        WHERE f IS NOT NULL AND (",
    );
    test(sql).text("))")
}

fn compares(sign: &str, bound: &Value, sql: Statement) -> Statement {
    match bound {
        Value::Bool(wanted) => {
            let wanted = if *wanted { "true" } else { "false" };
            sql.text(&format!("j = '{wanted}'::jsonb"))
        }
        Value::Str(text) => sql.and(
            &format!("(jsonb_typeof(j) = 'string' AND (j #>> '{{}}') COLLATE \"C\" {sign} "),
            without_nul(text),
            ")",
        ),
        Value::Int(_) | Value::UInt(_) | Value::Float(_) => sql.and(
            // The case keeps the cast from texts.
            &format!("CASE jsonb_typeof(j) WHEN 'number' THEN (j #>> '{{}}')::numeric {sign} "),
            bound.json_text(),
            "::numeric ELSE false END",
        ),
        // Checked before: nothing else has an order or equality here.
        _ => sql.text("false"),
    }
}
