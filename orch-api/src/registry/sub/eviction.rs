//! `pods/eviction`: deletion that respects disruption budgets.

use super::binding::{set_condition, success};
use crate::registry::{
    Scope, body, meta,
    options::{DeleteOptions, WriteOptions},
    write::Written,
};
use crate::server::RequestInfo;
use orch_core::{
    GroupResource, GroupVersionKind, Object, Status,
    client::{ApiRequest, ApiResponse},
    selector::LabelSelector,
    status::{StatusCause, StatusDetails, StatusReason},
};
use orch_kinds::schema;
use serde_json::{Value, json};
use std::sync::Arc;

/// Most pods in a budget's `disruptedPods`.
const DISRUPTED_MAX: usize = 2000;

fn eviction_kind() -> GroupVersionKind {
    GroupVersionKind::new("policy", "v1", "Eviction")
}

fn too_many(cause: String) -> Status {
    let message = "Cannot evict pod as it would violate the pod's disruption budget.";
    let cause = StatusCause {
        reason: "DisruptionBudget".into(),
        message: cause,
        field: String::new(),
    };
    let details = StatusDetails {
        causes: vec![cause],
        retry_after_seconds: 0,
        ..StatusDetails::default()
    };
    Status::new(StatusReason::TooManyRequests, message).with_details(details)
}

fn still_processed(name: &str) -> Status {
    let mut status = too_many(format!(
        "The disruption budget {name} is still being processed by the server."
    ));
    if let Some(details) = &mut status.details {
        details.retry_after_seconds = 10;
    }
    status
}

fn number(object: &Value, path: &str) -> i64 {
    object.pointer(path).and_then(Value::as_i64).unwrap_or(0)
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod
        .pointer("/status/conditions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    conditions
        .into_iter()
        .any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// A pod that is not running, or is going, disrupts nobody when it goes.
fn needs_no_budget(pod: &Value) -> bool {
    let phase = pod
        .pointer("/status/phase")
        .and_then(Value::as_str)
        .unwrap_or_default();
    matches!(phase, "Succeeded" | "Failed" | "Pending") || meta::field(pod, "deletionTimestamp").is_some()
}

impl Scope<'_> {
    /// Answers for the `eviction` subresource.
    pub(super) async fn answer_eviction(&self, mut request: ApiRequest) -> Result<ApiResponse, Status> {
        let options = WriteOptions::of(&request, "CreateOptions", None)?;
        let ty = schema::builtin(&eviction_kind()).unwrap_or_else(schema::untyped);
        let mut eviction = self.decode(
            body::take(&mut request)?,
            &eviction_kind(),
            &ty,
            options.validation,
        )?;
        self.check_namespace(&mut eviction)?;
        let name = self.info.name.as_str();
        if meta::text(&eviction, "name") != name {
            return Err(Status::bad_request(
                "name in URL does not match name in Eviction object",
            ));
        }
        self.admit_document(&mut eviction, &eviction_kind(), options.dry_run)
            .await?;
        let given = eviction
            .get("deleteOptions")
            .filter(|o| !o.is_null())
            .cloned()
            .unwrap_or_else(|| json!({}));
        let mut delete = DeleteOptions::of(&ApiRequest::get(""), Some(&given))?;
        delete.dry_run |= options.dry_run;

        let key = self.resource.key(self.namespace(), name);
        let pod = self
            .latest(&key)
            .await?
            .ok_or_else(|| self.not_found(name))?
            .object;
        if needs_no_budget(pod.value()) {
            let phase = pod.value().pointer("/status/phase").and_then(Value::as_str);
            if phase == Some("Pending") && meta::field(pod.value(), "deletionTimestamp").is_none() {
                delete
                    .resource_version
                    .get_or_insert_with(|| pod.resource_version().to_owned());
            }
            self.evict(&key, name, delete).await?;
            return Ok(success(201));
        }
        // A budget made a moment ago counts.
        self.caught_up().await?;
        let budgets = self.budgets_of(&pod);
        let mut unhealthy = None;
        match budgets.as_slice() {
            [] => {}
            [budget] => {
                if healthy_without(&pod, budget) {
                    // It must still be unready when it goes.
                    unhealthy = Some(budget.name().to_owned());
                } else {
                    self.take_disruption(budget, name, delete.dry_run).await?;
                }
            }
            _ => {
                let message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
                let mut status = Status::new(StatusReason::Unknown, message);
                status.code = 500;
                return Err(status);
            }
        }
        let asked = delete.resource_version.is_some();
        if unhealthy.is_some() {
            delete.resource_version = Some(pod.resource_version().to_owned());
        }
        match self.evict(&key, name, delete).await {
            Err(e) if e.is_conflict() && !asked && unhealthy.is_some() => {
                Err(still_processed(&unhealthy.unwrap_or_default()))
            }
            Err(e) => Err(e),
            Ok(()) => Ok(success(201)),
        }
    }

    /// The budgets that select a pod.
    fn budgets_of(&self, pod: &Object) -> Vec<Arc<Object>> {
        let labels = pod.value().pointer("/metadata/labels");
        let of = |key: &str| labels.and_then(|l| l.get(key)).and_then(Value::as_str);
        let budgets =
            crate::server::ObjectReader::list(self.server, "policy", "poddisruptionbudgets", pod.namespace());
        let selects = |budget: &Arc<Object>| {
            let selector = budget.value().pointer("/spec/selector");
            LabelSelector::from_value(selector).is_ok_and(|s| s.matches_with(of))
        };
        budgets.into_iter().filter(selects).collect()
    }

    /// Takes one disruption out of a budget, or refuses.
    async fn take_disruption(&self, budget: &Arc<Object>, pod: &str, dry_run: bool) -> Result<(), Status> {
        let Some((_, Some(resource))) = self.server.resource("policy", "v1", "poddisruptionbudgets") else {
            return Err(Status::internal("disruption budgets are not served"));
        };
        let info = RequestInfo {
            namespace: self.info.namespace.clone(),
            ..RequestInfo::default()
        };
        let scope = Scope::new(self.server, self.user, &info, resource, &ApiRequest::get(""));
        let key = scope.resource.key(budget.namespace(), budget.name());
        let mut current = scope.latest(&key).await?;
        loop {
            let Some(found) = current else { return Ok(()) };
            let new = disrupted(found.object.value(), pod, &meta::time(self.now()))?;
            if dry_run {
                return Ok(());
            }
            match scope.put(&key, found.revision, new).await? {
                Written::Done(_) => return Ok(()),
                Written::Lost(found) => current = found,
            }
        }
    }

    /// Notes the reason on the pod and deletes it.
    async fn evict(&self, key: &str, name: &str, mut options: DeleteOptions) -> Result<(), Status> {
        let mut current = self.latest(key).await?;
        while !options.dry_run {
            let Some(found) = current else {
                return Err(self.not_found(name));
            };
            self.check_preconditions(name, found.object.value(), &options)?;
            let mut pod = found.object.value().clone();
            let condition = json!({"type": "DisruptionTarget", "status": "True",
                "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting"});
            set_condition(&mut pod, condition, &meta::time(self.now()));
            match self.put(key, found.revision, pod).await? {
                Written::Done(object) => {
                    if let Some(version) = &mut options.resource_version {
                        object.resource_version().clone_into(version);
                    }
                    break;
                }
                Written::Lost(found) => current = found,
            }
        }
        self.delete(name, &options).await.map(drop)
    }
}

/// Whether a pod is unready and its budget is met without it, so that its going disrupts nothing.
fn healthy_without(pod: &Object, budget: &Object) -> bool {
    if is_ready(pod.value()) {
        return false;
    }
    let budget = budget.value();
    if budget
        .pointer("/spec/unhealthyPodEvictionPolicy")
        .and_then(Value::as_str)
        == Some("AlwaysAllow")
    {
        return true;
    }
    let desired = number(budget, "/status/desiredHealthy");
    number(budget, "/status/currentHealthy") >= desired && desired > 0
}

/// The budget with one disruption less, which is `pod`'s.
fn disrupted(budget: &Value, pod: &str, now: &str) -> Result<Value, Status> {
    let name = meta::text(budget, "name");
    let resource = GroupResource {
        group: "policy".into(),
        resource: "poddisruptionbudgets".into(),
    };
    if number(budget, "/status/observedGeneration") < number(budget, "/metadata/generation") {
        return Err(still_processed(name));
    }
    let allowed = number(budget, "/status/disruptionsAllowed");
    if allowed < 0 {
        return Err(Status::forbidden(
            &resource,
            name,
            "pdb disruptions allowed is negative",
        ));
    }
    let held = budget.pointer("/status/disruptedPods").and_then(Value::as_object);
    if held.is_some_and(|m| m.len() > DISRUPTED_MAX) {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(Status::forbidden(&resource, name, why));
    }
    if allowed == 0 {
        let (desired, current) = (
            number(budget, "/status/desiredHealthy"),
            number(budget, "/status/currentHealthy"),
        );
        return Err(too_many(format!(
            "The disruption budget {name} needs {desired} healthy pods and has {current} currently"
        )));
    }
    let mut new = budget.clone();
    new["status"]["disruptionsAllowed"] = (allowed - 1).into();
    if allowed == 1 {
        let conditions = new["status"]["conditions"].as_array_mut();
        if let Some(c) = conditions.and_then(|l| l.iter_mut().find(|c| c["type"] == "DisruptionAllowed")) {
            c["status"] = "False".into();
            c["reason"] = "InsufficientPods".into();
            c["lastTransitionTime"] = now.into();
        }
    }
    new["status"]["disruptedPods"][pod] = now.into();
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets() {
        let budget = |allowed: i64| {
            json!({"metadata": {"name": "b", "generation": 1}, "status": {"observedGeneration": 1,
                "disruptionsAllowed": allowed, "desiredHealthy": 2, "currentHealthy": 2}})
        };
        let new = disrupted(&budget(1), "p", "t").unwrap();
        assert_eq!(
            (
                &new["status"]["disruptionsAllowed"],
                &new["status"]["disruptedPods"]["p"]
            ),
            (&json!(0), &json!("t"))
        );
        let refused = disrupted(&budget(0), "p", "t").unwrap_err();
        assert_eq!(refused.code, 429);
        let cause = &refused.details.unwrap().causes[0].message;
        assert_eq!(
            cause,
            "The disruption budget b needs 2 healthy pods and has 2 currently"
        );
    }
}
