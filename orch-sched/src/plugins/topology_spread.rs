//! Pod topology spread constraints.

use super::{node_affinity::node_matches, reject, taints::first_untolerated};
use crate::{
    cache::{NodeInfo, PodInfo, Snapshot},
    framework::{
        CycleState, Feasible, FilterNodes, Plugin, PluginError, PreFilterPlugin, PreFilterVerdict,
        PreScorePlugin, SCORE_MAX, ScoreNodes,
    },
};
use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use orch_core::selector::{LabelSelector, Operator, Requirement};
use std::collections::{BTreeMap, BTreeSet};

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// `spec.topologySpreadConstraints`; for pods without any, upstream's default preference to spread the pods of a
/// Service or workload over hosts and zones.
#[derive(Debug, Clone, Copy)]
pub struct PodTopologySpread;

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }
}

#[derive(Debug, Clone)]
struct Constraint {
    max_skew: i64,
    key: String,
    selector: LabelSelector,
    min_domains: i64,
    honor_affinity: bool,
    honor_taints: bool,
}

impl Constraint {
    fn parse(c: &TopologySpreadConstraint, pod: &PodInfo) -> Self {
        let mut selector =
            LabelSelector::from_api(c.label_selector.as_ref()).unwrap_or_else(|_| LabelSelector::nothing());
        let own = c
            .match_label_keys
            .iter()
            .flatten()
            .filter_map(|key| Some((key, pod.labels()?.get(key)?)));
        let more: Vec<Requirement> = own
            .filter_map(|(k, v)| Requirement::new(k.clone(), Operator::In, vec![v.clone()]).ok())
            .collect();
        if !more.is_empty() && !selector.is_nothing() {
            selector = LabelSelector::new(selector.requirements().iter().cloned().chain(more).collect());
        }
        Self {
            max_skew: i64::from(c.max_skew),
            key: c.topology_key.clone(),
            selector,
            min_domains: i64::from(c.min_domains.unwrap_or(1)),
            honor_affinity: c.node_affinity_policy.as_deref() != Some("Ignore"),
            honor_taints: c.node_taints_policy.as_deref() == Some("Honor"),
        }
    }

    fn default_for(key: &str, max_skew: i64, selector: &LabelSelector) -> Self {
        Self {
            max_skew,
            key: key.into(),
            selector: selector.clone(),
            min_domains: 1,
            honor_affinity: true,
            honor_taints: false,
        }
    }

    fn counts_node(&self, pod: &PodInfo, node: &NodeInfo) -> bool {
        let hard = || {
            node.taints()
                .filter(|t| matches!(t.effect.as_str(), "NoSchedule" | "NoExecute"))
        };
        (!self.honor_affinity || node_matches(pod, node))
            && (!self.honor_taints || first_untolerated(pod, hard()).is_none())
    }

    fn count_on(&self, pod: &PodInfo, node: &NodeInfo) -> i64 {
        if self.selector.is_everything() || self.selector.is_nothing() {
            return 0;
        }
        let same = |other: &&std::sync::Arc<PodInfo>| {
            other.key.namespace == pod.key.namespace
                && other.pod.metadata.deletion_timestamp.is_none()
                && self.selector.matches_opt(other.labels())
        };
        node.pods().filter(same).count() as i64
    }
}

fn constraints(pod: &PodInfo, action: &str) -> Vec<Constraint> {
    let all = pod
        .spec()
        .and_then(|s| s.topology_spread_constraints.as_deref())
        .unwrap_or_default();
    all.iter()
        .filter(|c| c.when_unsatisfiable == action)
        .map(|c| Constraint::parse(c, pod))
        .collect()
}

fn has_all_keys(node: &NodeInfo, constraints: &[Constraint]) -> bool {
    constraints.iter().all(|c| node.label(&c.key).is_some())
}

/// Pods per value of each hard constraint's topology key.
#[derive(Debug, Default)]
struct Counts(Vec<(Constraint, BTreeMap<String, i64>)>);

impl PreFilterPlugin for PodTopologySpread {
    fn pre_filter(
        &self,
        cycle: &mut CycleState,
        pod: &PodInfo,
        nodes: &Snapshot,
    ) -> Result<PreFilterVerdict, PluginError> {
        let hard = constraints(pod, "DoNotSchedule");
        if hard.is_empty() {
            return Ok(PreFilterVerdict::Skip);
        }
        let mut counts: Vec<BTreeMap<String, i64>> = vec![BTreeMap::new(); hard.len()];
        for node in nodes.nodes().iter().filter(|n| has_all_keys(n, &hard)) {
            for (constraint, counts) in hard.iter().zip(&mut counts) {
                if let Some(value) = node.label(&constraint.key)
                    && constraint.counts_node(pod, node)
                {
                    *counts.entry(value.to_owned()).or_default() += constraint.count_on(pod, node);
                }
            }
        }
        cycle.put(Counts(hard.into_iter().zip(counts).collect()));
        Ok(PreFilterVerdict::All)
    }
}

impl FilterNodes for PodTopologySpread {
    fn filter_nodes(
        &self,
        cycle: &CycleState,
        pod: &PodInfo,
        nodes: &Snapshot,
        feasible: &mut Feasible,
    ) -> Result<(), PluginError> {
        let Some(Counts(constraints)) = cycle.get::<Counts>() else {
            return Ok(());
        };
        let candidates: Vec<usize> = feasible.iter().collect();
        for (constraint, counts) in constraints {
            let least = if (counts.len() as i64) < constraint.min_domains {
                0
            } else {
                counts.values().copied().min().unwrap_or(i64::MAX)
            };
            let own = i64::from(constraint.selector.matches_opt(pod.labels()));
            for at in &candidates {
                let Some(value) = nodes.nodes()[*at].label(&constraint.key) else {
                    let reason =
                        "node(s) didn't match pod topology spread constraints (missing required label)";
                    feasible.reject(*at, reject(self.name(), reason, true));
                    continue;
                };
                let there = counts.get(value).copied().unwrap_or(0);
                if (there + own).saturating_sub(least) > constraint.max_skew {
                    let reason = "node(s) didn't match pod topology spread constraints";
                    feasible.reject(*at, reject(self.name(), reason, false));
                }
            }
        }
        Ok(())
    }
}

/// What scoring needs: the soft constraints with counts per value, and the nodes that are left out.
struct Soft {
    constraints: Vec<(Constraint, BTreeMap<String, i64>, f64)>,
    ignored: BTreeSet<usize>,
}

impl PreScorePlugin for PodTopologySpread {
    fn pre_score(
        &self,
        cycle: &mut CycleState,
        pod: &PodInfo,
        nodes: &Snapshot,
        feasible: &[usize],
    ) -> Result<bool, PluginError> {
        let own = pod.spec().is_some_and(|s| {
            s.topology_spread_constraints
                .as_ref()
                .is_some_and(|c| !c.is_empty())
        });
        let soft = if own {
            constraints(pod, "ScheduleAnyway")
        } else {
            match nodes.workload_selector(pod) {
                Some(s) => vec![
                    Constraint::default_for(HOSTNAME, 3, &s),
                    Constraint::default_for(ZONE, 5, &s),
                ],
                None => vec![],
            }
        };
        if soft.is_empty() {
            return Ok(false);
        }
        let mut ignored = BTreeSet::new();
        let mut counts: Vec<BTreeMap<String, i64>> = vec![BTreeMap::new(); soft.len()];
        for at in feasible {
            let node = &nodes.nodes()[*at];
            if own && !has_all_keys(node, &soft) {
                ignored.insert(*at);
                continue;
            }
            for (constraint, counts) in soft.iter().zip(&mut counts) {
                if constraint.key != HOSTNAME {
                    counts.insert(node.label(&constraint.key).unwrap_or_default().to_owned(), 0);
                }
            }
        }
        for node in nodes.nodes().iter().filter(|n| !own || has_all_keys(n, &soft)) {
            for (constraint, counts) in soft.iter().zip(&mut counts) {
                if let Some(count) = counts.get_mut(node.label(&constraint.key).unwrap_or_default())
                    && constraint.counts_node(pod, node)
                {
                    *count += constraint.count_on(pod, node);
                }
            }
        }
        let hosts = feasible.len() - ignored.len();
        let constraints = soft
            .into_iter()
            .zip(counts)
            .map(|(constraint, counts)| {
                let size = if constraint.key == HOSTNAME {
                    hosts
                } else {
                    counts.len()
                };
                (constraint, counts, ((size + 2) as f64).ln())
            })
            .collect();
        cycle.put(Soft { constraints, ignored });
        Ok(true)
    }
}

impl ScoreNodes for PodTopologySpread {
    fn score_nodes(
        &self,
        cycle: &CycleState,
        pod: &PodInfo,
        nodes: &Snapshot,
        feasible: &[usize],
        scores: &mut [i64],
    ) -> Result<(), PluginError> {
        let Some(soft) = cycle.get::<Soft>() else {
            return Ok(());
        };
        let (mut least, mut most) = (i64::MAX, 0);
        for (score, at) in scores.iter_mut().zip(feasible) {
            if soft.ignored.contains(at) {
                continue;
            }
            let node = &nodes.nodes()[*at];
            let mut sum = 0.0;
            for (constraint, counts, weight) in &soft.constraints {
                let Some(value) = node.label(&constraint.key) else {
                    continue;
                };
                let count = if constraint.key == HOSTNAME {
                    constraint.count_on(pod, node)
                } else {
                    counts.get(value).copied().unwrap_or(0)
                };
                sum += count as f64 * weight + (constraint.max_skew - 1) as f64;
            }
            *score = sum.round() as i64;
            (least, most) = (least.min(*score), most.max(*score));
        }
        for (score, at) in scores.iter_mut().zip(feasible) {
            *score = match (soft.ignored.contains(at), most) {
                (true, _) => 0,
                (_, 0) => SCORE_MAX,
                _ => SCORE_MAX * (most + least - *score) / most,
            };
        }
        Ok(())
    }
}
