//! Counting probe results; pure.

/// Counts equal results in a row until they count as the container's state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tracker {
    last: Option<bool>,
    run: u32,
}

impl Tracker {
    /// Takes a result in. Some: the state is now this; none: too few in a row, the state stays as it is.
    pub fn observe(&mut self, success: bool, success_threshold: u32, failure_threshold: u32) -> Option<bool> {
        self.run = if self.last == Some(success) {
            self.run.saturating_add(1)
        } else {
            1
        };
        self.last = Some(success);
        let needed = if success {
            success_threshold
        } else {
            failure_threshold
        };
        (self.run >= needed.max(1)).then_some(success)
    }

    /// Starts anew.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn thresholds() {
        let mut t = Tracker::default();
        let mut see = |s| t.observe(s, 2, 3);
        let results = [false, false, false, false, true, true, false].map(&mut see);
        assert_eq!(
            results,
            [None, None, Some(false), Some(false), None, Some(true), None]
        );
    }

    proptest! {
        /// A state is reported exactly when the last `threshold` results agree.
        #[test]
        fn reports_iff_the_tail_agrees(seen: Vec<bool>, up in 1u32..5, down in 1u32..5) {
            let mut t = Tracker::default();
            let mut last = None;
            for s in &seen { last = t.observe(*s, up, down); }
            if let Some(end) = seen.last() {
                let needed = if *end { up } else { down } as usize;
                let tail = seen.iter().rev().take_while(|s| *s == end).count();
                prop_assert_eq!(last, (tail >= needed).then_some(*end));
            }
        }
    }
}
