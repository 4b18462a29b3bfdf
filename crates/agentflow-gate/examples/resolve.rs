//! Prints a Compose project as Docker Compose resolves it, or what is wrong with it.
//!
//! `cargo run -p agentflow-gate --example resolve -- [--leave|--leave-paths] [--name NAME] FILE...`
//!
//! `--leave` fills no variables in and leaves paths as they are, `--leave-paths` only paths.

use std::{path::PathBuf, process::ExitCode};

use agentflow_gate::compose::{self, Disk, Paths, Request, Variables};

fn main() -> ExitCode {
    let mut request = Request {
        environment: std::env::vars().collect(),
        ..Request::default()
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--leave" => {
                request.variables = Variables::Leave;
                request.paths = Paths::Leave;
            }
            "--leave-paths" => request.paths = Paths::Leave,
            "--name" => request.name = args.next(),
            path => match std::path::absolute(PathBuf::from(path)) {
                Ok(path) => request.files.push(path),
                Err(error) => {
                    eprintln!("{path}: {error}");
                    return ExitCode::from(2);
                }
            },
        }
    }
    let loaded = compose::load(&Disk, &request);
    for warning in &loaded.warnings {
        eprintln!("warning: {}", warning.line(&loaded.sources));
    }
    let found = match &loaded.project {
        Ok(project) => {
            println!("{:#}", project.to_json());
            match request.variables {
                Variables::Fill => project.check(),
                Variables::Leave => Vec::new(),
            }
        }
        Err(found) => found.clone(),
    };
    for problem in &found {
        eprintln!("error: {}", problem.line(&loaded.sources));
    }
    match found.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
