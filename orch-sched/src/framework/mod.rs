//! The scheduling framework: extension points with upstream's names and meaning
//! (<https://kubernetes.io/docs/concepts/scheduling-eviction/scheduling-framework/>).

mod cycle_state;
mod feasible;
mod per_node;
mod plugin;
mod profile;

pub use cycle_state::CycleState;
pub use feasible::{Feasible, Rejection};
pub use per_node::PerNode;
pub use plugin::{
    BindPlugin, FilterNodes, FilterPlugin, Nomination, PermitPlugin, PermitVerdict, Plugin, PluginError,
    PostBindPlugin, PostFilterPlugin, PreBindPlugin, PreEnqueuePlugin, PreFilterPlugin, PreFilterVerdict,
    PreScorePlugin, QueueSortPlugin, ReservePlugin, SCORE_MAX, ScoreNodes, ScorePlugin, Verdict,
    normalize_to_max,
};
pub use profile::{Profile, Scorer};
