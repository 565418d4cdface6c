use super::plan::*;
use crate::shared::text;
use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
};
use orch_core::testing::builders::pod;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

fn service(more: Value) -> Arc<Service> {
    let mut value = json!({
        "metadata": {"name": "web", "namespace": "n", "uid": "s", "labels": {"team": "x"}},
        "spec": {"selector": {"app": "web"}, "clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"],
                 "ports": [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}]},
    });
    orch_core::testing::merge_patch(&mut value, &more);
    Arc::new(serde_json::from_value(value).unwrap())
}

fn member(n: usize) -> Pod {
    let name = format!("p{n:03}");
    let mut pod = pod("n", &name)
        .node("x")
        .port("web", 8080)
        .ip(&format!("10.1.{}.{}", n / 250, n % 250 + 1))
        .ready()
        .build();
    pod.metadata.uid = Some(name);
    pod
}

struct World {
    observed: Observed,
    serial: usize,
}

impl World {
    fn new(service: Arc<Service>, pods: Vec<Pod>) -> Self {
        let zones = BTreeMap::from([("x".to_string(), "z1".to_string())]);
        let pods = pods.into_iter().map(Arc::new).collect();
        Self {
            observed: Observed {
                service,
                pods,
                slices: Vec::new(),
                zones,
            },
            serial: 0,
        }
    }
    fn step(&mut self, max: usize) -> (usize, usize, usize) {
        let plan = plan(&self.observed, max);
        let counts = (plan.create.len(), plan.update.len(), plan.delete.len());
        let slices = &mut self.observed.slices;
        slices.retain(|s| !plan.delete.iter().any(|d| d.metadata.name == s.metadata.name));
        for new in plan.update {
            let at = slices
                .iter()
                .position(|s| s.metadata.name == new.metadata.name)
                .unwrap();
            slices[at] = Arc::new(new);
        }
        for mut new in plan.create {
            self.serial += 1;
            new.metadata.name = Some(format!("web-{}", self.serial));
            slices.push(Arc::new(new));
        }
        counts
    }
    fn addresses(&self) -> Vec<String> {
        let mut all: Vec<String> = self
            .observed
            .slices
            .iter()
            .flat_map(|s| s.endpoints.iter().flatten())
            .flat_map(|e| e.addresses.clone())
            .collect();
        all.sort();
        all
    }
}

#[test]
fn conditions_ports_and_labels() {
    let mut going = member(1);
    going.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
        jiff::Timestamp::UNIX_EPOCH,
    ));
    let mut unready = member(2);
    unready.status.as_mut().unwrap().conditions = None;
    let ended = {
        let mut p = member(3);
        p.status.as_mut().unwrap().phase = Some("Succeeded".into());
        p
    };
    let mut world = World::new(
        service(json!({})),
        vec![
            member(0),
            going,
            unready,
            ended,
            pod("n", "no-ip").node("x").build(),
        ],
    );
    assert_eq!(world.step(100), (1, 0, 0));
    let slice = &world.observed.slices[0];
    let port = &slice.ports.as_ref().unwrap()[0];
    assert_eq!(
        (port.port, text(&port.name), text(&port.protocol)),
        (Some(8080), "http", "TCP")
    );
    let labels = slice.metadata.labels.as_ref().unwrap();
    assert_eq!(
        (
            labels["kubernetes.io/service-name"].as_str(),
            labels["team"].as_str()
        ),
        ("web", "x")
    );
    assert!(!labels.contains_key("service.kubernetes.io/headless"));
    let conditions: Vec<_> = slice
        .endpoints
        .as_ref()
        .unwrap()
        .iter()
        .map(|e| {
            let c = e.conditions.as_ref().unwrap();
            (c.ready.unwrap(), c.serving.unwrap(), c.terminating.unwrap())
        })
        .collect();
    assert_eq!(
        conditions,
        [(true, true, false), (false, true, true), (false, false, false)]
    );
    assert_eq!(slice.endpoints.as_ref().unwrap()[0].zone.as_deref(), Some("z1"));
    assert_eq!(world.step(100), (0, 0, 0), "settled");
    world.observed.service = service(json!({"spec": {"publishNotReadyAddresses": true}}));
    assert_eq!(world.step(100), (0, 1, 0));
    assert!(
        world.observed.slices[0]
            .endpoints
            .iter()
            .flatten()
            .all(|e| e.conditions.as_ref().unwrap().ready == Some(true))
    );
}

#[test]
fn an_empty_service_keeps_a_placeholder() {
    let mut world = World::new(service(json!({"spec": {"clusterIP": "None"}})), Vec::new());
    assert_eq!(world.step(100), (1, 0, 0));
    assert_eq!(world.step(100), (0, 0, 0));
    assert!(
        world.observed.slices[0]
            .metadata
            .labels
            .as_ref()
            .unwrap()
            .contains_key("service.kubernetes.io/headless")
    );
    world.observed.pods = vec![Arc::new(member(0))];
    assert_eq!(world.step(100), (0, 1, 0), "the placeholder is reused");
    world.observed.pods.clear();
    assert_eq!(world.step(100), (0, 1, 0));
    assert_eq!(world.step(100), (0, 0, 0));
}

#[test]
fn pods_whose_ports_differ_get_slices_of_their_own() {
    let mut other = member(1);
    other.spec.as_mut().unwrap().containers[0].ports.as_mut().unwrap()[0].container_port = 9090;
    let mut world = World::new(service(json!({})), vec![member(0), other]);
    assert_eq!(world.step(100), (2, 0, 0));
    let ports: Vec<_> = world
        .observed
        .slices
        .iter()
        .map(|s| s.ports.as_ref().unwrap()[0].port)
        .collect();
    assert_eq!(ports, [Some(8080), Some(9090)]);
}

#[test]
fn pods_on_unknown_nodes_wait_and_families_are_kept_apart() {
    let mut stray = member(1);
    stray.spec.as_mut().unwrap().node_name = Some("gone".into());
    let mut dual = member(2);
    dual.status
        .as_mut()
        .unwrap()
        .pod_ips
        .as_mut()
        .unwrap()
        .push(k8s_openapi::api::core::v1::PodIP { ip: "fd00::2".into() });
    let world = World::new(
        service(json!({"spec": {"ipFamilies": ["IPv4", "IPv6"]}})),
        vec![stray, dual],
    );
    let plan = plan(&world.observed, 100);
    assert_eq!(plan.without_node, ["p001"]);
    let found: Vec<(String, usize)> = plan
        .create
        .iter()
        .map(|s: &EndpointSlice| (s.address_type.clone(), s.endpoints.as_ref().unwrap().len()))
        .collect();
    assert_eq!(found, [("IPv4".to_string(), 1), ("IPv6".to_string(), 1)]);
}

proptest! {
    /// Whatever pods come and go, slices hold exactly the pods' addresses within their size, and one pass settles.
    #[test]
    fn slices_follow_pods(changes in proptest::collection::vec(proptest::collection::btree_set(0usize..60, 0..60), 1..8), max in 1usize..20) {
        let mut world = World::new(service(json!({})), Vec::new());
        for members in changes {
            world.observed.pods = members.iter().map(|n| Arc::new(member(*n))).collect();
            world.step(max);
            let mut expected: Vec<String> = world.observed.pods.iter().map(|p| p.status.as_ref().unwrap().pod_ip.clone().unwrap()).collect();
            expected.sort();
            prop_assert_eq!(world.addresses(), expected);
            prop_assert!(world.observed.slices.iter().all(|s| s.endpoints.as_ref().unwrap().len() <= max));
            prop_assert!(!world.observed.slices.is_empty());
            prop_assert_eq!(world.step(max), (0, 0, 0));
        }
    }
}
