//! Cases of conditions over payloads.

use agentflow_types::{Result, Value, value};

use super::{at, id, map, memory, numbers, of_project, store};
use crate::{
    Backend,
    condition::{Case, Condition, Field, Order},
    memories::MemoryQuery,
};

/// Leaves of every kind, and some that are joined.
fn conditions() -> Vec<Condition> {
    let field = |key: &str| Field::of(key);
    let meta = |key: &str| Field::within(&["metadata", key]);
    let deep = Field::within(&["metadata", "deep", "x"]);
    let equals = Condition::Equals;
    let text = |text: &str| Value::str(text);
    vec![
        Condition::All(vec![]),
        Condition::Any(vec![]),
        equals(field("user_id"), text("ada")),
        equals(field("user_id"), text("ada")).negated(),
        Condition::In(field("user_id"), vec![text("bob"), text("x")]),
        Condition::In(field("user_id"), vec![]),
        Condition::Exists(field("user_id")),
        Condition::Exists(field("categories")),
        Condition::Exists(meta("tags")),
        Condition::Exists(meta("deep")),
        Condition::Exists(meta("nil")),
        equals(meta("n"), Value::Int(1)),
        equals(meta("n"), text("3")),
        equals(meta("n"), Value::Int(9_007_199_254_740_993)),
        equals(meta("n"), Value::Int(9_007_199_254_740_992)),
        equals(meta("tags"), text("a")),
        equals(meta("odd key.x"), Value::Int(7)),
        equals(meta("deep"), text("x")),
        equals(deep.clone(), Value::Bool(true)),
        equals(deep, Value::Bool(false)),
        equals(field("memory_id"), text(&id(2).text())),
        Condition::Compares(meta("n"), Order::Greater, Value::Int(1)),
        Condition::Compares(meta("n"), Order::LessOrEqual, Value::Float(1.5)),
        Condition::Compares(meta("ratio"), Order::GreaterOrEqual, Value::Float(1.5)),
        Condition::Compares(field("created_at"), Order::Less, text(&at(3).to_string())),
        Condition::Compares(
            field("created_at"),
            Order::GreaterOrEqual,
            text(&at(3).to_string()),
        ),
        Condition::Compares(field("user_id"), Order::Greater, text("ada")),
        Condition::Includes(field("text"), "Äpfel".into(), Case::Exact),
        Condition::Includes(field("text"), "äpfel".into(), Case::Exact),
        Condition::Includes(field("text"), "ÄPFEL".into(), Case::Ignored),
        Condition::Includes(field("categories"), "FOO".into(), Case::Ignored),
        equals(field("user_id"), text("bob")),
        equals(field("user_id"), text("bob")).negated(),
        equals(field("user_id"), Value::Int(1)).negated(),
        Condition::In(field("run_id"), vec![text("r"), text("s"), Value::Int(2)]),
        Condition::In(field("user_id"), vec![text("bob"), text("ada")]).negated(),
        Condition::In(field("app_id"), vec![Value::Bool(true)]),
        equals(field("kind"), text("fact")),
        equals(field("project"), text("q")).negated(),
        Condition::Any(vec![
            equals(field("run_id"), text("r")),
            Condition::All(vec![
                equals(field("user_id"), text("ada")),
                equals(meta("n"), Value::Int(1)).negated(),
            ]),
        ]),
    ]
}

/// Every leaf, and how they are joined.
pub async fn conditions_hold_as_they_do_for_payloads(backend: Backend) -> Result<()> {
    let mut memories = [memory(1), memory(2), memory(3), memory(4)];
    memories[1].owner.user_id = Some("bob".into());
    memories[1].text = "Ein Äpfelchen".into();
    memories[2].owner.user_id = None;
    memories[2].owner.run_id = Some("r".into());
    memories[2].categories = vec![];
    memories[2].metadata = map(value!({"n": "3", "tags": [], "odd key.x": 7, "nil": null}));
    memories[3].metadata =
        map(value!({"n": 9007199254740993_i64, "tags": "a", "deep": {"x": false}}));
    store(&backend, &memories).await?;
    for condition in conditions() {
        let wanted: Vec<u8> = memories
            .iter()
            .filter(|memory| condition.holds(&memory.payload()))
            .map(|memory| memory.memory_id.0.as_bytes()[15])
            .collect();
        for as_of in [None, Some(at(100))] {
            let query = MemoryQuery {
                condition: Some(condition.clone()),
                as_of,
                ..of_project()
            };
            let found = numbers(&backend, &query).await?;
            assert_eq!(found, wanted, "{condition:?} {as_of:?}");
            let quick = MemoryQuery {
                uncounted: true,
                ..query
            };
            let found = numbers(&backend, &quick).await?;
            assert_eq!(found, wanted, "{condition:?} {as_of:?}");
        }
    }
    Ok(())
}
