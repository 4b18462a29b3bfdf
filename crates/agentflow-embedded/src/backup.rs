//! Copies of the database: made while it is in use, put back while it is not.

use std::{fs, path::Path};

use agentflow_types::{Error, Result};
use rusqlite::{Connection, OpenFlags};

use crate::{error, lock, schema};

/// What a copy holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Size of the copy.
    pub bytes: u64,
    /// Version of its own tables; see [`schema_version`].
    pub schema: usize,
}

/// Versions of the tables that are AgentFlow's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchemaVersion {
    /// Of the file; 0 if it has none of these tables yet.
    pub found: usize,
    /// The one that this program writes. Opening an older file brings it up to date.
    pub newest: usize,
}

/// Writes a consistent copy of the database at `from` to the new file `to`. Blocks.
///
/// The database may be in use by a server, also by one of another process: the copy holds what was
/// committed when it began.
///
/// # Errors
/// `NotFound` without a database, `Conflict` if `to` exists, `Corrupt` if the copy is not whole.
pub fn backup(from: &Path, to: &Path) -> Result<Copied> {
    if to.exists() {
        return Err(Error::conflict("the backup file exists already").with("path", to.display()));
    }
    let db = open_existing(from)?;
    let target = to.to_str().ok_or_else(|| {
        Error::invalid("the name of the backup file is not text").with("path", to.display())
    })?;
    // Under another name until it is whole, so that a backup that was cut short is not taken for
    // one.
    let partial = format!("{target}.part");
    match fs::remove_file(&partial) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
            return Err(error::file(&err, "an unfinished backup cannot be removed"));
        }
        _ => {}
    }
    db.execute("VACUUM INTO ?1", [&partial])
        .map_err(error::from)?;
    let copied = check(Path::new(&partial))?;
    let file = fs::File::open(&partial).map_err(|err| error::file(&err, "the backup is gone"))?;
    file.sync_all()
        .map_err(|err| error::file(&err, "the backup was not written to the disk"))?;
    fs::rename(&partial, to).map_err(|err| error::file(&err, "the backup cannot be named"))?;
    Ok(copied)
}

/// Puts the copy at `from` in the place of the database at `to`. Blocks.
///
/// The copy is checked before anything changes. A database that is there is kept beside it, its
/// name followed by `.before-restore`.
///
/// # Errors
/// `Busy` if the database is in use, `Conflict` if an earlier `.before-restore` is there,
/// `Corrupt` if the copy is damaged or of a newer version.
pub fn restore(from: &Path, to: &Path) -> Result<Copied> {
    let copied = check(from)?;
    let _lock = lock(to)?;
    let mut name = to.as_os_str().to_owned();
    name.push(".before-restore");
    let aside = Path::new(&name);
    if to.exists() {
        if aside.exists() {
            return Err(Error::conflict(
                "the database of an earlier restore is still there; remove it",
            )
            .with("path", aside.display()));
        }
        // What is in its log goes into the file, so that one file holds everything.
        let db = Connection::open(to).map_err(error::from)?;
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .map_err(error::from)?;
        drop(db);
    }
    let mut arriving = to.as_os_str().to_owned();
    arriving.push(".restoring");
    fs::copy(from, &arriving).map_err(|err| error::file(&err, "the backup cannot be copied"))?;
    fs::File::open(&arriving)
        .and_then(|file| file.sync_all())
        .map_err(|err| error::file(&err, "the copy was not written to the disk"))?;
    if to.exists() {
        fs::rename(to, aside)
            .map_err(|err| error::file(&err, "the database cannot be moved aside"))?;
    }
    for suffix in ["-wal", "-shm"] {
        let mut name = to.as_os_str().to_owned();
        name.push(suffix);
        // It was folded into the file; if it is gone already, so much the better.
        let _ = fs::remove_file(name);
    }
    fs::rename(&arriving, to).map_err(|err| error::file(&err, "the copy cannot be named"))?;
    Ok(copied)
}

/// The version of the database at `path`, without changing it. Blocks.
///
/// # Errors
/// `NotFound` without a database, `Corrupt` if it is not one.
pub fn schema_version(path: &Path) -> Result<SchemaVersion> {
    let db = open_existing(path)?;
    Ok(SchemaVersion {
        found: schema::version(&db)?,
        newest: schema::NEWEST,
    })
}

fn open_existing(path: &Path) -> Result<Connection> {
    if !path.exists() {
        return Err(Error::not_found("there is no database").with("path", path.display()));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let db = Connection::open_with_flags(path, flags)?;
        db.busy_timeout(crate::Options::default().busy_timeout)?;
        Ok(db)
    };
    open().map_err(|err| error::from(err).with("path", path.display()))
}

/// Whether a file is a whole database of a version that this program knows.
fn check(path: &Path) -> Result<Copied> {
    let db = open_existing(path)?;
    let verdict: String = db
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(|err| error::from(err).with("path", path.display()))?;
    if verdict != "ok" {
        return Err(Error::corrupt("the copy is damaged")
            .with("path", path.display())
            .with("verdict", verdict));
    }
    let schema = schema::version(&db)?;
    schema::known(schema)?;
    let bytes = fs::metadata(path)
        .map_err(|err| error::file(&err, "the copy cannot be read"))?
        .len();
    Ok(Copied { bytes, schema })
}
