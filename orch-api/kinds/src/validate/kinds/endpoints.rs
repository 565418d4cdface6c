//! Endpoints and EndpointSlices.

use crate::field::{FieldError, FieldErrors, Path};
use crate::json::Json;
use crate::strategy::semantic_eq;
use crate::validate::check::{
    dns_label, dns_subdomain, each, each_number, immutable, one_of, qualified_name, required_one_of, strings,
};
use crate::validate::meta::{self, NameRule};
use crate::validate::service::endpoint_ip;
use crate::validate::{ip, pod};
use orch_core::validate as format;
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) fn endpoints(errors: &mut FieldErrors, object: &Value, old: &Value) {
    meta::create(errors, object, true, NameRule::Subdomain);
    let mut found = FieldErrors::new();
    subsets(&mut found, &Path::new("subsets"), object.list("subsets"));
    // What was there before stays allowed, as long as it is not touched.
    if old.is_null() || !semantic_eq(object.at("subsets"), old.at("subsets")) {
        errors.append(found);
    }
}

pub(super) fn update_endpoints(errors: &mut FieldErrors, new: &Value, old: &Value) {
    meta::update(errors, new, old);
    endpoints(errors, new, old);
}

fn subsets(errors: &mut FieldErrors, path: &Path<'_>, subsets: &[Value]) {
    for (i, subset) in subsets.iter().enumerate() {
        let here = path.index(i);
        if subset.list("addresses").is_empty() && subset.list("notReadyAddresses").is_empty() {
            errors.required(&here, "must specify `addresses` or `notReadyAddresses`");
        }
        for list in ["addresses", "notReadyAddresses"] {
            for (j, address) in subset.list(list).iter().enumerate() {
                let path = here.child(list);
                one_address(errors, &path.index(j), address);
            }
        }
        let ports = subset.list("ports");
        for (j, port) in ports.iter().enumerate() {
            let path = here.child("ports");
            let here = path.index(j);
            let name = port.text("name");
            if !name.is_empty() {
                dns_label(errors, &here.child("name"), name);
            } else if ports.len() > 1 {
                errors.required(&here.child("name"), "");
            }
            let number = port.int("port").unwrap_or(0);
            each_number(errors, &here.child("port"), number, format::port_number(number));
            pod::protocol(errors, &here.child("protocol"), port.text("protocol"));
            if port.has("appProtocol") {
                qualified_name(errors, &here.child("appProtocol"), port.text("appProtocol"));
            }
        }
    }
}

fn one_address(errors: &mut FieldErrors, path: &Path<'_>, address: &Value) {
    ip::address(errors, &path.child("ip"), address.text("ip"), &[]);
    if !address.text("hostname").is_empty() {
        dns_label(errors, &path.child("hostname"), address.text("hostname"));
    }
    if address.has("nodeName") {
        dns_subdomain(errors, &path.child("nodeName"), address.text("nodeName"));
    }
    endpoint_ip(errors, &path.child("ip"), address.text("ip"));
}

pub(super) fn slice(errors: &mut FieldErrors, object: &Value, old: &Value) {
    meta::create(errors, object, true, NameRule::Subdomain);
    let kind = object.text("addressType");
    required_one_of(errors, &Path::new("addressType"), kind, &["FQDN", "IPv4", "IPv6"]);
    ports(errors, &Path::new("ports"), object.list("ports"));
    let mut found = FieldErrors::new();
    slice_endpoints(
        &mut found,
        &Path::new("endpoints"),
        object.list("endpoints"),
        kind,
    );
    if old.is_null() || !semantic_eq(object.at("endpoints"), old.at("endpoints")) {
        errors.append(found);
    }
}

pub(super) fn update_slice(errors: &mut FieldErrors, new: &Value, old: &Value) {
    slice(errors, new, old);
    immutable(
        errors,
        &Path::new("addressType"),
        new.at("addressType"),
        old.at("addressType"),
    );
}

fn ports(errors: &mut FieldErrors, path: &Path<'_>, ports: &[Value]) {
    if ports.len() > 20_000 {
        errors.push(FieldError::too_many(path, ports.len(), 20_000));
        return;
    }
    let mut names = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let here = path.index(i);
        let name = port.text("name");
        if !name.is_empty() {
            dns_label(errors, &here.child("name"), name);
        }
        if !names.insert(name) {
            errors.duplicate(&here.child("name"), name);
        }
        if port.has("protocol") {
            one_of(
                errors,
                &here.child("protocol"),
                port.text("protocol"),
                &["SCTP", "TCP", "UDP"],
            );
        } else {
            errors.required(&here.child("protocol"), "");
        }
        if port.has("appProtocol") {
            qualified_name(errors, &here.child("appProtocol"), port.text("appProtocol"));
        }
    }
}

fn slice_endpoints(errors: &mut FieldErrors, path: &Path<'_>, endpoints: &[Value], kind: &str) {
    if endpoints.len() > 1000 {
        errors.push(FieldError::too_many(path, endpoints.len(), 1000));
        return;
    }
    for (i, endpoint) in endpoints.iter().enumerate() {
        let here = path.index(i);
        let addresses = endpoint.list("addresses");
        let list = here.child("addresses");
        if addresses.is_empty() {
            errors.required(&list, "must contain at least 1 address");
        } else if addresses.len() > 100 {
            errors.push(FieldError::too_many(&list, addresses.len(), 100));
        }
        for (j, address) in strings(addresses).enumerate() {
            slice_address(errors, &list, j, address, kind);
        }
        if endpoint.has("nodeName") {
            dns_subdomain(errors, &here.child("nodeName"), endpoint.text("nodeName"));
        }
        if endpoint.has("hostname") {
            dns_label(errors, &here.child("hostname"), endpoint.text("hostname"));
        }
        let hints = endpoint.at("hints");
        for (key, is_zone) in [("forZones", true), ("forNodes", false)] {
            let path = here.child("hints");
            let path = path.child(key);
            let list = hints.list(key);
            if list.len() > 8 {
                errors.push(FieldError::too_many(&path, list.len(), 8));
                break;
            }
            let mut names = BTreeSet::new();
            for (j, hint) in list.iter().enumerate() {
                let here = path.index(j);
                let (here, name) = (here.child("name"), hint.text("name"));
                if !names.insert(name) {
                    errors.duplicate(&here, name);
                }
                let wrong = if is_zone {
                    format::label_value(name)
                } else {
                    format::dns1123_subdomain(name)
                };
                each(errors, &here, name, wrong);
            }
        }
    }
}

fn slice_address(errors: &mut FieldErrors, list: &Path<'_>, index: usize, address: &str, kind: &str) {
    let here = list.index(index);
    let before = errors.len();
    match kind {
        "IPv4" => ip::address(errors, &here, address, &[]),
        "IPv6" => ip::strict_address(errors, &here, address),
        "FQDN" => {
            full_domain(errors, &here, address);
            return;
        }
        _ => return,
    }
    if errors.len() == before {
        let v6 = ip::is_v6(address);
        if (kind == "IPv6") != v6 {
            errors.invalid(list, address, format!("must be an {kind} address"));
        }
        endpoint_ip(errors, &here, address);
    }
}

/// A domain of two labels or more, with or without the last dot.
fn full_domain(errors: &mut FieldErrors, path: &Path<'_>, address: &str) {
    if address.is_empty() {
        errors.required(path, "");
        return;
    }
    let name = address.strip_suffix('.').unwrap_or(address);
    let wrong = format::dns1123_subdomain(name);
    if !wrong.is_empty() {
        errors.invalid(path, name, wrong.join(","));
        return;
    }
    if !name.contains('.') {
        errors.invalid(
            path,
            name,
            "should be a domain with at least two segments separated by dots",
        );
        return;
    }
    for label in name.split('.') {
        let wrong = format::dns1123_label(label);
        if !wrong.is_empty() {
            errors.invalid(path, label, wrong.join(","));
            return;
        }
    }
}
