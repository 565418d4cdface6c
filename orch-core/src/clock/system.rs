//! The two clocks: the machine's, and tokio's (virtual when the runtime is started paused).
#![expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the clock"
)]

use super::{Clock, Monotonic};
use futures::future::BoxFuture;
use jiff::Timestamp;
use std::time::Duration;

/// The machine's clock. Timers run on the current tokio runtime.
#[derive(Debug)]
pub struct SystemClock {
    origin: tokio::time::Instant,
}

impl SystemClock {
    /// A clock whose monotonic origin is now.
    #[must_use]
    pub fn new() -> Self {
        Self {
            origin: tokio::time::Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
    fn monotonic(&self) -> Monotonic {
        Monotonic(self.origin.elapsed())
    }
    fn sleep_until(&self, at: Monotonic) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep_until(self.origin + at.0))
    }
}

/// Virtual time: wall and monotonic time both follow tokio's clock from a fixed epoch.
///
/// On a runtime started paused (`start_paused`) time advances by itself to the next timer whenever every task is
/// idle, so an hour of simulated time passes in the time its events take to process.
#[derive(Debug)]
pub struct SimClock {
    epoch: Timestamp,
    origin: tokio::time::Instant,
}

impl SimClock {
    /// A clock that shows `epoch` now. Call it inside the runtime whose time it follows.
    #[must_use]
    pub fn starting_at(epoch: Timestamp) -> Self {
        Self {
            epoch,
            origin: tokio::time::Instant::now(),
        }
    }

    /// Moves virtual time by `by`, running what becomes due. Only on a paused runtime.
    pub async fn advance(&self, by: Duration) {
        tokio::time::sleep(by).await;
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let elapsed =
            jiff::SignedDuration::try_from(self.origin.elapsed()).unwrap_or(jiff::SignedDuration::MAX);
        self.epoch.checked_add(elapsed).unwrap_or(Timestamp::MAX)
    }
    fn monotonic(&self) -> Monotonic {
        Monotonic(self.origin.elapsed())
    }
    fn sleep_until(&self, at: Monotonic) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep_until(self.origin + at.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn virtual_time_passes_by_itself() {
        let epoch: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let clock = SimClock::starting_at(epoch);
        clock.sleep(Duration::from_secs(3600)).await;
        assert_eq!(clock.now().to_string(), "2026-01-01T01:00:00Z");
        assert_eq!(clock.monotonic(), Monotonic(Duration::from_secs(3600)));
    }
}
