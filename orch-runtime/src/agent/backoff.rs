//! Exponential back-off that forgets after a quiet time; pure.

use jiff::Timestamp;
use std::time::Duration;

/// When something may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The delay now in force.
    pub delay: Duration,
    /// When it was set.
    pub set_at: Timestamp,
}

/// First delay, and the delay that doubling stops at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffLimits {
    /// First delay.
    pub initial: Duration,
    /// Longest delay. Twice this time without a failure forgets the past.
    pub max: Duration,
}

impl Default for BackoffLimits {
    /// 10 seconds to 5 minutes, forgotten after 10 minutes.
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(10),
            max: Duration::from_secs(300),
        }
    }
}

/// The time from `earlier` to `later`, zero if it is not later.
#[must_use]
pub fn elapsed(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or(Duration::ZERO)
}

/// `at` plus `by`, at most the end of time.
#[must_use]
pub fn plus(at: Timestamp, by: Duration) -> Timestamp {
    jiff::SignedDuration::try_from(by)
        .ok()
        .and_then(|by| at.checked_add(by).ok())
        .unwrap_or(Timestamp::MAX)
}

impl Backoff {
    fn is_forgotten(&self, event: Timestamp, limits: BackoffLimits) -> bool {
        elapsed(self.set_at, event) > limits.max * 2
    }

    /// Until when to wait after a failure at `event`; `None` if it may be tried at once.
    #[must_use]
    pub fn until(
        entry: Option<&Self>,
        event: Timestamp,
        now: Timestamp,
        limits: BackoffLimits,
    ) -> Option<Timestamp> {
        let entry = entry.filter(|e| !e.is_forgotten(event, limits))?;
        let until = plus(event, entry.delay);
        (now < until).then_some(until)
    }

    /// The entry after another try at `now`, made because of a failure at `event`.
    #[must_use]
    pub fn next(entry: Option<&Self>, event: Timestamp, now: Timestamp, limits: BackoffLimits) -> Self {
        let delay = match entry.filter(|e| !e.is_forgotten(event, limits)) {
            None => limits.initial,
            Some(entry) => (entry.delay * 2).min(limits.max),
        };
        Self { delay, set_at: now }
    }
}

/// A duration as Go prints it in messages: `10s`, `2m40s`, `5m0s`.
#[must_use]
pub fn go_duration(d: Duration) -> String {
    let (total, nanos) = (d.as_secs(), d.subsec_nanos());
    if total == 0 && nanos > 0 {
        let micros = f64::from(nanos) / 1000.0;
        return if nanos >= 1_000_000 {
            format!("{}ms", micros / 1000.0)
        } else {
            format!("{micros}µs")
        };
    }
    let (h, m, s) = (total / 3600, total / 60 % 60, total % 60);
    let seconds = if nanos == 0 {
        format!("{s}s")
    } else {
        let fraction = format!("{nanos:09}");
        format!("{s}.{}s", fraction.trim_end_matches('0'))
    };
    match (h, m) {
        (0, 0) => seconds,
        (0, m) => format!("{m}m{seconds}"),
        (h, m) => format!("{h}h{m}m{seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_the_limit_and_forgets() {
        let limits = BackoffLimits::default();
        let mut now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let (mut entry, mut delays) = (None, Vec::new());
        for _ in 0..7 {
            if let Some(until) = Backoff::until(entry.as_ref(), now, now, limits) {
                delays.push(elapsed(now, until).as_secs());
                now = until;
            }
            entry = Some(Backoff::next(entry.as_ref(), now, now, limits));
        }
        assert_eq!(delays, [10, 20, 40, 80, 160, 300]);
        let later = plus(now, Duration::from_secs(601));
        assert_eq!(Backoff::until(entry.as_ref(), later, later, limits), None);
        assert_eq!(
            Backoff::next(entry.as_ref(), later, later, limits).delay,
            limits.initial
        );
    }

    #[test]
    fn durations_print_like_go() {
        for (ms, text) in [
            (10_000, "10s"),
            (160_000, "2m40s"),
            (300_000, "5m0s"),
            (1_500, "1.5s"),
            (3_600_000, "1h0m0s"),
            (250, "250ms"),
            (0, "0s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(ms)), text);
        }
    }
}
