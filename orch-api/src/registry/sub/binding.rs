//! `pods/binding`: the scheduler's decision.

use crate::registry::{Scope, body, meta, options::WriteOptions, update::MODIFIED, write::Written};
use orch_core::{
    GroupResource, GroupVersionKind, Object, Status,
    client::{ApiRequest, ApiResponse, ResponseBody},
};
use orch_kinds::schema;
use serde_json::{Map, Value, json};
use std::sync::Arc;

fn binding_kind() -> GroupVersionKind {
    GroupVersionKind::new("", "v1", "Binding")
}

/// The answer of an endpoint that only says that it worked.
pub(crate) fn success(code: u16) -> ApiResponse {
    let status =
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code});
    let body = ResponseBody::Object(Arc::new(Object::from_value(status)));
    ApiResponse {
        code,
        body,
        warnings: Vec::new(),
    }
}

/// Sets or adds a pod condition; its transition time changes with its status only.
pub(super) fn set_condition(pod: &mut Value, mut condition: Value, now: &str) {
    let status = &mut pod["status"];
    if !status.is_object() {
        *status = json!({});
    }
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    let Some(list) = status["conditions"].as_array_mut() else {
        return;
    };
    let held = list.iter_mut().find(|c| c["type"] == condition["type"]);
    let same = held.as_ref().filter(|c| c["status"] == condition["status"]);
    let since = same.map_or_else(|| Value::from(now), |c| c["lastTransitionTime"].clone());
    condition["lastTransitionTime"] = since;
    condition["lastProbeTime"] = Value::Null;
    match held {
        Some(held) => *held = condition,
        None => list.push(condition),
    }
}

fn merge_into(pod: &mut Value, field: &str, binding: &Value) {
    let Some(given) = meta::field(binding, field)
        .and_then(Value::as_object)
        .filter(|m| !m.is_empty())
    else {
        return;
    };
    let held = meta::meta_mut(pod)
        .entry(field)
        .or_insert_with(|| Value::Object(Map::new()));
    if let Some(held) = held.as_object_mut() {
        held.extend(given.clone());
    }
}

impl Scope<'_> {
    /// Answers for the `binding` subresource.
    pub(super) async fn answer_binding(&self, mut request: ApiRequest) -> Result<ApiResponse, Status> {
        let options = WriteOptions::of(&request, "CreateOptions", None)?;
        let ty = schema::builtin(&binding_kind()).unwrap_or_else(schema::untyped);
        let mut binding = self.decode(
            body::take(&mut request)?,
            &binding_kind(),
            &ty,
            options.validation,
        )?;
        self.check_namespace(&mut binding)?;
        self.admit_document(&mut binding, &binding_kind(), options.dry_run)
            .await?;
        self.bind(&self.info.name, &binding, options.dry_run).await?;
        Ok(success(201))
    }

    /// Assigns the pod `name` to the node that `binding` names. The scope's resource is that of pods.
    pub(crate) async fn bind(&self, name: &str, binding: &Value, dry_run: bool) -> Result<(), Status> {
        if meta::text(binding, "name") != name {
            return Err(Status::bad_request(
                "name in URL does not match name in Binding object",
            ));
        }
        let errors = orch_kinds::validate::validate_create(&binding_kind(), binding);
        if !errors.is_empty() {
            return Err(errors.into_status(&binding_kind(), name));
        }
        let key = self.resource.key(self.namespace(), name);
        let mut current = match self.cached(&key) {
            Some(cached) => Some(cached),
            None => self.latest(&key).await?,
        };
        let mut certain = false;
        loop {
            let Some(found) = current else {
                return Err(self.not_found(name));
            };
            let bound = self.bound(&key, name, found.object.value(), binding);
            let pod = match bound {
                Ok(pod) => pod,
                Err(refused) if certain => return Err(refused),
                Err(_) => {
                    (current, certain) = (self.latest(&key).await?, true);
                    continue;
                }
            };
            if dry_run {
                return Ok(());
            }
            match self.put(&key, found.revision, pod).await? {
                Written::Done(_) => return Ok(()),
                Written::Lost(found) => (current, certain) = (found, true),
            }
        }
    }

    /// The pod with its node, or why it can't have it.
    fn bound(&self, key: &str, name: &str, old: &Value, binding: &Value) -> Result<Value, Status> {
        let uid = Some(meta::text(binding, "uid")).filter(|u| !u.is_empty());
        self.check_uid(key, uid, old)?;
        let (asked, held) = (
            meta::text(binding, "resourceVersion"),
            meta::text(old, "resourceVersion"),
        );
        if !asked.is_empty() && asked != held {
            return Err(Status::conflict(&self.resource.group_resource, name, MODIFIED));
        }
        let resource = GroupResource {
            group: String::new(),
            resource: "pods/binding".into(),
        };
        let refuse = |why: String| Err(Status::conflict(&resource, name, why));
        if meta::field(old, "deletionTimestamp").is_some() {
            return refuse(format!(
                "pod {name} is being deleted, cannot be assigned to a host"
            ));
        }
        if let Some(node) = old
            .pointer("/spec/nodeName")
            .and_then(Value::as_str)
            .filter(|n| !n.is_empty())
        {
            return refuse(format!("pod {name} is already assigned to node {node:?}"));
        }
        if old
            .pointer("/spec/schedulingGates")
            .and_then(Value::as_array)
            .is_some_and(|g| !g.is_empty())
        {
            return refuse(format!("pod {name} has non-empty .spec.schedulingGates"));
        }
        let mut pod = old.clone();
        pod["spec"]["nodeName"] = binding["target"]["name"].clone();
        if let Some(status) = pod["status"].as_object_mut() {
            status.remove("nominatedNodeName");
        }
        merge_into(&mut pod, "annotations", binding);
        merge_into(&mut pod, "labels", binding);
        let condition = json!({"type": "PodScheduled", "status": "True"});
        set_condition(&mut pod, condition, &meta::time(self.now()));
        Ok(pod)
    }
}
