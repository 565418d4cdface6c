//! Delays that grow with failures.

use crate::{Env, rng::Rng};
use std::{collections::BTreeMap, time::Duration};

/// Doubling delays with a ceiling.
fn doubled(base: Duration, max: Duration, failures: u32) -> Duration {
    let factor = 1u32.checked_shl(failures).unwrap_or(u32::MAX);
    base.checked_mul(factor).map_or(max, |d| d.min(max))
}

/// A delay for each key, doubling with its failures.
#[derive(Debug)]
pub struct ItemBackoff<T> {
    base: Duration,
    max: Duration,
    failures: BTreeMap<T, u32>,
}

impl<T: Clone + Ord> ItemBackoff<T> {
    /// Starts at `base` and doubles up to `max`.
    #[must_use]
    pub fn new(base: Duration, max: Duration) -> Self {
        Self {
            base,
            max,
            failures: BTreeMap::new(),
        }
    }
    /// The delay after one more failure of `key`.
    pub fn next(&mut self, key: &T) -> Duration {
        let count = self.failures.entry(key.clone()).or_insert(0);
        let delay = doubled(self.base, self.max, *count);
        *count = count.saturating_add(1);
        delay
    }
    /// Forgets the failures of `key`.
    pub fn forget(&mut self, key: &T) {
        self.failures.remove(key);
    }
    /// How often `key` failed.
    pub fn failures(&self, key: &T) -> u32 {
        self.failures.get(key).copied().unwrap_or(0)
    }
}

/// One delay that doubles with each failure, spread by up to its own length, for loops that talk to a server.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// Starts at `base` and doubles up to `max`.
    #[must_use]
    pub fn new(base: Duration, max: Duration) -> Self {
        Self {
            base,
            max,
            failures: 0,
        }
    }
    /// The delay after one more failure: between the doubled delay and twice that.
    pub fn next(&mut self, rng: &dyn Rng) -> Duration {
        let delay = doubled(self.base, self.max, self.failures);
        self.failures = self.failures.saturating_add(1);
        delay.mul_f64(1.0 + rng.unit())
    }
    /// Sleeps for [`Backoff::next`].
    pub async fn wait(&mut self, env: &Env) {
        let delay = self.next(&*env.rng);
        env.clock.sleep(delay).await;
    }
    /// Back to the start: something succeeded.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}
