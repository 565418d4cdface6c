//! The in-tree plugins, with upstream's verdicts, reasons and scores.

mod balanced;
mod basic;
mod image_locality;
mod inter_pod_affinity;
mod node_affinity;
mod resources_fit;
mod taints;
mod topology_spread;

pub use balanced::NodeResourcesBalancedAllocation;
pub use basic::{DefaultBinder, NodeName, NodePorts, NodeUnschedulable, PrioritySort, SchedulingGates};
pub use image_locality::ImageLocality;
pub use inter_pod_affinity::InterPodAffinity;
pub use node_affinity::{NodeAffinity, node_matches};
pub use resources_fit::NodeResourcesFit;
pub use taints::{TaintToleration, first_untolerated};
pub use topology_spread::PodTopologySpread;

use crate::framework::Rejection;

fn reject(plugin: &'static str, reason: &str, unresolvable: bool) -> Rejection {
    Rejection {
        plugin,
        reasons: vec![reason.to_owned()],
        unresolvable,
    }
}
