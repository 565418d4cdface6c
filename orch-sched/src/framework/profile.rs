//! A profile: which plugins decide for the pods of one `schedulerName`.

use super::{
    BindPlugin, FilterNodes, PermitPlugin, PostBindPlugin, PostFilterPlugin, PreBindPlugin, PreEnqueuePlugin,
    PreFilterPlugin, PreScorePlugin, QueueSortPlugin, ReservePlugin, ScoreNodes,
};
use crate::plugins;
use std::sync::Arc;

/// A scoring plugin and its weight.
#[derive(Clone)]
pub struct Scorer {
    /// The plugin.
    pub plugin: Arc<dyn ScoreNodes>,
    /// What its score is multiplied by.
    pub weight: i64,
}

/// The plugins of one scheduler, by extension point, each list in order.
#[derive(Clone)]
pub struct Profile {
    /// The `schedulerName` that it serves.
    pub scheduler_name: String,
    /// Gate to the active queue.
    pub pre_enqueue: Vec<Arc<dyn PreEnqueuePlugin>>,
    /// Order of the active queue.
    pub queue_sort: Arc<dyn QueueSortPlugin>,
    /// Before filtering.
    pub pre_filter: Vec<Arc<dyn PreFilterPlugin>>,
    /// Filtering.
    pub filter: Vec<Arc<dyn FilterNodes>>,
    /// When nothing is feasible.
    pub post_filter: Vec<Arc<dyn PostFilterPlugin>>,
    /// Before scoring.
    pub pre_score: Vec<Arc<dyn PreScorePlugin>>,
    /// Scoring.
    pub score: Vec<Scorer>,
    /// Reservation.
    pub reserve: Vec<Arc<dyn ReservePlugin>>,
    /// Permission.
    pub permit: Vec<Arc<dyn PermitPlugin>>,
    /// Before binding.
    pub pre_bind: Vec<Arc<dyn PreBindPlugin>>,
    /// Binding.
    pub bind: Vec<Arc<dyn BindPlugin>>,
    /// After binding.
    pub post_bind: Vec<Arc<dyn PostBindPlugin>>,
}

impl Profile {
    /// A profile that accepts every node and binds: a base to put plugins on.
    pub fn empty(scheduler_name: impl Into<String>) -> Self {
        Self {
            scheduler_name: scheduler_name.into(),
            pre_enqueue: vec![Arc::new(plugins::SchedulingGates)],
            queue_sort: Arc::new(plugins::PrioritySort),
            pre_filter: vec![],
            filter: vec![],
            post_filter: vec![],
            pre_score: vec![],
            score: vec![],
            reserve: vec![],
            permit: vec![],
            pre_bind: vec![],
            bind: vec![Arc::new(plugins::DefaultBinder)],
            post_bind: vec![],
        }
    }

    /// The plugins and weights of upstream's default profile, as far as they exist here.
    pub fn default_plugins(scheduler_name: impl Into<String>) -> Self {
        let affinity = Arc::new(plugins::InterPodAffinity::default());
        let spread = Arc::new(plugins::PodTopologySpread);
        let mut profile = Self::empty(scheduler_name);
        profile.pre_filter = vec![affinity.clone(), spread.clone()];
        profile.filter = vec![
            Arc::new(plugins::NodeUnschedulable),
            Arc::new(plugins::NodeName),
            Arc::new(plugins::TaintToleration),
            Arc::new(plugins::NodeAffinity),
            Arc::new(plugins::NodePorts),
            Arc::new(plugins::NodeResourcesFit),
            spread.clone(),
            affinity.clone(),
        ];
        profile.pre_score = vec![spread.clone(), affinity.clone()];
        profile.score = vec![
            Scorer {
                plugin: Arc::new(plugins::TaintToleration),
                weight: 3,
            },
            Scorer {
                plugin: Arc::new(plugins::NodeAffinity),
                weight: 2,
            },
            Scorer {
                plugin: spread,
                weight: 2,
            },
            Scorer {
                plugin: affinity,
                weight: 2,
            },
            Scorer {
                plugin: Arc::new(plugins::NodeResourcesFit),
                weight: 1,
            },
            Scorer {
                plugin: Arc::new(plugins::NodeResourcesBalancedAllocation),
                weight: 1,
            },
            Scorer {
                plugin: Arc::new(plugins::ImageLocality),
                weight: 1,
            },
        ];
        profile
    }
}
