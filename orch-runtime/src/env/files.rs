//! `/etc/hosts`, `/etc/resolv.conf` and the host name of a pod.

use crate::agent::spec;
use k8s_openapi::api::core::v1::Pod;
use std::{fmt::Write as _, net::IpAddr};

/// Host name of the pod, and its domain if it has a subdomain.
#[must_use]
pub fn host_name(pod: &Pod, cluster_domain: &str) -> (String, String) {
    let spec = spec::spec(pod);
    let short = |name: &str| {
        // A host name has at most 63 characters.
        let cut: String = name.chars().take(63).collect();
        if cut.len() < name.len() {
            cut.trim_end_matches(['-', '.']).to_owned()
        } else {
            cut
        }
    };
    let set = |field: &Option<String>| field.clone().filter(|f| !f.is_empty());
    if let Some(name) = set(&spec.hostname_override) {
        return (short(&name), String::new());
    }
    let name = short(&set(&spec.hostname).unwrap_or_else(|| spec::name(pod).to_owned()));
    let domain = set(&spec.subdomain).map(|s| format!("{s}.{}.svc.{cluster_domain}", spec::namespace(pod)));
    (name, domain.unwrap_or_default())
}

/// The hosts file of a pod. `node_hosts` is the machine's own, for pods on the host's network.
#[must_use]
pub fn hosts_file(pod: &Pod, ips: &[IpAddr], cluster_domain: &str, node_hosts: &str) -> String {
    let mut out = String::new();
    if spec::host_network(pod) {
        out.push_str("# Kubernetes-managed hosts file (host network).\n");
        out.push_str(node_hosts);
    } else {
        let (name, domain) = host_name(pod, cluster_domain);
        out.push_str(
            "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
             fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
        );
        for ip in ips {
            // Writing to a string cannot fail.
            let _ = match domain.as_str() {
                "" => writeln!(out, "{ip}\t{name}"),
                domain => writeln!(out, "{ip}\t{name}.{domain}\t{name}"),
            };
        }
    }
    let aliases = spec::spec(pod).host_aliases.as_deref().unwrap_or_default();
    if !aliases.is_empty() {
        out.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
            let _ = writeln!(out, "{}\t{names}", alias.ip);
        }
    }
    out
}

/// Content of a `resolv.conf`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResolvConf {
    /// Name servers in order.
    pub servers: Vec<String>,
    /// Search domains in order.
    pub searches: Vec<String>,
    /// Options, such as `ndots:5`.
    pub options: Vec<String>,
}

/// How the node's pods find names.
#[derive(Debug, Clone, Default)]
pub struct DnsConfig {
    /// Addresses of the cluster DNS.
    pub cluster_dns: Vec<IpAddr>,
    /// Domain of the cluster, such as `cluster.local`.
    pub cluster_domain: String,
    /// The machine's own configuration.
    pub host: ResolvConf,
}

/// Reads the text of a `resolv.conf`.
#[must_use]
pub fn parse_resolv_conf(text: &str) -> ResolvConf {
    let mut out = ResolvConf::default();
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or("");
        let mut words = line.split_whitespace();
        let (Some(key), values) = (words.next(), words.map(str::to_owned)) else {
            continue;
        };
        match key {
            "nameserver" => out.servers.extend(values.take(1)),
            // The last search line counts.
            "search" => {
                out.searches = values
                    .map(|s| {
                        if s == "." {
                            s
                        } else {
                            s.trim_end_matches('.').to_owned()
                        }
                    })
                    .collect();
            }
            "options" => out.options = values.collect(),
            _ => {}
        }
    }
    out
}

const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARS: usize = 2048;

fn push_new(list: &mut Vec<String>, more: impl IntoIterator<Item = String>) {
    for item in more {
        if !list.contains(&item) {
            list.push(item);
        }
    }
}

/// The name resolution of a pod by its policy and its own settings.
#[must_use]
pub fn resolv_conf(pod: &Pod, dns: &DnsConfig) -> ResolvConf {
    let spec = spec::spec(pod);
    let cluster = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "None" => None,
        "Default" => Some(false),
        "ClusterFirstWithHostNet" => Some(true),
        _ => Some(!spec::host_network(pod)),
    };
    let mut out = match cluster {
        None => ResolvConf::default(),
        Some(true) if !dns.cluster_dns.is_empty() => {
            let domain = &dns.cluster_domain;
            let mut searches = Vec::new();
            if !domain.is_empty() {
                let namespace = spec::namespace(pod);
                push_new(
                    &mut searches,
                    [
                        format!("{namespace}.svc.{domain}"),
                        format!("svc.{domain}"),
                        domain.clone(),
                    ],
                );
            }
            push_new(&mut searches, dns.host.searches.iter().cloned());
            ResolvConf {
                servers: dns.cluster_dns.iter().map(ToString::to_string).collect(),
                searches,
                options: vec!["ndots:5".into()],
            }
        }
        Some(_) => dns.host.clone(),
    };
    if let Some(own) = &spec.dns_config {
        push_new(&mut out.servers, own.nameservers.iter().flatten().cloned());
        push_new(&mut out.searches, own.searches.iter().flatten().cloned());
        for option in own.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            out.options.retain(|o| o.split(':').next() != Some(name.as_str()));
            out.options.push(match option.value.as_deref() {
                Some(value) if !value.is_empty() => format!("{name}:{value}"),
                _ => name,
            });
        }
    }
    out.servers.truncate(MAX_SERVERS);
    out.searches.retain(|s| s.len() <= 253);
    out.searches.truncate(MAX_SEARCHES);
    while out.searches.iter().map(|s| s.len() + 1).sum::<usize>() > MAX_SEARCH_CHARS + 1 {
        out.searches.pop();
    }
    out
}

impl std::fmt::Display for ResolvConf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.searches.is_empty() {
            writeln!(f, "search {}", self.searches.join(" "))?;
        }
        for server in &self.servers {
            writeln!(f, "nameserver {server}")?;
        }
        if !self.options.is_empty() {
            writeln!(f, "options {}", self.options.join(" "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "web-0", "namespace": "n"}, "spec": spec}))
            .unwrap()
    }

    #[test]
    fn names() {
        let long = "a".repeat(62) + "-b";
        for (spec, expected) in [
            (json!({"containers": []}), ("web-0", "")),
            (
                json!({"containers": [], "hostname": "h", "subdomain": "s"}),
                ("h", "s.n.svc.cluster.local"),
            ),
            (
                json!({"containers": [], "hostnameOverride": "o.example", "subdomain": "s"}),
                ("o.example", ""),
            ),
            (
                json!({"containers": [], "hostname": long}),
                (&"a".repeat(62)[..], ""),
            ),
        ] {
            let (name, domain) = host_name(&pod(spec.clone()), "cluster.local");
            assert_eq!((name.as_str(), domain.as_str()), expected, "{spec}");
        }
    }

    #[test]
    fn hosts() {
        let p = pod(json!({"containers": [], "hostname": "h", "subdomain": "s",
            "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["x", "y"]}]}));
        let text = hosts_file(&p, &["10.0.0.1".parse().unwrap()], "c.local", "");
        assert!(text.contains("\n10.0.0.1\th.s.n.svc.c.local\th\n"));
        assert!(text.ends_with("\n# Entries added by HostAliases.\n1.2.3.4\tx\ty\n"));
        let p = pod(json!({"containers": [], "hostNetwork": true}));
        assert!(hosts_file(&p, &[], "c.local", "127.0.0.1 me\n").ends_with("127.0.0.1 me\n"));
    }

    #[test]
    fn resolution() {
        let dns = DnsConfig {
            cluster_dns: vec!["10.96.0.10".parse().unwrap()],
            cluster_domain: "cluster.local".into(),
            host: parse_resolv_conf("# x\nnameserver 8.8.8.8\nsearch corp.\noptions rotate\n"),
        };
        let cluster = "search n.svc.cluster.local svc.cluster.local cluster.local corp\n\
                       nameserver 10.96.0.10\noptions ndots:5\n";
        let host = "search corp\nnameserver 8.8.8.8\noptions rotate\n";
        for (spec, expected) in [
            (json!({"containers": []}), cluster),
            (
                json!({"containers": [], "dnsPolicy": "ClusterFirst", "hostNetwork": true}),
                host,
            ),
            (
                json!({"containers": [], "dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true}),
                cluster,
            ),
            (json!({"containers": [], "dnsPolicy": "Default"}), host),
            (
                json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"],
                "searches": ["a"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}}),
                "search a\nnameserver 1.1.1.1\noptions ndots:2 edns0\n",
            ),
        ] {
            assert_eq!(
                resolv_conf(&pod(spec.clone()), &dns).to_string(),
                expected,
                "{spec}"
            );
        }
    }
}
