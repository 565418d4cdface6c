//! Resources: does the pod fit, and where is most left.

use crate::{
    cache::{NodeInfo, PodInfo, Snapshot},
    framework::{CycleState, Feasible, FilterNodes, Plugin, PluginError, Rejection, SCORE_MAX, ScoreNodes},
};

/// Refuses nodes without room; likes nodes with the most room (strategy `LeastAllocated` over CPU and memory).
#[derive(Debug, Clone, Copy)]
pub struct NodeResourcesFit;

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }
}

/// What the pod lacks on the node: upstream's reasons, and whether an empty node would lack it too.
fn lacking(pod: &PodInfo, node: &NodeInfo) -> Option<(Vec<String>, bool)> {
    let (want, have, used) = (&pod.requests, node.allocatable(), node.requested());
    let (mut reasons, mut unresolvable) = (Vec::new(), false);
    if used.pods + 1 > have.pods {
        reasons.push("Too many pods".to_owned());
    }
    let mut check = |name: &str, want: i64, used: i64, have: i64| {
        if want > 0 && want > have - used {
            reasons.push(format!("Insufficient {name}"));
            unresolvable |= want > have;
        }
    };
    check("cpu", want.cpu_millis, used.cpu_millis, have.cpu_millis);
    check("memory", want.memory_bytes, used.memory_bytes, have.memory_bytes);
    check(
        "ephemeral-storage",
        want.ephemeral_bytes,
        used.ephemeral_bytes,
        have.ephemeral_bytes,
    );
    for (name, amount) in &want.scalar {
        let of = |r: &crate::cache::Resources| r.scalar.get(name).copied().unwrap_or(0);
        check(name, *amount, of(used), of(have));
    }
    (!reasons.is_empty()).then_some((reasons, unresolvable))
}

impl FilterNodes for NodeResourcesFit {
    fn filter_nodes(
        &self,
        _: &CycleState,
        pod: &PodInfo,
        nodes: &Snapshot,
        feasible: &mut Feasible,
    ) -> Result<(), PluginError> {
        let candidates: Vec<usize> = feasible.iter().collect();
        for at in candidates {
            if let Some((reasons, unresolvable)) = lacking(pod, &nodes.nodes()[at]) {
                feasible.reject(
                    at,
                    Rejection {
                        plugin: self.name(),
                        reasons,
                        unresolvable,
                    },
                );
            }
        }
        Ok(())
    }
}

impl ScoreNodes for NodeResourcesFit {
    fn score_nodes(
        &self,
        _: &CycleState,
        pod: &PodInfo,
        nodes: &Snapshot,
        feasible: &[usize],
        scores: &mut [i64],
    ) -> Result<(), PluginError> {
        for (score, at) in scores.iter_mut().zip(feasible) {
            let node = &nodes.nodes()[*at];
            let (have, used, want) = (node.allocatable(), node.assumed(), &pod.assumed);
            let mut sum = 0;
            let mut weights = 0;
            for (have, taken) in [
                (have.cpu_millis, used.cpu_millis + want.cpu_millis),
                (have.memory_bytes, used.memory_bytes + want.memory_bytes),
            ] {
                if have > 0 {
                    weights += 1;
                    let left = i128::from((have - taken).max(0));
                    sum += i64::try_from(left * i128::from(SCORE_MAX) / i128::from(have)).unwrap_or(0);
                }
            }
            *score = if weights == 0 { 0 } else { sum / weights };
        }
        Ok(())
    }
}
