//! One server for many test processes: a lock, a file that tells about it, a lease.

use std::{
    collections::HashMap,
    fs::{self, File},
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use agentflow_types::{Error, Result};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value as Json;

use super::{daemon, find};

/// Time without users after which a shared server ends. A developer who runs tests again and
/// again finds it running; a machine that is done is soon clean.
const IDLE: Duration = Duration::from_secs(30);

/// Changes with the layout of servers, so that checkouts of different age do not share one.
const FORMAT: u32 = 1;

/// Leases and states of this process. A lease lasts as long as the process: tests come and go.
static HELD: Mutex<Option<HashMap<String, (Json, File)>>> = Mutex::new(None);

/// The state of the server `name`, which is started if it does not run.
///
/// `start` gets a fresh folder for the server. `is_alive` says whether a server that was started
/// before still answers.
///
/// # Errors
/// Those of `start`, and `Failed` if files cannot be used.
pub(crate) fn get<S: Serialize + DeserializeOwned>(
    name: &str,
    start: impl FnOnce(&Path) -> Result<S>,
    is_alive: impl Fn(&S) -> bool,
) -> Result<S> {
    // Held while the server starts: other threads of this process need the same server.
    let mut guard = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    let held = guard.get_or_insert_with(HashMap::new);
    if let Some((state, _)) = held.get(name) {
        return decode(state.clone());
    }
    let (state, lease) = acquire(name, start, is_alive)?;
    held.insert(name.to_owned(), (encode(&state)?, lease));
    Ok(state)
}

fn acquire<S: Serialize + DeserializeOwned>(
    name: &str,
    start: impl FnOnce(&Path) -> Result<S>,
    is_alive: impl Fn(&S) -> bool,
) -> Result<(S, File)> {
    let run = daemon::run_dir()?;
    let name = format!("{name}-v{FORMAT}");
    // One process at a time looks and starts.
    let starting = open(&run.join(format!("{name}.starting")))?;
    starting.lock().map_err(find::io)?;
    let lock = run.join(format!("{name}.users"));
    let file = run.join(format!("{name}.json"));
    let lease = open(&lock)?;
    // While a watcher stops the server it holds this lock; afterwards the file is gone.
    lease.lock_shared().map_err(find::io)?;
    let note = fs::read(&file)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<S>(&bytes).ok());
    if let Some(state) = note {
        if is_alive(&state) {
            return Ok((state, lease));
        }
        // It died, and with it what its users had; its watcher must not remove the new file.
        fs::remove_file(&file).map_err(find::io)?;
    }
    let dir = daemon::fresh_dir(&name)?;
    // Before the start: if this process is killed meanwhile, the watcher cleans up.
    daemon::watch(&lock, IDLE, &dir, Some(&file))?;
    let state = start(&dir)?;
    fs::write(&file, encode(&state)?.to_string()).map_err(find::io)?;
    Ok((state, lease))
}

fn open(path: &Path) -> Result<File> {
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .map_err(find::io)
}

fn encode(state: &impl Serialize) -> Result<Json> {
    serde_json::to_value(state)
        .map_err(|error| Error::bug("the state of a server is not JSON").source_err(error))
}

fn decode<S: DeserializeOwned>(state: Json) -> Result<S> {
    serde_json::from_value(state)
        .map_err(|error| Error::bug("the note of a server is of another kind").source_err(error))
}
