//! An ordered map of byte keys that can be copied in a moment: sorted runs of entries, shared until written.
//!
//! Copying the map copies one pointer a run ([`RUN_MAX`] entries at most); after that, each side copies a run when it
//! first writes into it. Forks, long reads and checkpoints work on such copies and never hold a lock for long.

use crate::store::KeyRange;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// Most entries in a run. Small enough that copying one is a microsecond, large enough that the index stays small.
const RUN_MAX: usize = 128;
/// A run with fewer entries than this is joined with the next one.
const RUN_MIN: usize = 16;

/// Entries in key order.
pub(crate) type Run<V> = Vec<(Bytes, V)>;

/// The map. Each run lies at the lower end of the keys it may hold; the first lies at the empty key.
#[derive(Debug, Clone)]
pub(crate) struct CowMap<V> {
    runs: BTreeMap<Bytes, Arc<Run<V>>>,
}

impl<V: Clone + Default> CowMap<V> {
    pub(crate) fn new() -> Self {
        Self {
            runs: BTreeMap::from([(Bytes::new(), Arc::default())]),
        }
    }

    fn run_of(&self, key: &[u8]) -> Option<(&Bytes, &Arc<Run<V>>)> {
        self.runs
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(key)))
            .next_back()
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&V> {
        let (_, run) = self.run_of(key)?;
        let at = run.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
        run.get(at).map(|(_, v)| v)
    }

    /// Changes the entry of `key`: `change` takes what is there and gives what shall be there.
    pub(crate) fn update(&mut self, key: &Bytes, change: impl FnOnce(Option<V>) -> Option<V>) {
        let bounds = (Bound::Unbounded, Bound::Included(&**key));
        let Some((low, shared)) = self.runs.range_mut::<[u8], _>(bounds).next_back() else {
            return; // The run at the empty key covers every key, so there always is one.
        };
        let run = Arc::make_mut(shared);
        match run.binary_search_by(|(k, _)| (**k).cmp(key)) {
            Ok(at) => {
                let Some((_, slot)) = run.get_mut(at) else { return };
                match change(Some(std::mem::take(slot))) {
                    Some(value) => *slot = value,
                    None => {
                        run.remove(at);
                        if run.len() < RUN_MIN {
                            let low = low.clone();
                            self.join(&low);
                        }
                    }
                }
            }
            Err(at) => {
                let Some(value) = change(None) else { return };
                if run.len() < RUN_MAX {
                    run.insert(at, (key.clone(), value));
                    return;
                }
                // Keys that come in order (the usual load) leave full runs behind; others split theirs in half.
                let cut = if at == run.len() { at } else { run.len() / 2 };
                let mut upper = run.split_off(cut);
                run.shrink_to_fit();
                if at >= cut {
                    upper.insert(at - cut, (key.clone(), value));
                } else {
                    run.insert(at, (key.clone(), value));
                }
                let upper_low = upper.first().map(|(k, _)| k.clone()).unwrap_or_default();
                self.runs.insert(upper_low, Arc::new(upper));
            }
        }
    }

    /// Joins the small run at `low` with its successor if both fit in half a run, so that neither many deletions nor
    /// alternating ones leave near-empty runs.
    fn join(&mut self, low: &Bytes) {
        let after = (Bound::Excluded(&**low), Bound::Unbounded);
        let next = self
            .runs
            .range::<[u8], _>(after)
            .next()
            .map(|(k, run)| (k.clone(), Arc::clone(run)));
        let own = self.runs.get(low).map_or(0, |run| run.len());
        if let Some((next_low, next)) = next
            && own + next.len() <= RUN_MAX / 2
        {
            self.runs.remove(&next_low);
            if let Some(run) = self.runs.get_mut(low) {
                Arc::make_mut(run).extend(next.iter().cloned());
            }
        } else if own == 0 && !low.is_empty() {
            self.runs.remove(low);
        } else if let Some(run) = self.runs.get_mut(low) {
            Arc::make_mut(run).shrink_to_fit();
        }
    }

    /// Adds an entry behind all others: how a map is filled from sorted input.
    pub(crate) fn push(&mut self, key: Bytes, value: V) {
        let Some((_, last)) = self.runs.iter_mut().next_back() else {
            return;
        };
        if last.len() < RUN_MAX {
            Arc::make_mut(last).push((key, value));
        } else {
            let mut run = Vec::with_capacity(RUN_MAX);
            run.push((key.clone(), value));
            self.runs.insert(key, Arc::new(run));
        }
    }

    /// The runs that `range` touches, to be read without the lock that guards the map.
    pub(crate) fn slice(&self, range: &KeyRange) -> Slice<V> {
        let mut runs = Vec::new();
        if !range.is_empty() {
            let first = self.run_of(&range.start).map_or(&[][..], |(low, _)| &**low);
            let end = range
                .end
                .as_ref()
                .map_or(Bound::Unbounded, |end| Bound::Excluded(&**end));
            let bounds = (Bound::Included(first), end);
            runs.extend(self.runs.range::<[u8], _>(bounds).map(|(_, run)| Arc::clone(run)));
        }
        Slice {
            runs,
            range: range.clone(),
        }
    }
}

/// The part of a map inside a range, frozen.
#[derive(Debug)]
pub(crate) struct Slice<V> {
    runs: Vec<Arc<Run<V>>>,
    range: KeyRange,
}

impl<V> Slice<V> {
    /// The entries in key order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &(Bytes, V)> {
        let last = self.runs.len().saturating_sub(1);
        self.runs.iter().enumerate().flat_map(move |(i, run)| {
            let from = if i == 0 {
                run.partition_point(|(k, _)| *k < self.range.start)
            } else {
                0
            };
            let to = match &self.range.end {
                Some(end) if i == last => run.partition_point(|(k, _)| k < end),
                _ => run.len(),
            };
            run.get(from..to).unwrap_or_default().iter()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn behaves_like_a_btree_map(steps in prop::collection::vec((0u16..400, any::<bool>()), 1..900), from in 0u16..400, to in 0u16..400) {
            let key = |n: u16| Bytes::from(format!("{n:03}"));
            let (mut ours, mut model) = (CowMap::new(), BTreeMap::new());
            let mut frozen = None;
            for (i, (n, put)) in steps.iter().enumerate() {
                if i == steps.len() / 2 {
                    frozen = Some((ours.clone(), model.clone()));
                }
                if *put {
                    ours.update(&key(*n), |_| Some(i));
                    model.insert(key(*n), i);
                } else {
                    ours.update(&key(*n), |_| None);
                    model.remove(&key(*n));
                }
            }
            let range = KeyRange::between(key(from), key(to));
            for (ours, model) in [(ours, model)].into_iter().chain(frozen) {
                let all: Vec<_> = ours.slice(&KeyRange::all()).iter().cloned().collect();
                prop_assert_eq!(&all, &model.clone().into_iter().collect::<Vec<_>>());
                let part: Vec<_> = ours.slice(&range).iter().cloned().collect();
                prop_assert_eq!(part, model.iter().filter(|(k, _)| range.contains(k)).map(|(k, v)| (k.clone(), *v)).collect::<Vec<_>>());
                for n in 0..400 {
                    prop_assert_eq!(ours.get(&key(n)), model.get(&key(n)));
                }
            }
        }
    }

    #[test]
    fn sorted_input_fills_runs() {
        let mut map = CowMap::new();
        for n in 0..1000u32 {
            map.push(Bytes::from(format!("{n:05}")), n);
        }
        assert_eq!(map.runs.len(), 1000usize.div_ceil(RUN_MAX));
        assert_eq!(map.get(b"00777"), Some(&777));
        assert_eq!(map.slice(&KeyRange::prefix("0099")).iter().count(), 10);
    }
}
