//! Commands that look after the database: `migrate`, `backup`, `restore`.

use std::path::{Path, PathBuf};

use agentflow_embedded::{Copied, Embedded, Options};
use agentflow_postgres::Pending;
use agentflow_types::{Error, Result};
use clap::{Args, Subcommand};

use crate::{app::DATABASE_FILE, config::Config, database};

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
    pub(crate) async fn run(&self, config: &Config) -> Result<String> {
        if config.storage.is_remote() {
            return self.run_remote(&database::postgres_options(config)?).await;
        }
        let path = config.storage.path.join(DATABASE_FILE);
        match self {
            Self::Status(_) => status(&path),
            Self::Plan(_) => plan(&path),
            Self::Apply(_) => apply(&path),
        }
    }

    async fn run_remote(&self, options: &agentflow_postgres::Options) -> Result<String> {
        let told = |steps: &[Pending]| {
            let lines: Vec<String> = steps
                .iter()
                .map(|step| format!("{} {}: {}", step.list, step.version, first_line(step.sql)))
                .collect();
            lines.join("\n")
        };
        let steps = match self {
            Self::Status(_) | Self::Plan(_) => options.plan().await?,
            Self::Apply(_) => options.apply().await?,
        };
        Ok(match (self, steps.len()) {
            (Self::Status(_), 0) => "the tables are up to date".into(),
            (Self::Status(_), many) => {
                format!("{many} changes are missing; `agentflow migrate plan` lists them")
            }
            (_, 0) => "nothing to do".into(),
            (_, _) => told(&steps),
        })
    }
}

fn first_line(sql: &str) -> &str {
    sql.trim().lines().next().unwrap_or_default()
}

/// # Errors
/// `Invalid` if a PostgreSQL server holds the data.
fn only_embedded(config: &Config) -> Result<()> {
    match config.storage.is_remote() {
        true => Err(Error::invalid(
            "a PostgreSQL server holds the data: use pg_dump and pg_restore, as docs/postgres.md \
             says",
        )),
        false => Ok(()),
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
    only_embedded(config)?;
    let copied = agentflow_embedded::backup(&config.storage.path.join(DATABASE_FILE), to)?;
    Ok(format!("wrote {}: {}", to.display(), told(copied)))
}

/// Puts a copy in the place of the database.
///
/// # Errors
/// `Busy` while a server uses the database, `Corrupt` if the copy is damaged.
pub(crate) fn restore(config: &Config, from: &Path) -> Result<String> {
    only_embedded(config)?;
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
