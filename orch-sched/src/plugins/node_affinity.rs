//! Node selectors and node affinity.

use super::reject;
use crate::{
    cache::{NodeInfo, PodInfo, Snapshot},
    framework::{CycleState, Feasible, FilterNodes, Plugin, PluginError, ScoreNodes, normalize_to_max},
};
use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};

fn requirement_matches(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let number = |text: Option<&str>| text.and_then(|t| t.parse::<i64>().ok());
    let bound = || number(values.first().map(String::as_str));
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|v| values.iter().any(|w| w == v)),
        "NotIn" => value.is_none_or(|v| !values.iter().any(|w| w == v)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number(value).zip(bound()).is_some_and(|(v, w)| v > w),
        "Lt" => number(value).zip(bound()).is_some_and(|(v, w)| v < w),
        _ => false,
    }
}

fn term_matches(term: &NodeSelectorTerm, node: &NodeInfo) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions
        .iter()
        .all(|r| requirement_matches(r, node.label(&r.key)))
        && fields
            .iter()
            .all(|r| r.key == "metadata.name" && requirement_matches(r, Some(node.name())))
}

/// Whether a node satisfies the pod's `nodeSelector` and required node affinity.
#[must_use]
pub fn node_matches(pod: &PodInfo, node: &NodeInfo) -> bool {
    let Some(spec) = pod.spec() else { return true };
    if spec
        .node_selector
        .iter()
        .flatten()
        .any(|(key, value)| node.label(key) != Some(value))
    {
        return false;
    }
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    match affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()) {
        Some(required) => required
            .node_selector_terms
            .iter()
            .any(|term| term_matches(term, node)),
        None => true,
    }
}

/// `spec.nodeSelector` and `spec.affinity.nodeAffinity`.
#[derive(Debug, Clone, Copy)]
pub struct NodeAffinity;

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }
}

impl FilterNodes for NodeAffinity {
    fn filter_nodes(
        &self,
        _: &CycleState,
        pod: &PodInfo,
        nodes: &Snapshot,
        feasible: &mut Feasible,
    ) -> Result<(), PluginError> {
        for (at, node) in nodes.nodes().iter().enumerate() {
            if !node_matches(pod, node) {
                feasible.reject(
                    at,
                    reject(
                        self.name(),
                        "node(s) didn't match Pod's node affinity/selector",
                        true,
                    ),
                );
            }
        }
        Ok(())
    }
}

impl ScoreNodes for NodeAffinity {
    fn score_nodes(
        &self,
        _: &CycleState,
        pod: &PodInfo,
        nodes: &Snapshot,
        feasible: &[usize],
        scores: &mut [i64],
    ) -> Result<(), PluginError> {
        let affinity = pod
            .spec()
            .and_then(|s| s.affinity.as_ref())
            .and_then(|a| a.node_affinity.as_ref());
        let preferred = affinity
            .and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_deref())
            .unwrap_or_default();
        for (score, at) in scores.iter_mut().zip(feasible) {
            let matching = preferred
                .iter()
                .filter(|p| term_matches(&p.preference, &nodes.nodes()[*at]));
            *score = matching.map(|p| i64::from(p.weight)).sum();
        }
        normalize_to_max(scores, false);
        Ok(())
    }
}
