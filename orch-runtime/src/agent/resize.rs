//! In-place resize: running containers follow the resources of their pod (KEP-1287); pure.

use super::{step::PodState, view::APPLIED};
use crate::runtime::ContainerState;
use k8s_openapi::{
    api::core::v1::{Container, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity as ApiQuantity,
};
use orch_core::quantity::Quantity;
use std::collections::BTreeMap;

/// What a running container needs for its resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resize {
    /// Nothing.
    None,
    /// New limits while it runs.
    InPlace,
    /// A restart, since its resize policy says so.
    Restart,
}

/// The resources that a container runs with: as last applied, or as it was made with.
#[must_use]
pub fn applied(state: &PodState, container: &ContainerState) -> Option<ResourceRequirements> {
    let noted = || serde_json::from_str(container.annotations.get(APPLIED)?).ok();
    state.applied.get(&container.id).cloned().or_else(noted)
}

type Amounts = Option<BTreeMap<String, ApiQuantity>>;

fn amount(list: &Amounts, name: &str) -> Option<Quantity> {
    Quantity::try_from(list.as_ref()?.get(name)?)
        .ok()
        .filter(|q| !q.is_zero())
}

/// Compares what a container runs with and what its pod wants.
#[must_use]
pub fn resize(state: &PodState, wanted: &Container, running: &ContainerState) -> Resize {
    // One of before this was noted is left as it is.
    let Some(have) = applied(state, running) else {
        return Resize::None;
    };
    let want = wanted.resources.clone().unwrap_or_default();
    let changed = |name: &str| {
        amount(&have.requests, name) != amount(&want.requests, name)
            || amount(&have.limits, name) != amount(&want.limits, name)
    };
    let restarts = |name: &str| {
        let policies = wanted.resize_policy.iter().flatten();
        policies
            .into_iter()
            .any(|p| p.resource_name == name && p.restart_policy == "RestartContainer")
    };
    let changed: Vec<&str> = ["cpu", "memory"].into_iter().filter(|n| changed(n)).collect();
    match changed.as_slice() {
        [] => Resize::None,
        names if names.iter().any(|n| restarts(n)) => Resize::Restart,
        _ => Resize::InPlace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testkit::{container, running};
    use serde_json::{Value, json};

    #[test]
    fn what_changed_and_how_it_is_done() {
        let wanted = |resources: Value, policy: Value| -> Container {
            serde_json::from_value(json!({"name": "a", "resources": resources, "resizePolicy": policy}))
                .unwrap()
        };
        let mut made = container("a", 0, running(0));
        let state = PodState::default();
        assert_eq!(
            resize(&state, &wanted(json!({"limits": {"cpu": "1"}}), json!([])), &made),
            Resize::None
        );
        made.annotations.insert(
            APPLIED.into(),
            json!({"limits": {"cpu": "1", "memory": "1Gi"}}).to_string(),
        );
        let policy = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"},
            {"resourceName": "cpu", "restartPolicy": "NotRequired"}]);
        for (resources, expected) in [
            (
                json!({"limits": {"cpu": "1000m", "memory": "1024Mi"}}),
                Resize::None,
            ),
            (json!({"limits": {"cpu": "2", "memory": "1Gi"}}), Resize::InPlace),
            (json!({"limits": {"cpu": "2", "memory": "2Gi"}}), Resize::Restart),
            (
                json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"}}),
                Resize::InPlace,
            ),
        ] {
            assert_eq!(
                resize(&state, &wanted(resources.clone(), policy.clone()), &made),
                expected,
                "{resources}"
            );
        }
        let mut state = PodState::default();
        let now = json!({"limits": {"cpu": "2", "memory": "1Gi"}});
        state
            .applied
            .insert(made.id.clone(), serde_json::from_value(now.clone()).unwrap());
        assert_eq!(resize(&state, &wanted(now, policy), &made), Resize::None);
    }
}
