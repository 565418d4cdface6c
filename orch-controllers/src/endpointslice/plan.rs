//! Which slices to write so that they hold exactly a Service's endpoints, with few writes; pure.

use super::{
    CONTROLLER, MANAGED_BY, SERVICE_NAME,
    endpoint::{self, port_key},
};
use crate::shared::{is_deleting, pods::node_name, text, uid};
use k8s_openapi::{
    api::{
        core::v1::{Pod, Service},
        discovery::v1::{Endpoint, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use orch_core::{controller::owner_reference, validate};
use std::{collections::BTreeMap, sync::Arc};

const HEADLESS: &str = "service.kubernetes.io/headless";

/// A Service, its pods and its slices.
pub(super) struct Observed {
    pub(super) service: Arc<Service>,
    pub(super) pods: Vec<Arc<Pod>>,
    pub(super) slices: Vec<Arc<EndpointSlice>>,
    /// Zone by name of each known node.
    pub(super) zones: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) create: Vec<EndpointSlice>,
    pub(super) update: Vec<EndpointSlice>,
    pub(super) delete: Vec<Arc<EndpointSlice>>,
    /// Pods left out because their node is not known (yet).
    pub(super) without_node: Vec<String>,
}

/// Set of ports, as a key.
type Ports = Vec<(String, String, i32, String)>;
/// What identifies an endpoint: its addresses and its pod.
type Identity = (Vec<String>, String);

fn identity(endpoint: &Endpoint) -> Identity {
    let target = endpoint.target_ref.as_ref().map(|t| text(&t.uid).to_owned());
    (endpoint.addresses.clone(), target.unwrap_or_default())
}

fn ports_key(ports: &[EndpointPort]) -> Ports {
    let mut key: Ports = ports.iter().map(port_key).collect();
    key.sort();
    key
}

/// The address families of a Service, as `addressType`s.
fn address_types(service: &Service) -> Vec<&'static str> {
    let spec = service.spec.clone().unwrap_or_default();
    let families = spec.ip_families.unwrap_or_default();
    let mut types: Vec<&'static str> = families
        .iter()
        .filter_map(|f| match f.as_str() {
            "IPv4" => Some("IPv4"),
            "IPv6" => Some("IPv6"),
            _ => None,
        })
        .collect();
    if types.is_empty() {
        types = match spec.cluster_ip.as_deref() {
            None | Some("" | "None") => vec!["IPv4", "IPv6"],
            Some(ip) if endpoint::is_ipv6(ip) => vec!["IPv6"],
            Some(_) => vec!["IPv4"],
        };
    }
    types.sort_unstable();
    types.dedup();
    types
}

fn is_reserved(label: &str) -> bool {
    [SERVICE_NAME, MANAGED_BY, HEADLESS].contains(&label)
}

/// The labels a Service's slices carry.
fn labels(service: &Service) -> BTreeMap<String, String> {
    let own = service
        .metadata
        .labels
        .iter()
        .flatten()
        .filter(|(k, _)| !is_reserved(k));
    let mut labels: BTreeMap<String, String> = own.map(|(k, v)| (k.clone(), v.clone())).collect();
    if matches!(
        service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()),
        None | Some("" | "None")
    ) {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels.insert(SERVICE_NAME.into(), text(&service.metadata.name).into());
    labels.insert(MANAGED_BY.into(), CONTROLLER.into());
    labels
}

fn new_slice(service: &Service, address_type: &str, ports: Vec<EndpointPort>) -> EndpointSlice {
    let name = text(&service.metadata.name);
    let dashed = format!("{name}-");
    let fits = validate::dns1123_subdomain(&validate::mask_trailing_dash(&dashed)).is_empty();
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(if fits { dashed } else { name.into() }),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels(service)),
            owner_references: Some(vec![owner_reference(service)]),
            ..ObjectMeta::default()
        },
        address_type: address_type.into(),
        ports: Some(ports),
        endpoints: Some(Vec::new()),
    }
}

fn is_owned(slice: &EndpointSlice, service: &Service) -> bool {
    slice
        .metadata
        .owner_references
        .iter()
        .flatten()
        .any(|o| o.uid == uid(&service.metadata) && o.kind == "Service")
}

pub(super) fn plan(observed: &Observed, max: usize) -> Plan {
    let mut plan = Plan::default();
    let types = address_types(&observed.service);
    for slice in &observed.slices {
        if !types.contains(&slice.address_type.as_str()) {
            plan.delete.push(slice.clone());
        }
    }
    for address_type in types {
        plan_family(observed, address_type, max.max(1), &mut plan);
    }
    reuse(observed, &mut plan);
    if is_deleting(&observed.service.metadata) {
        plan.create.clear();
    }
    plan.without_node.sort();
    plan.without_node.dedup();
    plan
}

fn plan_family(observed: &Observed, address_type: &str, max: usize, plan: &mut Plan) {
    let service = &observed.service;
    let (mut delete, mut create) = (Vec::new(), Vec::new());
    let mut by_ports: BTreeMap<Ports, Vec<Arc<EndpointSlice>>> = BTreeMap::new();
    let mut existing: Vec<_> = observed
        .slices
        .iter()
        .filter(|s| s.address_type == address_type)
        .cloned()
        .collect();
    existing.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    for slice in &existing {
        if is_owned(slice, service) {
            let key = ports_key(slice.ports.as_deref().unwrap_or_default());
            by_ports.entry(key).or_default().push(slice.clone());
        } else {
            delete.push(slice.clone());
        }
    }
    for (_, (ports, wanted)) in wanted(observed, address_type, plan) {
        let slices = by_ports.remove(&ports_key(&ports)).unwrap_or_default();
        let packed = pack(service, address_type, &ports, slices, wanted, max);
        create.extend(packed.create);
        plan.update.extend(packed.update);
        delete.extend(packed.delete);
    }
    delete.extend(by_ports.into_values().flatten());
    if existing.len() == delete.len() && create.is_empty() {
        // A Service without endpoints keeps one empty slice.
        let placeholder = new_slice(service, address_type, Vec::new());
        if delete.len() == 1 && is_placeholder(&delete[0], &placeholder) {
            delete.clear();
        } else {
            create.push(placeholder);
        }
    }
    plan.create.extend(create);
    plan.delete.extend(delete);
}

fn is_placeholder(slice: &EndpointSlice, placeholder: &EndpointSlice) -> bool {
    slice.endpoints.as_ref().is_none_or(Vec::is_empty)
        && slice.ports.as_ref().is_none_or(Vec::is_empty)
        && slice.metadata.labels == placeholder.metadata.labels
        && slice.metadata.owner_references == placeholder.metadata.owner_references
}

type Wanted = BTreeMap<Ports, (Vec<EndpointPort>, BTreeMap<Identity, Endpoint>)>;

/// The endpoints a Service should have, by their ports.
fn wanted(observed: &Observed, address_type: &str, plan: &mut Plan) -> Wanted {
    let service = &observed.service;
    let publish = service.spec.as_ref().and_then(|s| s.publish_not_ready_addresses) == Some(true);
    let mut out = Wanted::new();
    for pod in observed.pods.iter().filter(|p| endpoint::is_candidate(p)) {
        let ports = endpoint::ports(pod, service);
        let (_, endpoints) = out
            .entry(ports_key(&ports))
            .or_insert_with(|| (ports, BTreeMap::new()));
        let zone = observed.zones.get(node_name(pod));
        if zone.is_none() && !publish {
            plan.without_node.push(text(&pod.metadata.name).into());
            continue;
        }
        if let Some(endpoint) = endpoint::endpoint(pod, service, address_type == "IPv6", zone) {
            endpoints.insert(identity(&endpoint), endpoint);
        }
    }
    out
}

/// Fits the wanted endpoints of one set of ports into slices: first keep and correct what is there, then fill slices
/// that are written anyway, then the unchanged slice that fits best, and only then make new ones.
fn pack(
    service: &Service,
    address_type: &str,
    ports: &[EndpointPort],
    slices: Vec<Arc<EndpointSlice>>,
    mut wanted: BTreeMap<Identity, Endpoint>,
    max: usize,
) -> Plan {
    let mut out = Plan::default();
    let labels = labels(service);
    let (mut changed, mut unchanged) = (Vec::new(), Vec::new());
    for slice in slices {
        let before = slice.endpoints.clone().unwrap_or_default();
        let after: Vec<Endpoint> = before
            .iter()
            .filter_map(|e| wanted.remove(&identity(e)))
            .collect();
        if after.is_empty() && !before.is_empty() {
            out.delete.push(slice);
        } else if after != before || slice.metadata.labels.as_ref() != Some(&labels) {
            let mut new = (*slice).clone();
            new.endpoints = Some(after);
            new.metadata.labels = Some(labels.clone());
            changed.push(new);
        } else {
            unchanged.push(slice);
        }
    }
    let mut rest: Vec<Endpoint> = wanted.into_values().rev().collect();
    let len = |s: &EndpointSlice| s.endpoints.as_ref().map_or(0, Vec::len);
    let fill = |slice: &mut EndpointSlice, rest: &mut Vec<Endpoint>| {
        let endpoints = slice.endpoints.get_or_insert_default();
        while endpoints.len() < max
            && let Some(endpoint) = rest.pop()
        {
            endpoints.push(endpoint);
        }
    };
    // The fullest first: others may become empty enough to go one day.
    changed.sort_by_key(|s| std::cmp::Reverse(len(s)));
    for slice in &mut changed {
        fill(slice, &mut rest);
    }
    while !rest.is_empty() {
        let fits = |s: &&Arc<EndpointSlice>| rest.len() < max && rest.len() + len(s) <= max;
        let best = unchanged
            .iter()
            .filter(fits)
            .max_by_key(|s| len(s))
            .map(|s| s.metadata.name.clone());
        if let Some(at) = best.and_then(|name| unchanged.iter().position(|s| s.metadata.name == name)) {
            let mut slice = (*unchanged.remove(at)).clone();
            fill(&mut slice, &mut rest);
            changed.push(slice);
        } else {
            let mut slice = new_slice(service, address_type, ports.to_vec());
            fill(&mut slice, &mut rest);
            out.create.push(slice);
        }
    }
    out.update = changed;
    out
}

/// Turns a delete and a create of the same family into one update.
fn reuse(observed: &Observed, plan: &mut Plan) {
    let mut kept = Vec::new();
    for old in std::mem::take(&mut plan.delete) {
        let same = |s: &EndpointSlice| s.address_type == old.address_type;
        match plan
            .create
            .iter()
            .rposition(same)
            .filter(|_| is_owned(&old, &observed.service))
        {
            Some(at) => {
                let mut slice = plan.create.remove(at);
                slice.metadata.generate_name = None;
                slice.metadata.name.clone_from(&old.metadata.name);
                slice.metadata.uid.clone_from(&old.metadata.uid);
                slice
                    .metadata
                    .resource_version
                    .clone_from(&old.metadata.resource_version);
                plan.update.push(slice);
            }
            None => kept.push(old),
        }
    }
    plan.delete = kept;
}
