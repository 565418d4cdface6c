//! Allocation of what must be unique in the cluster: cluster IPs and node ports of Services.
//!
//! The pools are in memory and rebuilt from the stored Services at start, so they cannot disagree with the store for
//! longer than a process lives. A write claims what it needs before it is stored; [`Reserved`] gives it back if the
//! write does not happen.

mod pool;
mod service;

use crate::registry::Scope;
use ipnet::IpNet;
use orch_core::{Object, Status};
use parking_lot::Mutex;
use pool::{IpPool, PortPool};
use serde_json::Value;
use std::{net::IpAddr, ops::RangeInclusive, sync::Arc};

/// The pools of a cluster.
#[derive(Debug, Clone)]
pub(crate) struct Pools {
    ips: Vec<IpPool>,
    ports: PortPool,
}

impl Pools {
    /// Pools of these ranges; the first is of the default family.
    pub(crate) fn new(cidrs: &[IpNet], ports: RangeInclusive<u16>) -> Self {
        Self {
            ips: cidrs.iter().map(|c| IpPool::new(*c)).collect(),
            ports: PortPool::new(ports),
        }
    }

    /// The address of Service `default/kubernetes`.
    pub(crate) fn first_ip(&self) -> Option<IpAddr> {
        self.ips.first().map(IpPool::first)
    }

    /// Marks what a stored Service has. What two have, or what is in no range, is left to them and said in the log.
    pub(crate) fn occupy(&mut self, service: &Object) {
        for claim in claims_of(service.value()) {
            if let Err(error) = self.claim(claim) {
                tracing::warn!(service = %service.key(), ?claim, %error, "a stored Service has what it should not have");
            }
        }
    }

    fn claim(&mut self, claim: Claim) -> Result<(), pool::ClaimError> {
        match claim {
            Claim::Port(port) => self.ports.claim(port),
            Claim::Ip(ip) => match self.ips.iter_mut().find(|p| p.contains(ip)) {
                Some(pool) => pool.claim(ip),
                None => Err(pool::ClaimError::OtherNetwork),
            },
        }
    }

    fn release(&mut self, claim: Claim) {
        match claim {
            Claim::Port(port) => self.ports.release(port),
            Claim::Ip(ip) => self
                .ips
                .iter_mut()
                .filter(|p| p.contains(ip))
                .for_each(|p| p.release(ip)),
        }
    }
}

/// One thing out of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// A cluster IP.
    Ip(IpAddr),
    /// A node port.
    Port(u16),
}

/// What one write takes and gives back.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    taken: Vec<Claim>,
    later: Vec<Claim>,
}

impl Claims {
    fn taken(&mut self, claim: Claim) {
        self.taken.push(claim);
    }
    /// To be given back once the write has happened.
    fn release_later(&mut self, claim: Claim) {
        self.later.push(claim);
    }
}

fn claims_of(service: &Value) -> Vec<Claim> {
    let ips = service
        .get("spec")
        .and_then(|s| s.get("clusterIPs"))
        .and_then(Value::as_array);
    let ips = ips
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .filter_map(|t| t.parse().ok())
        .map(Claim::Ip);
    ips.chain(service::node_ports(service).into_iter().map(Claim::Port))
        .collect()
}

/// What a write has reserved. Dropped without [`Reserved::keep`], it is given back.
#[derive(Debug, Default)]
pub(crate) struct Reserved {
    pools: Option<Arc<Mutex<Pools>>>,
    claims: Claims,
}

impl Reserved {
    /// The write happened: what it took is its own, what it gave up is free.
    pub(crate) fn keep(mut self) {
        self.claims.taken.clear();
        std::mem::swap(&mut self.claims.taken, &mut self.claims.later);
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let Some(pools) = self.pools.take().filter(|_| !self.claims.taken.is_empty()) else {
            return;
        };
        let mut pools = pools.lock();
        self.claims.taken.drain(..).for_each(|c| pools.release(c));
    }
}

impl Scope<'_> {
    fn is_service(&self) -> bool {
        self.resource.gvk.group.is_empty() && self.resource.gvk.kind == "Service"
    }

    /// Reserves what `object` needs and writes it into it.
    pub(crate) fn reserve(
        &self,
        object: &mut Value,
        old: Option<&Value>,
        dry_run: bool,
    ) -> Result<Reserved, Status> {
        if !self.is_service() || !self.info.subresource.is_empty() {
            return Ok(Reserved::default());
        }
        let shared = self.server.pools();
        let mut reserved = Reserved {
            pools: (!dry_run).then(|| shared.clone()),
            claims: Claims::default(),
        };
        let rng = &*self.env().rng;
        let outcome = if dry_run {
            let mut pools = shared.lock().clone();
            service::claim(&mut pools, &mut reserved.claims, object, old, rng)
        } else {
            service::claim(&mut shared.lock(), &mut reserved.claims, object, old, rng)
        };
        outcome.map(|()| reserved)
    }

    /// Frees what a deleted object had.
    pub(crate) fn release(&self, gone: &Value) {
        if self.is_service() {
            let mut pools = self.server.pools().lock();
            claims_of(gone).into_iter().for_each(|c| pools.release(c));
        }
    }
}
