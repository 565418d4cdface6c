//! `NamespaceLifecycle`: nothing is created in a namespace that is absent or going, and the first ones stay.

use super::{AdmissionPlugin, Attributes, Operation};
use crate::server::{ApiServer, ObjectReader};
use async_trait::async_trait;
use orch_core::{GroupResource, Status, status::StatusCause};
use serde_json::Value;

/// Namespaces that can't be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// The plugin.
#[derive(Debug, Clone, Copy, Default)]
pub struct NamespaceLifecycle;

fn is_namespace(a: &Attributes<'_>) -> bool {
    a.kind.group.is_empty() && a.kind.kind == "Namespace"
}

#[async_trait]
impl AdmissionPlugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }
    fn handles(&self, operation: Operation) -> bool {
        operation != Operation::Connect
    }

    async fn mutate(&self, server: &ApiServer, a: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        if a.namespace.is_empty() || is_namespace(a) || a.resource.resource == "localsubjectaccessreviews" {
            return Ok(());
        }
        let namespace = match server.get("", "namespaces", "", a.namespace) {
            Some(namespace) => Some(namespace),
            // It may have been created a moment ago: only the store knows.
            None => server.look_up("", "v1", "namespaces", "", a.namespace).await?,
        };
        let Some(namespace) = namespace else {
            let resource = GroupResource {
                group: String::new(),
                resource: "namespaces".into(),
            };
            return Err(Status::not_found(&resource, a.namespace));
        };
        let terminating =
            namespace.value().pointer("/status/phase").and_then(Value::as_str) == Some("Terminating");
        if a.operation != Operation::Create || !terminating {
            return Ok(());
        }
        let why = format!(
            "unable to create new content in namespace {} because it is being terminated",
            a.namespace
        );
        let mut status = a.forbidden(Some(object), why);
        if let Some(details) = &mut status.details {
            details.causes.push(StatusCause {
                reason: "NamespaceTerminating".into(),
                message: format!("namespace {} is being terminated", a.namespace),
                field: "metadata.namespace".into(),
            });
        }
        Err(status)
    }

    async fn validate(&self, _: &ApiServer, a: &Attributes<'_>, _: Option<&Value>) -> Result<(), Status> {
        if a.operation == Operation::Delete && is_namespace(a) && IMMORTAL.contains(&a.name) {
            return Err(a.forbidden(None, "this namespace may not be deleted"));
        }
        Ok(())
    }
}
