//! Taints and tolerations.

use super::reject;
use crate::{
    cache::{PodInfo, Snapshot},
    framework::{CycleState, Feasible, FilterNodes, Plugin, PluginError, ScoreNodes, normalize_to_max},
};
use k8s_openapi::api::core::v1::{Taint, Toleration};

/// Whether a toleration tolerates a taint.
pub(super) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    match toleration.operator.as_deref() {
        None | Some("" | "Equal") => {
            toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
        }
        Some("Exists") => true,
        Some(_) => false,
    }
}

/// The first of `taints` that none of the pod's tolerations tolerates.
pub fn first_untolerated<'a>(
    pod: &PodInfo,
    mut taints: impl Iterator<Item = &'a Taint>,
) -> Option<&'a Taint> {
    let tolerations: &[Toleration] = pod
        .spec()
        .and_then(|s| s.tolerations.as_deref())
        .unwrap_or_default();
    taints.find(|taint| !tolerations.iter().any(|t| tolerates(t, taint)))
}

/// Refuses nodes with a `NoSchedule` or `NoExecute` taint that the pod does not tolerate; likes nodes with few
/// untolerated `PreferNoSchedule` taints.
#[derive(Debug, Clone, Copy)]
pub struct TaintToleration;

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }
}

impl FilterNodes for TaintToleration {
    fn filter_nodes(
        &self,
        _: &CycleState,
        pod: &PodInfo,
        nodes: &Snapshot,
        feasible: &mut Feasible,
    ) -> Result<(), PluginError> {
        for (at, node) in nodes.nodes().iter().enumerate() {
            let hard = node
                .taints()
                .filter(|t| matches!(t.effect.as_str(), "NoSchedule" | "NoExecute"));
            if first_untolerated(pod, hard).is_some() {
                feasible.reject(at, reject(self.name(), "node(s) had untolerated taint(s)", true));
            }
        }
        Ok(())
    }
}

impl ScoreNodes for TaintToleration {
    fn score_nodes(
        &self,
        _: &CycleState,
        pod: &PodInfo,
        nodes: &Snapshot,
        feasible: &[usize],
        scores: &mut [i64],
    ) -> Result<(), PluginError> {
        let tolerations: Vec<&Toleration> = pod
            .spec()
            .iter()
            .flat_map(|s| s.tolerations.iter().flatten())
            .filter(|t| matches!(t.effect.as_deref(), None | Some("" | "PreferNoSchedule")))
            .collect();
        for (score, at) in scores.iter_mut().zip(feasible) {
            let soft = nodes.nodes()[*at]
                .taints()
                .filter(|t| t.effect == "PreferNoSchedule");
            *score = soft
                .filter(|taint| !tolerations.iter().any(|t| tolerates(t, taint)))
                .count() as i64;
        }
        normalize_to_max(scores, true);
        Ok(())
    }
}
