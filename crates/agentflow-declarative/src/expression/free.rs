//! The free variables of an expression: those that no `map`, `filter`, `all` or `exists` binds.

use std::collections::BTreeSet;

use cel::{
    IdedExpr,
    common::ast::{EntryExpr, Expr, IdedEntryExpr},
};

/// Words that name types and namespaces of CEL unless a variable has the same name.
pub(super) const TYPES: [&str; 14] = [
    "bool",
    "int",
    "uint",
    "double",
    "string",
    "bytes",
    "list",
    "map",
    "null_type",
    "type",
    "timestamp",
    "duration",
    "math",
    "base64",
];

/// The free variables, in alphabetical order.
pub(super) fn variables(expression: &IdedExpr) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    walk(expression, &mut Vec::new(), &mut found);
    found
}

/// Depth is limited by the parser.
fn walk<'a>(expression: &'a IdedExpr, bound: &mut Vec<&'a str>, found: &mut BTreeSet<String>) {
    match &expression.expr {
        Expr::Unspecified | Expr::Literal(_) => {}
        Expr::Ident(name) => {
            let is_internal = name.starts_with('@');
            if !is_internal && !bound.contains(&name.as_str()) {
                found.insert(name.clone());
            }
        }
        Expr::Call(call) => {
            for part in call.target.as_deref().into_iter().chain(&call.args) {
                walk(part, bound, found);
            }
        }
        Expr::Comprehension(loops) => {
            walk(&loops.iter_range, bound, found);
            walk(&loops.accu_init, bound, found);
            let before = bound.len();
            bound.push(&loops.accu_var);
            walk(&loops.result, bound, found);
            bound.push(&loops.iter_var);
            bound.extend(loops.iter_var2.as_deref());
            walk(&loops.loop_cond, bound, found);
            walk(&loops.loop_step, bound, found);
            bound.truncate(before);
        }
        Expr::List(list) => list.elements.iter().for_each(|one| walk(one, bound, found)),
        Expr::Map(map) => entries(&map.entries, bound, found),
        Expr::Struct(one) => entries(&one.entries, bound, found),
        Expr::Select(select) => walk(&select.operand, bound, found),
    }
}

fn entries<'a>(
    entries: &'a [IdedEntryExpr],
    bound: &mut Vec<&'a str>,
    found: &mut BTreeSet<String>,
) {
    for entry in entries {
        match &entry.expr {
            EntryExpr::StructField(field) => walk(&field.value, bound, found),
            EntryExpr::MapEntry(entry) => {
                walk(&entry.key, bound, found);
                walk(&entry.value, bound, found);
            }
        }
    }
}
