//! Limits that are said twice, and how many containers there may be.

use super::{super::units, Checker};
use crate::tree::{Node, Value};

pub(super) fn check(checker: &mut Checker<'_>) {
    let deploy = checker.get("deploy").filter(|node| !node.is_null());
    let replicas = deploy.and_then(|node| node.get("replicas"));
    let scale = checker.get("scale");
    if let (Some(scale), Some(replicas)) = (scale, replicas)
        && number(scale) != number(replicas)
    {
        checker.report(scale.span, "`scale` and `deploy.replicas` differ");
    }
    for count in [scale, replicas].into_iter().flatten() {
        if number(count).is_some_and(|count| count < 0.0) {
            checker.report(count.span, "there cannot be fewer than no containers");
        }
    }
    let count = scale.or(replicas).and_then(number).unwrap_or(1.0);
    if let Some((_, span)) = checker.text("container_name")
        && count > 1.0
    {
        checker.report(span, "several containers cannot have one `container_name`");
    }
    let Some(deploy) = deploy else {
        return;
    };
    for (key, part, limit) in [
        ("cpus", "limits", "cpus"),
        ("mem_limit", "limits", "memory"),
        ("mem_reservation", "reservations", "memory"),
        ("pids_limit", "limits", "pids"),
    ] {
        let read = if limit == "memory" { size } else { number };
        let Some(own) = checker.get(key) else {
            continue;
        };
        let Some(amounts) = deploy.at(&["resources", part]) else {
            continue;
        };
        let (a, b) = (read(own), amounts.get(limit).map_or(Some(0.0), read));
        if let (Some(a), Some(b)) = (a, b)
            && a != 0.0
            && (a as f32 - b as f32).abs() > f32::EPSILON * a.abs() as f32
        {
            let message = format!("`{key}` and `deploy.resources.{part}.{limit}` differ");
            checker.report(own.span, message);
        }
    }
}

fn number(node: &Node) -> Option<f64> {
    match &node.value {
        Value::Int(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    }
}

fn size(node: &Node) -> Option<f64> {
    match &node.value {
        Value::Text(text) => units::bytes(text),
        _ => number(node),
    }
}
