//! Images that are already there.

use crate::{
    cache::{PodInfo, Snapshot},
    framework::{CycleState, Plugin, PluginError, SCORE_MAX, ScoreNodes},
};

const LEAST_BYTES: i64 = 23 << 20;
const MOST_BYTES_PER_CONTAINER: i64 = 1000 << 20;

/// Likes nodes that have the pod's images, the more the larger they are and the more nodes have them.
#[derive(Debug, Clone, Copy)]
pub struct ImageLocality;

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }
}

/// The name as nodes list it: with `:latest` if it has no tag.
fn normalized(image: &str) -> String {
    let after_slash = image.rfind('/').map_or(0, |at| at + 1);
    if image[after_slash..].contains([':', '@']) {
        image.to_owned()
    } else {
        format!("{image}:latest")
    }
}

impl ScoreNodes for ImageLocality {
    fn score_nodes(
        &self,
        _: &CycleState,
        pod: &PodInfo,
        nodes: &Snapshot,
        feasible: &[usize],
        scores: &mut [i64],
    ) -> Result<(), PluginError> {
        let Some(spec) = pod.spec() else { return Ok(()) };
        let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
        let images: Vec<String> = containers
            .filter_map(|c| c.image.as_deref())
            .map(normalized)
            .collect();
        let total = nodes.nodes().len().max(1) as f64;
        let shares: Vec<f64> = images
            .iter()
            .map(|image| {
                nodes
                    .nodes()
                    .iter()
                    .filter(|n| n.image_size(image).is_some())
                    .count() as f64
                    / total
            })
            .collect();
        let most = MOST_BYTES_PER_CONTAINER * images.len().max(1) as i64;
        for (score, at) in scores.iter_mut().zip(feasible) {
            let node = &nodes.nodes()[*at];
            let sum: i64 = images
                .iter()
                .zip(&shares)
                .filter_map(|(image, share)| Some((node.image_size(image)? as f64 * share) as i64))
                .sum();
            *score = SCORE_MAX * (sum.clamp(LEAST_BYTES, most) - LEAST_BYTES) / (most - LEAST_BYTES);
        }
        Ok(())
    }
}
