//! Observes one object and its owners, and applies the plan.

use super::{
    Shared, graph,
    graph::Node,
    key,
    plan::{self, Owner, Plan},
};
use crate::shared::{Context, discovery::ResourceInfo};
use async_trait::async_trait;
use http::{HeaderValue, Method, header};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use orch_core::{
    GroupVersion, Object, ObjectKey, Status,
    client::{ApiRequest, PatchKind},
    controller::{Action, Error, Reconciler},
    workqueue::WorkQueue,
};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) struct Collector {
    pub(super) ctx: Context,
    pub(super) shared: Arc<Shared>,
    pub(super) queue: Arc<WorkQueue<ObjectKey>>,
}

fn path(node: &Node) -> String {
    let namespace = Some(node.namespace.as_str()).filter(|n| !n.is_empty());
    format!("{}/{}", node.gvr.collection_path(namespace), node.name)
}

#[async_trait]
impl Reconciler for Collector {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let (node, dependents) = {
            let graph = self.shared.graph.lock();
            let Some(node) = graph.get(&key.name).cloned() else {
                return Ok(Action::AwaitChange);
            };
            (node, graph.dependents(&key.name))
        };
        if node.deleting && !node.deletes_dependents() && !node.orphans_dependents() {
            return Ok(Action::AwaitChange);
        }
        // Deleting is not undone: decide on the live object.
        let Some(live) = self.get(&path(&node)).await?.filter(|o| o.uid() == node.uid) else {
            self.gone(&node.uid);
            return Ok(Action::AwaitChange);
        };
        let live_node = Node::of(&node.gvr, &live);
        let plan = match plan::of_deleting(&live_node, &dependents) {
            Some(plan) => plan,
            None => {
                let mut owners = Vec::new();
                for reference in &live_node.owners {
                    owners.push(self.owner(&live_node, reference).await?);
                }
                plan::of_owned(&live_node, &owners, &dependents)
            }
        };
        self.apply(&live_node, &live, plan).await?;
        Ok(Action::AwaitChange)
    }
}

impl Collector {
    async fn get(&self, path: &str) -> Result<Option<Arc<Object>>, Status> {
        match self.ctx.client().call(ApiRequest::get(path)).await {
            Ok(answer) => answer.into_object().map(Some),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The object was deleted without the graph having heard of it yet.
    fn gone(&self, uid: &str) {
        let work = self.shared.graph.lock().remove(uid);
        work.iter().for_each(|uid| self.queue.add(key(uid)));
    }

    async fn owner(&self, node: &Node, reference: &OwnerReference) -> Result<Owner, Error> {
        let group = GroupVersion::parse(&reference.api_version)
            .map(|gv| gv.group)
            .unwrap_or_default();
        let resource = self
            .shared
            .kinds
            .lock()
            .get(&(group, reference.kind.clone()))
            .cloned();
        let Some(resource) = resource else {
            // Without knowing the kind nothing can be said; it may come back.
            let (kind, version) = (&reference.kind, &reference.api_version);
            return Err(Error::NotYet(format!("no kind {kind} in {version} is known")));
        };
        let known = self.shared.graph.lock().get(&reference.uid).cloned();
        if let Some(owner) = known
            && is_meant(&owner, &resource, node, reference)
        {
            return Ok(if owner.deletes_dependents() {
                Owner::Waiting
            } else {
                Owner::Solid
            });
        }
        if resource.namespaced && node.namespace.is_empty() {
            // A cluster-scoped object can't be owned by a namespaced one.
            return Err(Error::Invalid(format!(
                "owner {} of {} is namespaced",
                reference.name, node.name
            )));
        }
        let namespace = Some(node.namespace.as_str()).filter(|_| resource.namespaced);
        let path = format!("{}/{}", resource.gvr.collection_path(namespace), reference.name);
        Ok(
            match self.get(&path).await?.filter(|o| o.uid() == reference.uid) {
                None => Owner::Dangling,
                Some(owner) if Node::of(&resource.gvr, &owner).deletes_dependents() => Owner::Waiting,
                Some(_) => Owner::Solid,
            },
        )
    }

    async fn apply(&self, node: &Node, live: &Object, plan: Plan) -> Result<(), Error> {
        match plan {
            Plan::Nothing => Ok(()),
            Plan::Visit(uids) => {
                uids.iter().for_each(|uid| self.queue.add(key(uid)));
                Ok(())
            }
            Plan::RemoveFinalizer(finalizer) => self.remove_finalizer(node, live, finalizer).await,
            Plan::Orphan(dependents) => {
                for dependent in &dependents {
                    self.drop_owner(dependent, &node.uid).await?;
                }
                self.remove_finalizer(node, live, graph::ORPHAN).await
            }
            Plan::DropOwners(keep) => self.set_owners(node, live, &keep).await,
            Plan::Delete { policy, unblock } => {
                if let Some(references) = unblock {
                    self.set_owners(node, live, &references).await?;
                }
                tracing::debug!(object = %path(node), policy, "collecting");
                let options = json!({"propagationPolicy": policy, "preconditions": {"uid": node.uid}});
                match self
                    .ctx
                    .client()
                    .call(ApiRequest::new(Method::DELETE, path(node)).value(options))
                    .await
                {
                    Err(error) if !error.is_not_found() => Err(error.into()),
                    _ => Ok(()),
                }
            }
        }
    }

    async fn patch(&self, path: String, metadata: Value) -> Result<(), Error> {
        let mut request = ApiRequest::new(Method::PATCH, path).value(json!({"metadata": metadata}));
        let media = HeaderValue::from_static(PatchKind::Merge.media_type());
        request.headers.insert(header::CONTENT_TYPE, media);
        match self.ctx.client().call(request).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn set_owners(
        &self,
        node: &Node,
        live: &Object,
        references: &[OwnerReference],
    ) -> Result<(), Error> {
        let metadata = json!({"uid": node.uid, "resourceVersion": live.resource_version(), "ownerReferences": references});
        self.patch(path(node), metadata).await
    }

    /// Takes `owner_uid` out of the owners of an object, as it is live.
    async fn drop_owner(&self, node: &Node, owner_uid: &str) -> Result<(), Error> {
        let Some(live) = self.get(&path(node)).await?.filter(|o| o.uid() == node.uid) else {
            return Ok(());
        };
        let mut references = Node::of(&node.gvr, &live).owners;
        let before = references.len();
        references.retain(|r| r.uid != owner_uid);
        if references.len() == before {
            return Ok(());
        }
        self.set_owners(node, &live, &references).await
    }

    async fn remove_finalizer(&self, node: &Node, live: &Object, finalizer: &str) -> Result<(), Error> {
        let rest: Vec<&String> = node.finalizers.iter().filter(|f| *f != finalizer).collect();
        let metadata =
            json!({"uid": node.uid, "resourceVersion": live.resource_version(), "finalizers": rest});
        self.patch(path(node), metadata).await
    }
}

/// Whether a known object is the one that a reference means, with its kind, name and namespace.
fn is_meant(owner: &Node, resource: &ResourceInfo, node: &Node, reference: &OwnerReference) -> bool {
    owner.gvr.group == resource.gvr.group
        && owner.gvr.resource == resource.gvr.resource
        && owner.name == reference.name
        && (!resource.namespaced || owner.namespace == node.namespace)
}
