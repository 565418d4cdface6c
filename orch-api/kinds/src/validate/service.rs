//! Services.

use super::check::{
    dns_label, dns_subdomain, each_number, labels, one_of, port_number_or_name, qualified_name,
    required_one_of, strings,
};
use super::meta::{self, NameRule};
use super::{ip, pod};
use crate::field::{BadValue, FieldErrors, Path};
use crate::json::Json;
use orch_core::validate as format;
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) fn create(errors: &mut FieldErrors, service: &Value) {
    meta::create(errors, service, true, NameRule::Label);
    body(errors, service, &Value::Null);
}

pub(super) fn update(errors: &mut FieldErrors, new: &Value, old: &Value) {
    meta::update(errors, new, old);
    cluster_ips_change(errors, new, old);
    ip_families_change(errors, new, old);
    let path = Path::new("spec");
    let class = |s: &Value| s.at("spec").at("loadBalancerClass").clone();
    if is_balancer(new) && is_balancer(old) && class(new) != class(old) {
        errors.invalid(
            &path.child("loadBalancerClass"),
            class(new),
            "may not change once set",
        );
    }
    balancer_class(errors, new);
    let port = |s: &Value| s.at("spec").int("healthCheckNodePort").unwrap_or(0);
    if needs_health_check(new) && needs_health_check(old) && port(new) != port(old) {
        errors.forbidden(&path.child("healthCheckNodePort"), "field is immutable");
    }
    body(errors, new, old);
}

pub(super) fn update_status(errors: &mut FieldErrors, new: &Value, old: &Value) {
    meta::update(errors, new, old);
    let path = Path::new("status");
    let path = path.child("loadBalancer");
    let path = path.child("ingress");
    let of = |s: &Value| s.dig(&["status", "loadBalancer"]).list("ingress").to_vec();
    let (now, before) = (of(new), of(old));
    let held: Vec<&str> = before.iter().map(|i| i.text("ip")).collect();
    if !now.is_empty() && !is_balancer(new) {
        errors.forbidden(&path, "may only be used when `spec.type` is 'LoadBalancer'");
        return;
    }
    for (i, ingress) in now.iter().enumerate() {
        let here = path.index(i);
        let (address, host) = (ingress.text("ip"), ingress.text("hostname"));
        if !address.is_empty() {
            ip::address(errors, &here.child("ip"), address, &held);
        }
        let mode = ingress.at("ipMode");
        if mode.is_null() && !address.is_empty() {
            errors.required(&here.child("ipMode"), "must be specified when `ip` is set");
        } else if !mode.is_null() && address.is_empty() {
            errors.forbidden(&here.child("ipMode"), "may not be specified when `ip` is not set");
        } else if !mode.is_null() {
            one_of(errors, &here.child("ipMode"), mode.string(), &["Proxy", "VIP"]);
        }
        if !host.is_empty() {
            dns_subdomain(errors, &here.child("hostname"), host);
            if ip::parse_sloppy(host).is_some() {
                errors.invalid(
                    &here.child("hostname"),
                    host,
                    "must be a DNS name, not an IP address",
                );
            }
        }
    }
}

fn is_balancer(service: &Value) -> bool {
    service.at("spec").text("type") == "LoadBalancer"
}

fn is_headless(service: &Value) -> bool {
    service.at("spec").list("clusterIPs") == [Value::from("None")]
}

fn needs_health_check(service: &Value) -> bool {
    is_balancer(service) && service.at("spec").text("externalTrafficPolicy") == "Local"
}

fn body(errors: &mut FieldErrors, service: &Value, old: &Value) {
    let (spec, path) = (service.at("spec"), Path::new("spec"));
    let annotations = service.dig(&["metadata", "annotations"]);
    let (hints, mode) = (
        "service.kubernetes.io/topology-aware-hints",
        "service.kubernetes.io/topology-mode",
    );
    if annotations.has(hints) && annotations.has(mode) && annotations.at(hints) != annotations.at(mode) {
        let meta = Path::new("metadata");
        errors.invalid(
            &meta.child("annotations").key(mode),
            annotations.text(mode),
            format!("must match annotations[{hints}] when both are specified"),
        );
    }
    let kind = spec.text("type");
    let ports = spec.list("ports");
    if ports.is_empty() && !is_headless(service) && kind != "ExternalName" {
        errors.required(&path.child("ports"), "");
    }
    by_type(errors, &path, service, kind);
    let mut names = BTreeSet::new();
    for (i, one) in ports.iter().enumerate() {
        port(
            errors,
            &path.child("ports").index(i),
            one,
            ports.len() > 1,
            &mut names,
        );
    }
    labels(errors, &path.child("selector"), spec.at("selector"));
    affinity(errors, &path, spec);
    cluster_ips(errors, &path, service, old);
    let held: Vec<&str> = strings(old.at("spec").list("externalIPs")).collect();
    for (i, address) in strings(spec.list("externalIPs")).enumerate() {
        let path = path.child("externalIPs");
        let before = errors.len();
        ip::address(errors, &path.index(i), address, &held);
        if errors.len() == before {
            endpoint_ip(errors, &path.index(i), address);
        }
    }
    let types = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    required_one_of(errors, &path.child("type"), kind, &types);
    port_clashes(errors, &path.child("ports"), ports, kind);
    source_ranges(errors, &path, service, old);
    let allocate = path.child("allocateLoadBalancerNodePorts");
    if spec.has("allocateLoadBalancerNodePorts") && kind != "LoadBalancer" {
        errors.forbidden(&allocate, "may only be used when `type` is 'LoadBalancer'");
    }
    if !spec.has("allocateLoadBalancerNodePorts") && kind == "LoadBalancer" {
        errors.required(&Path::new("allocateLoadBalancerNodePorts"), "");
    }
    balancer_class(errors, service);
    traffic_policies(errors, &path, service);
}

fn by_type(errors: &mut FieldErrors, path: &Path<'_>, service: &Value, kind: &str) {
    let spec = service.at("spec");
    match kind {
        "LoadBalancer" | "NodePort" if is_headless(service) => errors.invalid(
            &path.child("clusterIPs").index(0),
            "None",
            format!("may not be set to 'None' for {kind} services"),
        ),
        "ExternalName" => {
            const WHY: &str = "may not be set for ExternalName services";
            for list in ["clusterIPs", "ipFamilies"] {
                if !spec.list(list).is_empty() {
                    errors.forbidden(&path.child(list), WHY);
                }
            }
            if spec.has("ipFamilyPolicy") {
                errors.forbidden(&path.child("ipFamilyPolicy"), WHY);
            }
            let name = spec.text("externalName");
            let name = name.strip_suffix('.').unwrap_or(name);
            if name.is_empty() {
                errors.required(&path.child("externalName"), "");
            } else {
                dns_subdomain(errors, &path.child("externalName"), name);
            }
        }
        _ => {}
    }
}

fn port<'a>(
    errors: &mut FieldErrors,
    path: &Path<'_>,
    port: &'a Value,
    needs_name: bool,
    names: &mut BTreeSet<&'a str>,
) {
    let name = port.text("name");
    if name.is_empty() {
        if needs_name {
            errors.required(&path.child("name"), "");
        }
    } else {
        dns_label(errors, &path.child("name"), name);
        if !names.insert(name) {
            errors.duplicate(&path.child("name"), name);
        }
    }
    let number = port.int("port").unwrap_or(0);
    each_number(errors, &path.child("port"), number, format::port_number(number));
    pod::protocol(errors, &path.child("protocol"), port.text("protocol"));
    port_number_or_name(errors, &path.child("targetPort"), port.at("targetPort"));
    if port.has("appProtocol") {
        qualified_name(errors, &path.child("appProtocol"), port.text("appProtocol"));
    }
}

fn affinity(errors: &mut FieldErrors, path: &Path<'_>, spec: &Value) {
    let kind = spec.text("sessionAffinity");
    required_one_of(
        errors,
        &path.child("sessionAffinity"),
        kind,
        &["ClientIP", "None"],
    );
    let config = spec.at("sessionAffinityConfig");
    let path = path.child("sessionAffinityConfig");
    if kind == "None" && !config.is_null() {
        errors.forbidden(&path, "must not be set when session affinity is None");
    }
    if kind != "ClientIP" {
        return;
    }
    const WHEN: &str = "when session affinity type is ClientIP";
    let client = path.child("clientIP");
    let timeout = client.child("timeoutSeconds");
    match (
        config.is_null(),
        config.has("clientIP"),
        config.at("clientIP").int("timeoutSeconds"),
    ) {
        (true, _, _) => errors.required(&path, WHEN),
        (_, false, _) => errors.required(&client, WHEN),
        (_, _, None) => errors.required(&timeout, WHEN),
        (_, _, Some(seconds)) if !(1..=86_400).contains(&seconds) => {
            errors.invalid(&timeout, seconds, "must be greater than 0 and less than 86400");
        }
        _ => {}
    }
}

fn cluster_ips(errors: &mut FieldErrors, path: &Path<'_>, service: &Value, old: &Value) {
    let spec = service.at("spec");
    if spec.text("type") == "ExternalName" {
        return;
    }
    let list = spec.list("clusterIPs");
    let ips: Vec<&str> = strings(list).collect();
    let here = path.child("clusterIPs");
    let ip = spec.text("clusterIP");
    match (ip.is_empty(), ips.first()) {
        (false, None) => errors.required(&here, ""),
        (false, Some(first)) if *first != ip => {
            errors.invalid(&here, list.to_vec(), "first value must match `clusterIP`");
        }
        (true, Some(_)) => errors.invalid(
            &here,
            list.to_vec(),
            "must be empty when `clusterIP` is not specified",
        ),
        _ => {}
    }
    let families: Vec<&str> = strings(spec.list("ipFamilies")).collect();
    let mut seen = BTreeSet::new();
    for (i, family) in families.iter().enumerate() {
        let path = path.child("ipFamilies");
        one_of(errors, &path.index(i), family, &["IPv4", "IPv6"]);
        if !seen.insert(family) {
            errors.duplicate(&path.index(i), *family);
        }
    }
    if spec.has("ipFamilyPolicy") {
        let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
        one_of(
            errors,
            &path.child("ipFamilyPolicy"),
            spec.text("ipFamilyPolicy"),
            &policies,
        );
    }
    let held: Vec<&str> = strings(old.at("spec").list("clusterIPs")).collect();
    let mut invalid = false;
    for (i, ip) in ips.iter().enumerate() {
        if i == 0 && *ip == "None" {
            if ips.len() > 1 {
                invalid = true;
                errors.invalid(&here, list.to_vec(), "'None' must be the first and only value");
            }
            continue;
        }
        let before = errors.len();
        ip::address(errors, &here.index(i), ip, &held);
        invalid |= errors.len() > before;
    }
    if ips.len() > 2 {
        errors.invalid(&here, list.to_vec(), "may only hold up to 2 values");
    }
    if invalid {
        return;
    }
    if ips.len() > 1 && !ip::is_dual_stack(&ips) {
        errors.invalid(
            &here,
            list.to_vec(),
            "may specify no more than one IP for each IP family",
        );
    }
    if is_headless(service) {
        return;
    }
    for (i, (ip, family)) in ips.iter().zip(&families).enumerate() {
        let v6 = ip::is_v6(ip);
        if (*family == "IPv4" && v6) || (*family == "IPv6" && !v6) {
            errors.invalid(
                &here.index(i),
                *ip,
                format!("expected an {family} value as indicated by `ipFamilies[{i}]`"),
            );
        }
    }
}

/// Addresses that no one outside this machine can use.
pub(super) fn endpoint_ip(errors: &mut FieldErrors, path: &Path<'_>, address: &str) {
    let Some(ip) = ip::parse_sloppy(address) else {
        errors.invalid(path, address, "must be a valid IP address");
        return;
    };
    let (unspecified, loopback) = (ip.is_unspecified(), ip.is_loopback());
    let (link_unicast, link_multicast) = match ip {
        std::net::IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        std::net::IpAddr::V6(v6) => (
            (v6.segments()[0] & 0xffc0) == 0xfe80,
            (v6.segments()[0] & 0xff0f) == 0xff02,
        ),
    };
    if unspecified {
        errors.invalid(path, address, format!("may not be unspecified ({address})"));
    }
    if loopback {
        errors.invalid(
            path,
            address,
            "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        );
    }
    if link_unicast {
        errors.invalid(
            path,
            address,
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
        );
    }
    if link_multicast {
        errors.invalid(
            path,
            address,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        );
    }
}

fn port_clashes(errors: &mut FieldErrors, path: &Path<'_>, ports: &[Value], kind: &str) {
    let node_port = |p: &Value| p.int("nodePort").unwrap_or(0);
    if kind == "ClusterIP" {
        for (i, _) in ports.iter().enumerate().filter(|(_, p)| node_port(p) != 0) {
            errors.forbidden(
                &path.index(i).child("nodePort"),
                "may not be used when `type` is 'ClusterIP'",
            );
        }
    }
    let mut seen = BTreeSet::new();
    for (i, port) in ports.iter().enumerate().filter(|(_, p)| node_port(p) != 0) {
        if !seen.insert((port.text("protocol"), node_port(port))) {
            errors.duplicate(&path.index(i).child("nodePort"), node_port(port));
        }
    }
    let mut seen = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let (protocol, number) = (port.text("protocol"), port.int("port").unwrap_or(0));
        if !seen.insert((protocol, number)) {
            // The clash is shown as upstream's internal form of a port shows it.
            let shown = format!(
                "{{\"Name\":\"\",\"Protocol\":\"{protocol}\",\"AppProtocol\":null,\"Port\":{number},\"TargetPort\":0,\
                 \"NodePort\":0}}"
            );
            errors.duplicate(&path.index(i), BadValue::Raw(shown));
        }
    }
}

fn source_ranges(errors: &mut FieldErrors, path: &Path<'_>, service: &Value, old: &Value) {
    const WHEN: &str = "may only be used when `type` is 'LoadBalancer'";
    const KEY: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let spec = service.at("spec");
    let ranges = spec.list("loadBalancerSourceRanges");
    let balancer = spec.text("type") == "LoadBalancer";
    if !ranges.is_empty() {
        let path = path.child("LoadBalancerSourceRanges");
        if !balancer {
            errors.forbidden(&path, WHEN);
        }
        let held: Vec<&str> = strings(old.at("spec").list("loadBalancerSourceRanges"))
            .map(str::trim)
            .collect();
        for (i, range) in strings(ranges).enumerate() {
            ip::cidr(errors, &path.index(i), range.trim(), &held);
        }
        return;
    }
    let Some(text) = service.dig(&["metadata", "annotations"]).at(KEY).as_str() else {
        return;
    };
    let meta = Path::new("metadata");
    let path = meta.child("annotations");
    let path = path.key(KEY);
    if !balancer {
        errors.forbidden(&path, WHEN);
    }
    if old.dig(&["metadata", "annotations"]).at(KEY).as_str() != Some(text) && !text.trim().is_empty() {
        for range in text.split(',') {
            ip::cidr(errors, &path, range.trim(), &[]);
        }
    }
}

fn balancer_class(errors: &mut FieldErrors, service: &Value) {
    let spec = service.at("spec");
    if !spec.has("loadBalancerClass") {
        return;
    }
    let path = Path::new("spec");
    let path = path.child("loadBalancerClass");
    if is_balancer(service) {
        qualified_name(errors, &path, spec.text("loadBalancerClass"));
    } else {
        errors.forbidden(&path, "may only be used when `type` is 'LoadBalancer'");
    }
}

fn traffic_policies(errors: &mut FieldErrors, path: &Path<'_>, service: &Value) {
    let spec = service.at("spec");
    let kind = spec.text("type");
    let external = matches!(kind, "LoadBalancer" | "NodePort")
        || (kind == "ClusterIP" && !spec.list("externalIPs").is_empty());
    let policy = spec.text("externalTrafficPolicy");
    let here = path.child("externalTrafficPolicy");
    if external {
        required_one_of(errors, &here, policy, &["Cluster", "Local"]);
    } else if !policy.is_empty() {
        errors.invalid(
            &here,
            policy,
            "may only be set for externally-accessible services",
        );
    }
    let port = spec.int("healthCheckNodePort").unwrap_or(0);
    let here = path.child("healthCheckNodePort");
    if !needs_health_check(service) {
        if port != 0 {
            errors.invalid(
                &here,
                port,
                "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
            );
        }
    } else if port == 0 {
        errors.required(&here, "");
    } else {
        each_number(errors, &here, port, format::port_number(port));
    }
    let here = path.child("internalTrafficPolicy");
    if spec.has("internalTrafficPolicy") {
        one_of(
            errors,
            &here,
            spec.text("internalTrafficPolicy"),
            &["Cluster", "Local"],
        );
    } else if matches!(kind, "NodePort" | "LoadBalancer" | "ClusterIP") {
        errors.required(&here, "");
    }
    if spec.has("trafficDistribution") {
        let known = ["PreferClose", "PreferSameZone", "PreferSameNode"];
        one_of(
            errors,
            &path.child("trafficDistribution"),
            spec.text("trafficDistribution"),
            &known,
        );
    }
}

fn cluster_ips_change(errors: &mut FieldErrors, new: &Value, old: &Value) {
    let named = |s: &Value| s.at("spec").text("type") == "ExternalName";
    if named(new) || named(old) || (is_headless(new) && is_headless(old)) {
        return;
    }
    let path = Path::new("spec");
    let here = path.child("clusterIPs");
    let (now, before) = (
        new.at("spec").list("clusterIPs"),
        old.at("spec").list("clusterIPs"),
    );
    const FIXED: &str = "may not change once set";
    if now.len() == before.len() {
        for (i, _) in now.iter().zip(before).enumerate().filter(|(_, (a, b))| a != b) {
            errors.invalid(&here.index(i), now.to_vec(), FIXED);
        }
        return;
    }
    if now.is_empty() {
        errors.invalid(&here.index(0), now.to_vec(), "primary clusterIP can not be unset");
    }
    if let (Some(first), Some(held)) = (now.first(), before.first())
        && first != held
    {
        errors.invalid(&here.index(0), now.to_vec(), FIXED);
    }
    let policy = new.at("spec").at("ipFamilyPolicy");
    if before.len() > now.len() && now.len() == 1 && policy != "SingleStack" {
        errors.invalid(
            &path.child("ipFamilyPolicy"),
            policy.clone(),
            "must be set to 'SingleStack' when releasing the secondary clusterIP",
        );
    }
}

fn ip_families_change(errors: &mut FieldErrors, new: &Value, old: &Value) {
    let named = |s: &Value| s.at("spec").text("type") == "ExternalName";
    if named(new) || named(old) || is_headless(new) || is_headless(old) {
        return;
    }
    let path = Path::new("spec");
    let here = path.child("ipFamilies");
    let (spec, held) = (new.at("spec"), old.at("spec"));
    let (now, before) = (spec.list("ipFamilies"), held.list("ipFamilies"));
    const FIXED: &str = "may not change once set";
    if now.len() == before.len() {
        for _ in now.iter().zip(before).filter(|(a, b)| a != b) {
            errors.invalid(&here.index(0), now.to_vec(), FIXED);
        }
        return;
    }
    if before.len() > now.len() && spec.list("clusterIPs").is_empty() {
        errors.invalid(&here.index(0), now.to_vec(), "primary ipFamily can not be unset");
    }
    if let (Some(first), Some(held)) = (now.first(), before.first())
        && first != held
    {
        errors.invalid(&here.index(0), spec.list("clusterIPs").to_vec(), FIXED);
    }
    if before.len() > now.len() && now.len() == 1 && spec.at("ipFamilyPolicy") != "SingleStack" {
        errors.invalid(
            &path.child("ipFamilyPolicy"),
            spec.at("ipFamilyPolicy").clone(),
            "must be set to 'SingleStack' when releasing the secondary ipFamily",
        );
    }
}
