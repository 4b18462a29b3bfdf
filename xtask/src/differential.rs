//! The same requests to LangGraph's development server and to ours.

use std::fs;

use anyhow::Result;

use crate::{
    bench::Peer,
    install,
    shell::{program, root},
    suites::{Scratch, with_fixture},
    summary::{Outcome, counted},
};

/// Sends the requests of `clients/python/differential` to both servers, compares the answers, and
/// the differences with those that are listed.
pub fn run(args: &[String]) -> Result<Outcome> {
    let python = install::bench_python()?;
    let folder = root().join("clients").join("python").join("differential");
    // The peer keeps its data beside its graphs.
    let copy = Scratch::new("differential-peer")?;
    for name in ["langgraph.json", "graphs.py"] {
        fs::copy(folder.join("peer").join(name), copy.path().join(name))?;
    }
    let peer = Peer::start(&python, copy.path())?;
    with_fixture("differential", |server| {
        counted(
            program(&python)
                .arg(folder.join("compare.py"))
                .args([&server.url, &peer.url])
                .args(args),
        )
    })
}
