//! Which node has which part of the cluster's range; pure.

use crate::config::PodCidr;
use std::{collections::BTreeMap, net::IpAddr};

/// The parts of a range, by number.
pub(super) struct Ranges {
    network: u128,
    bits: u8,
    prefix: u8,
    node_prefix: u8,
    taken: BTreeMap<u128, String>,
    by_node: BTreeMap<String, u128>,
}

fn number(ip: IpAddr) -> (u128, u8) {
    match ip {
        IpAddr::V4(ip) => (u128::from(u32::from(ip)), 32),
        IpAddr::V6(ip) => (u128::from(ip), 128),
    }
}

/// `value` with all but the first `prefix` of `bits` bits cleared.
fn masked(value: u128, bits: u8, prefix: u8) -> u128 {
    let host = bits.saturating_sub(prefix);
    if host >= 128 { 0 } else { (value >> host) << host }
}

impl Ranges {
    pub(super) fn new(range: PodCidr) -> Self {
        let (address, bits) = number(range.network);
        let prefix = range.prefix.min(bits);
        let node_prefix = range.node_prefix.clamp(prefix, bits);
        let network = masked(address, bits, prefix);
        Self {
            network,
            bits,
            prefix,
            node_prefix,
            taken: BTreeMap::new(),
            by_node: BTreeMap::new(),
        }
    }

    fn count(&self) -> u128 {
        1u128
            .checked_shl(u32::from(self.node_prefix - self.prefix))
            .unwrap_or(u128::MAX)
    }

    fn text(&self, part: u128) -> String {
        let shift = u32::from(self.bits - self.node_prefix);
        let address = self.network | part.checked_shl(shift).unwrap_or(0);
        let ip: IpAddr = if self.bits == 32 {
            IpAddr::from((address as u32).to_be_bytes())
        } else {
            IpAddr::from(address.to_be_bytes())
        };
        format!("{ip}/{}", self.node_prefix)
    }

    /// Takes note of a range that a node has; one outside of the cluster's, or unreadable, is not this allocator's.
    pub(super) fn occupy(&mut self, node: &str, cidr: &str) {
        let Some((ip, prefix)) = cidr.split_once('/') else {
            return;
        };
        let (Ok(ip), Ok(prefix)) = (ip.parse::<IpAddr>(), prefix.parse::<u8>()) else {
            return;
        };
        let (address, bits) = number(ip);
        if bits != self.bits || prefix > bits || masked(address, bits, self.prefix) != self.network {
            return;
        }
        let shift = u32::from(self.bits - self.node_prefix);
        let part = |address: u128| (address - self.network).checked_shr(shift).unwrap_or(0);
        let first = part(masked(address, bits, prefix));
        // A wider range than this allocator gives covers several parts.
        let parts = 1u128
            .checked_shl(u32::from(self.node_prefix.saturating_sub(prefix)))
            .unwrap_or(1)
            .min(1 << 16);
        if self.by_node.get(node).is_some_and(|own| *own != first) {
            self.release(node);
        }
        for n in first..first + parts {
            self.taken.entry(n).or_insert_with(|| node.to_owned());
        }
        self.by_node.insert(node.to_owned(), first);
    }

    pub(super) fn release(&mut self, node: &str) {
        self.by_node.remove(node);
        self.taken.retain(|_, owner| owner != node);
    }

    /// The lowest free part, now the node's; the one it has, if it has one. `None` if all are taken.
    pub(super) fn allocate(&mut self, node: &str) -> Option<String> {
        if let Some(part) = self.by_node.get(node) {
            return Some(self.text(*part));
        }
        let mut free = 0;
        for taken in self.taken.keys() {
            if *taken != free {
                break;
            }
            free += 1;
        }
        if free >= self.count() {
            return None;
        }
        self.taken.insert(free, node.to_owned());
        self.by_node.insert(node.to_owned(), free);
        Some(self.text(free))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn ranges(network: &str, prefix: u8, node_prefix: u8) -> Ranges {
        Ranges::new(PodCidr {
            network: network.parse().unwrap(),
            prefix,
            node_prefix,
        })
    }

    #[test]
    fn gives_occupies_and_releases() {
        let mut r = ranges("10.244.0.0", 16, 24);
        r.occupy("b", "10.244.1.0/24");
        r.occupy("elsewhere", "192.168.0.0/24");
        assert_eq!(r.allocate("a").as_deref(), Some("10.244.0.0/24"));
        assert_eq!(
            r.allocate("a").as_deref(),
            Some("10.244.0.0/24"),
            "again the same"
        );
        assert_eq!(r.allocate("c").as_deref(), Some("10.244.2.0/24"));
        r.release("b");
        assert_eq!(r.allocate("d").as_deref(), Some("10.244.1.0/24"));
        let mut small = ranges("10.0.0.0", 30, 31);
        assert!(small.allocate("a").is_some() && small.allocate("b").is_some());
        assert_eq!(small.allocate("c"), None);
        assert_eq!(
            ranges("fd00::", 48, 64).allocate("a").as_deref(),
            Some("fd00::/64")
        );
        let mut wide = ranges("10.0.0.0", 8, 24);
        wide.occupy("w", "10.0.0.0/22");
        assert_eq!(wide.allocate("a").as_deref(), Some("10.0.4.0/24"));
    }

    proptest! {
        #[test]
        fn no_two_nodes_share_a_range(steps in proptest::collection::vec((any::<bool>(), 0u8..20), 0..100)) {
            let mut r = ranges("10.0.0.0", 24, 28);
            let mut has: BTreeMap<u8, String> = BTreeMap::new();
            for (take, node) in steps {
                if take {
                    match r.allocate(&node.to_string()) {
                        Some(cidr) => { has.insert(node, cidr); }
                        None => prop_assert_eq!(has.len(), 16),
                    }
                } else {
                    r.release(&node.to_string());
                    has.remove(&node);
                }
                let distinct: BTreeSet<&String> = has.values().collect();
                prop_assert_eq!(distinct.len(), has.len());
            }
        }
    }
}
