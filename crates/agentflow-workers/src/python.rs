//! The interpreter of a project, and what is installed for it.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use agentflow_types::{Error, Result};

use crate::Project;

/// What every project needs.
const LIBRARY: &str = "langgraph";

/// The interpreter of a virtual environment.
fn inside(environment: &Path) -> PathBuf {
    environment.join("bin").join("python")
}

/// The interpreter for a project: `configured` unless empty, else that of the folder's own
/// virtual environment, of the active one, or the system's.
#[must_use]
pub fn interpreter(project: &Project, configured: &str) -> PathBuf {
    if !configured.is_empty() {
        return match configured.contains('/') {
            true => project.folder().join(configured),
            false => configured.into(),
        };
    }
    let own = [".venv", "venv"].map(|name| project.folder().join(name));
    let active = std::env::var_os("VIRTUAL_ENV").map(PathBuf::from);
    let environments = own.into_iter().chain(active);
    let found = environments
        .map(|dir| inside(&dir))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| "python3".into())
}

fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let failed = || Error::failed("installing failed").with("command", &shown);
    // What is on standard output is for whoever reads our ready line.
    let command = command.stdout(std::io::stderr()).stdin(Stdio::null());
    let status = command.status().map_err(|err| failed().source_err(err))?;
    match status.success() {
        true => Ok(()),
        false => Err(failed().with("status", status)),
    }
}

/// What `pip install` is given for a project.
fn wanted(project: &Project) -> Vec<String> {
    let mut wanted = vec![LIBRARY.to_owned()];
    for dependency in &project.dependencies {
        if !dependency.starts_with('.') {
            wanted.push(dependency.clone());
            continue;
        }
        let folder = project.folder().join(dependency);
        let has = |name: &str| folder.join(name).is_file();
        if has("pyproject.toml") || has("setup.py") {
            wanted.extend(["--editable".into(), folder.display().to_string()]);
        } else if has("requirements.txt") {
            let file = folder.join("requirements.txt");
            wanted.extend(["--requirement".into(), file.display().to_string()]);
        }
    }
    wanted
}

/// Makes the project's virtual environment if it has none, and installs what `langgraph.json`
/// names; with `uv` if it is there. Output goes to the terminal.
///
/// # Errors
/// `Failed` with the command that failed.
pub fn install(project: &Project) -> Result<PathBuf> {
    let environment = project.folder().join(".venv");
    let python = inside(&environment);
    let uv = exists("uv");
    if !python.is_file() {
        match uv {
            true => run(Command::new("uv").arg("venv").arg(&environment))?,
            false => run(Command::new("python3")
                .args(["-m", "venv"])
                .arg(&environment))?,
        }
    }
    let mut command = match uv {
        true => {
            let mut command = Command::new("uv");
            command.args(["pip", "install", "--python"]).arg(&python);
            command
        }
        false => {
            let mut command = Command::new(&python);
            command.args(["-m", "pip", "install", "--disable-pip-version-check"]);
            command
        }
    };
    run(command.args(wanted(project)).current_dir(project.folder()))?;
    Ok(python)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(dir: &Path, dependencies: &str) -> Project {
        let text = format!(r#"{{"graphs": {{}}, "dependencies": {dependencies}}}"#);
        std::fs::write(dir.join(crate::project::FILE_NAME), text).unwrap();
        Project::read(dir).unwrap()
    }

    #[test]
    fn the_projects_own_environment_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        let project = project(dir.path(), "[]");
        let own = dir.path().join(".venv/bin/python");
        std::fs::create_dir_all(own.parent().unwrap()).unwrap();
        std::fs::write(&own, "").unwrap();
        assert_eq!(interpreter(&project, ""), own);
        assert_eq!(interpreter(&project, "python3.12"), Path::new("python3.12"));
        assert_eq!(
            interpreter(&project, "/usr/bin/python3"),
            Path::new("/usr/bin/python3")
        );
    }

    #[test]
    fn folders_and_packages_are_installed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("lib")).unwrap();
        std::fs::write(dir.path().join("lib/pyproject.toml"), "").unwrap();
        std::fs::write(dir.path().join("requirements.txt"), "").unwrap();
        let wanted = wanted(&project(
            dir.path(),
            r#"[".", "./lib", "langchain_openai>=1"]"#,
        ));
        assert_eq!(wanted[0], "langgraph");
        assert_eq!(wanted[1], "--requirement");
        assert_eq!(wanted[3], "--editable");
        assert_eq!(wanted[5], "langchain_openai>=1");
    }
}
