//! Embeds the Python package, so that a server can start workers of projects that do not name it.

use std::{env, fmt::Write as _, fs, path::Path};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../../workers/python/src");
    let package = root.join("agentflow_worker");
    println!("cargo::rerun-if-changed={}", package.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(&package)? {
        let path = entry?.path();
        let is_code = path.extension().is_some_and(|ext| ext == "py");
        if is_code || path.file_name().is_some_and(|name| name == "py.typed") {
            files.push(path.canonicalize()?);
        }
    }
    files.sort();
    let mut code = String::from("[\n");
    for path in files {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        writeln!(
            code,
            "    ({name:?}, include_str!({:?})),",
            path.display().to_string()
        )?;
        println!("cargo::rerun-if-changed={}", path.display());
    }
    code.push_str("]\n");
    fs::write(Path::new(&env::var("OUT_DIR")?).join("package.rs"), code)?;
    Ok(())
}
