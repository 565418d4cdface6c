//! Time as a seam: wall time for metadata, monotonic time for deadlines.

mod system;

pub use system::{SimClock, SystemClock};

use futures::future::BoxFuture;
use jiff::Timestamp;
use std::time::Duration;

/// A point on a clock that never goes back, as the time since an arbitrary origin of that clock.
///
/// Values of different clocks must not be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Monotonic(pub Duration);

impl Monotonic {
    /// The time from `earlier` to `self`, zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl std::ops::Add<Duration> for Monotonic {
    type Output = Self;
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by))
    }
}

/// Source of time. Library code takes one; it never reads the machine's clock itself.
pub trait Clock: Send + Sync + 'static {
    /// Wall time, for what is written into objects. It may jump.
    fn now(&self) -> Timestamp;
    /// Monotonic time, for every deadline and measured duration.
    fn monotonic(&self) -> Monotonic;
    /// Completes when [`Clock::monotonic`] has reached `at`; at once if it already has. Dropping it is free.
    fn sleep_until(&self, at: Monotonic) -> BoxFuture<'static, ()>;
    /// Completes after `for_` has passed.
    fn sleep(&self, for_: Duration) -> BoxFuture<'static, ()> {
        self.sleep_until(self.monotonic() + for_)
    }
}
