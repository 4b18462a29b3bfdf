//! Any text is a graph file or a list of mistakes.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = agentflow_declarative::parse(text);
});
