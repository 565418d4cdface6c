//! What the scheduler knows: nodes with the pods on them, ready to decide on.

mod node_info;
mod pod_info;
mod resources;
mod snapshot;

pub use node_info::{HostPort, NodeInfo};
pub use pod_info::{AffinityTerm, PodInfo, WeightedTerm};
pub use resources::Resources;
pub use snapshot::Snapshot;
