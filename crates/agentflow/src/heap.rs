//! Memory that was freed goes back to the system.
//!
//! glibc keeps what a program frees for its next allocations: after ten thousand streams were
//! closed, a server that held 100 MB kept 1.2 GB. So the process looks at its size, and at what
//! the allocator has in store, now and then, and has the free pages handed back when either has
//! grown. Neither look is enough alone: memory that is freed does not make the process larger, and
//! what was handed back and is used again does not make the store larger.

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
    let mut last = Heap::default();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let looked = tokio::task::spawn_blocking(move || look(last));
        match looked.await {
            Ok(Some(now)) => last = now,
            Ok(None) | Err(_) => return,
        }
    }
}

/// What the process was like when it was last at its smallest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Heap {
    /// Bytes in RAM.
    resident: u64,
    /// Bytes that the allocator has in store.
    free: u64,
}

/// Trims if it is worth it; `None` where the system does not tell.
fn look(last: Heap) -> Option<Heap> {
    let now = Heap {
        resident: resident_bytes()?,
        free: free_bytes(),
    };
    let resident = has_grown(now.resident, last.resident);
    let free = has_grown(now.free, last.free);
    if !resident && !free {
        return Some(Heap {
            resident: last.resident.min(now.resident),
            free: last.free.min(now.free),
        });
    }
    trim();
    let after = Heap {
        resident: resident_bytes()?,
        free: free_bytes(),
    };
    tracing::debug!(?now, ?after, "free memory was handed back");
    Some(after)
}

/// Whether a measure that was `settled` after the last trim is worth another one.
fn has_grown(bytes: u64, settled: u64) -> bool {
    bytes > settled + SLACK_BYTES.max(settled / SLACK_PART)
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

/// What the allocator has in store, in all its arenas; some of it may have been handed back.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "glibc's function has no safe wrapper")]
fn free_bytes() -> u64 {
    // SAFETY: takes nothing, locks the heap by itself, may be called from any thread.
    unsafe { libc::mallinfo2() }.fordblks as u64
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn free_bytes() -> u64 {
    0
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

    /// What glibc keeps of freed memory goes back at the next look, although the process has not
    /// grown since the last one.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[test]
    fn freed_memory_goes_back() {
        // Small pieces, each followed by one that stays: the heap cannot shrink at its end.
        const PIECES: usize = 40_000;
        let (mut freed, mut kept) = (Vec::new(), Vec::new());
        for _ in 0..PIECES {
            freed.push(vec![1_u8; 8_000].into_boxed_slice());
            kept.push(vec![1_u8; 16].into_boxed_slice());
        }
        let full = look(Heap::default()).unwrap();
        drop(freed);
        assert!(resident_bytes().unwrap() + (100 << 20) > full.resident);
        let after = look(full).unwrap();
        assert_eq!(kept.len(), PIECES);
        assert!(
            after.resident + (100 << 20) < full.resident,
            "{full:?}, then {after:?}"
        );
    }
}
