//! The text of the rules, and of the change from one set of rules to another. Pure.

use super::NftablesConfig;
use crate::proxy::{Applied, Protocol, RuleTable, ServiceName, ServiceRule};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    time::Duration,
};

/// Packets with this bit are masqueraded on their way out; the bit kube-proxy uses.
const MASQUERADE: &str = "0x4000";

/// A key of the verdict map of addresses, such as `10.96.0.1 . tcp . 443`.
type AddressKey = (Ipv4Addr, Protocol, u16);

/// One chain of rules that sends a connection to one of several endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Dispatch {
    endpoints: Vec<SocketAddrV4>,
    affinity: Option<Duration>,
    /// Masquerade everything that is not from a pod, so that answers come back through this node.
    masquerade_outside: bool,
}

/// What the kernel should hold: a dispatch chain per name, and the maps that lead to them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Layout {
    chains: BTreeMap<String, Dispatch>,
    addresses: BTreeMap<AddressKey, String>,
    node_ports: BTreeMap<(Protocol, u16), String>,
}

impl Layout {
    pub(super) fn of(table: &RuleTable) -> Self {
        let mut layout = Self::default();
        for (name, rule) in &table.services {
            layout.add(name, rule);
        }
        layout
    }

    fn add(&mut self, name: &ServiceName, rule: &ServiceRule) {
        let id = chain_id(name);
        let internal = self.chain(format!("svc-{id}"), rule.internal_endpoints(), rule, false);
        if let Some(chain) = internal {
            for ip in v4(&rule.cluster_ips) {
                self.addresses
                    .insert((ip, name.protocol, rule.port), chain.clone());
            }
        }
        let outside = !rule.external_ips.is_empty() || rule.node_port.is_some();
        if !outside {
            return;
        }
        let Some(chain) = self.chain(
            format!("ext-{id}"),
            rule.external_endpoints(),
            rule,
            !rule.external_local,
        ) else {
            return;
        };
        for ip in v4(&rule.external_ips) {
            self.addresses
                .insert((ip, name.protocol, rule.port), chain.clone());
        }
        if let Some(port) = rule.node_port {
            self.node_ports.insert((name.protocol, port), chain);
        }
    }

    fn chain(
        &mut self,
        name: String,
        to: &[SocketAddr],
        rule: &ServiceRule,
        masquerade_outside: bool,
    ) -> Option<String> {
        let endpoints: Vec<SocketAddrV4> = to
            .iter()
            .filter_map(|a| match a {
                SocketAddr::V4(a) => Some(*a),
                SocketAddr::V6(_) => None,
            })
            .collect();
        if endpoints.is_empty() {
            return None;
        }
        self.chains.insert(
            name.clone(),
            Dispatch {
                endpoints,
                affinity: rule.affinity,
                masquerade_outside,
            },
        );
        Some(name)
    }
}

fn v4(ips: &[IpAddr]) -> impl Iterator<Item = Ipv4Addr> + '_ {
    ips.iter().filter_map(|ip| match ip {
        IpAddr::V4(ip) => Some(*ip),
        IpAddr::V6(_) => None,
    })
}

/// Short, stable and readable: a hash first (names are bounded at 128 bytes), then the names.
fn chain_id(name: &ServiceName) -> String {
    // FNV-1a, 64 bit.
    let hash = name.to_string().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    });
    let readable: String = format!("{}-{}-{}", name.namespace, name.name, name.port)
        .chars()
        .filter(|c| *c != '.')
        .take(80)
        .collect();
    format!("{hash:016x}-{}", readable.trim_end_matches('-'))
}

/// The table with its maps and hooks, empty of services. Replaces whatever a table of that name held.
pub(super) fn render_base(config: &NftablesConfig, out: &mut String) {
    let (table, services, pods) = (&config.table, config.service_cidr, config.pod_cidr);
    // "add" before "delete" makes the delete succeed when there is no such table.
    let _ = write!(
        out,
        "add table ip {table}
delete table ip {table}
table ip {table} {{
  map addresses {{ type ipv4_addr . inet_proto . inet_service : verdict; }}
  map node-ports {{ type inet_proto . inet_service : verdict; }}
  chain services {{
    ip daddr . meta l4proto . th dport vmap @addresses
    fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @node-ports
  }}
  chain prerouting {{ type nat hook prerouting priority -100; policy accept; jump services; }}
  chain output {{ type nat hook output priority -100; policy accept; jump services; }}
  chain mark-outside {{ ip saddr != {pods} meta mark set meta mark or {MASQUERADE}; }}
  chain postrouting {{
    type nat hook postrouting priority 100; policy accept
    meta mark & {MASQUERADE} == {MASQUERADE} masquerade fully-random
  }}
  chain refuse {{
    meta l4proto tcp reject with tcp reset
    reject with icmp type port-unreachable
  }}
  chain refuse-forward {{ type filter hook forward priority 0; policy accept; ip daddr {services} fib daddr type != local ct state new jump refuse; }}
  chain refuse-output {{ type filter hook output priority 0; policy accept; ip daddr {services} fib daddr type != local ct state new jump refuse; }}
}}
"
    );
}

/// The commands that lead from `from` to `to`, and what they change.
pub(super) fn render_change(table: &str, from: &Layout, to: &Layout, out: &mut String) -> Applied {
    let changed: BTreeSet<&String> = to
        .chains
        .iter()
        .filter(|(name, d)| from.chains.get(*name) != Some(*d))
        .map(|(name, _)| name)
        .collect();
    let gone: Vec<&String> = from
        .chains
        .keys()
        .filter(|name| !to.chains.contains_key(*name))
        .collect();
    // References first: an element must leave the map before the chain it leads to is deleted.
    for (key, chain) in &from.addresses {
        if to.addresses.get(key) != Some(chain) {
            let _ = writeln!(out, "delete element ip {table} addresses {{ {} }}", address(key));
        }
    }
    for (key, chain) in &from.node_ports {
        if to.node_ports.get(key) != Some(chain) {
            let _ = writeln!(
                out,
                "delete element ip {table} node-ports {{ {} }}",
                node_port(key)
            );
        }
    }
    for name in &changed {
        if let Some(dispatch) = to.chains.get(*name) {
            render_dispatch(table, name, from.chains.get(*name), dispatch, out);
        }
    }
    for (key, chain) in &to.addresses {
        if from.addresses.get(key) != Some(chain) {
            let _ = writeln!(
                out,
                "add element ip {table} addresses {{ {} : goto {chain} }}",
                address(key)
            );
        }
    }
    for (key, chain) in &to.node_ports {
        if from.node_ports.get(key) != Some(chain) {
            let _ = writeln!(
                out,
                "add element ip {table} node-ports {{ {} : goto {chain} }}",
                node_port(key)
            );
        }
    }
    for name in &gone {
        let _ = writeln!(out, "flush chain ip {table} {name}");
        let endpoints = from.chains.get(*name).map_or(&[][..], |d| &d.endpoints);
        let _ = writeln!(out, "delete chain ip {table} {name}");
        delete_endpoints(
            table,
            name,
            endpoints,
            from.chains.get(*name).is_some_and(|d| d.affinity.is_some()),
            out,
        );
    }
    Applied {
        written: changed.len(),
        removed: gone.len(),
    }
}

fn address((ip, protocol, port): &AddressKey) -> String {
    format!("{ip} . {} . {port}", protocol.name())
}

fn node_port((protocol, port): &(Protocol, u16)) -> String {
    format!("{} . {port}", protocol.name())
}

fn endpoint_chain(service: &str, endpoint: &SocketAddrV4) -> String {
    let hash = service.get(..20).unwrap_or(service);
    format!(
        "ep-{hash}-{}-{}",
        endpoint.ip().to_string().replace('.', "-"),
        endpoint.port()
    )
}

fn affinity_set(service: &str, endpoint: &SocketAddrV4) -> String {
    endpoint_chain(service, endpoint).replacen("ep-", "aff-", 1)
}

fn render_dispatch(table: &str, name: &str, before: Option<&Dispatch>, to: &Dispatch, out: &mut String) {
    let _ = writeln!(out, "add chain ip {table} {name}\nflush chain ip {table} {name}");
    let kept_affinity = before.and_then(|b| b.affinity) == to.affinity;
    for endpoint in &to.endpoints {
        let known = before.is_some_and(|b| b.endpoints.contains(endpoint)) && kept_affinity;
        if known {
            continue;
        }
        let chain = endpoint_chain(name, endpoint);
        let _ = writeln!(
            out,
            "add chain ip {table} {chain}\nflush chain ip {table} {chain}"
        );
        let old = before.filter(|b| b.affinity.is_some() && b.endpoints.contains(endpoint));
        if old.is_some() {
            let _ = writeln!(out, "delete set ip {table} {}", affinity_set(name, endpoint));
        }
        let ip = endpoint.ip();
        // A pod that reaches itself through a Service must see another source address, or it drops the packet.
        let _ = writeln!(
            out,
            "add rule ip {table} {chain} ip saddr {ip} meta mark set meta mark or {MASQUERADE}"
        );
        if let Some(timeout) = to.affinity {
            let set = affinity_set(name, endpoint);
            let _ = writeln!(
                out,
                "add set ip {table} {set} {{ type ipv4_addr; flags dynamic,timeout; timeout {}s; }}",
                timeout.as_secs().max(1)
            );
            let _ = writeln!(out, "add rule ip {table} {chain} update @{set} {{ ip saddr }}");
        }
        let _ = writeln!(
            out,
            "add rule ip {table} {chain} meta l4proto {{ tcp, udp, sctp }} dnat to {endpoint}"
        );
    }
    if to.masquerade_outside {
        let _ = writeln!(out, "add rule ip {table} {name} jump mark-outside");
    }
    if to.affinity.is_some() {
        for endpoint in &to.endpoints {
            let (set, chain) = (affinity_set(name, endpoint), endpoint_chain(name, endpoint));
            let _ = writeln!(out, "add rule ip {table} {name} ip saddr @{set} goto {chain}");
        }
    }
    let verdicts: Vec<String> = to
        .endpoints
        .iter()
        .enumerate()
        .map(|(i, endpoint)| format!("{i} : goto {}", endpoint_chain(name, endpoint)))
        .collect();
    let count = to.endpoints.len();
    let _ = writeln!(
        out,
        "add rule ip {table} {name} numgen random mod {count} vmap {{ {} }}",
        verdicts.join(", ")
    );
    if let Some(before) = before {
        let left: Vec<SocketAddrV4> = before
            .endpoints
            .iter()
            .filter(|e| !to.endpoints.contains(e))
            .copied()
            .collect();
        delete_endpoints(table, name, &left, before.affinity.is_some(), out);
    }
}

fn delete_endpoints(table: &str, name: &str, endpoints: &[SocketAddrV4], affinity: bool, out: &mut String) {
    for endpoint in endpoints {
        let chain = endpoint_chain(name, endpoint);
        let _ = writeln!(
            out,
            "flush chain ip {table} {chain}\ndelete chain ip {table} {chain}"
        );
        if affinity {
            let _ = writeln!(out, "delete set ip {table} {}", affinity_set(name, endpoint));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(endpoints: &[&str]) -> ServiceRule {
        ServiceRule {
            port: 80,
            cluster_ips: vec!["10.96.0.9".parse().unwrap()],
            external_ips: vec![],
            node_port: None,
            endpoints: endpoints.iter().map(|e| e.parse().unwrap()).collect(),
            local_endpoints: vec![],
            internal_local: false,
            external_local: false,
            affinity: None,
        }
    }

    fn table(rules: &[(&str, ServiceRule)]) -> Layout {
        let services = rules
            .iter()
            .map(|(name, rule)| {
                let name = ServiceName {
                    namespace: "default".into(),
                    name: (*name).into(),
                    port: String::new(),
                    protocol: Protocol::Tcp,
                };
                (name, rule.clone())
            })
            .collect();
        Layout::of(&RuleTable { services })
    }

    #[test]
    fn only_what_changed_is_written() {
        let a = table(&[
            ("a", rule(&["10.0.0.1:80", "10.0.0.2:80"])),
            ("b", rule(&["10.0.0.3:80"])),
        ]);
        let b = table(&[
            ("a", rule(&["10.0.0.2:80", "10.0.0.4:80"])),
            ("b", rule(&["10.0.0.3:80"])),
        ]);
        let mut out = String::new();
        assert_eq!(render_change("t", &a, &a, &mut out), Applied::default());
        assert_eq!(out, "");
        assert_eq!(
            render_change("t", &a, &b, &mut out),
            Applied {
                written: 1,
                removed: 0
            }
        );
        assert!(
            out.contains("dnat to 10.0.0.4:80") && !out.contains("dnat to 10.0.0.2:80"),
            "{out}"
        );
        assert!(out.contains("delete chain") && !out.contains("10-0-0-3"), "{out}");
    }

    #[test]
    fn a_service_without_endpoints_has_no_way_in() {
        let layout = table(&[("a", rule(&[]))]);
        assert_eq!(layout, Layout::default());
    }

    #[test]
    fn outside_traffic_has_its_own_chain() {
        let mut r = rule(&["10.0.0.1:80"]);
        r.node_port = Some(30080);
        let layout = table(&[("a", r)]);
        assert_eq!(layout.chains.len(), 2);
        let mut out = String::new();
        render_change("t", &Layout::default(), &layout, &mut out);
        assert!(out.contains("node-ports { tcp . 30080 : goto ext-"), "{out}");
        assert!(out.contains("jump mark-outside"), "{out}");
    }
}
