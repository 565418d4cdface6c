//! Invariants under random churn, in virtual time.
use crate::decisions::{node, pod};
use orch_sched::{
    framework::Profile,
    sim::{Event, LogEntry, Simulation},
};
use proptest::prelude::*;
use serde_json::json;
use std::{collections::BTreeMap, time::Duration};

fn run(seed: u64, nodes: usize, pods: &[(u64, u64, u64)]) -> (Vec<LogEntry>, Simulation) {
    let mut simulation = Simulation::new(Profile::default_plugins("default-scheduler"), seed);
    for n in 0..nodes {
        simulation.add_node(node(
            &format!("n{n}"),
            json!({"status": {"allocatable": {"cpu": "2", "pods": "5"}}}),
        ));
    }
    for (at, (millis, arrival, lifetime)) in pods.iter().enumerate() {
        let requests = json!({"cpu": format!("{millis}m")});
        let pod = pod(
            &format!("p{at}"),
            json!({"containers": [{"name": "c", "resources": {"requests": requests}}]}),
        );
        let lifetime = (*lifetime > 0).then(|| Duration::from_secs(*lifetime));
        simulation.submit(pod, Duration::from_secs(*arrival), lifetime);
    }
    (simulation.run().unwrap().to_vec(), simulation)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_node_is_overcommitted_no_pod_bound_twice_and_none_forgotten(
        seed in any::<u64>(),
        nodes in 1usize..6,
        pods in prop::collection::vec((1u64..2500, 0u64..100, 0u64..50), 1..60),
    ) {
        let (log, simulation) = run(seed, nodes, &pods);
        prop_assert_eq!(&log, &run(seed, nodes, &pods).0, "one seed, one log");
        let mut used: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        let mut places: BTreeMap<String, String> = BTreeMap::new();
        let size = |pod: &str| pods[pod["default/p".len()..].parse::<usize>().unwrap()].0 as i64;
        for entry in &log {
            match &entry.event {
                Event::Bound { pod, node } => {
                    prop_assert!(places.insert(pod.clone(), node.clone()).is_none(), "{} bound twice", pod);
                    let (cpu, count) = used.entry(node.clone()).or_default();
                    (*cpu, *count) = (*cpu + size(pod), *count + 1);
                    prop_assert!(*cpu <= 2000 && *count <= 5, "{} is over its capacity", node);
                }
                Event::Finished { pod } => {
                    let (cpu, count) = used.get_mut(&places[pod]).unwrap();
                    (*cpu, *count) = (*cpu - size(pod), *count - 1);
                }
                Event::Arrived { .. } | Event::Unschedulable { .. } => {}
            }
        }
        // Who is still waiting fits nowhere.
        for at in 0..pods.len() {
            let name = format!("default/p{at}");
            if !places.contains_key(&name) {
                for node in simulation.snapshot().nodes() {
                    let (cpu, count) = used.get(node.name()).copied().unwrap_or_default();
                    prop_assert!(cpu + size(&name) > 2000 || count == 5, "{} fits on {}", name, node.name());
                }
            }
        }
    }
}
