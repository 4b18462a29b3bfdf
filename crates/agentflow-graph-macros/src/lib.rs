//! Derive macro for typed graph state. Use it through `agentflow_graph::GraphState`.

mod state;

use proc_macro::TokenStream;

/// Makes a struct the state of a typed graph.
///
/// Each field is a channel. Attributes say how writes to it are combined:
///
/// | attribute | rule |
/// |---|---|
/// | none | the last write counts; two in one superstep are an error |
/// | `#[state(append)]` | lists are appended |
/// | `#[state(messages)]` | messages replace, delete or append by id |
/// | `#[state(sum)]`, `max`, `min`, `merge` | numbers add, the greatest or smallest counts, maps merge |
/// | `#[state(delta_messages)]`, `delta_append` | the same, stored as what changed; `snapshot_every = 50` says how often as a whole |
/// | `#[state(remaining_steps)]`, `is_last_step` | computed for nodes, never written |
/// | `#[state(untracked)]` | kept while the run lasts, never stored |
/// | `#[state(reducer = path)]` | `fn(T, T) -> T` combines |
///
/// The struct must implement `Default`, `serde::Serialize` and `serde::Deserialize`; a key without
/// a value takes the field's value from `Default`. The derive also makes `<Name>Update`, whose
/// fields are optional, with one setter per field: what a node returns.
#[proc_macro_derive(GraphState, attributes(state))]
pub fn graph_state(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    state::expand(input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
