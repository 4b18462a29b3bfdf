//! Commands that look after the database: `migrate`, `backup`, `restore`.

use std::path::{Path, PathBuf};

use agentflow_embedded::{Copied, Embedded, Options};
use agentflow_types::{Error, Result};
use clap::{Args, Subcommand};

use crate::{app::DATABASE_FILE, config::Config};

/// Where the database is, if it is not where the configuration says.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// Folder of the data.
    #[arg(long)]
    pub(crate) data: Option<PathBuf>,
    /// Configuration file; otherwise the nearest agentflow.toml upwards.
    #[arg(long, env = "AGENTFLOW_CONFIG")]
    pub(crate) config: Option<PathBuf>,
}

/// What to do about the version of the tables.
#[derive(Debug, Subcommand)]
pub(crate) enum Migrate {
    /// Print the version of the database and the one that this program writes.
    Status(Place),
    /// Print what `apply` would do.
    Plan(Place),
    /// Bring the tables up to date. A server that starts does it too.
    Apply(Place),
}

impl Migrate {
    pub(crate) fn place(&self) -> &Place {
        match self {
            Self::Status(place) | Self::Plan(place) | Self::Apply(place) => place,
        }
    }

    /// Does it and returns what to print.
    ///
    /// # Errors
    /// `Busy` if a server uses the database, `Corrupt` if it is not one or is newer.
    pub(crate) fn run(&self, config: &Config) -> Result<String> {
        let path = config.storage.path.join(DATABASE_FILE);
        match self {
            Self::Status(_) => status(&path),
            Self::Plan(_) => plan(&path),
            Self::Apply(_) => apply(&path),
        }
    }
}

fn status(path: &Path) -> Result<String> {
    let version = agentflow_embedded::schema_version(path)?;
    let verdict = match version.found.cmp(&version.newest) {
        std::cmp::Ordering::Less => "older; `agentflow migrate apply` brings it up to date",
        std::cmp::Ordering::Equal => "up to date",
        std::cmp::Ordering::Greater => "newer than this program; use a newer agentflow",
    };
    Ok(format!(
        "{}: tables of version {}, this program writes {}: {verdict}",
        path.display(),
        version.found,
        version.newest
    ))
}

fn plan(path: &Path) -> Result<String> {
    let version = agentflow_embedded::schema_version(path)?;
    let steps: Vec<String> = (version.found..version.newest)
        .map(|from| format!("tables of version {from} become version {}", from + 1))
        .collect();
    Ok(match steps.is_empty() {
        true => format!("{}: nothing to do", path.display()),
        false => steps.join("\n"),
    })
}

fn apply(path: &Path) -> Result<String> {
    let before = agentflow_embedded::schema_version(path)?;
    drop(Embedded::open(path, Options::default())?);
    let after = agentflow_embedded::schema_version(path)?;
    Ok(match before.found == after.found {
        true => format!("{}: nothing to do", path.display()),
        false => format!(
            "{}: tables of version {} became version {}",
            path.display(),
            before.found,
            after.found
        ),
    })
}

/// Copies the database to a new file; a server may go on meanwhile.
///
/// # Errors
/// `NotFound` without a database, `Conflict` if the file exists.
pub(crate) fn backup(config: &Config, to: &Path) -> Result<String> {
    let copied = agentflow_embedded::backup(&config.storage.path.join(DATABASE_FILE), to)?;
    Ok(format!("wrote {}: {}", to.display(), told(copied)))
}

/// Puts a copy in the place of the database.
///
/// # Errors
/// `Busy` while a server uses the database, `Corrupt` if the copy is damaged.
pub(crate) fn restore(config: &Config, from: &Path) -> Result<String> {
    let folder = &config.storage.path;
    std::fs::create_dir_all(folder).map_err(|err| {
        Error::invalid("the data folder cannot be made")
            .with("path", folder.display())
            .source_err(err)
    })?;
    let path = folder.join(DATABASE_FILE);
    let copied = agentflow_embedded::restore(from, &path)?;
    Ok(format!("restored {}: {}", path.display(), told(copied)))
}

fn told(copied: Copied) -> String {
    format!(
        "{} bytes, tables of version {}",
        copied.bytes, copied.schema
    )
}
