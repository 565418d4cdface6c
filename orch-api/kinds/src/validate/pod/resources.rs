//! Resource requests and limits, of containers and of whole pods.

use super::Context;
use crate::defaults::aggregate_requests;
use crate::field::{FieldError, FieldErrors, Path};
use crate::json::Json;
use crate::validate::check::{NEGATIVE, dns_label, qualified_name};
use orch_core::quantity::Quantity;
use orch_core::validate as format;
use serde_json::Value;
use std::collections::BTreeSet;

/// A quantity of a list; a malformed one counts as zero (decoding refuses it).
fn amount(list: &Value, name: &str) -> Option<Quantity> {
    list.at(name)
        .some()
        .map(|v| v.string().parse().unwrap_or_default())
}

pub(in crate::validate) fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && format::qualified_name(&format!("requests.{name}")).is_empty()
}

fn overcommit_allowed(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

const STANDARD: [&str; 20] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
];

fn resource_name(errors: &mut FieldErrors, path: &Path<'_>, name: &str) {
    let before = errors.len();
    qualified_name(errors, path, name);
    let standard = STANDARD.contains(&name) || is_huge_page(name) || name.starts_with("requests.hugepages-");
    if errors.len() == before && !name.contains('/') && !standard {
        errors.invalid(path, name, "must be a standard resource type or fully qualified");
    }
}

fn container_resource_name(errors: &mut FieldErrors, path: &Path<'_>, name: &str) {
    resource_name(errors, path, name);
    if !name.contains('/') {
        if !(matches!(name, "cpu" | "memory" | "ephemeral-storage") || is_huge_page(name)) {
            errors.invalid(path, name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.invalid(path, name, "doesn't follow extended resource name standard");
    }
}

fn pod_resource_name(errors: &mut FieldErrors, path: &Path<'_>, name: &str) {
    let before = errors.len();
    resource_name(errors, path, name);
    if errors.len() == before && !(matches!(name, "cpu" | "memory") || is_huge_page(name)) {
        errors.not_supported(path, name, &["cpu", "hugepages-", "memory"]);
    }
}

/// An amount of `name`: not negative, and whole if the resource is counted.
pub(in crate::validate) fn quantity(
    errors: &mut FieldErrors,
    path: &Path<'_>,
    name: &str,
    amount: &Quantity,
) {
    if amount.sign() < 0 {
        errors.invalid(path, amount.to_string(), NEGATIVE);
    }
    let counted = matches!(
        name,
        "pods"
            | "resourcequotas"
            | "services"
            | "replicationcontrollers"
            | "secrets"
            | "configmaps"
            | "persistentvolumeclaims"
            | "services.nodeports"
            | "services.loadbalancers"
    ) || is_extended(name);
    if counted && amount.milli_value() % 1000 != 0 {
        errors.invalid(path, amount.to_string(), "must be an integer");
    }
}

fn huge_page(errors: &mut FieldErrors, path: &Path<'_>, name: &str, amount: &Quantity) {
    let size = name
        .strip_prefix("hugepages-")
        .and_then(|s| s.parse::<Quantity>().ok());
    let divisible = size.is_some_and(|s| {
        s.sign() > 0 && s.milli_value() % 1000 == 0 && amount.value().checked_rem(s.value()) == Some(0)
    });
    if !divisible {
        errors.invalid(
            path,
            amount.to_string(),
            format!("{amount} is not positive integer multiple of {name}"),
        );
    }
}

type NameCheck = fn(&mut FieldErrors, &Path<'_>, &str);

/// The requirements of a container.
pub(super) fn container(
    errors: &mut FieldErrors,
    path: &Path<'_>,
    requirements: &Value,
    context: &Context<'_>,
) {
    requirements_of(
        errors,
        path,
        requirements,
        container_resource_name,
        &context.claims,
    );
}

/// A pod's overhead, which is checked like limits.
pub(in crate::validate) fn overhead(errors: &mut FieldErrors, path: &Path<'_>, list: &Value) {
    let as_limits = serde_json::json!({"limits": list});
    requirements_of(
        errors,
        path,
        &as_limits,
        container_resource_name,
        &BTreeSet::new(),
    );
}

fn requirements_of(
    errors: &mut FieldErrors,
    path: &Path<'_>,
    requirements: &Value,
    name_check: NameCheck,
    claims: &BTreeSet<&str>,
) {
    let (limits, requests) = (requirements.at("limits"), requirements.at("requests"));
    let (limits_path, requests_path) = (path.child("limits"), path.child("requests"));
    let (mut compute, mut huge) = (false, false);
    for (list, list_path, are_requests) in [(limits, &limits_path, false), (requests, &requests_path, true)] {
        for (name, _) in list.as_object().into_iter().flatten() {
            let here = list_path.key(name);
            let asked = amount(list, name).unwrap_or_default();
            name_check(errors, &here, name);
            quantity(errors, &here, name, &asked);
            if are_requests {
                against_limit(errors, &requests_path, &limits_path, name, &asked, limits);
            }
            if is_huge_page(name) {
                huge = true;
                huge_page(errors, &here, name, &asked);
            }
            compute |= matches!(name.as_str(), "cpu" | "memory");
        }
    }
    if huge && !compute {
        errors.forbidden(path, "HugePages require cpu or memory");
    }
    claim_names(errors, &path.child("claims"), requirements, claims);
}

fn against_limit(
    errors: &mut FieldErrors,
    requests_path: &Path<'_>,
    limits_path: &Path<'_>,
    name: &str,
    asked: &Quantity,
    limits: &Value,
) {
    match amount(limits, name) {
        Some(limit) if *asked != limit && !overcommit_allowed(name) => errors.invalid(
            requests_path,
            asked.to_string(),
            format!("must be equal to {name} limit of {limit}"),
        ),
        Some(limit) if *asked > limit => errors.invalid(
            requests_path,
            asked.to_string(),
            format!("must be less than or equal to {name} limit of {limit}"),
        ),
        None if !overcommit_allowed(name) => {
            errors.required(limits_path, "Limit must be set for non overcommitable resources");
        }
        _ => {}
    }
}

fn claim_names(errors: &mut FieldErrors, path: &Path<'_>, requirements: &Value, claims: &BTreeSet<&str>) {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for (i, claim) in requirements.list("claims").iter().enumerate() {
        let here = path.index(i);
        let (name, request) = (claim.text("name"), claim.text("request"));
        if name.is_empty() {
            errors.required(&here, "");
            continue;
        }
        if seen.contains(name) {
            errors.duplicate(&here, name);
        } else {
            let mut key = name.to_owned();
            if !request.is_empty() {
                dns_label(errors, &here.child("request"), request);
                key = format!("{name}/{request}");
            }
            let overlaps = seen
                .iter()
                .any(|k| k.split_once('/').is_some_and(|(n, _)| n == name));
            if seen.contains(&key) {
                errors.duplicate(&here, key.clone());
            } else if request.is_empty() && overlaps {
                errors.duplicate(&here, name);
            }
            seen.insert(key);
        }
        if !claims.contains(name) {
            let mut error = FieldError::not_found(&here, name);
            let known: Vec<&str> = claims.iter().copied().collect();
            error.detail = if known.is_empty() {
                "must be one of the names in pod.spec.resourceClaims which is empty".into()
            } else {
                format!(
                    "must be one of the names in pod.spec.resourceClaims: {}",
                    known.join(", ")
                )
            };
            errors.push(error);
        }
    }
}

/// Pod-level resources, and that the containers keep to them.
pub(super) fn pod_level(errors: &mut FieldErrors, spec_path: &Path<'_>, spec: &Value, context: &Context<'_>) {
    let Some(resources) = spec.at("resources").some() else {
        return;
    };
    let path = spec_path.child("resources");
    if context.os == Some("windows") {
        errors.forbidden(&path, "may not be set for a windows pod");
        return;
    }
    if resources.has("claims") {
        errors.forbidden(
            &path.child("claims"),
            "claims may not be set for Resources at pod-level",
        );
    }
    requirements_of(errors, &path, resources, pod_resource_name, &context.claims);
    let (requests, limits) = (resources.at("requests"), resources.at("limits"));
    for (name, sum) in aggregate_requests(spec, "requests") {
        if let Some(asked) = amount(requests, &name).filter(|asked| sum > *asked) {
            errors.invalid(
                &path.child("requests").key(&name),
                asked.to_string(),
                format!("must be greater than or equal to aggregate container requests of {sum}"),
            );
        }
    }
    for (name, sum) in aggregate_requests(spec, "limits") {
        if let Some(limit) = amount(limits, &name).filter(|limit| is_huge_page(&name) && sum > *limit) {
            errors.invalid(
                &path.child("limits").key(&name),
                limit.to_string(),
                format!("must be greater than or equal to aggregate container limits of {sum}"),
            );
        }
    }
    for (i, container) in spec.list("containers").iter().enumerate() {
        let held = container.dig(&["resources", "limits"]);
        for (name, _) in held.as_object().into_iter().flatten() {
            let (Some(own), Some(limit)) = (amount(held, name), amount(limits, name)) else {
                continue;
            };
            if own > limit {
                let here = path.child("containers");
                let here = here.index(i);
                errors.invalid(
                    &here.key(name).child("limits"),
                    own.to_string(),
                    format!("must be less than or equal to pod limits of {limit}"),
                );
            }
        }
    }
}
