//! A pod with what plugins ask of it, computed once.

use super::{HostPort, Resources};
use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm, PodSpec};
use orch_core::{ObjectKey, selector::LabelSelector};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A pod affinity or anti-affinity term, its selectors parsed.
#[derive(Debug, Clone)]
pub struct AffinityTerm {
    /// Pods that are meant.
    pub selector: LabelSelector,
    /// Namespaces that are meant by name.
    pub namespaces: BTreeSet<String>,
    /// Namespaces that are meant by label; nothing if the term has no such selector.
    pub namespace_selector: LabelSelector,
    /// Node label whose equal values make nodes count as one place.
    pub topology_key: String,
}

impl AffinityTerm {
    fn parse(term: &PodAffinityTerm, own_namespace: &str) -> Self {
        let mut namespaces: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.insert(own_namespace.to_owned());
        }
        // The API server validates selectors; one that does not parse selects nothing.
        let parse = |s| LabelSelector::from_api(s).unwrap_or_else(|_| LabelSelector::nothing());
        Self {
            selector: parse(term.label_selector.as_ref()),
            namespaces,
            namespace_selector: match &term.namespace_selector {
                Some(selector) => parse(Some(selector)),
                None => LabelSelector::nothing(),
            },
            topology_key: term.topology_key.clone(),
        }
    }

    /// Whether the term means `pod`, whose namespace has these labels.
    #[must_use]
    pub fn matches(&self, pod: &PodInfo, namespace_labels: Option<&BTreeMap<String, String>>) -> bool {
        let in_namespace = self.namespaces.contains(&pod.key.namespace)
            || (!self.namespace_selector.is_nothing()
                && self.namespace_selector.matches_opt(namespace_labels));
        in_namespace && self.selector.matches_opt(pod.pod.metadata.labels.as_ref())
    }
}

/// A preferred term and its weight; negative for anti-affinity.
#[derive(Debug, Clone)]
pub struct WeightedTerm {
    /// The term.
    pub term: AffinityTerm,
    /// Its weight.
    pub weight: i64,
}

/// A pod as the scheduler sees it.
#[derive(Debug, Clone)]
pub struct PodInfo {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Namespace and name.
    pub key: ObjectKey,
    /// UID.
    pub uid: String,
    /// `spec.priority`, 0 if absent.
    pub priority: i32,
    /// What it asks for.
    pub requests: Resources,
    /// What it is assumed to need when nodes are scored.
    pub assumed: Resources,
    /// Ports of the node that it wants.
    pub host_ports: Vec<HostPort>,
    /// Required affinity.
    pub affinity: Vec<AffinityTerm>,
    /// Required anti-affinity.
    pub anti_affinity: Vec<AffinityTerm>,
    /// Preferred affinity and, with negative weights, anti-affinity.
    pub preferred: Vec<WeightedTerm>,
}

impl PodInfo {
    /// Computes everything from the pod.
    #[must_use]
    pub fn new(pod: Arc<Pod>) -> Self {
        static EMPTY: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
        let spec = pod.spec.as_ref().unwrap_or(&EMPTY);
        let key = ObjectKey::of(&*pod);
        let parse = |terms: Option<&Vec<PodAffinityTerm>>| -> Vec<AffinityTerm> {
            terms
                .into_iter()
                .flatten()
                .map(|t| AffinityTerm::parse(t, &key.namespace))
                .collect()
        };
        let near = spec.affinity.as_ref().and_then(|a| a.pod_affinity.as_ref());
        let far = spec.affinity.as_ref().and_then(|a| a.pod_anti_affinity.as_ref());
        let required_near = near.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
        let required_far = far.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
        let liked = near.into_iter().flat_map(|a| {
            a.preferred_during_scheduling_ignored_during_execution
                .iter()
                .flatten()
        });
        let shunned = far.into_iter().flat_map(|a| {
            a.preferred_during_scheduling_ignored_during_execution
                .iter()
                .flatten()
        });
        let weigh = |sign: i64| {
            let key = key.clone();
            move |t: &k8s_openapi::api::core::v1::WeightedPodAffinityTerm| WeightedTerm {
                term: AffinityTerm::parse(&t.pod_affinity_term, &key.namespace),
                weight: sign * i64::from(t.weight),
            }
        };
        let mut requests = Resources::requested_by(spec);
        requests.pods = 1;
        Self {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            priority: spec.priority.unwrap_or(0),
            requests,
            assumed: Resources::assumed_for(spec),
            host_ports: HostPort::of(spec),
            affinity: parse(required_near),
            anti_affinity: parse(required_far),
            preferred: liked.map(weigh(1)).chain(shunned.map(weigh(-1))).collect(),
            key,
            pod,
        }
    }

    /// Its spec, an empty one if absent.
    #[must_use]
    pub fn spec(&self) -> Option<&PodSpec> {
        self.pod.spec.as_ref()
    }

    /// Its labels.
    #[must_use]
    pub fn labels(&self) -> Option<&BTreeMap<String, String>> {
        self.pod.metadata.labels.as_ref()
    }

    /// The node it is bound to, if any.
    #[must_use]
    pub fn node_name(&self) -> Option<&str> {
        self.spec()
            .and_then(|s| s.node_name.as_deref())
            .filter(|n| !n.is_empty())
    }

    /// Whether it has ended for good and needs nothing any more.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(
            self.pod.status.as_ref().and_then(|s| s.phase.as_deref()),
            Some("Succeeded" | "Failed")
        )
    }

    /// Whether it has any required or preferred pod affinity.
    #[must_use]
    pub fn has_affinity(&self) -> bool {
        !(self.affinity.is_empty() && self.anti_affinity.is_empty() && self.preferred.is_empty())
    }
}
