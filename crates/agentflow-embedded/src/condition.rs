//! Conditions over payloads as SQL.

use agentflow_storage::condition::{Case, Condition, Field, Order};
use agentflow_types::{Error, Result, Value};
use rusqlite::types::Value as Sql;

/// Names the column that holds a field as text, if one does.
pub(crate) type Columns<'a> = &'a dyn Fn(&Field) -> Option<&'static str>;

/// Adds a condition over the column `payload`, and its values. Fields that have a column of their
/// own are looked up there, because there are indexes over it.
///
/// # Errors
/// `Invalid` for a field that SQLite's paths cannot name.
pub(crate) fn add(
    columns: Columns<'_>,
    condition: &Condition,
    sql: &mut String,
    values: &mut Vec<Sql>,
) -> Result<()> {
    if let Some(()) = by_column(columns, condition, sql, values) {
        return Ok(());
    }
    match condition {
        Condition::All(parts) => join(columns, (parts, " AND ", "1"), sql, values),
        Condition::Any(parts) => join(columns, (parts, " OR ", "0"), sql, values),
        Condition::Not(part) => {
            sql.push_str("NOT ");
            add(columns, part, sql, values)
        }
        Condition::Equals(field, wanted) => leaf(field, sql, values, |sql, values| {
            equals(wanted, sql, values);
        }),
        Condition::In(field, wanted) => leaf(field, sql, values, |sql, values| {
            sql.push('0');
            for one in wanted {
                sql.push_str(" OR ");
                equals(one, sql, values);
            }
        }),
        Condition::Compares(field, order, bound) => leaf(field, sql, values, |sql, values| {
            let sign = match order {
                Order::Less => "<",
                Order::LessOrEqual => "<=",
                Order::Greater => ">",
                Order::GreaterOrEqual => ">=",
            };
            compares(sign, bound, sql, values);
        }),
        Condition::Exists(field) => {
            let path = path(field)?;
            sql.push_str(
                "(json_type(payload, ?) = 'object'
                OR EXISTS (SELECT 1 FROM json_each(payload, ?) AS j WHERE j.type <> 'null'))",
            );
            values.extend([Sql::Text(path.clone()), Sql::Text(path)]);
            Ok(())
        }
        Condition::Includes(field, text, case) => leaf(field, sql, values, |sql, values| {
            sql.push_str(match case {
                Case::Exact => "j.type = 'text' AND instr(j.value, ?) > 0",
                Case::Ignored => "j.type = 'text' AND agentflow_has_text(j.value, ?)",
            });
            values.push(Sql::Text(text.clone()));
        }),
    }
}

/// A condition about a column that holds texts; `None` if it is none.
fn by_column(
    columns: Columns<'_>,
    condition: &Condition,
    sql: &mut String,
    values: &mut Vec<Sql>,
) -> Option<()> {
    let (field, wanted) = match condition {
        Condition::Equals(field, wanted) => (field, std::slice::from_ref(wanted)),
        Condition::In(field, wanted) => (field, wanted.as_slice()),
        _ => return None,
    };
    let column = columns(field)?;
    let texts = wanted.iter().filter_map(Value::as_str);
    let texts: Vec<Sql> = texts.map(|text| Sql::Text(text.to_owned())).collect();
    // With one the index gives the order, too.
    match texts.len() {
        0 => sql.push('0'),
        1 => sql.push_str(&format!("({column} IS NOT NULL AND {column} = ?)")),
        many => {
            let marks = vec!["?"; many].join(", ");
            sql.push_str(&format!("({column} IS NOT NULL AND {column} IN ({marks}))"));
        }
    }
    values.extend(texts);
    Some(())
}

fn join(
    columns: Columns<'_>,
    (parts, word, none): (&[Condition], &str, &str),
    sql: &mut String,
    values: &mut Vec<Sql>,
) -> Result<()> {
    sql.push('(');
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            sql.push_str(word);
        }
        add(columns, part, sql, values)?;
    }
    if parts.is_empty() {
        sql.push_str(none);
    }
    sql.push(')');
    Ok(())
}

/// Whether the value at the field, or an item of the list there, meets the test about `j`.
fn leaf(
    field: &Field,
    sql: &mut String,
    values: &mut Vec<Sql>,
    test: impl Fn(&mut String, &mut Vec<Sql>),
) -> Result<()> {
    let path = Sql::Text(path(field)?);
    // Most values are no list, and looking at one takes a tenth of the time of `json_each`. Of an
    // object, that would give the members.
    sql.push_str(
        "CASE coalesce(json_type(payload, ?), 'object') WHEN 'object' THEN 0
        WHEN 'array' THEN EXISTS (SELECT 1 FROM json_each(payload, ?) AS j WHERE (",
    );
    values.extend([path.clone(), path.clone()]);
    test(sql, values);
    sql.push_str(
        ")) ELSE EXISTS (SELECT 1 FROM
            (SELECT json_type(payload, ?) AS type, payload ->> ? AS value) AS j WHERE (",
    );
    values.extend([path.clone(), path]);
    test(sql, values);
    sql.push_str(")) END");
    Ok(())
}

fn equals(wanted: &Value, sql: &mut String, values: &mut Vec<Sql>) {
    match wanted {
        Value::Bool(true) => sql.push_str("j.type = 'true'"),
        Value::Bool(false) => sql.push_str("j.type = 'false'"),
        other => compares("=", other, sql, values),
    }
}

fn compares(sign: &str, bound: &Value, sql: &mut String, values: &mut Vec<Sql>) {
    match bound {
        Value::Str(text) => {
            sql.push_str(&format!("(j.type = 'text' AND j.value {sign} ?)"));
            values.push(Sql::Text(text.to_string()));
        }
        Value::Int(_) | Value::UInt(_) | Value::Float(_) => {
            sql.push_str(&format!(
                "(j.type IN ('integer', 'real') AND j.value {sign} ?)"
            ));
            values.push(match bound {
                Value::Float(number) => Sql::Real(*number),
                Value::Int(number) => Sql::Integer(*number),
                other => Sql::Real(other.as_f64().unwrap_or(f64::MAX)),
            });
        }
        // Checked before: nothing else has an order or equality here.
        _ => sql.push('0'),
    }
}

fn path(field: &Field) -> Result<String> {
    let mut path = "$".to_owned();
    for key in field.keys() {
        // SQLite's paths have no escape.
        if key.contains(['"', '\\', '\0']) {
            return Err(Error::invalid("a filter cannot name this field").with("field", field));
        }
        path.push_str(&format!(".\"{key}\""));
    }
    Ok(path)
}
