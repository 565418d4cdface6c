//! Pods and pod templates.

mod annotations;
mod container;
mod env;
mod mounts;
mod probe;
mod projected;
mod resize;
mod resources;
mod scheduling;
mod security;
mod status;
mod update;
mod volume;

pub(super) use env::protocol;
pub(super) use resize::resize;
pub(super) use resources::{overhead, quantity};
pub(super) use scheduling::{taint_effect, tolerations};
pub(super) use status::update_status;
pub(super) use update::{binding, update, update_ephemeral_containers};
pub(super) use volume::csi_driver_name;

use super::check::{dns_label, dns_subdomain, each, labels, required_one_of, strings};
use super::ip;
use super::meta::{self, NameRule};
use crate::field::{FieldErrors, Path};
use crate::json::Json;
use orch_core::validate as format;
use serde_json::Value;
use std::collections::BTreeSet;

/// The lists of containers, in the order in which they are visited.
const CONTAINER_LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// What the parts of a pod's validation need to know of the whole.
struct Context<'a> {
    volumes: volume::Volumes<'a>,
    claims: BTreeSet<&'a str>,
    grace: Option<i64>,
    os: Option<&'a str>,
    restart_policy: &'a str,
    host_users: bool,
}

/// Calls `visit` for every container with its path.
fn for_each_container(path: &Path<'_>, spec: &Value, visit: &mut dyn FnMut(&Path<'_>, &Value)) {
    for list in CONTAINER_LISTS {
        let list_path = path.child(list);
        for (i, container) in spec.list(list).iter().enumerate() {
            visit(&list_path.index(i), container);
        }
    }
}

/// A new pod.
pub(super) fn create(errors: &mut FieldErrors, pod: &Value) {
    metadata_and_spec(errors, pod);
    let (path, spec) = (Path::new("spec"), pod.at("spec"));
    if !spec.list("ephemeralContainers").is_empty() {
        errors.forbidden(&path.child("ephemeralContainers"), "cannot be set on create");
    }
    if !spec.text("nodeName").is_empty() && !spec.list("schedulingGates").is_empty() {
        errors.forbidden(
            &path.child("nodeName"),
            "cannot be set until all schedulingGates have been cleared",
        );
    }
    annotations::match_fields(errors, &path, pod);
}

fn metadata_and_spec(errors: &mut FieldErrors, pod: &Value) {
    let (meta_path, path) = (Path::new("metadata"), Path::new("spec"));
    let body = pod.at("spec");
    meta::create(errors, pod, true, NameRule::Subdomain);
    annotations::of_pod(errors, &meta_path.child("annotations"), pod);
    spec(errors, &path, body, Some(pod.at("metadata")));
    if body.text("serviceAccountName").is_empty() {
        for (i, volume) in body.list("volumes").iter().enumerate() {
            for (j, source) in volume.at("projected").list("sources").iter().enumerate() {
                if source.has("serviceAccountToken") {
                    let path = path.child("volumes");
                    let path = path.index(i);
                    let path = path.child("projected");
                    let path = path.child("sources");
                    errors.forbidden(
                        &path.index(j).child("serviceAccountToken"),
                        "must not be specified when serviceAccountName is not set",
                    );
                }
            }
        }
    }
    for list in ["containers", "initContainers"] {
        for (i, container) in body.list(list).iter().enumerate() {
            container::image_whitespace(errors, &path.child(list).index(i), container);
        }
    }
}

/// A pod template, at `path`.
pub(super) fn template(errors: &mut FieldErrors, path: &Path<'_>, template: &Value) {
    let meta = template.at("metadata");
    labels(errors, &path.child("labels"), meta.at("labels"));
    meta::annotations(errors, &path.child("annotations"), meta.at("annotations"));
    annotations::of_pod(errors, &path.child("annotations"), template);
    let spec_path = path.child("spec");
    spec(errors, &spec_path, template.at("spec"), None);
    annotations::match_fields(errors, &spec_path, template);
    if !template.at("spec").list("ephemeralContainers").is_empty() {
        errors.forbidden(
            &spec_path.child("ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        );
    }
}

/// A pod spec; `meta` is the metadata of the pod, if it is one and not a template.
fn spec(errors: &mut FieldErrors, path: &Path<'_>, spec: &Value, meta: Option<&Value>) {
    if !spec.has("terminationGracePeriodSeconds") {
        errors.required(&path.child("terminationGracePeriodSeconds"), "");
    }
    let pod_name = meta.map_or("", |m| m.text("name"));
    let context = Context {
        volumes: volume::volumes(errors, &path.child("volumes"), spec, pod_name, meta.is_some()),
        claims: strings_of(spec.list("resourceClaims"), "name"),
        grace: spec.int("terminationGracePeriodSeconds"),
        os: spec.at("os").some().map(|os| os.text("name")),
        restart_policy: spec.text("restartPolicy"),
        host_users: spec.at("hostUsers").as_bool().unwrap_or(true),
    };
    resource_claims(errors, &path.child("resourceClaims"), spec, meta);
    container::regular(errors, &path.child("containers"), spec, &context);
    container::init(errors, &path.child("initContainers"), spec, &context);
    container::ephemeral(errors, &path.child("ephemeralContainers"), spec, &context);
    resources::pod_level(errors, path, spec, &context);
    host_network_ports(errors, &path.child("containers"), spec, meta.is_some());
    let policies = ["Always", "OnFailure", "Never"];
    required_one_of(
        errors,
        &path.child("restartPolicy"),
        context.restart_policy,
        &policies,
    );
    let dns = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    required_one_of(errors, &path.child("dnsPolicy"), spec.text("dnsPolicy"), &dns);
    labels(errors, &path.child("nodeSelector"), spec.at("nodeSelector"));
    security::pod(errors, &path.child("securityContext"), spec);
    scheduling::affinity(errors, &path.child("affinity"), spec.at("affinity"));
    dns_config(errors, &path.child("dnsConfig"), spec);
    scheduling::gates(errors, path, spec);
    scheduling::topology_spread(
        errors,
        &path.child("topologySpreadConstraints"),
        spec.list("topologySpreadConstraints"),
    );
    host_process(errors, path, spec);
    host_users(errors, path, spec, &context);
    host_name(errors, path, spec);
    scalars(errors, path, spec);
    security::operating_system(errors, path, spec);
    if let Some(group) = spec.at("schedulingGroup").some() {
        let path = path.child("schedulingGroup");
        match group.at("podGroupName").as_str() {
            None => errors.invalid(
                &path.child("podGroupName"),
                Value::Null,
                "must specify one of: `podGroupName`",
            ),
            Some(name) => dns_subdomain(errors, &path.child("podGroupName"), name),
        }
    }
    env::file_key_volumes(errors, path, spec);
}

fn strings_of<'a>(list: &'a [Value], key: &str) -> BTreeSet<&'a str> {
    list.iter()
        .map(|c| c.text(key))
        .filter(|n| !n.is_empty())
        .collect()
}

/// The single values of a spec.
fn scalars(errors: &mut FieldErrors, path: &Path<'_>, spec: &Value) {
    for key in ["serviceAccountName", "nodeName"] {
        if !spec.text(key).is_empty() {
            dns_subdomain(errors, &path.child(key), spec.text(key));
        }
    }
    if let Some(seconds) = spec
        .int("activeDeadlineSeconds")
        .filter(|s| !(1..=i64::from(i32::MAX)).contains(s))
    {
        errors.invalid(
            &path.child("activeDeadlineSeconds"),
            seconds,
            format::inclusive_range_error(1, i64::from(i32::MAX)),
        );
    }
    for key in ["hostname", "subdomain"] {
        if !spec.text(key).is_empty() {
            dns_label(errors, &path.child(key), spec.text(key));
        }
    }
    scheduling::tolerations(errors, &path.child("tolerations"), spec.list("tolerations"));
    for (i, alias) in spec.list("hostAliases").iter().enumerate() {
        let path = path.child("hostAliases");
        let here = path.index(i);
        ip::address(errors, &here.child("ip"), alias.text("ip"), &[]);
        for (j, name) in strings(alias.list("hostnames")).enumerate() {
            dns_subdomain(errors, &here.child("hostnames").index(j), name);
        }
    }
    for key in ["priorityClassName", "runtimeClassName"] {
        let name = spec.text(key);
        if !name.is_empty() || (key == "runtimeClassName" && spec.has(key)) {
            dns_subdomain(errors, &path.child(key), name);
        }
    }
    if spec.has("preemptionPolicy") {
        preemption_policy(
            errors,
            &path.child("preemptionPolicy"),
            spec.text("preemptionPolicy"),
        );
    }
    if spec.has("overhead") {
        resources::overhead(errors, &path.child("overhead"), spec.at("overhead"));
    }
}

pub(super) fn preemption_policy(errors: &mut FieldErrors, path: &Path<'_>, policy: &str) {
    required_one_of(errors, path, policy, &["PreemptLowerPriority", "Never"]);
}

fn resource_claims(errors: &mut FieldErrors, path: &Path<'_>, spec: &Value, meta: Option<&Value>) {
    let mut names = BTreeSet::new();
    for (i, claim) in spec.list("resourceClaims").iter().enumerate() {
        if meta.is_some_and(|m| m.at("annotations").has("kubernetes.io/config.mirror")) {
            errors.forbidden(&Path::new(""), "static pods do not support resource claims");
            continue;
        }
        let here = path.index(i);
        let name = claim.text("name");
        if name.is_empty() {
            errors.required(&here.child("name"), "");
        } else if !names.insert(name) {
            errors.duplicate(&here.child("name"), name);
        } else {
            dns_label(errors, &here.child("name"), name);
        }
        let (by_name, by_template) = (
            claim.has("resourceClaimName"),
            claim.has("resourceClaimTemplateName"),
        );
        if by_name && by_template {
            errors.invalid(
                &here,
                claim.clone(),
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            );
        }
        if !by_name && !by_template {
            errors.invalid(
                &here,
                claim.clone(),
                "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            );
        }
        for key in ["resourceClaimName", "resourceClaimTemplateName"] {
            if claim.has(key) {
                dns_subdomain(errors, &here.child(key), claim.text(key));
            }
        }
    }
}

fn host_network_ports(errors: &mut FieldErrors, path: &Path<'_>, spec: &Value, is_pod: bool) {
    if !spec.flag("hostNetwork") {
        return;
    }
    for (i, container) in spec.list("containers").iter().enumerate() {
        for (j, port) in container.list("ports").iter().enumerate() {
            let (host, own) = (
                port.int("hostPort").unwrap_or(0),
                port.int("containerPort").unwrap_or(0),
            );
            if (is_pod || host != 0) && host != own {
                let here = path.index(i);
                let here = here.child("ports");
                errors.invalid(
                    &here.index(j).child("hostPort"),
                    host,
                    "must match `containerPort` when `hostNetwork` is true",
                );
            }
        }
    }
}

fn dns_config(errors: &mut FieldErrors, path: &Path<'_>, spec: &Value) {
    let config = spec.at("dnsConfig");
    let servers = config.list("nameservers");
    if spec.text("dnsPolicy") == "None" {
        if config.is_null() {
            errors.required(path, "must provide `dnsConfig` when `dnsPolicy` is None");
            return;
        }
        if servers.is_empty() {
            errors.required(
                &path.child("nameservers"),
                "must provide at least one DNS nameserver when `dnsPolicy` is None",
            );
            return;
        }
    }
    if servers.len() > 3 {
        errors.invalid(
            &path.child("nameservers"),
            servers.to_vec(),
            "must not have more than 3 nameservers",
        );
    }
    for (i, server) in strings(servers).enumerate() {
        ip::address(errors, &path.child("nameservers").index(i), server, &[]);
    }
    let searches = config.list("searches");
    if searches.len() > 32 {
        errors.invalid(
            &path.child("searches"),
            searches.to_vec(),
            "must not have more than 32 search paths",
        );
    }
    let total: usize = strings(searches).map(|s| s.len() + 1).sum();
    if total > 2049 {
        errors.invalid(
            &path.child("searches"),
            searches.to_vec(),
            "must not have more than 2048 characters (including spaces) in the search list",
        );
    }
    for (i, search) in strings(searches).enumerate() {
        if search != "." {
            let name = search.strip_suffix('.').unwrap_or(search);
            each(
                errors,
                &path.child("searches").index(i),
                name,
                dns_subdomain_with_underscore(name),
            );
        }
    }
    for (i, option) in config.list("options").iter().enumerate() {
        if option.text("name").is_empty() {
            errors.required(&path.child("options").index(i), "must not be empty");
        }
    }
}

fn dns_subdomain_with_underscore(name: &str) -> Vec<String> {
    const PATTERN: &str = "[a-z0-9_]([-_a-z0-9]*[a-z0-9_])?(\\.[a-z0-9_]([-_a-z0-9]*[a-z0-9_])?)*";
    let mut out = Vec::new();
    if name.len() > format::DNS_SUBDOMAIN_MAX {
        out.push(format::max_len_error(format::DNS_SUBDOMAIN_MAX));
    }
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'_');
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    let right = name.split('.').all(|label| {
        edge(label.as_bytes().first()) && edge(label.as_bytes().last()) && label.bytes().all(inner)
    });
    if !right {
        out.push(format::regex_error(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character",
            PATTERN,
            &["example.com"],
        ));
    }
    out
}

/// Windows host-process pods: all containers or none, and on the host's network.
fn host_process(errors: &mut FieldErrors, path: &Path<'_>, spec: &Value) {
    let of_pod = spec
        .dig(&["securityContext", "windowsOptions", "hostProcess"])
        .as_bool();
    let (mut total, mut on_host) = (0, 0);
    for_each_container(path, spec, &mut |path, container| {
        total += 1;
        let own = container
            .dig(&["securityContext", "windowsOptions", "hostProcess"])
            .as_bool();
        if let (Some(pod), Some(own)) = (of_pod, own)
            && pod != own
        {
            let path = path.child("securityContext");
            errors.invalid(
                &path.child("windowsOptions").child("hostProcess"),
                own,
                format!("pod hostProcess value must be identical if both are specified, was {pod}"),
            );
        }
        if own.or(of_pod) == Some(true) {
            on_host += 1;
        }
    });
    if on_host == 0 {
        return;
    }
    if on_host != total {
        errors.invalid(
            path,
            "",
            "If pod contains any hostProcess containers then all containers must be HostProcess containers",
        );
    }
    if !spec.flag("hostNetwork") {
        errors.invalid(
            &path.child("hostNetwork"),
            false,
            "hostNetwork must be true if pod contains any hostProcess containers",
        );
    }
}

fn host_users(errors: &mut FieldErrors, path: &Path<'_>, spec: &Value, context: &Context<'_>) {
    const WHY: &str = "when `hostUsers` is false";
    if context.host_users {
        return;
    }
    for (key, shown) in [
        ("hostNetwork", "hostNetwork"),
        ("hostPID", "HostPID"),
        ("hostIPC", "HostIPC"),
    ] {
        if spec.flag(key) {
            errors.forbidden(&path.child(shown), WHY);
        }
    }
    for_each_container(path, spec, &mut |path, container| {
        if !container.list("volumeDevices").is_empty() {
            errors.forbidden(&path.child("volumeDevices"), WHY);
        }
    });
}

fn host_name(errors: &mut FieldErrors, path: &Path<'_>, spec: &Value) {
    let Some(name) = spec.at("hostnameOverride").as_str() else {
        return;
    };
    let path = path.child("hostnameOverride");
    if spec.flag("setHostnameAsFQDN") {
        errors.forbidden(&path, "may not be specified when setHostnameAsFQDN is true");
    }
    if spec.flag("hostNetwork") {
        errors.forbidden(&path, "may not be specified when hostNetwork is true");
    }
    if name.len() > 64 {
        errors.push(crate::field::FieldError::too_long(&path, 64));
    }
    dns_subdomain(errors, &path, name);
}

/// A PodTemplate object.
pub(super) fn pod_template(errors: &mut FieldErrors, object: &Value) {
    meta::create(errors, object, true, NameRule::Subdomain);
    template(errors, &Path::new("template"), object.at("template"));
}
