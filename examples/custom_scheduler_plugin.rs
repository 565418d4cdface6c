//! A scheduler plugin of one's own, over a thousand simulated nodes in virtual time: nodes in the greenest zone first.
//!
//! `cargo run -p orch-examples --bin custom_scheduler_plugin`

use orch_sched::{
    cache::{NodeInfo, PodInfo},
    framework::{CycleState, PerNode, Plugin, PluginError, Profile, ScorePlugin, Scorer},
    sim::{Event, Simulation},
};
use serde_json::json;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Scores a node by the share of renewable power in its zone, which a label tells in percent.
struct GreenPower;

impl Plugin for GreenPower {
    fn name(&self) -> &'static str {
        "GreenPower"
    }
}

impl ScorePlugin for GreenPower {
    fn score(&self, _: &CycleState, _: &PodInfo, node: &NodeInfo) -> Result<i64, PluginError> {
        Ok(node
            .label("example.org/renewable-percent")
            .and_then(|p| p.parse().ok())
            .unwrap_or(0))
    }
}

fn main() -> anyhow::Result<()> {
    let mut profile = Profile::default_plugins("green-scheduler");
    profile.score.push(Scorer {
        plugin: Arc::new(PerNode(GreenPower)),
        weight: 100,
    });
    let mut simulation = Simulation::new(profile, 42);
    for n in 0..1000 {
        let (zone, percent) = [("coal", "5"), ("mixed", "40"), ("hydro", "95")][n % 3];
        simulation.add_node(serde_json::from_value(json!({
            "metadata": {"name": format!("node-{n:03}"), "labels": {"zone": zone, "example.org/renewable-percent": percent}},
            "status": {"allocatable": {"cpu": "4", "memory": "16Gi", "pods": "110"}},
        }))?);
    }
    // 2,000 pods of one core, two a second, each running for a quarter of an hour.
    for n in 0..2000_u64 {
        let pod = serde_json::from_value(json!({
            "metadata": {"name": format!("job-{n}"), "namespace": "default"},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}]},
        }))?;
        simulation.submit(
            pod,
            Duration::from_millis(n * 500),
            Some(Duration::from_secs(900)),
        );
    }
    let log = simulation.run()?.to_vec();
    let mut per_zone: BTreeMap<String, usize> = BTreeMap::new();
    for entry in &log {
        if let Event::Bound { node, .. } = &entry.event {
            let zone = simulation
                .snapshot()
                .node(node)
                .and_then(|n| n.label("zone"))
                .unwrap_or("?");
            *per_zone.entry(zone.to_owned()).or_default() += 1;
        }
    }
    let last = log.last().map(|e| e.at).unwrap_or_default();
    println!("{} events in {} s of virtual time", log.len(), last.as_secs());
    println!("pods per zone: {per_zone:?}");
    Ok(())
}
