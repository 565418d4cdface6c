//! Affinity and anti-affinity between pods.

use super::reject;
use crate::{
    cache::{AffinityTerm, NodeInfo, PodInfo, Snapshot},
    framework::{
        CycleState, Feasible, FilterNodes, Plugin, PluginError, PreFilterPlugin, PreFilterVerdict,
        PreScorePlugin, SCORE_MAX, ScoreNodes,
    },
};
use std::collections::BTreeMap;

/// `spec.affinity.podAffinity` and `podAntiAffinity`, of the pod itself and of the pods that are already placed.
#[derive(Debug, Clone)]
pub struct InterPodAffinity {
    /// Weight of required affinity terms of placed pods when nodes are scored.
    pub hard_pod_affinity_weight: i64,
}

impl Default for InterPodAffinity {
    fn default() -> Self {
        Self {
            hard_pod_affinity_weight: 1,
        }
    }
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }
}

/// (topology key, its value) to a number.
type Topology = BTreeMap<(String, String), i64>;

fn add(topology: &mut Topology, node: &NodeInfo, term: &AffinityTerm, amount: i64) {
    if let Some(value) = node.label(&term.topology_key) {
        *topology
            .entry((term.topology_key.clone(), value.to_owned()))
            .or_default() += amount;
    }
}

#[derive(Debug, Default)]
struct Required {
    /// Placed pods whose anti-affinity means this pod.
    existing_anti: Topology,
    /// Placed pods that all of this pod's affinity terms mean.
    affinity: Topology,
    /// Placed pods that one of this pod's anti-affinity terms means.
    anti: Topology,
    /// Whether the pod would satisfy its own affinity terms.
    self_match: bool,
}

impl PreFilterPlugin for InterPodAffinity {
    fn pre_filter(
        &self,
        cycle: &mut CycleState,
        pod: &PodInfo,
        nodes: &Snapshot,
    ) -> Result<PreFilterVerdict, PluginError> {
        let own_labels = nodes.namespace_labels(&pod.key.namespace);
        let mut required = Required::default();
        for node in nodes.nodes() {
            for placed in node.pods_with_affinity() {
                for term in placed.anti_affinity.iter().filter(|t| t.matches(pod, own_labels)) {
                    add(&mut required.existing_anti, node, term, 1);
                }
            }
            if pod.affinity.is_empty() && pod.anti_affinity.is_empty() {
                continue;
            }
            for placed in node.pods() {
                let labels = nodes.namespace_labels(&placed.key.namespace);
                if !pod.affinity.is_empty() && pod.affinity.iter().all(|t| t.matches(placed, labels)) {
                    pod.affinity
                        .iter()
                        .for_each(|t| add(&mut required.affinity, node, t, 1));
                }
                for term in pod.anti_affinity.iter().filter(|t| t.matches(placed, labels)) {
                    add(&mut required.anti, node, term, 1);
                }
            }
        }
        required.self_match = pod.affinity.iter().all(|t| t.matches(pod, own_labels));
        let nothing_to_say =
            required.existing_anti.is_empty() && pod.affinity.is_empty() && pod.anti_affinity.is_empty();
        cycle.put(required);
        Ok(if nothing_to_say {
            PreFilterVerdict::Skip
        } else {
            PreFilterVerdict::All
        })
    }
}

fn affinity_holds(required: &Required, pod: &PodInfo, node: &NodeInfo) -> bool {
    let mut everywhere = true;
    for term in &pod.affinity {
        let Some(value) = node.label(&term.topology_key) else {
            return false;
        };
        everywhere &= required
            .affinity
            .contains_key(&(term.topology_key.clone(), value.to_owned()));
    }
    // The first pod of a group that wants to be together may go anywhere.
    everywhere || (required.affinity.is_empty() && required.self_match)
}

impl FilterNodes for InterPodAffinity {
    fn filter_nodes(
        &self,
        cycle: &CycleState,
        pod: &PodInfo,
        nodes: &Snapshot,
        feasible: &mut Feasible,
    ) -> Result<(), PluginError> {
        let Some(required) = cycle.get::<Required>() else {
            return Ok(());
        };
        let candidates: Vec<usize> = feasible.iter().collect();
        for at in candidates {
            let node = &nodes.nodes()[at];
            let anti = pod.anti_affinity.iter().any(|term| {
                let value = node.label(&term.topology_key);
                value.is_some_and(|v| {
                    required
                        .anti
                        .contains_key(&(term.topology_key.clone(), v.to_owned()))
                })
            });
            let existing = || {
                required
                    .existing_anti
                    .keys()
                    .any(|(key, value)| node.label(key) == Some(value))
            };
            if !affinity_holds(required, pod, node) {
                feasible.reject(
                    at,
                    reject(self.name(), "node(s) didn't match pod affinity rules", true),
                );
            } else if anti {
                feasible.reject(
                    at,
                    reject(self.name(), "node(s) didn't match pod anti-affinity rules", false),
                );
            } else if existing() {
                let reason = "node(s) didn't satisfy existing pods anti-affinity rules";
                feasible.reject(at, reject(self.name(), reason, false));
            }
        }
        Ok(())
    }
}

struct Preferences(Topology);

impl PreScorePlugin for InterPodAffinity {
    fn pre_score(
        &self,
        cycle: &mut CycleState,
        pod: &PodInfo,
        nodes: &Snapshot,
        _: &[usize],
    ) -> Result<bool, PluginError> {
        let own_labels = nodes.namespace_labels(&pod.key.namespace);
        let mut topology = Topology::new();
        for node in nodes.nodes() {
            if !pod.preferred.is_empty() {
                for placed in node.pods() {
                    let labels = nodes.namespace_labels(&placed.key.namespace);
                    for preference in pod.preferred.iter().filter(|p| p.term.matches(placed, labels)) {
                        add(&mut topology, node, &preference.term, preference.weight);
                    }
                }
            }
            for placed in node.pods_with_affinity() {
                for term in placed.affinity.iter().filter(|t| t.matches(pod, own_labels)) {
                    add(&mut topology, node, term, self.hard_pod_affinity_weight);
                }
                for preference in placed
                    .preferred
                    .iter()
                    .filter(|p| p.term.matches(pod, own_labels))
                {
                    add(&mut topology, node, &preference.term, preference.weight);
                }
            }
        }
        let any = !topology.is_empty();
        cycle.put(Preferences(topology));
        Ok(any)
    }
}

impl ScoreNodes for InterPodAffinity {
    fn score_nodes(
        &self,
        cycle: &CycleState,
        _: &PodInfo,
        nodes: &Snapshot,
        feasible: &[usize],
        scores: &mut [i64],
    ) -> Result<(), PluginError> {
        let Some(Preferences(topology)) = cycle.get::<Preferences>() else {
            return Ok(());
        };
        for (score, at) in scores.iter_mut().zip(feasible) {
            let node = &nodes.nodes()[*at];
            *score = topology
                .iter()
                .filter(|((k, v), _)| node.label(k) == Some(v))
                .map(|(_, weight)| weight)
                .sum();
        }
        let least = scores.iter().copied().min().unwrap_or(0);
        let range = scores.iter().copied().max().unwrap_or(0) - least;
        for score in scores {
            *score = if range == 0 {
                0
            } else {
                SCORE_MAX * (*score - least) / range
            };
        }
        Ok(())
    }
}
