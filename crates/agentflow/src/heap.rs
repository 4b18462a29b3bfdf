//! Memory that was freed goes back to the system.
//!
//! glibc keeps what a program frees for its next allocations: after ten thousand streams were
//! closed, a server that held 100 MB kept 1.2 GB. So the process looks at its size now and then,
//! and has the free pages handed back when it has grown.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// How often the process looks at its size.
const LOOK: Duration = Duration::from_secs(5);
/// Growth that is borne, in bytes: pages that are handed back are faulted in again by the next
/// load, and a trim locks the heap for about a millisecond per 50 MB.
const SLACK_BYTES: u64 = 4 << 20;
/// Growth that is borne, as a part of the size after the last trim: one in so many.
const SLACK_PART: u64 = 8;

/// Hands freed memory back until stopped.
pub async fn keep_small(stop: CancellationToken) {
    let mut settled = 0;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let Some(resident) = resident_bytes() else {
            return;
        };
        if !has_grown(resident, settled) {
            continue;
        }
        if tokio::task::spawn_blocking(trim).await.is_err() {
            return;
        }
        settled = resident_bytes().unwrap_or(resident);
        tracing::debug!(resident, settled, "free memory was handed back");
    }
}

/// Whether a process that had `settled` bytes after the last trim is worth another one.
fn has_grown(resident: u64, settled: u64) -> bool {
    resident > settled + SLACK_BYTES.max(settled / SLACK_PART)
}

/// Memory of this process that is in RAM; `None` where the system does not tell.
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "glibc's function has no safe wrapper")]
fn trim() {
    // SAFETY: takes no pointer, locks the heap by itself, may be called from any thread.
    unsafe { libc::malloc_trim(0) };
}

/// Other C libraries hand free pages back by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_counts_from_the_size_after_the_last_trim() {
        const MB: u64 = 1 << 20;
        assert!(has_grown(30 * MB, 0), "the first look trims");
        assert!(!has_grown(33 * MB, 30 * MB), "a little more is borne");
        assert!(has_grown(35 * MB, 30 * MB));
        assert!(!has_grown(880 * MB, 800 * MB), "and of much, more");
        assert!(has_grown(901 * MB, 800 * MB));
    }

    /// What glibc keeps of freed memory, a trim hands back.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[test]
    fn a_trim_hands_freed_memory_back() {
        // Small pieces, each followed by one that stays: the heap cannot shrink at its end.
        const PIECES: usize = 40_000;
        let (mut freed, mut kept) = (Vec::new(), Vec::new());
        for _ in 0..PIECES {
            freed.push(vec![1_u8; 8_000].into_boxed_slice());
            kept.push(vec![1_u8; 16].into_boxed_slice());
        }
        drop(freed);
        let before = resident_bytes().unwrap();
        trim();
        let after = resident_bytes().unwrap();
        assert_eq!(kept.len(), PIECES);
        assert!(after + (100 << 20) < before, "{before}, then {after}");
    }
}
