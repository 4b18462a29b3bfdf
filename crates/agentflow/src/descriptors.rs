//! Room for connections: each takes a file descriptor, and systems start programs with few.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Descriptors for everything that is not a client: database, log, models, listener.
const RESERVE: u64 = 256;

/// Lets this process open as many files as the system allows it, and says how many of the `wanted`
/// connections there is room for. Fewer are warned about.
#[must_use]
pub fn room_for(wanted: usize) -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(err) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(error = %err, "the limit of open files cannot be raised");
    }
    let allowed = getrlimit(Resource::Nofile).current;
    let room = allowed.map_or(wanted, |allowed| fitting(wanted, allowed));
    if room < wanted {
        tracing::warn!(
            wanted,
            room,
            "the system allows fewer open files than server.max_connections needs"
        );
    }
    room
}

/// How many of the `wanted` connections fit into `allowed` descriptors; at least one.
fn fitting(wanted: usize, allowed: u64) -> usize {
    let room = usize::try_from(allowed.saturating_sub(RESERVE)).unwrap_or(usize::MAX);
    wanted.min(room.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_the_rest() {
        assert_eq!(fitting(12_000, 1 << 20), 12_000);
        assert_eq!(fitting(12_000, 1024), 768);
        assert_eq!(fitting(12_000, 100), 1);
    }

    #[test]
    fn the_limit_is_raised_to_what_the_system_allows() {
        let _ = room_for(1);
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
