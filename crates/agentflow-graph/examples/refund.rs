//! A refund that a person must approve: the graph stops, the process may end, the answer comes
//! later.
//!
//! Run with `cargo run -p agentflow-graph --example refund`.

use agentflow_graph::{END, GraphState, Input, Invocation, Runtime, START, TypedGraph};
use agentflow_storage::memory::Memory;
use agentflow_types::{Result, value};
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize, GraphState)]
struct Refund {
    order: String,
    amount: f64,
    approved: bool,
    #[state(append)]
    log: Vec<String>,
}

fn build() -> Result<TypedGraph<Refund>> {
    TypedGraph::<Refund>::builder("refund")
        .node("look_up", async |state: Refund, _ctx| {
            Ok(Refund::update()
                .amount(249.0)
                .log([format!("found order {}", state.order)]))
        })
        .node("approve", async |state: Refund, ctx| {
            let question = value!({"question": "refund this?", "amount": state.amount});
            let answer = ctx.interrupt(question)?;
            Ok(Refund::update().approved(answer.as_bool().unwrap_or(false)))
        })
        .node("pay", async |state: Refund, ctx| {
            // The key is the same when this task is tried again, so that nobody is paid twice.
            let line = format!("paid {} with key {}", state.amount, ctx.idempotency_key());
            Ok(Refund::update().log([line]))
        })
        .edge(START, "look_up")
        .edge("look_up", "approve")
        .branch("approve", |state, _ctx| {
            Ok(if state.approved { "pay" } else { END })
        })
        .compile()
}

#[tokio::main]
async fn main() -> Result<()> {
    let refund = build()?;
    let runtime = Runtime::with_saver(Memory::open().checkpoints);

    let start = Invocation::new(value!({"order": "A-17"})).thread("customer-1");
    let outcome = refund.graph().run(&runtime, start, None).await?;
    for interrupt in &outcome.interrupts {
        println!("waiting for an answer to {}", interrupt.value);
    }

    let answer = Invocation::new(Input::resume(true)).thread("customer-1");
    let outcome = refund.graph().run(&runtime, answer, None).await?;
    println!("{}", outcome.values);
    Ok(())
}
