//! A trait per extension point.
//!
//! In-tree plugins implement the columnar forms [`FilterNodes`] and [`ScoreNodes`]: one call for all nodes, which keeps the hot path flat.
//! [`FilterPlugin`] and [`ScorePlugin`] see one node at a time and stay ten lines long; [`super::PerNode`] lifts them.

use super::{CycleState, Feasible, Rejection};
use crate::cache::{NodeInfo, PodInfo, Snapshot};
use async_trait::async_trait;
use orch_core::{ApiClient, Status};
use std::{cmp::Ordering, sync::Arc, time::Duration};

/// Highest score of a node after normalization; the lowest is 0.
pub const SCORE_MAX: i64 = 100;

/// A plugin failed (which is not the same as saying no). The pod is tried again later.
#[derive(Debug, thiserror::Error)]
#[error("plugin {plugin}: {message}")]
pub struct PluginError {
    /// Name of the plugin.
    pub plugin: &'static str,
    /// What failed.
    pub message: String,
}

/// What every plugin has.
pub trait Plugin: Send + Sync {
    /// Name, as profiles and messages write it.
    fn name(&self) -> &'static str;
}

/// Answer of a filter about one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The pod may run there.
    Fits,
    /// It may not, unless pods leave the node.
    Unschedulable(String),
    /// It may not, whatever leaves.
    Unresolvable(String),
}

/// Whether a pod may enter the active queue.
pub trait PreEnqueuePlugin: Plugin {
    /// `Err` with a reason keeps the pod out until it changes.
    ///
    /// # Errors
    /// The reason.
    fn pre_enqueue(&self, pod: &PodInfo) -> Result<(), String>;
}

/// Order of the active queue; a profile has exactly one.
pub trait QueueSortPlugin: Plugin {
    /// Which of two pods is scheduled first; `added` counts up in order of arrival.
    fn compare(&self, a: (&PodInfo, u64), b: (&PodInfo, u64)) -> Ordering;
}

/// What a `PreFilter` found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PreFilterVerdict {
    /// Go on with every node.
    All,
    /// Only nodes of these names can do.
    Nodes(Vec<String>),
    /// The plugin's filter has nothing to say of this pod.
    Skip,
    /// No node can do.
    Reject(Rejection),
}

/// Looks at a pod once before the nodes are filtered.
pub trait PreFilterPlugin: Plugin {
    /// May leave in `cycle` what the filter needs.
    ///
    /// # Errors
    /// [`PluginError`].
    fn pre_filter(
        &self,
        cycle: &mut CycleState,
        pod: &PodInfo,
        nodes: &Snapshot,
    ) -> Result<PreFilterVerdict, PluginError>;
}

/// Filters one node at a time. No I/O, no clock.
pub trait FilterPlugin: Plugin {
    /// Whether the pod may run on the node.
    ///
    /// # Errors
    /// [`PluginError`].
    fn filter(&self, cycle: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<Verdict, PluginError>;
}

/// Filters all nodes in one call.
pub trait FilterNodes: Plugin {
    /// Rejects every node of `feasible` on which the pod may not run.
    ///
    /// # Errors
    /// [`PluginError`].
    fn filter_nodes(
        &self,
        cycle: &CycleState,
        pod: &PodInfo,
        nodes: &Snapshot,
        feasible: &mut Feasible,
    ) -> Result<(), PluginError>;
}

/// Room that can be made for a pod.
#[derive(Debug, Clone)]
pub struct Nomination {
    /// The node.
    pub node: String,
    /// The pods that must leave it.
    pub victims: Vec<Arc<PodInfo>>,
}

/// Called when no node is feasible; may make room (preemption).
pub trait PostFilterPlugin: Plugin {
    /// The node that the pod is nominated for, if room can be made somewhere.
    ///
    /// # Errors
    /// [`PluginError`].
    fn post_filter(
        &self,
        cycle: &CycleState,
        pod: &PodInfo,
        nodes: &Snapshot,
        feasible: &Feasible,
    ) -> Result<Option<Nomination>, PluginError>;
}

/// Looks at a pod and its feasible nodes once before they are scored.
pub trait PreScorePlugin: Plugin {
    /// `false` skips the plugin's score for this pod.
    ///
    /// # Errors
    /// [`PluginError`].
    fn pre_score(
        &self,
        cycle: &mut CycleState,
        pod: &PodInfo,
        nodes: &Snapshot,
        feasible: &[usize],
    ) -> Result<bool, PluginError>;
}

/// Scores one node at a time.
pub trait ScorePlugin: Plugin {
    /// Higher is better, in whatever range [`ScorePlugin::normalize`] then maps to 0..=[`SCORE_MAX`].
    ///
    /// # Errors
    /// [`PluginError`].
    fn score(&self, cycle: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<i64, PluginError>;

    /// Maps the scores of all nodes to 0..=[`SCORE_MAX`]; by default they are left as they are.
    fn normalize(&self, _cycle: &CycleState, _pod: &PodInfo, _scores: &mut [i64]) {}
}

/// Scores all feasible nodes in one call.
pub trait ScoreNodes: Plugin {
    /// Writes into `scores[i]` the normalized score, 0..=[`SCORE_MAX`], of node number `feasible[i]`.
    ///
    /// # Errors
    /// [`PluginError`].
    fn score_nodes(
        &self,
        cycle: &CycleState,
        pod: &PodInfo,
        nodes: &Snapshot,
        feasible: &[usize],
        scores: &mut [i64],
    ) -> Result<(), PluginError>;
}

/// Keeps something for a pod on a node before it is bound.
pub trait ReservePlugin: Plugin {
    /// Reserves.
    ///
    /// # Errors
    /// [`PluginError`]; every plugin's [`ReservePlugin::unreserve`] is called then.
    fn reserve(&self, cycle: &CycleState, pod: &PodInfo, node: &str) -> Result<(), PluginError>;
    /// Gives back. Must not fail, and may be called without a reservation.
    fn unreserve(&self, cycle: &CycleState, pod: &PodInfo, node: &str);
}

/// Answer of a permit plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PermitVerdict {
    /// Go on.
    Allow,
    /// Hold the pod until it is allowed, at most so long.
    Wait(Duration),
    /// Turn the pod away.
    Reject(String),
}

/// Allows, delays or refuses a pod right before it is bound.
pub trait PermitPlugin: Plugin {
    /// Decides.
    ///
    /// # Errors
    /// [`PluginError`].
    fn permit(&self, cycle: &CycleState, pod: &PodInfo, node: &str) -> Result<PermitVerdict, PluginError>;
}

/// Does what must be done before a pod is bound, such as attaching a volume.
#[async_trait]
pub trait PreBindPlugin: Plugin {
    /// Prepares.
    async fn pre_bind(
        &self,
        client: &Arc<dyn ApiClient>,
        cycle: &CycleState,
        pod: &PodInfo,
        node: &str,
    ) -> Result<(), Status>;
}

/// Binds a pod to a node. The first plugin that does not pass has done it.
#[async_trait]
pub trait BindPlugin: Plugin {
    /// `Ok(false)` passes the pod on to the next plugin.
    async fn bind(
        &self,
        client: &Arc<dyn ApiClient>,
        cycle: &CycleState,
        pod: &PodInfo,
        node: &str,
    ) -> Result<bool, Status>;
}

/// Told of a bound pod.
pub trait PostBindPlugin: Plugin {
    /// For cleaning up.
    fn post_bind(&self, cycle: &CycleState, pod: &PodInfo, node: &str);
}

/// Scales scores so that the highest becomes [`SCORE_MAX`], or with `reverse` so that the lowest raw score does
/// (upstream's `DefaultNormalizeScore`).
pub fn normalize_to_max(scores: &mut [i64], reverse: bool) {
    let highest = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let scaled = if highest == 0 {
            0
        } else {
            *score * SCORE_MAX / highest
        };
        *score = match (highest, reverse) {
            (0, true) => SCORE_MAX,
            (_, true) => SCORE_MAX - scaled,
            _ => scaled,
        };
    }
}
