//! Waiting for something to become true, instead of sleeping and hoping.

use std::time::Duration;

use agentflow_types::{Error, Result};
use tokio::time::Instant;

/// Time between two looks.
pub const INTERVAL: Duration = Duration::from_millis(5);

/// Waits until `condition` holds; looks at once and then every [`INTERVAL`].
///
/// # Errors
/// `Uncertain` if it does not hold within `deadline`.
pub async fn until(deadline: Duration, condition: impl AsyncFn() -> bool) -> Result<()> {
    let end = Instant::now() + deadline;
    loop {
        if condition().await {
            return Ok(());
        }
        if Instant::now() >= end {
            return Err(Error::uncertain("the condition did not come true")
                .with("waited_ms", deadline.as_millis()));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_waits_no_longer_than_needed() {
        let looks = Cell::new(0);
        let third = async || {
            looks.set(looks.get() + 1);
            looks.get() == 3
        };
        until(Duration::from_secs(1), third).await.unwrap();
        assert_eq!(looks.get(), 3);
        assert!(until(Duration::from_secs(1), async || false).await.is_err());
    }
}
