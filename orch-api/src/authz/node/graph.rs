//! What refers to what, as far as nodes are concerned: pods to their secrets and volumes, volumes to claims.

use crate::server::ObjectReader;
use orch_core::Object;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A kind of object that a node may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Secret,
    ConfigMap,
    Claim,
    Volume,
    ServiceAccount,
    Pod,
    ResourceClaim,
    Attachment,
    Slice,
    CertificateRequest,
}

type Key = (Kind, String, String);

/// The edges of one source object, and whose they are.
#[derive(Debug)]
struct Source {
    /// For telling that the object is still the one that was read.
    object: Arc<Object>,
    /// Node that the object belongs to.
    node: String,
    /// What the node may reach because of it.
    reaches: Arc<BTreeSet<Key>>,
}

/// Who may reach what, at one moment. An update reads anew only the objects that changed.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) revisions: [u64; 5],
    sources: BTreeMap<(usize, String, String), Arc<Source>>,
    /// How many sources let a node reach an object.
    nodes: BTreeMap<Key, BTreeMap<String, usize>>,
    /// Volume to claim.
    claims: BTreeMap<String, (String, String)>,
    /// Secret to the volumes that need it on a node.
    volumes: BTreeMap<(String, String), BTreeSet<String>>,
}

const RESOURCES: [(&str, &str); 5] = [
    ("", "pods"),
    ("", "persistentvolumes"),
    ("storage.k8s.io", "volumeattachments"),
    ("resource.k8s.io", "resourceslices"),
    ("certificates.k8s.io", "podcertificaterequests"),
];

pub(super) fn revisions(reader: &dyn ObjectReader) -> [u64; 5] {
    RESOURCES.map(|(group, resource)| reader.revision(group, resource))
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn array<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

impl Graph {
    pub(super) fn build(reader: &dyn ObjectReader, revisions: [u64; 5], held: &Self) -> Self {
        let mut graph = Self {
            revisions,
            nodes: held.nodes.clone(),
            ..Self::default()
        };
        for (i, (group, resource)) in RESOURCES.iter().enumerate() {
            let objects = reader.list(group, resource, "");
            for object in &objects {
                let value = object.value();
                if i == 1 {
                    graph.add_volume(value);
                    continue;
                }
                let node = text(value, "/spec/nodeName");
                if node.is_empty() {
                    continue;
                }
                let key = (i, object.namespace().to_owned(), object.name().to_owned());
                let source = match held.sources.get(&key) {
                    Some(source) if Arc::ptr_eq(&source.object, object) => source.clone(),
                    old => {
                        let reaches = Arc::new(reaches(i, object));
                        // Status updates change pods all the time, what they refer to hardly ever.
                        match old {
                            Some(old) if old.node == node && old.reaches == reaches => Arc::new(Source {
                                object: object.clone(),
                                node: node.to_owned(),
                                reaches: old.reaches.clone(),
                            }),
                            _ => Arc::new(Source {
                                object: object.clone(),
                                node: node.to_owned(),
                                reaches,
                            }),
                        }
                    }
                };
                graph.sources.insert(key, source);
            }
        }
        for (key, source) in &held.sources {
            let now = graph.sources.get(key);
            if now.is_none_or(|now| !same(now, source)) {
                graph.count(source, false);
            }
        }
        let added: Vec<Arc<Source>> = graph
            .sources
            .iter()
            .filter(|(key, source)| held.sources.get(key).is_none_or(|old| !same(old, source)))
            .map(|(_, source)| source.clone())
            .collect();
        for source in added {
            graph.count(&source, true);
        }
        graph
    }

    fn count(&mut self, source: &Source, add: bool) {
        for key in source.reaches.iter() {
            if add {
                *self
                    .nodes
                    .entry(key.clone())
                    .or_default()
                    .entry(source.node.clone())
                    .or_default() += 1;
            } else if let Some(nodes) = self.nodes.get_mut(key) {
                if let Some(count) = nodes.get_mut(&source.node) {
                    *count = count.saturating_sub(1);
                    if *count == 0 {
                        nodes.remove(&source.node);
                    }
                }
                if nodes.is_empty() {
                    self.nodes.remove(key);
                }
            }
        }
    }

    fn add_volume(&mut self, volume: &Value) {
        let claim = (
            text(volume, "/spec/claimRef/namespace"),
            text(volume, "/spec/claimRef/name"),
        );
        if claim.1.is_empty() {
            return;
        }
        let name = text(volume, "/metadata/name");
        self.claims
            .insert(name.to_owned(), (claim.0.to_owned(), claim.1.to_owned()));
        let sources = volume.get("spec").and_then(Value::as_object);
        for (_, source) in sources.into_iter().flatten().filter(|(_, v)| v.is_object()) {
            // Secrets that the kubelet needs; those of the controllers (`controller…SecretRef`) are not for nodes.
            for field in [
                "secretRef",
                "nodePublishSecretRef",
                "nodeStageSecretRef",
                "nodeExpandSecretRef",
                "secretName",
            ] {
                let secret = match source.get(field) {
                    Some(Value::String(name)) => {
                        let namespace = Some(text(source, "/secretNamespace")).filter(|n| !n.is_empty());
                        (namespace.unwrap_or(claim.0).to_owned(), name.clone())
                    }
                    Some(reference) => {
                        let namespace = Some(text(reference, "/namespace")).filter(|n| !n.is_empty());
                        (
                            namespace.unwrap_or(claim.0).to_owned(),
                            text(reference, "/name").to_owned(),
                        )
                    }
                    None => continue,
                };
                self.volumes.entry(secret).or_default().insert(name.to_owned());
            }
        }
    }

    /// Whether the object leads to the node.
    pub(super) fn leads(&self, kind: Kind, namespace: &str, name: &str, node: &str) -> bool {
        let direct = |kind: Kind, namespace: &str, name: &str| {
            let key = (kind, namespace.to_owned(), name.to_owned());
            self.nodes.get(&key).is_some_and(|nodes| nodes.contains_key(node))
        };
        let volume = |name: &str| {
            self.claims
                .get(name)
                .is_some_and(|(namespace, claim)| direct(Kind::Claim, namespace, claim))
        };
        match kind {
            Kind::Volume => volume(name),
            Kind::Secret => {
                direct(kind, namespace, name)
                    || self
                        .volumes
                        .get(&(namespace.to_owned(), name.to_owned()))
                        .is_some_and(|volumes| volumes.iter().any(|v| volume(v)))
            }
            _ => direct(kind, namespace, name),
        }
    }
}

fn same(a: &Source, b: &Source) -> bool {
    a.node == b.node && (Arc::ptr_eq(&a.reaches, &b.reaches) || a.reaches == b.reaches)
}

/// What an object of the given resource lets its node reach.
fn reaches(resource: usize, object: &Object) -> BTreeSet<Key> {
    let own = |kind| (kind, object.namespace().to_owned(), object.name().to_owned());
    let mut found = BTreeSet::new();
    match resource {
        0 => of_pod(object, &mut found),
        2 => drop(found.insert(own(Kind::Attachment))),
        3 => drop(found.insert(own(Kind::Slice))),
        _ => drop(found.insert(own(Kind::CertificateRequest))),
    }
    found
}

fn of_pod(pod: &Object, found: &mut BTreeSet<Key>) {
    let (value, namespace) = (pod.value(), pod.namespace());
    let mut add = |kind: Kind, name: &str| {
        if !name.is_empty() {
            found.insert((kind, namespace.to_owned(), name.to_owned()));
        }
    };
    add(Kind::Pod, pod.name());
    // A mirror pod is made by the node itself: it must not give the node anything.
    if value
        .pointer("/metadata/annotations")
        .is_some_and(|a| a.get("kubernetes.io/config.mirror").is_some())
    {
        return;
    }
    add(Kind::ServiceAccount, text(value, "/spec/serviceAccountName"));
    for secret in array(value, "/spec/imagePullSecrets") {
        add(Kind::Secret, text(secret, "/name"));
    }
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for container in array(value, &format!("/spec/{list}")) {
            for env in array(container, "/env") {
                add(Kind::Secret, text(env, "/valueFrom/secretKeyRef/name"));
                add(Kind::ConfigMap, text(env, "/valueFrom/configMapKeyRef/name"));
            }
            for env in array(container, "/envFrom") {
                add(Kind::Secret, text(env, "/secretRef/name"));
                add(Kind::ConfigMap, text(env, "/configMapRef/name"));
            }
        }
    }
    for volume in array(value, "/spec/volumes") {
        add(Kind::Secret, text(volume, "/secret/secretName"));
        add(Kind::ConfigMap, text(volume, "/configMap/name"));
        add(Kind::Claim, text(volume, "/persistentVolumeClaim/claimName"));
        if volume.get("ephemeral").is_some_and(Value::is_object) {
            add(Kind::Claim, &format!("{}-{}", pod.name(), text(volume, "/name")));
        }
        for source in array(volume, "/projected/sources") {
            add(Kind::Secret, text(source, "/secret/name"));
            add(Kind::ConfigMap, text(source, "/configMap/name"));
        }
        add(Kind::Secret, text(volume, "/azureFile/secretName"));
        add(Kind::Secret, text(volume, "/csi/nodePublishSecretRef/name"));
        for old in [
            "cephfs",
            "cinder",
            "flexVolume",
            "iscsi",
            "rbd",
            "scaleIO",
            "storageos",
        ] {
            add(Kind::Secret, text(volume, &format!("/{old}/secretRef/name")));
        }
    }
    for claim in array(value, "/status/resourceClaimStatuses") {
        add(Kind::ResourceClaim, text(claim, "/resourceClaimName"));
    }
    for claim in array(value, "/spec/resourceClaims") {
        add(Kind::ResourceClaim, text(claim, "/resourceClaimName"));
    }
    add(
        Kind::ResourceClaim,
        text(value, "/status/extendedResourceClaimStatus/resourceClaimName"),
    );
}
