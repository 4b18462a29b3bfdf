//! `${NAME}` in texts: an environment variable, or the file that `NAME_FILE` names.

use agentflow_types::{Error, Result};

/// Ending of the variable that names a file with the value.
const FILE: &str = "_FILE";

/// The names that `text` refers to.
///
/// # Errors
/// `Invalid` for `${` without a name and `}`.
pub fn names(text: &str) -> Result<Vec<&str>> {
    let mut names = Vec::new();
    parts(text, |part| {
        if let Part::Name(name) = part {
            names.push(name);
        }
        Ok(())
    })?;
    Ok(names)
}

/// `text` with every `${NAME}` replaced.
///
/// # Errors
/// `Invalid` if a variable is not set or a file cannot be read; the message has the name only.
pub fn resolve(text: &str) -> Result<String> {
    let mut out = String::with_capacity(text.len());
    parts(text, |part| {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Name(name) => out.push_str(&value(name)?),
        }
        Ok(())
    })?;
    Ok(out)
}

enum Part<'a> {
    Text(&'a str),
    Name(&'a str),
}

fn parts<'a>(text: &'a str, mut take: impl FnMut(Part<'a>) -> Result<()>) -> Result<()> {
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        take(Part::Text(&rest[..start]))?;
        let after = &rest[start + 2..];
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let name = after.split('}').next().unwrap_or_default();
        if name.len() == after.len() || name.is_empty() || !name.chars().all(is_name) {
            return Err(Error::invalid(
                "`${` must be followed by the name of a variable and `}`",
            ));
        }
        take(Part::Name(name))?;
        rest = &after[name.len() + 1..];
    }
    take(Part::Text(rest))
}

fn value(name: &str) -> Result<String> {
    if let Ok(value) = std::env::var(name) {
        return Ok(value);
    }
    let Ok(path) = std::env::var(format!("{name}{FILE}")) else {
        return Err(Error::invalid("an environment variable is not set").with("name", name));
    };
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(err) => Err(Error::invalid("the file of a secret cannot be read")
            .with("name", format!("{name}{FILE}"))
            .source_err(err)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_in_braces() {
        assert_eq!(names("Bearer ${A}-${B_2}").unwrap(), ["A", "B_2"]);
        assert_eq!(names("$A {B} $").unwrap(), [""; 0]);
        for wrong in ["${", "${A", "${}", "${A B}", "${A-B}"] {
            assert!(names(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn variables_are_replaced_and_absent_ones_named() {
        assert_eq!(
            resolve("x ${CARGO_PKG_NAME} y").unwrap(),
            "x agentflow-mcp y"
        );
        let err = resolve("${AGENTFLOW_NO_SUCH_THING}").unwrap_err();
        assert!(err.to_string().contains("AGENTFLOW_NO_SUCH_THING"), "{err}");
    }
}
