//! The set of nodes that are still possible, and why the others are not.

use std::collections::BTreeMap;

/// Why a node was turned down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The plugin that said no.
    pub plugin: &'static str,
    /// Upstream's reasons, such as `Insufficient cpu`.
    pub reasons: Vec<String>,
    /// Whether removing pods from the node could not help (`UnschedulableAndUnresolvable`).
    pub unresolvable: bool,
}

/// A bit per node of a snapshot, and the rejections of the nodes whose bit was cleared.
#[derive(Debug, Clone)]
pub struct Feasible {
    bits: Vec<u64>,
    len: usize,
    rejections: BTreeMap<usize, Rejection>,
}

impl Feasible {
    /// All of `len` nodes.
    #[must_use]
    pub fn all(len: usize) -> Self {
        let mut bits = vec![u64::MAX; len.div_ceil(64)];
        if !len.is_multiple_of(64)
            && let Some(last) = bits.last_mut()
        {
            *last = (1 << (len % 64)) - 1;
        }
        Self {
            bits,
            len,
            rejections: BTreeMap::new(),
        }
    }

    /// Whether node number `node` is still possible.
    #[must_use]
    pub fn contains(&self, node: usize) -> bool {
        self.bits
            .get(node / 64)
            .is_some_and(|word| word & (1 << (node % 64)) != 0)
    }

    /// The numbers of the nodes that are still possible, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.bits.iter().enumerate().flat_map(|(at, word)| {
            let mut word = *word;
            std::iter::from_fn(move || {
                let bit = word.trailing_zeros() as usize;
                word &= word.wrapping_sub(1);
                (bit < 64).then_some(at * 64 + bit)
            })
        })
    }

    /// How many nodes are still possible.
    #[must_use]
    pub fn count(&self) -> usize {
        self.bits.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// How many nodes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no nodes at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Turns a node down. The first rejection of a node is the one that is kept.
    pub fn reject(&mut self, node: usize, rejection: Rejection) {
        if self.contains(node) {
            self.bits[node / 64] &= !(1 << (node % 64));
            self.rejections.insert(node, rejection);
        }
    }

    /// Why nodes were turned down, by node number.
    #[must_use]
    pub fn rejections(&self) -> &BTreeMap<usize, Rejection> {
        &self.rejections
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_like_a_set(len in 0usize..200, out in prop::collection::vec(0usize..200, 0..50)) {
            let mut feasible = Feasible::all(len);
            let mut model: std::collections::BTreeSet<usize> = (0..len).collect();
            for node in out {
                feasible.reject(node, Rejection { plugin: "P", reasons: vec![], unresolvable: false });
                model.remove(&node);
            }
            prop_assert_eq!(feasible.iter().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(feasible.count(), model.len());
            prop_assert_eq!(feasible.rejections().len(), len - model.len());
        }
    }
}
