//! Lifts plugins that see one node at a time to the columnar form.

use super::{
    CycleState, Feasible, FilterNodes, FilterPlugin, Plugin, PluginError, Rejection, ScoreNodes, ScorePlugin,
    Verdict,
};
use crate::cache::{PodInfo, Snapshot};

/// Wraps a [`FilterPlugin`] or [`ScorePlugin`] so that a profile can use it.
#[derive(Debug, Clone, Default)]
pub struct PerNode<P>(pub P);

impl<P: Plugin> Plugin for PerNode<P> {
    fn name(&self) -> &'static str {
        self.0.name()
    }
}

impl<P: FilterPlugin> FilterNodes for PerNode<P> {
    fn filter_nodes(
        &self,
        cycle: &CycleState,
        pod: &PodInfo,
        nodes: &Snapshot,
        feasible: &mut Feasible,
    ) -> Result<(), PluginError> {
        let candidates: Vec<usize> = feasible.iter().collect();
        for at in candidates {
            let (reason, unresolvable) = match self.0.filter(cycle, pod, &nodes.nodes()[at])? {
                Verdict::Fits => continue,
                Verdict::Unschedulable(reason) => (reason, false),
                Verdict::Unresolvable(reason) => (reason, true),
            };
            feasible.reject(
                at,
                Rejection {
                    plugin: self.name(),
                    reasons: vec![reason],
                    unresolvable,
                },
            );
        }
        Ok(())
    }
}

impl<P: ScorePlugin> ScoreNodes for PerNode<P> {
    fn score_nodes(
        &self,
        cycle: &CycleState,
        pod: &PodInfo,
        nodes: &Snapshot,
        feasible: &[usize],
        scores: &mut [i64],
    ) -> Result<(), PluginError> {
        for (score, at) in scores.iter_mut().zip(feasible) {
            *score = self.0.score(cycle, pod, &nodes.nodes()[*at])?;
        }
        self.0.normalize(cycle, pod, scores);
        Ok(())
    }
}
