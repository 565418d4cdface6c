//! The decision: pure, from a snapshot, a pod and a profile.

use crate::{
    cache::{PodInfo, Snapshot},
    framework::{CycleState, Feasible, PluginError, PreFilterVerdict, Profile, Rejection},
};
use orch_core::rng::Rng;
use std::collections::{BTreeMap, BTreeSet};

/// Score of one node by one plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginScore {
    /// The plugin.
    pub plugin: &'static str,
    /// Node to normalized score (before the weight), in order of node.
    pub scores: Vec<(String, i64)>,
    /// The plugin's weight.
    pub weight: i64,
}

/// What was decided for a pod, and why.
#[derive(Debug)]
pub struct Decision {
    /// The chosen node; `None` if no node is feasible.
    pub node: Option<String>,
    /// How many nodes there were.
    pub nodes: usize,
    /// How many were feasible.
    pub feasible: usize,
    /// Why nodes were turned down, by node name.
    pub rejections: BTreeMap<String, Rejection>,
    /// Rejection by a `PreFilter`, which speaks of all nodes at once.
    pub pre_filter: Option<Rejection>,
    /// Scores per plugin; empty unless asked for.
    pub scores: Vec<PluginScore>,
    /// Names of the plugins that turned nodes down: what must change before another try makes sense.
    pub unschedulable_plugins: BTreeSet<&'static str>,
    /// What the plugins of this cycle told each other; reservation and binding go on with it.
    pub cycle: CycleState,
}

impl Decision {
    /// Upstream's message for a pod that fits nowhere: `0/5 nodes are available: 2 Insufficient cpu, 3 …`.
    #[must_use]
    pub fn message(&self) -> String {
        let mut text = format!("0/{} nodes are available:", self.nodes);
        if let Some(rejection) = &self.pre_filter {
            text.push_str(&format!(" {}.", rejection.reasons.join(", ")));
            return text;
        }
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for reason in self.rejections.values().flat_map(|r| &r.reasons) {
            *counts.entry(reason).or_default() += 1;
        }
        let mut parts: Vec<String> = counts
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        parts.sort();
        if !parts.is_empty() {
            text.push_str(&format!(" {}.", parts.join(", ")));
        }
        text
    }
}

/// Decides where `pod` goes. Ties between the best nodes are broken by `rng`. With `explain`, the scores of every
/// plugin are kept.
///
/// # Errors
/// [`PluginError`] when a plugin fails.
pub fn decide(
    snapshot: &Snapshot,
    pod: &PodInfo,
    profile: &Profile,
    rng: &dyn Rng,
    explain: bool,
) -> Result<Decision, PluginError> {
    let mut decision = Decision {
        node: None,
        nodes: snapshot.nodes().len(),
        feasible: 0,
        rejections: BTreeMap::new(),
        pre_filter: None,
        scores: Vec::new(),
        unschedulable_plugins: BTreeSet::new(),
        cycle: CycleState::default(),
    };
    let mut feasible = Feasible::all(snapshot.nodes().len());
    let mut skipped: BTreeSet<&'static str> = BTreeSet::new();
    for plugin in &profile.pre_filter {
        match plugin.pre_filter(&mut decision.cycle, pod, snapshot)? {
            PreFilterVerdict::All => {}
            PreFilterVerdict::Skip => drop(skipped.insert(plugin.name())),
            PreFilterVerdict::Nodes(names) => {
                let names: BTreeSet<String> = names.into_iter().collect();
                for (at, node) in snapshot.nodes().iter().enumerate() {
                    if !names.contains(node.name()) {
                        let reasons =
                            vec!["node(s) didn't satisfy plugin(s) [".to_owned() + plugin.name() + "]"];
                        feasible.reject(
                            at,
                            Rejection {
                                plugin: plugin.name(),
                                reasons,
                                unresolvable: true,
                            },
                        );
                    }
                }
            }
            PreFilterVerdict::Reject(rejection) => {
                decision.unschedulable_plugins.insert(rejection.plugin);
                decision.pre_filter = Some(rejection);
                return Ok(decision);
            }
        }
    }
    for plugin in &profile.filter {
        if !skipped.contains(plugin.name()) {
            plugin.filter_nodes(&decision.cycle, pod, snapshot, &mut feasible)?;
        }
    }
    for (at, rejection) in feasible.rejections() {
        decision.unschedulable_plugins.insert(rejection.plugin);
        decision
            .rejections
            .insert(snapshot.nodes()[*at].name().to_owned(), rejection.clone());
    }
    let candidates: Vec<usize> = feasible.iter().collect();
    decision.feasible = candidates.len();
    let chosen = match candidates.as_slice() {
        [] => None,
        [only] if !explain => Some(*only),
        _ => best(snapshot, pod, profile, rng, &candidates, explain, &mut decision)?,
    };
    decision.node = chosen.map(|at| snapshot.nodes()[at].name().to_owned());
    Ok(decision)
}

fn best(
    snapshot: &Snapshot,
    pod: &PodInfo,
    profile: &Profile,
    rng: &dyn Rng,
    candidates: &[usize],
    explain: bool,
    decision: &mut Decision,
) -> Result<Option<usize>, PluginError> {
    let mut silent: BTreeSet<&'static str> = BTreeSet::new();
    for plugin in &profile.pre_score {
        if !plugin.pre_score(&mut decision.cycle, pod, snapshot, candidates)? {
            silent.insert(plugin.name());
        }
    }
    let mut totals = vec![0_i64; candidates.len()];
    for scorer in &profile.score {
        if silent.contains(scorer.plugin.name()) {
            continue;
        }
        let mut scores = vec![0_i64; candidates.len()];
        scorer
            .plugin
            .score_nodes(&decision.cycle, pod, snapshot, candidates, &mut scores)?;
        for (total, score) in totals.iter_mut().zip(&scores) {
            *total = total.saturating_add(score.saturating_mul(scorer.weight));
        }
        if explain {
            let named = candidates
                .iter()
                .map(|at| snapshot.nodes()[*at].name().to_owned())
                .zip(scores);
            decision.scores.push(PluginScore {
                plugin: scorer.plugin.name(),
                scores: named.collect(),
                weight: scorer.weight,
            });
        }
    }
    let highest = totals.iter().copied().max();
    let tied: Vec<usize> = candidates
        .iter()
        .zip(&totals)
        .filter(|(_, t)| Some(**t) == highest)
        .map(|(at, _)| *at)
        .collect();
    Ok(tied.get(rng.below(tied.len() as u64) as usize).copied())
}
