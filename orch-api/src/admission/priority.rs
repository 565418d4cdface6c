//! `Priority`: a pod's priority class becomes its number.

use super::{AdmissionPlugin, Attributes, Operation};
use crate::server::{ApiServer, ObjectReader};
use async_trait::async_trait;
use orch_core::{Object, Status};
use serde_json::Value;
use std::sync::Arc;

const GROUP: &str = "scheduling.k8s.io";

/// The plugin.
#[derive(Debug, Clone, Copy, Default)]
pub struct Priority;

/// The default class: of several (a race made them), the one with the lowest value.
fn default_class(server: &ApiServer) -> Option<Arc<Object>> {
    let classes = server.list(GROUP, "priorityclasses", "");
    let defaults = classes.into_iter().filter(|c| c.value()["globalDefault"] == true);
    defaults.min_by_key(|c| c.value()["value"].as_i64().unwrap_or(0))
}

async fn admit_pod(server: &ApiServer, a: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
    let named = pod["spec"]["priorityClassName"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let class =
        if named.is_empty() {
            default_class(server)
        } else {
            let class = match server.get(GROUP, "priorityclasses", "", &named) {
                Some(class) => Some(class),
                None => server.look_up(GROUP, "v1", "priorityclasses", "", &named).await?,
            };
            Some(class.ok_or_else(|| {
                a.forbidden(Some(pod), format!("no PriorityClass with name {named} was found"))
            })?)
        };
    let (value, policy) = match &class {
        Some(class) => {
            let policy = class.value()["preemptionPolicy"].as_str().map(ToOwned::to_owned);
            (class.value()["value"].as_i64().unwrap_or(0), policy)
        }
        None => (0, Some("PreemptLowerPriority".to_owned())),
    };
    if let Some(given) = pod["spec"]["priority"].as_i64().filter(|p| *p != value) {
        let why = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller \
             computed {value} from the given PriorityClass name"
        );
        return Err(a.forbidden(Some(pod), why));
    }
    if let (Some(policy), Some(given)) = (&policy, pod["spec"]["preemptionPolicy"].as_str())
        && policy != given
    {
        let why = format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission \
             controller computed {policy} from the given PriorityClass name"
        );
        return Err(a.forbidden(Some(pod), why));
    }
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else {
        return Ok(());
    };
    if let Some(class) = class {
        spec.insert("priorityClassName".into(), class.name().into());
    }
    spec.insert("priority".into(), value.into());
    if let Some(policy) = policy {
        spec.insert("preemptionPolicy".into(), policy.into());
    }
    Ok(())
}

#[async_trait]
impl AdmissionPlugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }
    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn mutate(&self, server: &ApiServer, a: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        if !a.is("", "pods") || !object["spec"].is_object() {
            return Ok(());
        }
        let Some(old) = a.old else {
            return admit_pod(server, a, object).await;
        };
        for field in ["priority", "preemptionPolicy"] {
            let held = &old["spec"][field];
            if object["spec"][field].is_null() && !held.is_null() {
                object["spec"][field] = held.clone();
            } else if let Some(spec) = object["spec"].as_object_mut() {
                // Looking a member up must not leave a null behind.
                spec.retain(|k, v| k != field || !v.is_null());
            }
        }
        Ok(())
    }

    async fn validate(
        &self,
        server: &ApiServer,
        a: &Attributes<'_>,
        object: Option<&Value>,
    ) -> Result<(), Status> {
        let Some(object) = object.filter(|o| a.is(GROUP, "priorityclasses") && o["globalDefault"] == true)
        else {
            return Ok(());
        };
        match default_class(server) {
            Some(class) if a.operation == Operation::Create || class.name() != a.name => {
                let why = format!(
                    "PriorityClass {} is already marked as default. Only one default can exist",
                    class.name()
                );
                Err(a.forbidden(Some(object), why))
            }
            _ => Ok(()),
        }
    }
}
