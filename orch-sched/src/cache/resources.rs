//! Amounts of resources, and what a pod asks for.

use k8s_openapi::{
    api::core::v1::{Container, PodSpec},
    apimachinery::pkg::api::resource::Quantity as ApiQuantity,
};
use orch_core::quantity::Quantity;
use std::collections::BTreeMap;

/// CPU that a container without a request is assumed to need when nodes are scored, in millis.
const DEFAULT_CPU_MILLIS: i64 = 100;
/// Memory that a container without a request is assumed to need when nodes are scored, in bytes.
const DEFAULT_MEMORY_BYTES: i64 = 200 * 1024 * 1024;

/// Amounts of each resource.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resources {
    /// CPU in thousandths of a core.
    pub cpu_millis: i64,
    /// Memory in bytes.
    pub memory_bytes: i64,
    /// Local ephemeral storage in bytes.
    pub ephemeral_bytes: i64,
    /// Number of pods.
    pub pods: i64,
    /// Extended and huge-page resources by name, in units.
    pub scalar: BTreeMap<String, i64>,
}

type List = BTreeMap<String, ApiQuantity>;

fn amount(name: &str, quantity: &ApiQuantity) -> i64 {
    // The API server validates quantities; one that does not parse counts as nothing.
    let Ok(quantity) = Quantity::try_from(quantity) else {
        return 0;
    };
    if name == "cpu" {
        quantity.milli_value()
    } else {
        quantity.value()
    }
}

impl Resources {
    /// From a list of quantities.
    #[must_use]
    pub fn from_list(list: Option<&List>) -> Self {
        let mut resources = Self::default();
        for (name, quantity) in list.into_iter().flatten() {
            *resources.of_mut(name) = amount(name, quantity);
        }
        resources
    }

    fn of_mut(&mut self, name: &str) -> &mut i64 {
        match name {
            "cpu" => &mut self.cpu_millis,
            "memory" => &mut self.memory_bytes,
            "ephemeral-storage" => &mut self.ephemeral_bytes,
            "pods" => &mut self.pods,
            other => self.scalar.entry(other.to_owned()).or_default(),
        }
    }

    fn combine(&mut self, other: &Self, with: impl Fn(i64, i64) -> i64) {
        self.cpu_millis = with(self.cpu_millis, other.cpu_millis);
        self.memory_bytes = with(self.memory_bytes, other.memory_bytes);
        self.ephemeral_bytes = with(self.ephemeral_bytes, other.ephemeral_bytes);
        self.pods = with(self.pods, other.pods);
        for (name, value) in &other.scalar {
            let slot = self.scalar.entry(name.clone()).or_default();
            *slot = with(*slot, *value);
        }
    }

    /// Adds.
    pub fn add(&mut self, other: &Self) {
        self.combine(other, i64::saturating_add);
    }

    /// Takes away.
    pub fn sub(&mut self, other: &Self) {
        self.combine(other, i64::saturating_sub);
    }

    /// The larger of each.
    pub fn max(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }

    /// What a pod asks for: the sum of its containers and sidecars, or the peak of its init containers if that is
    /// more, plus overhead; pod-level requests replace the sum where given (KEP-2837).
    #[must_use]
    pub fn requested_by(spec: &PodSpec) -> Self {
        Self::aggregate(spec, |container| {
            Self::from_list(container.resources.as_ref().and_then(|r| r.requests.as_ref()))
        })
    }

    /// Like [`Resources::requested_by`], with upstream's assumptions for containers without a CPU or memory request: what
    /// scoring goes by.
    #[must_use]
    pub fn assumed_for(spec: &PodSpec) -> Self {
        Self::aggregate(spec, |container| {
            let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
            let mut resources = Self::from_list(requests);
            if !requests.is_some_and(|r| r.contains_key("cpu")) {
                resources.cpu_millis = DEFAULT_CPU_MILLIS;
            }
            if !requests.is_some_and(|r| r.contains_key("memory")) {
                resources.memory_bytes = DEFAULT_MEMORY_BYTES;
            }
            resources
        })
    }

    fn aggregate(spec: &PodSpec, of: impl Fn(&Container) -> Self) -> Self {
        let mut total = Self::default();
        for container in &spec.containers {
            total.add(&of(container));
        }
        let (mut sidecars, mut peak) = (Self::default(), Self::default());
        for container in spec.init_containers.iter().flatten() {
            let mut needs = of(container);
            if container.restart_policy.as_deref() == Some("Always") {
                sidecars.add(&needs);
                total.add(&needs);
                needs = sidecars.clone();
            } else {
                needs.add(&sidecars);
            }
            peak.max(&needs);
        }
        total.max(&peak);
        for (name, quantity) in spec
            .resources
            .iter()
            .filter_map(|r| r.requests.as_ref())
            .flatten()
        {
            *total.of_mut(name) = amount(name, quantity);
        }
        total.add(&Self::from_list(spec.overhead.as_ref()));
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn init_containers_count_by_their_peak_and_sidecars_add_up() {
        let spec: PodSpec = serde_json::from_value(json!({
            "initContainers": [
                {"name": "a", "resources": {"requests": {"cpu": "2"}}},
                {"name": "side", "restartPolicy": "Always", "resources": {"requests": {"cpu": "500m"}}},
                {"name": "b", "resources": {"requests": {"cpu": "1"}}}
            ],
            "containers": [{"name": "m", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}],
            "overhead": {"cpu": "10m"}
        }))
        .unwrap();
        let requested = Resources::requested_by(&spec);
        assert_eq!((requested.cpu_millis, requested.memory_bytes), (2010, 1 << 30));
        let assumed = Resources::assumed_for(&PodSpec {
            containers: vec![Container::default()],
            ..PodSpec::default()
        });
        assert_eq!((assumed.cpu_millis, assumed.memory_bytes), (100, 200 << 20));
    }
}
