//! `TaintNodesByCondition`: a new node takes no pods until it is ready.

use super::{AdmissionPlugin, Attributes, Operation};
use crate::server::ApiServer;
use async_trait::async_trait;
use orch_core::Status;
use serde_json::{Value, json};

/// The plugin.
#[derive(Debug, Clone, Copy, Default)]
pub struct TaintNodesByCondition;

#[async_trait]
impl AdmissionPlugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }
    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn mutate(&self, _: &ApiServer, a: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        if !a.is("", "nodes") || !object.is_object() {
            return Ok(());
        }
        const KEY: &str = "node.kubernetes.io/not-ready";
        let spec = &mut object["spec"];
        if spec.is_null() {
            *spec = json!({});
        }
        let Some(spec) = spec.as_object_mut() else {
            return Ok(());
        };
        let taints = spec.entry("taints").or_insert_with(|| json!([]));
        if taints.is_null() {
            *taints = json!([]);
        }
        if let Some(list) = taints.as_array_mut()
            && !list
                .iter()
                .any(|t| t["key"] == KEY && t["effect"] == "NoSchedule")
        {
            list.push(json!({"key": KEY, "effect": "NoSchedule"}));
        }
        Ok(())
    }
}
