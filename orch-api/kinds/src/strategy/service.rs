//! Services: the fields that go together, and those that lose their meaning when the type changes.

use super::keep;
use crate::json::{Json, JsonMut};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Whether the Service has cluster IPs (all but `ExternalName`; `None` counts as one).
#[must_use]
pub fn needs_cluster_ip(service: &Value) -> bool {
    service.at("spec").text("type") != "ExternalName"
}

/// Whether the Service has node ports.
#[must_use]
pub fn needs_node_port(service: &Value) -> bool {
    matches!(service.at("spec").text("type"), "NodePort" | "LoadBalancer")
}

/// Whether the Service has a node port for health checks.
#[must_use]
pub fn needs_health_check_node_port(service: &Value) -> bool {
    let spec = service.at("spec");
    spec.text("type") == "LoadBalancer" && spec.text("externalTrafficPolicy") == "Local"
}

pub(super) fn externally_accessible(service: &Value) -> bool {
    let spec = service.at("spec");
    match spec.text("type") {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !spec.list("externalIPs").is_empty(),
        _ => false,
    }
}

pub(super) fn create(service: &mut Value) {
    service.set("status", json!({"loadBalancer": {}}));
    let Some(spec) = service.ensure("spec") else {
        return;
    };
    let ip = spec.text("clusterIP").to_owned();
    if !ip.is_empty() && spec.list("clusterIPs").is_empty() {
        spec.set("clusterIPs", vec![ip]);
    }
}

pub(super) fn update(new: &mut Value, old: &Value) {
    patch_allocated(new, old);
    normalize_cluster_ips(new, old);
    keep(new, old, &["status"]);
    drop_type_dependent(new, old);
}

fn same(new: &Value, old: &Value, key: &str) -> bool {
    super::semantic_eq(new.at("spec").at(key), old.at("spec").at(key))
}

fn same_cluster_ips(new: &Value, old: &Value) -> bool {
    new.at("spec").text("clusterIP") == old.at("spec").text("clusterIP")
        && new.at("spec").list("clusterIPs") == old.at("spec").list("clusterIPs")
}

fn drop_spec(service: &mut Value, keys: &[&str]) {
    if let Some(spec) = service.at_mut("spec") {
        for key in keys {
            spec.take_key(key);
        }
    }
}

fn node_ports(service: &Value) -> BTreeSet<i64> {
    service
        .at("spec")
        .list("ports")
        .iter()
        .filter_map(|p| p.int("nodePort"))
        .filter(|p| *p != 0)
        .collect()
}

/// Fields that a change of type leaves without meaning go, if the client did not touch them.
fn drop_type_dependent(new: &mut Value, old: &Value) {
    if needs_cluster_ip(old) && !needs_cluster_ip(new) {
        if same_cluster_ips(new, old) {
            drop_spec(new, &["clusterIP", "clusterIPs"]);
        }
        for key in ["ipFamilies", "ipFamilyPolicy"] {
            if same(new, old, key) {
                drop_spec(new, &[key]);
            }
        }
    }
    if needs_node_port(old) && !needs_node_port(new) && node_ports(new).is_subset(&node_ports(old)) {
        for port in new.at_mut("spec").map_or(&mut [][..], |s| s.list_mut("ports")) {
            port.take_key("nodePort");
        }
    }
    if needs_health_check_node_port(old)
        && !needs_health_check_node_port(new)
        && same(new, old, "healthCheckNodePort")
    {
        drop_spec(new, &["healthCheckNodePort"]);
    }
    let balancer = |s: &Value| s.at("spec").text("type") == "LoadBalancer";
    if balancer(old) && !balancer(new) {
        for key in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if same(new, old, key) {
                drop_spec(new, &[key]);
            }
        }
    }
    if externally_accessible(old) && !externally_accessible(new) && same(new, old, "externalTrafficPolicy") {
        drop_spec(new, &["externalTrafficPolicy"]);
    }
    if !balancer(new)
        && let Some(status) = new.ensure("status")
    {
        status.set("loadBalancer", json!({}));
    }
}

/// Values that the cluster allocated come back where the client left them out.
fn patch_allocated(new: &mut Value, old: &Value) {
    let both = |test: fn(&Value) -> bool, new: &Value| test(old) && test(new);
    if both(needs_cluster_ip, new) {
        let held = old.at("spec");
        if let Some(spec) = new.at_mut("spec") {
            if spec.text("clusterIP").is_empty() && !held.text("clusterIP").is_empty() {
                spec.set("clusterIP", held.at("clusterIP").clone());
            }
            if spec.list("clusterIPs").is_empty() && !held.list("clusterIPs").is_empty() {
                spec.set("clusterIPs", held.at("clusterIPs").clone());
            }
        }
    }
    if both(needs_node_port, new) {
        let used: BTreeSet<i64> = node_ports(old).intersection(&node_ports(new)).copied().collect();
        let held: BTreeMap<&str, i64> = old
            .at("spec")
            .list("ports")
            .iter()
            .map(|p| (p.text("name"), p.int("nodePort").unwrap_or(0)))
            .collect();
        for port in new.at_mut("spec").map_or(&mut [][..], |s| s.list_mut("ports")) {
            let number = held.get(port.text("name")).copied().unwrap_or(0);
            if port.int("nodePort").unwrap_or(0) == 0 && number != 0 && !used.contains(&number) {
                port.set("nodePort", number);
            }
        }
    }
    if both(needs_health_check_node_port, new) {
        let number = old.at("spec").int("healthCheckNodePort").unwrap_or(0);
        if number != 0
            && let Some(spec) = new.at_mut("spec")
        {
            spec.default_number("healthCheckNodePort", number);
        }
    }
}

/// Keeps `clusterIP` and `clusterIPs` in step for clients that know only the first.
fn normalize_cluster_ips(new: &mut Value, old: &Value) {
    let (ip, held) = (
        new.at("spec").text("clusterIP").to_owned(),
        old.at("spec").text("clusterIP").to_owned(),
    );
    let held_list = old.at("spec").list("clusterIPs").to_vec();
    let Some(spec) = new.at_mut("spec") else { return };
    if !held_list.is_empty() && spec.list("clusterIPs").is_empty() && ip == held {
        spec.set("clusterIPs", held_list.clone());
    }
    if ip == held || spec.list("clusterIPs") != held_list {
        return;
    }
    // A client of the old field changed it and sent the new one back as it was.
    if ip.is_empty() {
        spec.take_key("clusterIPs");
    } else {
        spec.set("clusterIPs", vec![ip]);
    }
}
