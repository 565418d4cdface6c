//! `DefaultTolerationSeconds`: pods stay five minutes on a node that is not ready or unreachable, unless they say.

use super::{AdmissionPlugin, Attributes, Operation};
use crate::server::ApiServer;
use async_trait::async_trait;
use orch_core::Status;
use serde_json::{Value, json};

/// The plugin, with the seconds that it adds.
#[derive(Debug, Clone, Copy)]
pub struct DefaultTolerationSeconds {
    /// For `node.kubernetes.io/not-ready`.
    pub not_ready: u32,
    /// For `node.kubernetes.io/unreachable`.
    pub unreachable: u32,
}

impl Default for DefaultTolerationSeconds {
    fn default() -> Self {
        Self {
            not_ready: 300,
            unreachable: 300,
        }
    }
}

#[async_trait]
impl AdmissionPlugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }
    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn mutate(&self, _: &ApiServer, a: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        if !a.is("", "pods") {
            return Ok(());
        }
        let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else {
            return Ok(());
        };
        let list = spec.entry("tolerations").or_insert_with(|| json!([]));
        if list.is_null() {
            *list = json!([]);
        }
        let Some(list) = list.as_array_mut() else {
            return Ok(());
        };
        for (key, seconds) in [
            ("node.kubernetes.io/not-ready", self.not_ready),
            ("node.kubernetes.io/unreachable", self.unreachable),
        ] {
            let text = |t: &Value, field: &str| {
                t.get(field)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            let tolerated = list.iter().any(|t| {
                let (k, effect) = (text(t, "key"), text(t, "effect"));
                (k == key || k.is_empty()) && (effect == "NoExecute" || effect.is_empty())
            });
            if !tolerated {
                list.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}));
            }
        }
        Ok(())
    }
}
