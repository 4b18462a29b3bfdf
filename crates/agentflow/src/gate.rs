//! `agentflow gate` and `agentflow explain`: what a deployment says, judged.

use std::{
    fs,
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use agentflow_gate::{
    baseline::Baseline,
    compose::{Disk, Environment},
    finding::{Colour, Severity, View},
    fix::{self, Edited, Safety},
    gate::{self, Outcome, Request},
    print::{self, Format},
    rules::{self, RULES},
};
use clap::{Args, ValueEnum};

/// Exit code when a finding is as bad as `--fail-on`.
const EXIT_FINDINGS: u8 = 1;
/// Exit code when a file or a flag is wrong.
const EXIT_USAGE: u8 = 2;

/// What is to be checked, and how it is told.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 no finding as bad as --fail-on, 1 such findings, \
                        2 a file or a flag is wrong."
)]
pub(crate) struct Gate {
    /// Files and folders; the current folder if neither they nor --file are given.
    paths: Vec<PathBuf>,
    /// A Compose file; repeated, each is laid over those before.
    #[arg(short, long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A profile whose services count; may be repeated. Without one, rules look at all services.
    #[arg(long, value_name = "NAME")]
    profile: Vec<String>,
    /// A file of variables instead of `.env`; may be repeated.
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// How findings are written.
    #[arg(long, value_enum, default_value = "text")]
    format: Shape,
    /// The least severity that makes the exit code 1.
    #[arg(long, value_enum, default_value = "error", value_name = "SEVERITY")]
    fail_on: Threshold,
    /// Tell notes too.
    #[arg(long)]
    pedantic: bool,
    /// Only this rule; may be repeated.
    #[arg(long, value_name = "RULE")]
    only: Vec<String>,
    /// Not this rule; may be repeated.
    #[arg(long, value_name = "RULE")]
    skip: Vec<String>,
    /// Findings in this file are known and not told.
    #[arg(long, value_name = "FILE", conflicts_with = "write_baseline")]
    baseline: Option<PathBuf>,
    /// Write all findings into this file, for --baseline.
    #[arg(long, value_name = "FILE")]
    write_baseline: Option<PathBuf>,
    /// Mend what can be mended: `safe` changes alone, or `unsafe` ones too.
    #[arg(
        long,
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "safe",
        value_name = "SAFETY"
    )]
    fix: Option<Mend>,
    /// Show what --fix would change, and write nothing.
    #[arg(long, conflicts_with_all = ["write_baseline", "baseline"])]
    diff: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shape {
    Text,
    Json,
    Sarif,
    Junit,
    Github,
    Markdown,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Threshold {
    Error,
    Warning,
    Note,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mend {
    Safe,
    Unsafe,
}

impl From<Shape> for Format {
    fn from(shape: Shape) -> Self {
        match shape {
            Shape::Text => Self::Text,
            Shape::Json => Self::Json,
            Shape::Sarif => Self::Sarif,
            Shape::Junit => Self::Junit,
            Shape::Github => Self::Github,
            Shape::Markdown => Self::Markdown,
        }
    }
}

impl Gate {
    /// Checks, mends if asked, and tells.
    pub(crate) fn run(&self) -> ExitCode {
        match self.go() {
            Ok(code) => ExitCode::from(code),
            Err(message) => {
                let _ = writeln!(std::io::stderr().lock(), "error: {message}");
                ExitCode::from(EXIT_USAGE)
            }
        }
    }

    fn go(&self) -> Result<u8, String> {
        let root = std::env::current_dir()
            .map_err(|error| format!("the current folder cannot be read: {error}"))?;
        let only = known(&self.only)?;
        let skip = known(&self.skip)?;
        let request = self.request()?;
        let view = View {
            colour: self.colour(),
            root: Some(&root),
            hidden: &[],
        };
        if self.fix.is_some() || self.diff {
            let most = match self.fix {
                Some(Mend::Unsafe) => Safety::Unsafe,
                _ => Safety::Safe,
            };
            let wanted = |rule: &str| wanted(rule, &only, &skip);
            let mended = fix::mend(&Disk, &request, most, &wanted).map_err(|it| it.to_string())?;
            if self.diff {
                for file in &mended.files {
                    let name = file.path.display().to_string();
                    say(&fix::unified(view.name(&name), &file.before, &file.after));
                }
                return Ok(if mended.files.is_empty() {
                    0
                } else {
                    EXIT_FINDINGS
                });
            }
            for file in &mended.files {
                write(file)?;
            }
            let (count, files) = (mended.applied, mended.files.len());
            eprintln!("gate: {count} fixes applied in {files} files");
        }
        let mut outcome = gate::run(&Disk, &request).map_err(|error| error.to_string())?;
        outcome.keep_rules(|rule| wanted(rule, &only, &skip));
        if !self.pedantic {
            outcome.keep(Severity::Warning);
        }
        if let Some(path) = &self.write_baseline {
            let baseline = Baseline::of(&outcome, &view);
            fs::write(path, baseline.write()).map_err(|error| about(path, error))?;
            eprintln!(
                "gate: {} findings written to {}",
                baseline.len(),
                path.display()
            );
            return Ok(0);
        }
        if let Some(path) = &self.baseline {
            let text = fs::read_to_string(path).map_err(|error| about(path, error))?;
            let baseline = Baseline::read(&text).map_err(|error| about(path, error))?;
            baseline.apply(&mut outcome, &view);
        }
        say(&print::print(&outcome, &view, self.format.into()));
        Ok(self.code(&outcome))
    }

    fn request(&self) -> Result<Request, String> {
        let here = [PathBuf::from(".")];
        let paths = match self.paths.is_empty() && self.files.is_empty() {
            true => &here,
            false => self.paths.as_slice(),
        };
        Ok(Request {
            paths: absolute(paths)?,
            overlays: absolute(&self.files)?,
            profiles: self.profile.clone(),
            env_files: absolute(&self.env_file)?,
            environment: environment(),
        })
    }

    fn colour(&self) -> Colour {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        match std::io::stdout().is_terminal() && !refused {
            true => Colour::Ansi,
            false => Colour::Plain,
        }
    }

    fn code(&self, outcome: &Outcome) -> u8 {
        let least = match self.fail_on {
            Threshold::Error => Severity::Error,
            Threshold::Warning => Severity::Warning,
            Threshold::Note => Severity::Note,
            Threshold::Never => return 0,
        };
        match outcome.worst().is_some_and(|worst| worst >= least) {
            true => EXIT_FINDINGS,
            false => 0,
        }
    }
}

/// Prints a rule's page, or the list of all rules.
pub(crate) fn explain(rule: Option<&str>) -> ExitCode {
    let Some(name) = rule else {
        for rule in RULES {
            say(&format!(
                "{}  {:<8}  {:<30} {}\n",
                rule.id,
                rule.level.name(),
                rule.name,
                rule.title()
            ));
        }
        return ExitCode::SUCCESS;
    };
    match rules::find(name) {
        Some(rule) => {
            say(rule.page);
            ExitCode::SUCCESS
        }
        None => {
            eprintln!("error: {}", unknown(name));
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// Writes to standard output; a closed pipe is not an error of ours.
fn say(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

fn about(path: &Path, error: impl std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

fn wanted(rule: &str, only: &[&str], skip: &[&str]) -> bool {
    (only.is_empty() || only.contains(&rule)) && !skip.contains(&rule)
}

/// The numbers of rules that are named by number or name.
fn known(names: &[String]) -> Result<Vec<&'static str>, String> {
    let find = |name: &String| {
        rules::find(name)
            .map(|it| it.id)
            .ok_or_else(|| unknown(name))
    };
    names.iter().map(find).collect()
}

fn unknown(name: &str) -> String {
    let distance = |rule: &&rules::Rule| strsim::jaro_winkler(rule.name, name);
    let near = RULES
        .iter()
        .max_by(|a, b| distance(a).total_cmp(&distance(b)));
    match near {
        Some(near) => format!(
            "there is no rule `{name}`; `agentflow explain` lists them, `{}` is near",
            near.name
        ),
        None => format!("there is no rule `{name}`"),
    }
}

fn absolute(paths: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let clean = |path: &PathBuf| {
        let path = std::path::absolute(path).map_err(|error| about(path, error))?;
        // `.` and `..` go where no link is in between, so that names are short.
        Ok(path.components().collect())
    };
    paths.iter().map(clean).collect()
}

/// The variables of this process that are text.
fn environment() -> Environment {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}

/// Puts the new text in the place of the old in one step, with the old rights.
fn write(file: &Edited) -> Result<(), String> {
    // Through a link, so that the link stays one.
    let path = file
        .path
        .canonicalize()
        .map_err(|error| about(&file.path, error))?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    let put = || {
        fs::write(&new, &file.bytes)?;
        fs::set_permissions(&new, fs::metadata(&path)?.permissions())?;
        fs::rename(&new, &path)
    };
    put().map_err(|error| {
        // What is half written must not stay beside the file.
        let _ = fs::remove_file(&new);
        about(&path, error)
    })
}
