//! Deletion of namespaces: everything in them goes, pods first, then the namespace. Behaviour of upstream's
//! `pkg/controller/namespace`.

mod conditions;

use crate::shared::{
    Context,
    discovery::{Discovery, ResourceInfo},
    is_deleting,
};
use async_trait::async_trait;
use conditions::Findings;
use futures::future::join_all;
use http::Method;
use k8s_openapi::api::core::v1::Namespace;
use orch_core::{
    ObjectKey, Status, StatusReason,
    client::{ApiRequest, ResponseBody},
    controller::{Action, Controller, Error, Reconciler},
    informer::{Delta, Lister},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

const FINALIZER: &str = "kubernetes";
/// How long to wait for finalizers of others.
const FINALIZER_WAIT_S: i64 = 15;

struct Namespaces {
    ctx: Context,
    namespaces: Lister<Namespace>,
    discovery: Arc<dyn Discovery>,
}

/// The namespace controller.
#[must_use]
pub fn controller(ctx: &Context, discovery: Arc<dyn Discovery>) -> Controller {
    let namespaces = ctx.informers.informer::<Namespace>();
    let reconciler = Arc::new(Namespaces {
        ctx: ctx.clone(),
        namespaces: namespaces.lister(),
        discovery,
    });
    Controller::new("namespace", &ctx.env, reconciler)
        .workers(ctx.config.workers)
        .watch_mapped(&namespaces, |delta: &Delta<Namespace>| match delta {
            Delta::Deleted(_) => Vec::new(),
            other => {
                let namespace = other.object();
                is_deleting(&namespace.metadata)
                    .then(|| ObjectKey::of(&**namespace))
                    .into_iter()
                    .collect()
            }
        })
}

/// What is left of one resource in a namespace.
#[derive(Debug, Default)]
struct Remaining {
    count: usize,
    finalizers: BTreeMap<String, usize>,
    /// How long what is left may still take.
    wait_s: i64,
}

#[async_trait]
impl Reconciler for Namespaces {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        if self.namespaces.get(key).is_none_or(|n| !is_deleting(&n.metadata)) {
            return Ok(Action::AwaitChange);
        }
        let api = self.ctx.api::<Namespace>("");
        let Some(namespace) = api.get_opt(&key.name).await? else {
            return Ok(Action::AwaitChange);
        };
        let ours = namespace
            .spec
            .iter()
            .flat_map(|s| s.finalizers.iter().flatten())
            .any(|f| f == FINALIZER);
        if !is_deleting(&namespace.metadata) || !ours {
            return Ok(Action::AwaitChange);
        }
        let findings = self.delete_content(&namespace, &key.name).await;
        let namespace = self.write_status(namespace, &findings).await?;
        if !findings.errors.is_empty() {
            return Err(Error::NotYet(findings.errors.join("; ")));
        }
        if findings.wait_s > 0 {
            let wait = u64::try_from(findings.wait_s / 2 + 1).unwrap_or(1);
            return Ok(Action::After(Duration::from_secs(wait)));
        }
        if findings.remaining() > 0 {
            return Err(Error::NotYet(format!("{} objects remain", findings.remaining())));
        }
        self.finalize(&namespace).await?;
        Ok(Action::AwaitChange)
    }
}

impl Namespaces {
    async fn write_status(
        &self,
        namespace: Arc<Namespace>,
        findings: &Findings,
    ) -> Result<Arc<Namespace>, Error> {
        let status = conditions::status(namespace.status.as_ref(), findings, self.ctx.env.clock.now());
        if namespace.status.as_ref() == Some(&status) {
            return Ok(namespace);
        }
        let mut new = (*namespace).clone();
        new.status = Some(status);
        Ok(self.ctx.api::<Namespace>("").replace_status(&new).await?)
    }

    async fn finalize(&self, namespace: &Namespace) -> Result<(), Error> {
        let mut new = namespace.clone();
        if let Some(finalizers) = new.spec.as_mut().and_then(|s| s.finalizers.as_mut()) {
            finalizers.retain(|f| f != FINALIZER);
        }
        let name = new.metadata.name.clone().unwrap_or_default();
        let body = serde_json::to_value(&new).map_err(|e| Error::Invalid(e.to_string()))?;
        let request = ApiRequest::new(Method::PUT, format!("/api/v1/namespaces/{name}/finalize")).value(body);
        match self.ctx.client().call(request).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn delete_content(&self, namespace: &Namespace, name: &str) -> Findings {
        let mut findings = Findings::default();
        let discovered = match self.discovery.discover().await {
            Ok(discovered) => discovered,
            Err(error) => {
                findings.discovery_failed(&error.to_string());
                return findings;
            }
        };
        if !discovered.failed.is_empty() {
            let failed = &discovered.failed;
            let list = failed.join(", ");
            findings.discovery_failed(&format!(
                "Discovery failed for some groups, {} failing: {list}",
                failed.len()
            ));
        }
        let deleted_at = namespace.metadata.deletion_timestamp.as_ref().map(|t| t.0);
        let age = deleted_at.map_or(0, |at| self.ctx.env.clock.now().duration_since(at).as_secs());
        let usable = |r: &&ResourceInfo| r.namespaced && r.supports(&["delete"]);
        let (pods, others): (Vec<_>, Vec<_>) = discovered
            .resources
            .iter()
            .filter(usable)
            .partition(|r| r.gvr.group.is_empty() && r.gvr.resource == "pods");
        // Pods may need what is around them (policies, secrets) until they are gone.
        for batch in [pods, others] {
            if findings.remaining() > 0 {
                break;
            }
            let outcomes = join_all(batch.iter().map(|r| self.delete_all(r, name, age))).await;
            for (resource, outcome) in batch.iter().zip(outcomes) {
                match outcome {
                    Ok(left) => findings.add(&resource.gvr, left.count, left.finalizers, left.wait_s),
                    Err(error) => findings.content_failed(error.to_string()),
                }
            }
        }
        findings
    }

    async fn list(
        &self,
        resource: &ResourceInfo,
        namespace: &str,
    ) -> Result<Vec<Arc<orch_core::Object>>, Status> {
        let request = ApiRequest::get(resource.gvr.collection_path(Some(namespace)));
        match self.ctx.client().call(request).await?.body {
            ResponseBody::List { items, .. } => Ok(items),
            _ => Ok(Vec::new()),
        }
    }

    async fn delete_all(
        &self,
        resource: &ResourceInfo,
        namespace: &str,
        age_s: i64,
    ) -> Result<Remaining, Status> {
        let before = if resource.supports(&["list"]) {
            self.list(resource, namespace).await?
        } else {
            Vec::new()
        };
        if resource.supports(&["list"]) && before.is_empty() {
            return Ok(Remaining::default());
        }
        let mut wait_s = grace(resource, &before);
        if age_s >= wait_s {
            wait_s = 0;
        }
        self.delete_each(resource, namespace, &before).await?;
        let left = if resource.supports(&["list"]) {
            self.list(resource, namespace).await?
        } else {
            Vec::new()
        };
        if left.is_empty() {
            return Ok(Remaining::default());
        }
        let mut finalizers = BTreeMap::new();
        for object in &left {
            for finalizer in object
                .value()
                .pointer("/metadata/finalizers")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                *finalizers
                    .entry(finalizer.as_str().unwrap_or_default().to_owned())
                    .or_default() += 1;
            }
        }
        if wait_s == 0 && !finalizers.is_empty() {
            wait_s = FINALIZER_WAIT_S;
        }
        if wait_s == 0 {
            let gvr = &resource.gvr;
            return Err(Status::internal(format!(
                "unexpected items still remain in namespace: {namespace} for gvr: {gvr}"
            )));
        }
        Ok(Remaining {
            count: left.len(),
            finalizers,
            wait_s,
        })
    }

    async fn delete_each(
        &self,
        resource: &ResourceInfo,
        namespace: &str,
        objects: &[Arc<orch_core::Object>],
    ) -> Result<(), Status> {
        let path = resource.gvr.collection_path(Some(namespace));
        let options = json!({"propagationPolicy": "Background"});
        let client = self.ctx.client();
        if resource.supports(&["deletecollection"]) {
            match client
                .call(ApiRequest::new(Method::DELETE, path.clone()).value(options.clone()))
                .await
            {
                Ok(_) => return Ok(()),
                Err(error)
                    if matches!(
                        error.reason,
                        StatusReason::MethodNotAllowed | StatusReason::NotFound
                    ) => {}
                Err(error) => return Err(error),
            }
        }
        for object in objects {
            let request =
                ApiRequest::new(Method::DELETE, format!("{path}/{}", object.name())).value(options.clone());
            match client.call(request).await {
                Err(error)
                    if !matches!(
                        error.reason,
                        StatusReason::MethodNotAllowed | StatusReason::NotFound
                    ) =>
                {
                    return Err(error);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The longest grace period of running pods, in seconds.
fn grace(resource: &ResourceInfo, objects: &[Arc<orch_core::Object>]) -> i64 {
    if resource.gvr.resource != "pods" || !resource.gvr.group.is_empty() {
        return 0;
    }
    let running = objects.iter().map(|o| o.value()).filter(|pod| {
        !matches!(
            pod.pointer("/status/phase").and_then(Value::as_str),
            Some("Succeeded" | "Failed")
        )
    });
    running
        .filter_map(|p| {
            p.pointer("/spec/terminationGracePeriodSeconds")
                .and_then(Value::as_i64)
        })
        .max()
        .unwrap_or(0)
}
