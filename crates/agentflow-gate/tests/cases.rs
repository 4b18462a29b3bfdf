//! Each folder of `tests/cases` is a project: `compose.yaml`, perhaps `over.yaml` laid over it.
//! `model.json` is what Docker Compose 2.40.3 makes of it with `config --no-interpolate
//! --no-env-resolution --no-path-resolution --format json`; `refused.txt` is what we say of a
//! project that Docker refuses.

use std::{fs, path::Path};

use agentflow_gate::compose::{self, Disk, Paths, Request, Variables};
use serde_json::Value as Json;

#[test]
fn every_case_is_resolved_or_refused_as_docker_does() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut wrong = Vec::new();
    let mut count = 0;
    for case in fs::read_dir(&cases).expect("the cases are there") {
        let folder = case.expect("a case").path();
        count += 1;
        if let Err(difference) = check(&folder) {
            wrong.push(format!("{}\n{difference}", folder.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(count > 40, "only {count} cases were found");
}

fn check(folder: &Path) -> Result<(), String> {
    let mut files = vec![folder.join("compose.yaml")];
    files.extend(Some(folder.join("over.yaml")).filter(|file| file.exists()));
    let loaded = compose::load(
        &Disk,
        &Request {
            files,
            name: Some("p".to_owned()),
            variables: Variables::Leave,
            paths: Paths::Leave,
            ..Request::default()
        },
    );
    match (
        loaded.project,
        fs::read_to_string(folder.join("model.json")),
    ) {
        (Ok(project), Ok(model)) => {
            let model: Json = serde_json::from_str(&model).map_err(|it| it.to_string())?;
            let ours = project.to_json();
            match same(&model, &ours) {
                true => Ok(()),
                false => Err(format!("Docker: {model:#}\nwe: {ours:#}")),
            }
        }
        (Err(found), Err(_)) => {
            let here = format!("{}/", folder.display());
            let lines = found
                .iter()
                .map(|it| it.line(&loaded.sources).replace(&here, "") + "\n");
            let ours: String = lines.collect();
            let expected = fs::read_to_string(folder.join("refused.txt")).unwrap_or_default();
            match ours == expected {
                true => Ok(()),
                false => Err(format!("expected:\n{expected}we say:\n{ours}")),
            }
        }
        (Ok(_), Err(_)) => Err("Docker refuses it, we do not".to_owned()),
        (Err(found), Ok(_)) => Err(format!("we refuse it: {found:?}")),
    }
}

/// Whether two values are equal; Go prints `1.0` as `1`.
fn same(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Number(a), Json::Number(b)) => a.as_f64() == b.as_f64(),
        (Json::Array(a), Json::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Json::Object(a), Json::Object(b)) => {
            let found = |(key, a): (&String, &Json)| b.get(key).is_some_and(|b| same(a, b));
            a.len() == b.len() && a.iter().all(found)
        }
        (a, b) => a == b,
    }
}
