//! Admission: what may change or refuse a request that is authorized, before it is stored.
//!
//! A chain of [`AdmissionPlugin`]s runs in order: first every `mutate`, then, on the final and valid object, every
//! `validate`. Reads see `get` and `list` requests never. Order and names are those of upstream's default plugins.

mod lifecycle;
mod node_taint;
mod priority;
mod service_account;
mod tolerations;

pub use lifecycle::NamespaceLifecycle;
pub use node_taint::TaintNodesByCondition;
pub use priority::Priority;
pub use service_account::ServiceAccount;
pub use tolerations::DefaultTolerationSeconds;

use crate::server::ApiServer;
use async_trait::async_trait;
use orch_core::{GroupVersionKind, GroupVersionResource, Status, UserInfo};
use serde_json::Value;
use std::sync::Arc;

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Creates.
    Create,
    /// Replaces or patches.
    Update,
    /// Deletes.
    Delete,
    /// Opens a stream (exec, attach, port-forward, proxy).
    Connect,
}

/// What a request is about, as plugins see it.
#[derive(Clone, Copy)]
pub struct Attributes<'a> {
    /// What it does.
    pub operation: Operation,
    /// To which resource.
    pub resource: &'a GroupVersionResource,
    /// Kind of the resource's objects.
    pub kind: &'a GroupVersionKind,
    /// Subresource, or empty.
    pub subresource: &'a str,
    /// Namespace, empty for cluster-scoped resources; a Namespace object is in itself.
    pub namespace: &'a str,
    /// Name; empty while it is still to be generated.
    pub name: &'a str,
    /// Who asks.
    pub user: &'a UserInfo,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// The object before the request, for updates and deletions.
    pub old: Option<&'a Value>,
    /// Takes warnings for the answer.
    pub warnings: &'a dyn Warnings,
}

/// Takes warnings for the answer to a request.
pub trait Warnings: Send + Sync {
    /// Adds one.
    fn warn(&self, text: String);
}

impl Attributes<'_> {
    /// The 403 with which a plugin refuses; names the object, or the prefix of the name it will get.
    pub fn forbidden(&self, object: Option<&Value>, why: impl std::fmt::Display) -> Status {
        let meta = object.and_then(|o| o.get("metadata"));
        let text = |field: &str| {
            meta.and_then(|m| m.get(field))
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let found = [self.name, text("name"), text("generateName")]
            .into_iter()
            .find(|n| !n.is_empty());
        Status::forbidden(&self.resource.group_resource(), found.unwrap_or("Unknown"), why)
    }

    /// Whether this is about objects of `resource` in `group` itself, not a subresource.
    #[must_use]
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.resource.group == group && self.resource.resource == resource && self.subresource.is_empty()
    }
}

/// A part of the admission chain. Plugins are pure but for reads through the server.
#[async_trait]
pub trait AdmissionPlugin: Send + Sync + 'static {
    /// Upstream's name of the plugin.
    fn name(&self) -> &'static str;
    /// Whether it wants to see such requests at all.
    fn handles(&self, operation: Operation) -> bool;
    /// Changes the object, or refuses.
    ///
    /// # Errors
    /// The `Status` that the client gets.
    async fn mutate(
        &self,
        server: &ApiServer,
        attributes: &Attributes<'_>,
        object: &mut Value,
    ) -> Result<(), Status> {
        let _ = (server, attributes, object);
        Ok(())
    }
    /// Refuses, or not. `object` is `None` for deletions.
    ///
    /// # Errors
    /// The `Status` that the client gets.
    async fn validate(
        &self,
        server: &ApiServer,
        attributes: &Attributes<'_>,
        object: Option<&Value>,
    ) -> Result<(), Status> {
        let _ = (server, attributes, object);
        Ok(())
    }
}

/// The plugins in their order.
#[derive(Clone, Default)]
pub struct Chain(Vec<Arc<dyn AdmissionPlugin>>);

impl Chain {
    /// The plugins that every server has, in upstream's order.
    #[must_use]
    pub fn standard() -> Self {
        Self(vec![
            Arc::new(NamespaceLifecycle),
            Arc::new(ServiceAccount),
            Arc::new(TaintNodesByCondition),
            Arc::new(Priority),
            Arc::new(DefaultTolerationSeconds::default()),
        ])
    }

    /// A chain of these plugins.
    #[must_use]
    pub fn new(plugins: Vec<Arc<dyn AdmissionPlugin>>) -> Self {
        Self(plugins)
    }

    /// Adds a plugin at the end.
    pub fn push(&mut self, plugin: Arc<dyn AdmissionPlugin>) {
        self.0.push(plugin);
    }

    /// Puts a plugin in the place of the one with the same name, or at the end if there is none.
    #[must_use]
    pub fn with(mut self, plugin: Arc<dyn AdmissionPlugin>) -> Self {
        match self.0.iter_mut().find(|held| held.name() == plugin.name()) {
            Some(held) => *held = plugin,
            None => self.0.push(plugin),
        }
        self
    }

    pub(crate) async fn mutate(
        &self,
        server: &ApiServer,
        a: &Attributes<'_>,
        object: &mut Value,
    ) -> Result<(), Status> {
        for plugin in self.0.iter().filter(|p| p.handles(a.operation)) {
            plugin.mutate(server, a, object).await?;
        }
        Ok(())
    }

    pub(crate) async fn validate(
        &self,
        server: &ApiServer,
        a: &Attributes<'_>,
        object: Option<&Value>,
    ) -> Result<(), Status> {
        for plugin in self.0.iter().filter(|p| p.handles(a.operation)) {
            plugin.validate(server, a, object).await?;
        }
        Ok(())
    }
}
