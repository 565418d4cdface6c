//! Balance between CPU and memory.

use crate::{
    cache::{PodInfo, Snapshot},
    framework::{CycleState, Plugin, PluginError, SCORE_MAX, ScoreNodes},
};

/// Likes nodes on which the pod brings the used shares of CPU and memory closer together.
#[derive(Debug, Clone, Copy)]
pub struct NodeResourcesBalancedAllocation;

impl Plugin for NodeResourcesBalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }
}

/// `SCORE_MAX` for equal shares, less by their standard deviation.
fn balance(taken: [i64; 2], have: [i64; 2]) -> i64 {
    let shares: Vec<f64> = taken
        .iter()
        .zip(have)
        .filter(|(_, have)| *have > 0)
        .map(|(taken, have)| (*taken as f64 / have as f64).min(1.0))
        .collect();
    let deviation = match shares.as_slice() {
        [a, b] => ((a - b) / 2.0).abs(),
        _ => 0.0,
    };
    ((1.0 - deviation) * SCORE_MAX as f64) as i64
}

impl ScoreNodes for NodeResourcesBalancedAllocation {
    fn score_nodes(
        &self,
        _: &CycleState,
        pod: &PodInfo,
        nodes: &Snapshot,
        feasible: &[usize],
        scores: &mut [i64],
    ) -> Result<(), PluginError> {
        let want = &pod.requests;
        if want.cpu_millis == 0 && want.memory_bytes == 0 {
            // Nothing to balance: upstream skips best-effort pods.
            return Ok(());
        }
        for (score, at) in scores.iter_mut().zip(feasible) {
            let node = &nodes.nodes()[*at];
            let (have, used) = (node.allocatable(), node.requested());
            let have = [have.cpu_millis, have.memory_bytes];
            let before = balance([used.cpu_millis, used.memory_bytes], have);
            let after = balance(
                [
                    used.cpu_millis + want.cpu_millis,
                    used.memory_bytes + want.memory_bytes,
                ],
                have,
            );
            *score = SCORE_MAX / 2 + (SCORE_MAX / 2 + after - before) / 2;
        }
        Ok(())
    }
}
