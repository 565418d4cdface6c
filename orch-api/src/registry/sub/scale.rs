//! `scale`: the number of replicas of anything that has one, as an `autoscaling/v1` Scale.

use crate::{
    registry::{
        Scope, body, meta,
        options::WriteOptions,
        patch::{Patching, patching},
        update::{Edit, Updated},
    },
    server::method_not_allowed,
};
use async_trait::async_trait;
use orch_core::{
    GroupResource, GroupVersionKind, Object, Status,
    client::{ApiRequest, ApiResponse, ResponseBody},
    status::StatusReason,
};
use orch_kinds::{
    managed::scale as owners,
    schema,
    strategy::{ScaleError, apply_scale, scale_of},
};
use serde_json::{Value, json};
use std::sync::Arc;

/// Where a kind keeps what its scale shows, as paths of member names.
struct Paths {
    replicas: Vec<String>,
    status_replicas: Vec<String>,
    /// The selector in its text form; `None` where `spec.selector` is a label selector object.
    selector: Option<Vec<String>>,
}

fn path(text: &str) -> Vec<String> {
    text.trim_start_matches('.')
        .split('.')
        .filter(|p| !p.is_empty())
        .map(ToOwned::to_owned)
        .collect()
}

fn get<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(object, |v, key| v.get(key))
}

fn scale_kind() -> GroupVersionKind {
    GroupVersionKind::new("autoscaling", "v1", "Scale")
}

impl Scope<'_> {
    fn scale_paths(&self) -> Option<Paths> {
        let scale = &self.resource.served.custom.as_ref()?.scale;
        let text = |field: &str| scale.get(field).and_then(Value::as_str).unwrap_or_default();
        let selector = text("labelSelectorPath");
        Some(Paths {
            replicas: path(text("specReplicasPath")),
            status_replicas: path(text("statusReplicasPath")),
            selector: Some(path(selector)),
        })
    }

    /// The object's scale.
    fn scale(&self, object: &Value) -> Result<Value, Status> {
        let mut scale = match self.scale_paths() {
            None => scale_of(object).map_err(|e| Status::bad_request(e.to_string()))?,
            Some(paths) => custom_scale(object, &paths)?,
        };
        let at = self.replicas_path();
        let at: Vec<&str> = at.iter().map(String::as_str).collect();
        let entries = owners::to_scale(object, &at);
        if entries.as_array().is_some_and(|l| !l.is_empty()) {
            meta::set(&mut scale, "managedFields", entries);
        }
        Ok(scale)
    }

    fn replicas_path(&self) -> Vec<String> {
        self.scale_paths()
            .map_or_else(|| path(".spec.replicas"), |p| p.replicas)
    }

    /// Answers for the `scale` subresource.
    pub(super) async fn answer_scale(&self, mut request: ApiRequest) -> Result<ApiResponse, Status> {
        let name = self.info.name.as_str();
        let object = match self.info.verb.as_str() {
            "get" => {
                let version = request.query_value("resourceVersion").unwrap_or_default();
                self.get(name, version).await?
            }
            "update" => {
                let options = WriteOptions::of(&request, "UpdateOptions", None)?;
                let ty = schema::builtin(&scale_kind()).unwrap_or_else(schema::untyped);
                let mut scale =
                    self.decode(body::take(&mut request)?, &scale_kind(), &ty, options.validation)?;
                self.check_namespace(&mut scale)?;
                self.check_name(&scale, name)?;
                let manager = self.manager(&options.field_manager).to_owned();
                let mut edit = ScaleEdit {
                    change: Change::Replace(scale),
                    manager,
                };
                self.scaled(&mut edit, &options).await?.object
            }
            "patch" => {
                let patching = patching(self, &mut request)?;
                let options = patching.options.clone();
                let manager = patching.manager.clone();
                let mut edit = ScaleEdit {
                    change: Change::Patch(patching),
                    manager,
                };
                self.scaled(&mut edit, &options).await?.object
            }
            _ => return Err(method_not_allowed()),
        };
        let mut scale = self.scale(object.value())?;
        if self.info.verb == "get" {
            meta::set(&mut scale, "managedFields", Value::Null);
        }
        let body = ResponseBody::Object(Arc::new(Object::from_value(scale)));
        Ok(ApiResponse {
            code: 200,
            body,
            warnings: self.take_warnings(),
        })
    }

    async fn scaled(&self, edit: &mut ScaleEdit, options: &WriteOptions) -> Result<Updated, Status> {
        let name = self.info.name.as_str();
        self.update(name, edit, options, false)
            .await
            .map_err(|e| if e.is_not_found() { self.scale_missing() } else { e })
    }

    fn scale_missing(&self) -> Status {
        Status::not_found(&self.scale_resource(), &self.info.name)
    }

    fn scale_resource(&self) -> GroupResource {
        let GroupResource { group, resource } = self.resource.group_resource.clone();
        GroupResource {
            group,
            resource: format!("{resource}/scale"),
        }
    }
}

fn custom_scale(object: &Value, paths: &Paths) -> Result<Value, Status> {
    let mut metadata = json!({});
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = meta::field(object, key) {
            metadata[key] = value.clone();
        }
    }
    let Some(replicas) = get(object, &paths.replicas).and_then(Value::as_i64) else {
        let why = format!(
            "the spec replicas field {:?} does not exist",
            format!(".{}", paths.replicas.join("."))
        );
        return Err(Status::internal(why));
    };
    let current = get(object, &paths.status_replicas)
        .and_then(Value::as_i64)
        .unwrap_or(0);
    let mut status = json!({"replicas": current});
    let selector = paths
        .selector
        .as_deref()
        .filter(|p| !p.is_empty())
        .and_then(|p| get(object, p));
    if let Some(selector) = selector.and_then(Value::as_str) {
        status["selector"] = selector.into();
    }
    let spec = if replicas == 0 {
        json!({})
    } else {
        json!({"replicas": replicas})
    };
    Ok(
        json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status}),
    )
}

enum Change {
    Replace(Value),
    Patch(Patching),
}

struct ScaleEdit {
    change: Change,
    manager: String,
}

#[async_trait]
impl Edit for ScaleEdit {
    async fn edit(&mut self, scope: &Scope<'_>, existing: Option<&Arc<Object>>) -> Result<Value, Status> {
        let existing = existing.ok_or_else(|| scope.scale_missing())?;
        let parent = existing.value();
        let old = scope.scale(parent)?;
        let ty = schema::builtin(&scale_kind()).unwrap_or_else(schema::untyped);
        let mut new = match &self.change {
            Change::Replace(scale) => scale.clone(),
            Change::Patch(patching) => patching.patched(scope, &old, &scale_kind(), &ty)?,
        };
        scope.own_update_as(&old, &mut new, &self.manager, &ty, "autoscaling/v1");
        let entries = meta::field(&new, "managedFields").cloned().unwrap_or(Value::Null);
        let mut object = parent.clone();
        match scope.scale_paths() {
            None => apply_scale(&mut object, &new).map_err(|e| scale_status(scope, e))?,
            Some(paths) => apply_custom(scope, &mut object, &new, &paths)?,
        }
        let at = scope.replicas_path();
        let at: Vec<&str> = at.iter().map(String::as_str).collect();
        let api_version = scope.resource.gvk.api_version();
        let entries = owners::to_parent(parent, &entries, &at, &api_version);
        meta::set(&mut object, "managedFields", entries);
        Ok(object)
    }
}

fn scale_status(scope: &Scope<'_>, error: ScaleError) -> Status {
    match error {
        ScaleError::Invalid(errors) => errors.into_status(&scale_kind(), &scope.info.name),
        ScaleError::Uid { asked, held } => Status::conflict(
            &scope.scale_resource(),
            &scope.info.name,
            format!("Precondition failed: UID in precondition: {asked}, UID in object meta: {held}"),
        ),
    }
}

fn apply_custom(scope: &Scope<'_>, object: &mut Value, scale: &Value, paths: &Paths) -> Result<(), Status> {
    let replicas = scale
        .pointer("/spec/replicas")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    // A built-in form of the object lets the common checks run.
    let mut probe = json!({"metadata": object["metadata"], "spec": {}});
    apply_scale(&mut probe, scale).map_err(|e| scale_status(scope, e))?;
    object["metadata"] = probe["metadata"].take();
    let mut at = object;
    for key in &paths.replicas {
        let Some(map) = at.as_object_mut() else {
            return Err(Status::new(
                StatusReason::Invalid,
                "the spec replicas path leads through something else than objects",
            ));
        };
        at = map.entry(key.clone()).or_insert_with(|| json!({}));
    }
    *at = replicas.into();
    Ok(())
}
