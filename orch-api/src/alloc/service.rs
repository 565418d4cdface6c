//! What a Service needs of the pools: a pure plan over the pools' data, written into the object.
//!
//! Rules are those of upstream's Service storage: IP families, cluster IPs, node ports, health check port.

use super::{Claim, Claims, Pools};
use crate::registry::meta;
use orch_core::{GroupVersionKind, Status, rng::Rng};
use orch_kinds::{
    field::{FieldErrors, Path},
    strategy::{needs_cluster_ip, needs_health_check_node_port, needs_node_port},
};
use serde_json::Value;
use std::net::IpAddr;

const NONE: &str = "None";

fn invalid(errors: FieldErrors, service: &Value) -> Status {
    errors.into_status(
        &GroupVersionKind::new("", "v1", "Service"),
        meta::text(service, "name"),
    )
}

fn texts(service: &Value, field: &str) -> Vec<String> {
    let list = service
        .get("spec")
        .and_then(|s| s.get(field))
        .and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(ToOwned::to_owned)
        .collect()
}

fn text(service: &Value, field: &str) -> String {
    service
        .get("spec")
        .and_then(|s| s.get(field))
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// The IP fields of a Service's spec.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ips {
    ip: String,
    ips: Vec<String>,
    families: Vec<String>,
    policy: String,
}

impl Ips {
    fn of(service: &Value) -> Self {
        Self {
            ip: text(service, "clusterIP"),
            ips: texts(service, "clusterIPs"),
            families: texts(service, "ipFamilies"),
            policy: text(service, "ipFamilyPolicy"),
        }
    }

    fn write(&self, service: &mut Value) {
        let Some(spec) = service.get_mut("spec").and_then(Value::as_object_mut) else {
            return;
        };
        let mut put = |field: &str, value: Value, empty: bool| {
            if empty {
                spec.remove(field);
            } else {
                spec.insert(field.to_owned(), value);
            }
        };
        put("clusterIP", self.ip.as_str().into(), self.ip.is_empty());
        put("clusterIPs", self.ips.clone().into(), self.ips.is_empty());
        put(
            "ipFamilies",
            self.families.clone().into(),
            self.families.is_empty(),
        );
        put(
            "ipFamilyPolicy",
            self.policy.as_str().into(),
            self.policy.is_empty(),
        );
    }

    fn is_headless(&self) -> bool {
        self.ip == NONE || self.ips.first().is_some_and(|ip| ip == NONE)
    }
}

fn other(family: &str) -> String {
    if family == "IPv4" {
        "IPv6".into()
    } else {
        "IPv4".into()
    }
}

/// Takes what `service` needs beyond `old` from the pools, and writes it into it.
pub(super) fn claim(
    pools: &mut Pools,
    claims: &mut Claims,
    service: &mut Value,
    old: Option<&Value>,
    rng: &dyn Rng,
) -> Result<(), Status> {
    claim_ips(pools, claims, service, old, rng)?;
    claim_ports(pools, claims, service, old, rng)
}

fn claim_ips(
    pools: &mut Pools,
    claims: &mut Claims,
    service: &mut Value,
    old: Option<&Value>,
    rng: &dyn Rng,
) -> Result<(), Status> {
    let before = old.filter(|o| needs_cluster_ip(o)).map(Ips::of);
    if !needs_cluster_ip(service) {
        if let Some(before) = before.filter(|b| !b.is_headless()) {
            before
                .ips
                .iter()
                .filter_map(|ip| ip.parse().ok())
                .for_each(|ip| claims.release_later(Claim::Ip(ip)));
        }
        return Ok(());
    }
    let mut ips = Ips::of(service);
    if let Some(before) = &before
        && before.policy == "PreferDualStack"
        && ips == *before
    {
        return Ok(());
    }
    families(pools, service, &mut ips, before.as_ref())?;
    if !ips.is_headless() {
        let held = before.as_ref().map(|b| b.ips.clone()).unwrap_or_default();
        ips.ips
            .resize(ips.families.len().max(ips.ips.len()), String::new());
        for (i, family) in ips.families.clone().iter().enumerate() {
            let wanted = ips.ips[i].clone();
            if !wanted.is_empty() && held.contains(&wanted) {
                continue;
            }
            // The address of a living Service is fixed; validation says so.
            if i == 0 && !held.is_empty() {
                continue;
            }
            ips.ips[i] = claim_ip(pools, claims, service, family, &wanted, rng)?.to_string();
        }
        for ip in held.iter().filter(|ip| !ips.ips.contains(ip)) {
            if let Ok(ip) = ip.parse() {
                claims.release_later(Claim::Ip(ip));
            }
        }
        if let Some(first) = ips.ips.first() {
            ips.ip.clone_from(first);
        }
    }
    ips.write(service);
    Ok(())
}

fn claim_ip(
    pools: &mut Pools,
    claims: &mut Claims,
    service: &Value,
    family: &str,
    wanted: &str,
    rng: &dyn Rng,
) -> Result<IpAddr, Status> {
    let spec = Path::new("spec");
    let shown: Value = texts(service, "clusterIPs").into();
    let refuse = |why: String| {
        let mut errors = FieldErrors::new();
        errors.invalid(&spec.child("clusterIPs"), shown.clone(), why);
        invalid(errors, service)
    };
    let Some(pool) = pools.ips.iter_mut().find(|p| p.family() == family) else {
        return Err(Status::internal(format!("no allocator for IP family {family}")));
    };
    let ip = if wanted.is_empty() {
        pool.claim_any(rng).map_err(|e| {
            let name = meta::text(service, "name");
            Status::internal(format!(
                "failed to allocate a serviceIP for Service {name:?}: {e}"
            ))
        })?
    } else {
        let ip: IpAddr = wanted
            .parse()
            .map_err(|_| Status::internal(format!("failed to parse service IP {wanted:?}")))?;
        pool.claim(ip)
            .map_err(|e| refuse(format!("failed to allocate IP {wanted}: {e}")))?;
        ip
    };
    claims.taken(Claim::Ip(ip));
    Ok(ip)
}

/// Decides on policy and families, as upstream infers them from what the client said.
fn families(pools: &Pools, service: &Value, ips: &mut Ips, before: Option<&Ips>) -> Result<(), Status> {
    let selectorless = service
        .get("spec")
        .and_then(|s| s.get("selector"))
        .and_then(Value::as_object)
        .is_none_or(serde_json::Map::is_empty);
    if ips.policy.is_empty() {
        ips.policy = match before {
            Some(before) if !before.policy.is_empty() => before.policy.clone(),
            _ if ips.ip == NONE && selectorless => "RequireDualStack".into(),
            _ => "SingleStack".into(),
        };
    }
    let single = ips.policy == "SingleStack";
    let spec = Path::new("spec");
    let policy = spec.child("ipFamilyPolicy");
    let shown: Value = ips.policy.as_str().into();
    let mut errors = FieldErrors::new();
    if let Some(before) = before {
        if single {
            if before.ips == ips.ips {
                ips.ips.truncate(1);
            }
            if before.families == ips.families {
                ips.families.truncate(1);
            }
        } else {
            if ips.ips.len() == 1 && before.ips.len() == 2 {
                errors.invalid(
                    &policy,
                    shown.clone(),
                    "must be 'SingleStack' to release the secondary cluster IP",
                );
            }
            if ips.families.len() == 1 && before.families.len() == 2 {
                errors.invalid(
                    &policy,
                    shown.clone(),
                    "must be 'SingleStack' to release the secondary IP family",
                );
            }
        }
    }
    for (two, what) in [
        (ips.ips.len() == 2, "cluster IPs"),
        (ips.families.len() == 2, "IP families"),
    ] {
        if single && two {
            let detail =
                format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
            errors.invalid(&policy, shown.clone(), detail);
        }
    }
    let configured = |family: &str| pools.ips.iter().any(|p| p.family() == family);
    for (i, ip) in ips.ips.iter().enumerate().take_while(|(_, ip)| *ip != NONE) {
        let Ok(ip) = ip.parse::<IpAddr>() else { continue };
        let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
        if i >= ips.families.len() {
            if configured(family) {
                ips.families.push(family.into());
            } else {
                let list = spec.child("clusterIPs");
                let shown: Value = ips.ips.clone().into();
                errors.invalid(
                    &list.index(i),
                    shown,
                    format!("{family} is not configured on this cluster"),
                );
            }
        }
    }
    if !errors.is_empty() {
        return Err(invalid(errors, service));
    }
    let default = pools.ips.first().map_or("IPv4", super::pool::IpPool::family);
    if ips.ip == NONE && selectorless {
        if ips.families.is_empty() {
            ips.families.push(default.into());
        }
        if ips.families.len() < 2 && !single {
            ips.families.push(other(&ips.families[0]));
        }
        return Ok(());
    }
    if ips.policy == "RequireDualStack" && pools.ips.len() < 2 {
        errors.invalid(
            &policy,
            shown,
            "this cluster is not configured for dual-stack services",
        );
    }
    let list = spec.child("ipFamilies");
    for (i, family) in ips.families.iter().enumerate().filter(|(_, f)| !configured(f)) {
        errors.invalid(&list.index(i), family.as_str(), "not configured on this cluster");
    }
    if !errors.is_empty() {
        return Err(invalid(errors, service));
    }
    if ips.families.is_empty() {
        ips.families.push(default.into());
    }
    if !single && ips.families.len() == 1 && pools.ips.len() == 2 {
        ips.families.push(other(&ips.families[0]));
    }
    Ok(())
}

/// The node ports of a Service, its health check port included.
pub(super) fn node_ports(service: &Value) -> Vec<u16> {
    let spec = service.get("spec");
    let ports = spec
        .and_then(|s| s.get("ports"))
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let health = spec.and_then(|s| s.get("healthCheckNodePort"));
    let all = ports.filter_map(|p| p.get("nodePort")).chain(health);
    all.filter_map(Value::as_u64)
        .filter_map(|p| u16::try_from(p).ok())
        .filter(|p| *p != 0)
        .collect()
}

fn claim_ports(
    pools: &mut Pools,
    claims: &mut Claims,
    service: &mut Value,
    old: Option<&Value>,
    rng: &dyn Rng,
) -> Result<(), Status> {
    let held = old.map(node_ports).unwrap_or_default();
    if needs_node_port(service) {
        node_ports_of(pools, claims, service, &held, rng)?;
    }
    if needs_health_check_node_port(service) {
        let asked = service["spec"]["healthCheckNodePort"].as_u64().unwrap_or(0);
        if asked == 0 {
            let port = pools.ports.claim_any(rng);
            let port = port
                .map_err(|e| Status::internal(format!("failed to allocate a HealthCheck NodePort 0: {e}")))?;
            claims.taken(Claim::Port(port));
            service["spec"]["healthCheckNodePort"] = port.into();
        } else if let Ok(port) = u16::try_from(asked)
            && !held.contains(&port)
        {
            pools.ports.claim(port).map_err(|e| {
                Status::internal(format!(
                    "failed to allocate requested HealthCheck NodePort {port}: {e}"
                ))
            })?;
            claims.taken(Claim::Port(port));
        }
    }
    let now = node_ports(service);
    held.iter()
        .filter(|p| !now.contains(p))
        .for_each(|p| claims.release_later(Claim::Port(*p)));
    Ok(())
}

fn node_ports_of(
    pools: &mut Pools,
    claims: &mut Claims,
    service: &mut Value,
    held: &[u16],
    rng: &dyn Rng,
) -> Result<(), Status> {
    let spec = &service["spec"];
    let allocate = spec["type"] == "NodePort" || spec["allocateLoadBalancerNodePorts"] != false;
    let port_of = |p: &Value, field: &str| p.get(field).and_then(Value::as_u64).unwrap_or(0);
    let mut ports = spec["ports"].as_array().cloned().unwrap_or_default();
    // One port number in several protocols gets one node port.
    let mut by_port: Vec<(u64, u64)> = ports
        .iter()
        .map(|p| (port_of(p, "port"), port_of(p, "nodePort")))
        .filter(|(_, n)| *n != 0)
        .collect();
    let mut mine: Vec<u64> = Vec::new();
    for i in 0..ports.len() {
        let Some(wanted) = ports.get(i) else { continue };
        let (port, asked) = (port_of(wanted, "port"), port_of(wanted, "nodePort"));
        if asked == 0 && !allocate {
            continue;
        }
        let shared = by_port.iter().find(|(p, _)| *p == port).map(|(_, n)| *n);
        let number = if asked != 0 { asked } else { shared.unwrap_or(0) };
        if number == 0 {
            let claimed = pools.ports.claim_any(rng);
            let claimed =
                claimed.map_err(|e| Status::internal(format!("failed to allocate a nodePort: {e}")))?;
            claims.taken(Claim::Port(claimed));
            ports[i]["nodePort"] = claimed.into();
            by_port.push((port, claimed.into()));
            mine.push(claimed.into());
            continue;
        }
        let known = mine.contains(&number) || u16::try_from(number).is_ok_and(|n| held.contains(&n));
        if !known {
            let claimed = match u16::try_from(number) {
                Ok(n) => pools.ports.claim(n).map(|()| n).map_err(|e| e.to_string()),
                Err(_) => Err("must be between 1 and 65535, inclusive".to_owned()),
            };
            let claimed = claimed.map_err(|why| {
                let mut errors = FieldErrors::new();
                let spec = Path::new("spec");
                let list = spec.child("ports");
                let item = list.index(i);
                errors.invalid(&item.child("nodePort"), number, why);
                invalid(errors, service)
            })?;
            claims.taken(Claim::Port(claimed));
        }
        mine.push(number);
        ports[i]["nodePort"] = number.into();
    }
    service["spec"]["ports"] = ports.into();
    Ok(())
}
