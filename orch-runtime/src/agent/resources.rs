//! Resource arithmetic: quality of service, requests of a pod, control group numbers.

use super::spec::{self, init_containers, is_sidecar};
use crate::runtime::Resources;
use k8s_openapi::{
    api::core::v1::{Container, Pod, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity as ApiQuantity,
};
use orch_core::quantity::Quantity;
use std::collections::BTreeMap;

type Amounts = BTreeMap<String, Quantity>;
type ApiAmounts = Option<BTreeMap<String, ApiQuantity>>;

fn amounts(list: &ApiAmounts) -> Amounts {
    let list = list.iter().flatten();
    list.filter_map(|(name, q)| Some((name.clone(), Quantity::try_from(q).ok()?)))
        .collect()
}

fn add(into: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = into
            .get(name)
            .map_or_else(|| amount.clone(), |have| have + amount);
        into.insert(name.clone(), sum);
    }
}

fn at_least(into: &mut Amounts, floor: &Amounts) {
    for (name, amount) in floor {
        if into.get(name).is_none_or(|have| have < amount) {
            into.insert(name.clone(), amount.clone());
        }
    }
}

/// Quality of service class: `Guaranteed`, `Burstable` or `BestEffort`.
#[must_use]
pub fn qos_class(pod: &Pod) -> &'static str {
    let spec = spec::spec(pod);
    let counted = |list: &ApiAmounts| -> Amounts {
        let mut list = amounts(list);
        list.retain(|name, q| matches!(name.as_str(), "cpu" | "memory") && q.sign() > 0);
        list
    };
    let has_both = |limits: &Amounts| limits.contains_key("cpu") && limits.contains_key("memory");
    let (mut requests, mut limits, mut guaranteed) = (Amounts::new(), Amounts::new(), true);
    if let Some(resources) = &spec.resources {
        requests = counted(&resources.requests);
        limits = counted(&resources.limits);
        guaranteed = limits.is_empty() || has_both(&limits);
    } else {
        for container in spec.containers.iter().chain(init_containers(spec)) {
            let resources = container.resources.clone().unwrap_or_default();
            add(&mut requests, &counted(&resources.requests));
            let own = counted(&resources.limits);
            guaranteed &= has_both(&own);
            add(&mut limits, &own);
        }
    }
    if requests.is_empty() && limits.is_empty() {
        "BestEffort"
    } else if guaranteed && requests == limits {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

fn total(pod: &Pod, pick: impl Fn(&ResourceRequirements) -> &ApiAmounts) -> Amounts {
    let spec = spec::spec(pod);
    let of = |c: &Container| c.resources.as_ref().map(|r| amounts(pick(r))).unwrap_or_default();
    let (mut sum, mut sidecars, mut init_peak) = (Amounts::new(), Amounts::new(), Amounts::new());
    spec.containers.iter().for_each(|c| add(&mut sum, &of(c)));
    // An init container runs beside the sidecars that were started before it.
    for container in init_containers(spec) {
        let mut here = of(container);
        if is_sidecar(container) {
            add(&mut sum, &here);
            add(&mut sidecars, &here);
            here = sidecars.clone();
        } else {
            add(&mut here, &sidecars);
        }
        at_least(&mut init_peak, &here);
    }
    at_least(&mut sum, &init_peak);
    if let Some(resources) = &spec.resources {
        for (name, amount) in amounts(pick(resources)) {
            sum.insert(name, amount);
        }
    }
    sum
}

/// What the pod asks of its node: containers together or the peak of initialization, and its overhead (KEP-753, 2837).
#[must_use]
pub fn pod_requests(pod: &Pod) -> BTreeMap<String, Quantity> {
    let mut sum = total(pod, |r| &r.requests);
    add(&mut sum, &amounts(&spec::spec(pod).overhead));
    sum
}

/// What the pod is limited to: as [`pod_requests`]; a resource that some container has no limit for is left out.
#[must_use]
pub fn pod_limits(pod: &Pod) -> BTreeMap<String, Quantity> {
    let mut sum = total(pod, |r| &r.limits);
    let spec = spec::spec(pod);
    let pod_level = spec
        .resources
        .as_ref()
        .map(|r| amounts(&r.limits))
        .unwrap_or_default();
    sum.retain(|name, _| {
        pod_level.contains_key(name)
            || spec.containers.iter().all(|c| {
                let limits = c.resources.as_ref().and_then(|r| r.limits.as_ref());
                limits.is_some_and(|l| l.contains_key(name))
            })
    });
    let overhead = amounts(&spec.overhead);
    let limited: Amounts = overhead
        .into_iter()
        .filter(|(name, _)| sum.contains_key(name))
        .collect();
    add(&mut sum, &limited);
    sum
}

const PERIOD_US: u64 = 100_000;
const MIN_QUOTA_US: i64 = 1000;

fn cpu_shares(milli: i64) -> u64 {
    if milli <= 0 {
        2
    } else {
        (milli as u64 * 1024 / 1000).clamp(2, 262_144)
    }
}

fn cpu_quota(milli: i64) -> Option<i64> {
    (milli > 0).then(|| (milli.saturating_mul(PERIOD_US as i64) / 1000).max(MIN_QUOTA_US))
}

/// Control group numbers of requests and limits.
fn control_numbers(requests: &Amounts, limits: &Amounts) -> Resources {
    let limit = |name: &str| limits.get(name).filter(|q| !q.is_zero());
    // A limit without a request is a request too.
    let cpu = requests.get("cpu").or_else(|| limit("cpu"));
    Resources {
        cpu_shares: cpu_shares(cpu.map_or(0, Quantity::milli_value)),
        cpu_quota_us: limit("cpu").and_then(|q| cpu_quota(q.milli_value())),
        cpu_period_us: PERIOD_US,
        memory_limit_bytes: limit("memory").and_then(|q| u64::try_from(q.value()).ok()),
        ..Resources::default()
    }
}

/// Limits of one container. Without a limit of its own it has the pod's (pod-level resources) by the pod's group.
#[must_use]
pub fn container_resources(pod: &Pod, container: &Container, memory_capacity_bytes: u64) -> Resources {
    let own = container.resources.clone().unwrap_or_default();
    let (requests, limits) = (amounts(&own.requests), amounts(&own.limits));
    let mut resources = control_numbers(&requests, &limits);
    // No swap: memory and swap together are limited to memory alone.
    resources.memory_swap_limit_bytes = resources.memory_limit_bytes;
    resources.oom_score_adj = oom_score_adj(pod, &requests, memory_capacity_bytes);
    resources
}

/// Limits of the pod as a whole.
#[must_use]
pub fn pod_resources(pod: &Pod, pids_limit: Option<u64>) -> Resources {
    Resources {
        pids_limit,
        ..control_numbers(&pod_requests(pod), &pod_limits(pod))
    }
}

/// How willingly the kernel kills the container when memory runs out: -997 for guaranteed and node-critical pods, 1000
/// for best effort, in between the less the more memory it asked for.
fn oom_score_adj(pod: &Pod, requests: &Amounts, capacity: u64) -> i32 {
    const NODE_CRITICAL: i32 = 2_000_001_000;
    if spec::spec(pod).priority.is_some_and(|p| p >= NODE_CRITICAL) {
        return -997;
    }
    match qos_class(pod) {
        "Guaranteed" => -997,
        "BestEffort" => 1000,
        _ => {
            let request = requests.get("memory").map_or(0, Quantity::value);
            let share = i128::from(request) * 1000 / i128::from(capacity.max(1));
            // Between those two classes, whatever it asks for.
            i32::try_from(1000 - share).unwrap_or(3).clamp(3, 999)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": spec})).unwrap()
    }

    #[test]
    fn quality_of_service() {
        let both = json!({"cpu": "1", "memory": "1Gi"});
        for (spec, expected) in [
            (json!({"containers": [{"name": "a"}]}), "BestEffort"),
            (
                json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": "0"}}}]}),
                "BestEffort",
            ),
            (
                json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": "1m"}}}]}),
                "Burstable",
            ),
            (
                json!({"containers": [{"name": "a", "resources": {"requests": both, "limits": both}}]}),
                "Guaranteed",
            ),
            (
                json!({"containers": [{"name": "a", "resources": {"requests": both, "limits": both}}, {"name": "b"}]}),
                "Burstable",
            ),
            (
                json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": "500m", "memory": "1Gi"},
                "limits": both}}]}),
                "Burstable",
            ),
            (
                json!({"containers": [{"name": "a"}], "resources": {"requests": both, "limits": both}}),
                "Guaranteed",
            ),
        ] {
            assert_eq!(qos_class(&pod(spec.clone())), expected, "{spec}");
        }
    }

    #[test]
    fn requests_count_the_peak_of_initialization_and_sidecars() {
        let cpu = |n: &str| json!({"requests": {"cpu": n}});
        let p = pod(json!({
            "containers": [{"name": "a", "resources": cpu("1")}, {"name": "b", "resources": cpu("500m")}],
            "initContainers": [
                {"name": "i", "resources": cpu("1500m")},
                {"name": "s", "restartPolicy": "Always", "resources": cpu("1")},
                {"name": "j", "resources": cpu("2")},
            ],
            "overhead": {"cpu": "100m"},
        }));
        // 1 + 0.5 + sidecar 1 = 2.5 while running, 1 + 2 = 3 while initializing.
        assert_eq!(pod_requests(&p)["cpu"].milli_value(), 3100);
    }

    #[test]
    fn control_group_numbers() {
        let p = pod(json!({"containers": [{"name": "a", "resources":
            {"requests": {"cpu": "250m", "memory": "100Mi"}, "limits": {"cpu": "500m", "memory": "200Mi"}}}]}));
        let r = container_resources(&p, &spec::spec(&p).containers[0], 1000 << 20);
        assert_eq!(
            (r.cpu_shares, r.cpu_quota_us, r.cpu_period_us),
            (256, Some(50_000), 100_000)
        );
        assert_eq!((r.memory_limit_bytes, r.oom_score_adj), (Some(200 << 20), 900));
        let p = pod(json!({"containers": [{"name": "a"}]}));
        let r = container_resources(&p, &spec::spec(&p).containers[0], 1 << 30);
        assert_eq!(
            (
                r.cpu_shares,
                r.cpu_quota_us,
                r.memory_limit_bytes,
                r.oom_score_adj
            ),
            (2, None, None, 1000)
        );
    }
}
