//! Pools of addresses and ports: plain data.

use ipnet::IpNet;
use orch_core::rng::Rng;
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
};

/// Why something could not be claimed; the texts are upstream's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClaimError {
    /// Nothing is left.
    #[error("range is full")]
    Full,
    /// Somebody has the address.
    #[error("provided IP is already allocated")]
    IpTaken,
    /// The address is in no range of the cluster.
    #[error("the provided network does not match the current range")]
    OtherNetwork,
    /// The address is in the range, but not for use.
    #[error("the provided IP ({0}) is not in the valid range. The range of valid IPs is {1}")]
    NotInRange(IpAddr, IpNet),
    /// Somebody has the port.
    #[error("provided port is already allocated")]
    PortTaken,
    /// The port is not in the range.
    #[error("provided port is not in the valid range. The range of valid ports is {0}-{1}")]
    PortNotInRange(u16, u16),
}

/// Addresses of one range.
#[derive(Debug, Clone)]
pub(crate) struct IpPool {
    net: IpNet,
    first: u128,
    last: u128,
    used: BTreeSet<u128>,
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

impl IpPool {
    /// All addresses of `net` but the first and, for IPv4, the last.
    pub(crate) fn new(net: IpNet) -> Self {
        let net = net.trunc();
        let (low, high) = (number(net.network()), number(net.broadcast()));
        let last = if matches!(net, IpNet::V4(_)) {
            high.saturating_sub(1)
        } else {
            high
        };
        Self {
            net,
            first: low.saturating_add(1),
            last,
            used: BTreeSet::new(),
        }
    }

    /// Its family's name in the API.
    pub(crate) fn family(&self) -> &'static str {
        if matches!(self.net, IpNet::V4(_)) {
            "IPv4"
        } else {
            "IPv6"
        }
    }

    /// The first address, which Service `kubernetes` gets.
    pub(crate) fn first(&self) -> IpAddr {
        self.address(self.first)
    }

    /// Whether an address belongs to the range.
    pub(crate) fn contains(&self, ip: IpAddr) -> bool {
        self.net.contains(&ip)
    }

    fn address(&self, number: u128) -> IpAddr {
        match self.net {
            IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from(number as u32)),
            IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from(number)),
        }
    }

    /// Claims a certain address.
    pub(crate) fn claim(&mut self, ip: IpAddr) -> Result<(), ClaimError> {
        if !self.contains(ip) {
            return Err(ClaimError::OtherNetwork);
        }
        let n = number(ip);
        if n < self.first || n > self.last {
            return Err(ClaimError::NotInRange(ip, self.net));
        }
        if self.used.insert(n) {
            Ok(())
        } else {
            Err(ClaimError::IpTaken)
        }
    }

    /// Claims any address: one from the upper part of the range while there is one, so that the lower part is left
    /// for those who choose (KEP-3070).
    pub(crate) fn claim_any(&mut self, rng: &dyn Rng) -> Result<IpAddr, ClaimError> {
        let size = self.last.saturating_sub(self.first).saturating_add(1);
        let reserved = if size < 32 { 0 } else { (size / 16).clamp(16, 256) };
        let upper = self.free_from(self.first + reserved, self.last, rng);
        let found = match (upper, reserved) {
            (Some(n), _) => Some(n),
            (None, 0) => None,
            (None, _) => self.free_from(self.first, self.first + reserved - 1, rng),
        };
        let n = found.ok_or(ClaimError::Full)?;
        self.used.insert(n);
        Ok(self.address(n))
    }

    /// The first free number at or behind a random one, then before it.
    fn free_from(&self, low: u128, high: u128, rng: &dyn Rng) -> Option<u128> {
        if low > high {
            return None;
        }
        let width = u64::try_from(high - low)
            .unwrap_or(u64::MAX - 1)
            .saturating_add(1);
        let start = low + u128::from(rng.below(width));
        self.gap(start, high).or_else(|| {
            if start > low {
                self.gap(low, start - 1)
            } else {
                None
            }
        })
    }

    fn gap(&self, low: u128, high: u128) -> Option<u128> {
        let mut candidate = low;
        for used in self.used.range(low..=high) {
            if *used != candidate {
                break;
            }
            candidate += 1;
        }
        (candidate <= high).then_some(candidate)
    }

    /// Gives an address back.
    pub(crate) fn release(&mut self, ip: IpAddr) {
        self.used.remove(&number(ip));
    }
}

/// Node ports.
#[derive(Debug, Clone)]
pub(crate) struct PortPool {
    range: RangeInclusive<u16>,
    used: BTreeSet<u16>,
}

impl PortPool {
    /// All ports of `range`.
    pub(crate) fn new(range: RangeInclusive<u16>) -> Self {
        Self {
            range,
            used: BTreeSet::new(),
        }
    }

    /// Claims a certain port.
    pub(crate) fn claim(&mut self, port: u16) -> Result<(), ClaimError> {
        if !self.range.contains(&port) {
            return Err(ClaimError::PortNotInRange(*self.range.start(), *self.range.end()));
        }
        if self.used.insert(port) {
            Ok(())
        } else {
            Err(ClaimError::PortTaken)
        }
    }

    /// Claims any port, from the upper part of the range while there is one (KEP-3668).
    pub(crate) fn claim_any(&mut self, rng: &dyn Rng) -> Result<u16, ClaimError> {
        let (low, high) = (*self.range.start(), *self.range.end());
        let size = u32::from(high.saturating_sub(low)) + 1;
        let reserved = if size < 32 { 0 } else { (size / 32).clamp(16, 128) };
        let reserved = u16::try_from(reserved).unwrap_or(0);
        let found = self.free(low.saturating_add(reserved), high, rng);
        let found = found.or_else(|| {
            if reserved == 0 {
                None
            } else {
                self.free(low, low + reserved - 1, rng)
            }
        });
        let port = found.ok_or(ClaimError::Full)?;
        self.used.insert(port);
        Ok(port)
    }

    fn free(&self, low: u16, high: u16, rng: &dyn Rng) -> Option<u16> {
        if low > high {
            return None;
        }
        let start = low + u16::try_from(rng.below(u64::from(high - low) + 1)).unwrap_or(0);
        (start..=high).chain(low..start).find(|p| !self.used.contains(p))
    }

    /// Gives a port back.
    pub(crate) fn release(&mut self, port: u16) {
        self.used.remove(&port);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orch_core::rng::SeededRng;
    use proptest::prelude::*;

    #[test]
    fn texts_and_edges() {
        let mut pool = IpPool::new("10.0.0.0/24".parse().unwrap());
        let ip = |t: &str| -> IpAddr { t.parse().unwrap() };
        assert_eq!(pool.first(), ip("10.0.0.1"));
        assert_eq!(pool.claim(ip("10.0.0.5")), Ok(()));
        assert_eq!(
            pool.claim(ip("10.0.0.5")).unwrap_err().to_string(),
            "provided IP is already allocated"
        );
        assert_eq!(
            pool.claim(ip("10.0.1.5")).unwrap_err().to_string(),
            "the provided network does not match the current range"
        );
        assert!(pool.claim(ip("10.0.0.255")).is_err() && pool.claim(ip("10.0.0.0")).is_err());
        let mut ports = PortPool::new(30000..=32767);
        assert_eq!(
            ports.claim(80).unwrap_err().to_string(),
            "provided port is not in the valid range. The range of valid ports is 30000-32767"
        );
    }

    proptest! {
        #[test]
        fn every_address_is_given_once(bits in 26u8..=30, seed: u64) {
            let mut pool = IpPool::new(format!("10.0.0.0/{bits}").parse().unwrap());
            let rng = SeededRng::new(seed);
            let mut given = BTreeSet::new();
            while let Ok(ip) = pool.claim_any(&rng) {
                prop_assert!(given.insert(ip), "{ip} twice");
            }
            prop_assert_eq!(given.len(), (1usize << (32 - bits)) - 2);
        }

        #[test]
        fn every_port_is_given_once(count in 1u16..200, seed: u64) {
            let mut pool = PortPool::new(30000..=30000 + count - 1);
            let rng = SeededRng::new(seed);
            let given: BTreeSet<u16> = std::iter::from_fn(|| pool.claim_any(&rng).ok()).collect();
            prop_assert_eq!(given.len(), usize::from(count));
        }
    }
}
