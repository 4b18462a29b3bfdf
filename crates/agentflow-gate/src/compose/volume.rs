//! The short form of a mount: `source:target:options`.

/// A mount, as its short form says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Volume {
    pub(super) source: String,
    pub(super) target: String,
    pub(super) read_only: bool,
    pub(super) nocopy: bool,
    pub(super) propagation: Option<String>,
    pub(super) selinux: Option<String>,
    /// A folder of the host, not a named volume.
    pub(super) is_bind: bool,
    /// Too short to hold a source.
    pub(super) is_bare: bool,
}

/// Reads the short form. A colon within `${…}` or after a drive letter parts nothing.
///
/// # Errors
/// What is wrong with the text.
pub(super) fn parse(spec: &str) -> Result<Volume, String> {
    let mut volume = Volume::default();
    match spec.len() {
        0 => return Err("a mount cannot be empty".to_owned()),
        1 | 2 => {
            volume.target = spec.to_owned();
            volume.is_bare = true;
            return Ok(volume);
        }
        _ => {}
    }
    let mut part = String::new();
    let mut nested = 0;
    for (at, c) in spec.char_indices() {
        if c == '$' && spec.as_bytes().get(at + 1) == Some(&b'{') {
            nested += 1;
        } else if c == '}' && nested > 0 {
            nested -= 1;
        } else if c == ':' && !is_drive(&part) && nested == 0 {
            volume
                .take(&part, false)
                .map_err(|it| format!("`{spec}` is no mount: {it}"))?;
            part.clear();
            continue;
        }
        part.push(c);
    }
    // A brace that stays open takes the end of the text in.
    if nested == 0 {
        volume
            .take(&part, true)
            .map_err(|it| format!("`{spec}` is no mount: {it}"))?;
    }
    volume.is_bind = is_path(&volume.source);
    Ok(volume)
}

impl Volume {
    fn take(&mut self, part: &str, is_last: bool) -> Result<(), &'static str> {
        if part.is_empty() {
            return Err("there is nothing between two colons");
        }
        if self.source.is_empty() && is_last {
            self.target = part.to_owned();
            return Ok(());
        }
        if self.source.is_empty() {
            self.source = part.to_owned();
            return Ok(());
        }
        if self.target.is_empty() {
            self.target = part.to_owned();
            return Ok(());
        }
        if !is_last {
            return Err("there are too many colons");
        }
        for option in part.split(',') {
            match option {
                "ro" => self.read_only = true,
                "rw" => self.read_only = false,
                "nocopy" => self.nocopy = true,
                "rprivate" | "private" | "rshared" | "shared" | "rslave" | "slave" => {
                    self.propagation = Some(option.to_owned());
                }
                "z" | "Z" => self.selinux = Some(option.to_owned()),
                _ => {}
            }
        }
        Ok(())
    }
}

fn is_drive(part: &str) -> bool {
    let mut chars = part.chars();
    chars.next().is_some_and(char::is_alphabetic) && chars.next().is_none()
}

/// Whether a source is a path of the host.
fn is_path(source: &str) -> bool {
    let mut chars = source.chars();
    match chars.next() {
        Some('.' | '/' | '~') => true,
        Some(first) => {
            source.starts_with("\\\\") || (first.is_alphabetic() && chars.next() == Some(':'))
        }
        None => false,
    }
}

/// A slash path in its shortest form: no `.`, no `..` that can go, no double slash.
pub(super) fn clean(path: &str) -> String {
    if path.is_empty() {
        return String::new();
    }
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => drop(parts.pop()),
                _ if rooted => {}
                _ => parts.push(".."),
            },
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms_are_taken_apart() {
        let volume = parse("./a:/b:ro,z,rshared").expect("valid");
        assert_eq!(
            (volume.source.as_str(), volume.target.as_str()),
            ("./a", "/b")
        );
        assert!(volume.read_only && volume.is_bind);
        assert_eq!(volume.selinux.as_deref(), Some("z"));
        assert_eq!(volume.propagation.as_deref(), Some("rshared"));
        let volume = parse("${A:-./x}:/b").expect("valid");
        assert_eq!(volume.source, "${A:-./x}");
        assert!(!volume.is_bind);
        assert!(parse("data:/b:nocopy").expect("valid").nocopy);
        assert_eq!(parse("/d").expect("valid").target, "/d");
        assert_eq!(parse(r"c:\x:/y").expect("valid").source, r"c:\x");
        for wrong in ["", "ab::b", "ab:bb:cc:dd"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn paths_are_cleaned() {
        for (path, expected) in [
            ("/b/../c", "/c"),
            ("a//b/.", "a/b"),
            ("../a", "../a"),
            ("/..", "/"),
            ("./", "."),
        ] {
            assert_eq!(clean(path), expected);
        }
    }
}
