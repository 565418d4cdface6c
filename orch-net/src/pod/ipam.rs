//! Address management of one node's pod range: a file per address in use, so that a crash loses nothing.

use ipnet::Ipv4Net;
use std::{
    collections::BTreeMap,
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

/// Allocates addresses of one range; the owner of each address is kept in a file named after the address.
#[derive(Debug)]
pub struct Ipam {
    dir: PathBuf,
    range: Ipv4Net,
    used: BTreeMap<Ipv4Addr, String>,
    next: u32,
}

/// Why no address could be given.
#[derive(Debug, thiserror::Error)]
pub enum IpamError {
    /// Every address is in use.
    #[error("no free address in {0}")]
    Exhausted(Ipv4Net),
    /// The record of an address could not be written or read.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl Ipam {
    /// Opens the records in `dir` (made if absent) for `range`. The first address is the gateway's and never given;
    /// nor are the network and broadcast addresses.
    ///
    /// # Errors
    /// [`IpamError::Io`].
    pub fn open(dir: &Path, range: Ipv4Net) -> Result<Self, IpamError> {
        let io = |path: &Path, source| IpamError::Io {
            path: path.into(),
            source,
        };
        fs::create_dir_all(dir).map_err(|e| io(dir, e))?;
        let mut used = BTreeMap::new();
        for entry in fs::read_dir(dir).map_err(|e| io(dir, e))? {
            let path = entry.map_err(|e| io(dir, e))?.path();
            let Some(ip) = path
                .file_name()
                .and_then(|n| n.to_str())
                .and_then(|n| n.parse().ok())
            else {
                continue;
            };
            let owner = fs::read_to_string(&path).map_err(|e| io(&path, e))?;
            used.insert(ip, owner);
        }
        Ok(Self {
            dir: dir.into(),
            range,
            used,
            next: 0,
        })
    }

    /// The gateway: the first address of the range.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        gateway(self.range)
    }

    /// The address of `owner`, given now if it has none. Addresses are handed out in turn, so that one that was
    /// released is not reused at once.
    ///
    /// # Errors
    /// [`IpamError`].
    pub fn allocate(&mut self, owner: &str) -> Result<Ipv4Addr, IpamError> {
        if let Some(ip) = self.of(owner) {
            return Ok(ip);
        }
        let first = u32::from(self.range.network()).saturating_add(2);
        let last = u32::from(self.range.broadcast()).saturating_sub(1);
        let size = (last + 1).saturating_sub(first);
        for offset in 0..size {
            let ip = Ipv4Addr::from(first + (self.next.wrapping_add(offset)) % size);
            if self.used.contains_key(&ip) {
                continue;
            }
            let path = self.dir.join(ip.to_string());
            fs::write(&path, owner).map_err(|source| IpamError::Io { path, source })?;
            self.used.insert(ip, owner.into());
            self.next = u32::from(ip) - first + 1;
            return Ok(ip);
        }
        Err(IpamError::Exhausted(self.range))
    }

    /// The address that `owner` holds.
    #[must_use]
    pub fn of(&self, owner: &str) -> Option<Ipv4Addr> {
        self.used.iter().find(|(_, o)| *o == owner).map(|(ip, _)| *ip)
    }

    /// Takes back the address of `owner`, if it has one.
    ///
    /// # Errors
    /// [`IpamError::Io`].
    pub fn release(&mut self, owner: &str) -> Result<(), IpamError> {
        let Some(ip) = self.of(owner) else { return Ok(()) };
        let path = self.dir.join(ip.to_string());
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(IpamError::Io { path, source });
            }
            _ => drop(self.used.remove(&ip)),
        }
        Ok(())
    }

    /// Every address in use and its owner.
    #[must_use]
    pub fn list(&self) -> Vec<(Ipv4Addr, String)> {
        self.used.iter().map(|(ip, owner)| (*ip, owner.clone())).collect()
    }
}

/// The gateway of a pod range: its first address.
#[must_use]
pub fn gateway(range: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(range.network()).saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_address_has_two_owners_and_all_survive_a_restart(ops in prop::collection::vec((any::<bool>(), 0u8..12), 0..60)) {
            let dir = tempfile::tempdir().unwrap();
            let range: Ipv4Net = "10.0.0.0/28".parse().unwrap();
            let mut ipam = Ipam::open(dir.path(), range).unwrap();
            let mut model: BTreeMap<String, Ipv4Addr> = BTreeMap::new();
            for (allocate, owner) in ops {
                let owner = format!("pod-{owner}");
                if allocate {
                    if let Ok(ip) = ipam.allocate(&owner) {
                        prop_assert!(range.contains(&ip) && ip != ipam.gateway());
                        prop_assert!(model.iter().all(|(o, i)| *i != ip || *o == owner));
                        prop_assert!(model.insert(owner, ip).is_none_or(|before| before == ip));
                    } else {
                        prop_assert_eq!(model.len(), 13);
                    }
                } else {
                    ipam.release(&owner).unwrap();
                    model.remove(&owner);
                }
            }
            let again = Ipam::open(dir.path(), range).unwrap();
            let listed: BTreeMap<String, Ipv4Addr> = again.list().into_iter().map(|(ip, o)| (o, ip)).collect();
            prop_assert_eq!(listed, model);
        }
    }
}
