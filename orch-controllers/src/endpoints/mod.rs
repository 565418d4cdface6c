//! Endpoints: the old form of EndpointSlices, one object per Service. Behaviour of upstream's
//! `pkg/controller/endpoint`: at most 1000 addresses, terminating pods left out.

mod plan;

use crate::{
    endpointslice::services_of,
    shared::{Context, text, write::is_namespace_terminating},
};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use orch_core::{
    ObjectKey,
    controller::{Action, Controller, Error, EventRecorder, Reconciler, events::EventType::Warning},
    informer::{Delta, Lister},
    selector::LabelSelector,
};
use std::sync::Arc;

struct EndpointsObjects {
    ctx: Context,
    services: Lister<Service>,
    pods: Lister<Pod>,
    endpoints: Lister<Endpoints>,
    recorder: EventRecorder,
}

/// The Endpoints controller.
#[must_use]
pub fn controller(ctx: &Context) -> Controller {
    let services = ctx.informers.informer::<Service>();
    let endpoints = ctx.informers.informer::<Endpoints>();
    let pods = ctx.pods();
    let reconciler = Arc::new(EndpointsObjects {
        ctx: ctx.clone(),
        services: services.lister(),
        pods: pods.lister(),
        endpoints: endpoints.lister(),
        recorder: ctx.recorder("endpoint-controller"),
    });
    let lister = services.lister();
    Controller::new("endpoints", &ctx.env, reconciler)
        .workers(ctx.config.workers)
        .watch(&services)
        .watch_mapped(&endpoints, |delta: &Delta<Endpoints>| {
            let managed = delta
                .object()
                .metadata
                .labels
                .as_ref()
                .is_some_and(|l| l.contains_key(plan::MANAGED_BY));
            managed
                .then(|| ObjectKey::of(&**delta.object()))
                .into_iter()
                .collect()
        })
        .watch_mapped(&pods, move |delta| services_of(&lister, delta))
}

#[async_trait]
impl Reconciler for EndpointsObjects {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let api = self.ctx.api::<Endpoints>(&key.namespace);
        let Some(service) = self.services.get(key) else {
            if self.endpoints.get(key).is_some() {
                match api.delete(&key.name, serde_json::Value::Null).await {
                    Err(error) if !error.is_not_found() => return Err(error.into()),
                    _ => {}
                }
            }
            return Ok(Action::AwaitChange);
        };
        let spec = service.spec.clone().unwrap_or_default();
        let Some(selector) = spec
            .selector
            .as_ref()
            .filter(|_| spec.type_.as_deref() != Some("ExternalName"))
        else {
            return Ok(Action::AwaitChange);
        };
        let pods = self
            .pods
            .select_in(&key.namespace, &LabelSelector::from_labels(selector));
        let current = self.endpoints.get(key);
        let Some(wanted) = plan::plan(&service, &pods, current.as_deref()) else {
            return Ok(Action::AwaitChange);
        };
        let (reason, outcome) = match current {
            None => ("FailedToCreateEndpoint", api.create(&wanted).await),
            Some(_) => ("FailedToUpdateEndpoint", api.replace(&wanted).await),
        };
        match outcome {
            Err(error) if is_namespace_terminating(&error) => {}
            // The copy lags behind this controller's own create.
            Err(error) if error.is_already_exists() || error.is_conflict() => return Err(error.into()),
            Err(error) => {
                let message = format!("Failed to write endpoints of service {key}: {error}");
                self.recorder.record(&wanted, Warning, reason, message);
                return Err(error.into());
            }
            Ok(_) => tracing::debug!(service = text(&service.metadata.name), "endpoints written"),
        }
        Ok(Action::AwaitChange)
    }
}
