//! Writing pods for their controllers, with upstream's events.

use super::text;
use futures::future::join_all;
use k8s_openapi::{
    api::core::v1::{Pod, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use orch_core::{
    Api, Status,
    client::NamespacedOrCluster,
    controller::{
        EventRecorder,
        events::EventType::{Normal, Warning},
    },
    validate,
};
use serde_json::json;
use std::{future::Future, sync::Arc};

/// Whether a create was refused because its namespace is going away: no error, there is nothing to do.
pub(crate) fn is_namespace_terminating(error: &Status) -> bool {
    error
        .details
        .iter()
        .flat_map(|d| &d.causes)
        .any(|c| c.reason == "NamespaceTerminating")
}

/// A pod made from a template, named after its owner.
pub(crate) fn pod_from_template(template: &PodTemplateSpec, owner_name: &str, owner: OwnerReference) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    let dashed = format!("{owner_name}-");
    let prefix = if validate::dns1123_subdomain(&validate::mask_trailing_dash(&dashed)).is_empty() {
        dashed
    } else {
        owner_name.to_owned()
    };
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(prefix),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// Creates a pod for `owner` and records it.
pub(crate) async fn create_pod<O: NamespacedOrCluster>(
    api: &Api<Pod>,
    recorder: &EventRecorder,
    owner: &O,
    pod: &Pod,
) -> Result<Arc<Pod>, Status> {
    match api.create(pod).await {
        Ok(created) => {
            let message = format!("Created pod: {}", text(&created.metadata.name));
            recorder.record(owner, Normal, "SuccessfulCreate", message);
            Ok(created)
        }
        Err(error) => {
            if !is_namespace_terminating(&error) {
                recorder.record(owner, Warning, "FailedCreate", format!("Error creating: {error}"));
            }
            Err(error)
        }
    }
}

/// Deletes a pod for `owner`, if it is still the same, and records it. An absent pod is fine.
pub(crate) async fn delete_pod<O: NamespacedOrCluster>(
    api: &Api<Pod>,
    recorder: &EventRecorder,
    owner: &O,
    pod: &Pod,
) -> Result<(), Status> {
    let name = text(&pod.metadata.name);
    match api
        .delete(name, json!({"preconditions": {"uid": pod.metadata.uid}}))
        .await
    {
        Ok(()) => {
            recorder.record(owner, Normal, "SuccessfulDelete", format!("Deleted pod: {name}"));
            Ok(())
        }
        // Gone, or another pod of that name: either way the one meant is gone.
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        Err(error) => {
            recorder.record(owner, Warning, "FailedDelete", format!("Error deleting: {error}"));
            Err(error)
        }
    }
}

/// Calls `work` with 0, 1 … `count - 1` in batches of 1, 2, 4 …, and stops after a batch with a failure: a template
/// that is refused costs one request, not hundreds. Answers with the number of successes and the first error.
pub(crate) async fn slow_start<E, F: Future<Output = Result<(), E>>>(
    count: usize,
    work: impl Fn(usize) -> F,
) -> (usize, Result<(), E>) {
    let (mut begun, mut succeeded, mut batch) = (0, 0, 1);
    while begun < count {
        let size = batch.min(count - begun);
        let outcomes = join_all((begun..begun + size).map(&work)).await;
        begun += size;
        batch = size * 2;
        let mut failed = None;
        for outcome in outcomes {
            match outcome {
                Ok(()) => succeeded += 1,
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        if let Some(error) = failed {
            return (succeeded, Err(error));
        }
    }
    (succeeded, Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test]
    async fn slow_start_stops_at_the_first_bad_batch() {
        for (count, fails_from, expected_calls) in [(0, 99, 0), (10, 99, 10), (10, 0, 1), (100, 5, 7)] {
            let calls = Cell::new(0);
            let (done, outcome) = slow_start(count, |n| {
                calls.set(calls.get() + 1);
                async move { if n >= fails_from { Err(n) } else { Ok(()) } }
            })
            .await;
            assert_eq!(calls.get(), expected_calls);
            assert_eq!(done, count.min(fails_from));
            assert_eq!(outcome.is_err(), count > fails_from);
        }
    }
}
