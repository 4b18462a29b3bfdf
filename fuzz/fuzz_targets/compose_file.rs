//! Any bytes are a Compose project or a list of problems, each with a place that can be shown.
//!
//! Bytes up to a line `#----` are the Compose file, those up to the next one a file laid over it
//! (which the first may also extend or include), the rest is `.env`.

#![no_main]

use std::path::PathBuf;

use agentflow_gate::compose::{self, InMemory, Paths, Request, Variables};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut parts = split(data).into_iter();
    let (first, second, third) = (parts.next(), parts.next(), parts.next());
    let mut files = vec![PathBuf::from("/p/compose.yaml")];
    let mut all = InMemory::default().with("/p/compose.yaml", first.unwrap_or_default());
    if let Some(over) = second {
        files.push(PathBuf::from("/p/over.yaml"));
        all = all.with("/p/over.yaml", over);
    }
    if let Some(env) = third {
        all = all.with("/p/.env", env);
    }
    for (variables, paths) in [
        (Variables::Fill, Paths::Resolve),
        (Variables::Leave, Paths::Leave),
    ] {
        let request = Request {
            files: files.clone(),
            variables,
            paths,
            ..Request::default()
        };
        let loaded = compose::load(&all, &request);
        let problems = match &loaded.project {
            Ok(project) => {
                let _ = project.to_json();
                project.check()
            }
            Err(problems) => {
                assert!(!problems.is_empty(), "what is no project has a problem");
                problems.clone()
            }
        };
        for problem in problems.iter().chain(&loaded.warnings) {
            let _ = problem.line(&loaded.sources);
        }
    }
});

fn split(data: &[u8]) -> Vec<&[u8]> {
    let mark = b"#----\n";
    let mut parts = Vec::new();
    let mut rest = data;
    while let Some(at) = rest.windows(mark.len()).position(|window| window == mark) {
        parts.push(&rest[..at]);
        rest = &rest[at + mark.len()..];
    }
    parts.push(rest);
    parts
}
